"""Calls that a restart does not end: what one process can't answer, another one is asked.

Almost every call may be repeated: reads change nothing, an event id is recorded once, ever, and a
decision that was made before its answer was lost says so when it is asked for again.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, cast

import grpc

from touchline.client.attempts import is_gone
from touchline.client.channels import DEFAULT_TIMEOUT, Replica, Replicas, Standing
from touchline.failures import CallFailed

DEFAULT_CALL_PATIENCE: Final = 10.0
"""Seconds that a call is repeated while nothing answers it: a restart takes two to four."""

_FIRST_BACKOFF: Final = 0.02
_MAXIMUM_BACKOFF: Final = 1.0
# What Touchline itself answers may last: whoever called is told soon.
_TRIES: Final = 4

# Asked for again, these would refuse what they did themselves. They are repeated only where nothing
# was done; otherwise whoever called looks what became of it.
_ONCE: Final = frozenset(
    {
        "/touchline.ingestion.v1.IngestionService/CorrectRejectedEvent",
        "/touchline.notification.v1.NotificationService/RetryDelivery",
        "/touchline.projection.v1.ProjectionService/DropGeneration",
        "/touchline.projection.v1.ProjectionService/RebuildProjection",
        "/touchline.projection.v1.ProjectionService/RollBackProjection",
        "/touchline.projection.v1.ProjectionService/SwitchProjection",
    }
)

# What a process says that can't answer yet.
_NOT_READY: Final = "VIEWS_BUILDING"

_Calls = dict[Replica, Callable[..., Any]]


def repeating(replicas: Replicas, patience: float = DEFAULT_CALL_PATIENCE) -> grpc.aio.Channel:
    """Return a channel for stubs, whose calls go to each replica in turn until one answers.

    A unary call is a coroutine. A stream is one call's until its first message; after that, whoever
    reads it continues after what was received.

    Args:
        replicas: Who may answer.
        patience: Seconds that a call is repeated, within its timeout.
    """
    return cast("grpc.aio.Channel", _RepeatingChannel(replicas, patience))


class _Repeats:
    """The repeats of one call.

    Args:
        replicas: Who may answer.
        patience: Seconds after the first failure in which to call again.
        end: When the call's timeout ends, by `time.monotonic`.
        once: Whether it is repeated only where nothing was done.
    """

    def __init__(self, replicas: Replicas, patience: float, end: float, *, once: bool) -> None:
        self._replicas = replicas
        self._patience = patience
        self._end = end
        self._once = once
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._tried: set[Replica] = set()
        self._tries = 1
        self._backoff = _FIRST_BACKOFF
        self._until: float | None = None
        self._called_at = time.monotonic()

    async def next(self, replica: Replica, error: grpc.aio.AioRpcError) -> Replica:
        """Return whom to call now that one failed: another one at once, the same one later.

        Raises:
            grpc.aio.AioRpcError: The failure, if calling again can't help or may not be done, or
                patience has ended.
        """
        failure, now = CallFailed.of(error), time.monotonic()
        replica.told(failure)
        if now > self._called_at + self._patience:
            self._begin_anew()  # a stream may rest for hours
        self._until = self._until or min(self._end, now + self._patience)
        self._tried.add(replica)
        if not self._may_repeat(failure):
            raise error
        chosen = self._replicas.next(self._tried)
        if chosen in self._tried or chosen.standing is not Standing.GOOD:
            # Jitter keeps callers that failed together from coming back together.
            pause = max(failure.retry_after or 0.0, self._backoff) * random.uniform(1.0, 1.5)  # noqa: S311
            if now + pause > self._until:
                raise error
            await asyncio.sleep(pause)
            self._backoff = min(2 * self._backoff, _MAXIMUM_BACKOFF)
            chosen = self._replicas.next(self._tried)
        if chosen in self._tried:
            self._tried.clear()
        self._tries += 1
        self._called_at = time.monotonic()
        return chosen

    def _may_repeat(self, failure: CallFailed) -> bool:
        not_begun = failure.not_begun or failure.reason == _NOT_READY
        if self._once and not not_begun:
            return False
        if is_gone(failure):
            return True
        return failure.code is grpc.StatusCode.UNAVAILABLE and self._tries < _TRIES


class _RepeatingChannel:
    def __init__(self, replicas: Replicas, patience: float) -> None:
        self._replicas = replicas
        self._patience = patience

    def unary_unary(self, method: str, **serializers: Any) -> Callable[..., Any]:
        calls = self._calls("unary_unary", method, serializers)
        replicas, once = self._replicas, method in _ONCE

        async def called(
            request: Any,
            *,
            timeout: float | None = None,  # noqa: ASYNC109 # as gRPC's calls
            **rest: Any,
        ) -> Any:
            seconds = DEFAULT_TIMEOUT if timeout is None else timeout
            end, repeats = time.monotonic() + seconds, None
            replica = replicas.next()
            while True:
                if once:
                    there = await replicas.connected(min(seconds, self._patience))
                    # What could not be sent would fail like what may have been done.
                    rest["wait_for_ready"] = there is not None
                    replica = there or replica
                try:
                    response = await calls[replica](request, timeout=seconds, **rest)
                except grpc.aio.AioRpcError as error:
                    repeats = repeats or _Repeats(replicas, self._patience, end, once=once)
                    replica = await repeats.next(replica, error)
                    seconds = max(0.0, end - time.monotonic())
                else:
                    replica.told(None)
                    return response

        return called

    def unary_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        calls = self._calls("unary_stream", method, serializers)
        replicas, once = self._replicas, method in _ONCE

        def called(request: Any, *, timeout: float | None = None, **rest: Any) -> Any:
            end = math.inf if timeout is None else time.monotonic() + timeout

            def begin(replica: Replica) -> Any:
                left = None if timeout is None else max(0.0, end - time.monotonic())
                return calls[replica](request, timeout=left, **rest)

            repeats = _Repeats(replicas, self._patience, end, once=once)
            return _Stream(begin, replicas.next(), repeats)

        return called

    def stream_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        calls = self._calls("stream_stream", method, serializers)

        def called(*arguments: Any, **rest: Any) -> Any:
            return calls[self._replicas.next()](*arguments, **rest)

        return called

    def _calls(self, kind: str, method: str, serializers: dict[str, Any]) -> _Calls:
        return {
            replica: getattr(replica.calls, kind)(method, **serializers)
            for replica in self._replicas.all
        }


class _Stream:
    """What a service streams; in all else it is the gRPC call of now.

    Args:
        begin: Calls a replica.
        replica: The first.
        repeats: Tells whom to call where that fails.
    """

    def __init__(
        self, begin: Callable[[Replica], Any], replica: Replica, repeats: _Repeats
    ) -> None:
        self._begin = begin
        self._replica = replica
        self._repeats = repeats
        self._heard = False
        self._call = begin(replica)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def read(self) -> Any:
        """Return the next message, or grpc.aio.EOF.

        Raises:
            grpc.aio.AioRpcError: The stream broke; or nobody answered, if it is the first message.
        """
        while True:
            try:
                message = await self._call.read()
            except grpc.aio.AioRpcError as error:
                if self._heard:
                    self._replica.told(CallFailed.of(error))
                    raise
                self._replica = await self._repeats.next(self._replica, error)
                self._call = self._begin(self._replica)
            else:
                if not self._heard:
                    self._heard = True
                    self._replica.told(None)
                return message
