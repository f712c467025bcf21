"""Channels to a service: what every call carries, and which of its processes answers it."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import grpc

from touchline.client.attempts import is_fault_of_process
from touchline.failures import CallFailed

DEFAULT_TIMEOUT: Final = 20.0
"""Seconds a unary call may take unless it says otherwise."""

_MAXIMUM_SENT_BYTES: Final = 8 * 1024 * 1024
# A page of 500 long texts is larger than any request.
_MAXIMUM_RECEIVED_BYTES: Final = 64 * 1024 * 1024
_FIRST_DOUBT: Final = 1.0
_MAXIMUM_DOUBT: Final = 30.0
_TRIES: Final = 4

_INGESTION: Final = "touchline.ingestion.v1.IngestionService"
# Every RPC may be repeated: reads change nothing, an event id is recorded once, ever, and a version
# that was published before its answer was lost says so. Recording decides for itself when to try
# again, and through whom. A name with several addresses, as a headless Service in Kubernetes has,
# is called at each in turn.
_SERVICE_CONFIG: Final = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [
                    {"service": _INGESTION, "method": "BatchRecordEvents"},
                    {"service": _INGESTION, "method": "StreamEvents"},
                ]
            },
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": _TRIES,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            },
        ],
    }
)


class Replica:
    """One address of a service.

    Args:
        address: host:port, or another target that gRPC knows.
        tenant: What its calls carry.
        traceparent: Tells what its calls carry.

    Attributes:
        address: The same.
        calls: The channel for stubs: its calls carry the tenant, the trace and a timeout.
    """

    def __init__(self, address: str, tenant: str, traceparent: Callable[[], str]) -> None:
        self.address = address
        self._channel = _channel(address)
        # An interceptor could add these too, but costs a task per call; stubs ask a channel for
        # each method once, so here a call costs one Python function more.
        self.calls = cast("grpc.aio.Channel", _DefaultsChannel(self._channel, tenant, traceparent))
        self._doubt = 0.0
        self._doubted_until = 0.0

    def told(self, failure: CallFailed | None) -> None:
        """Take note of how a call ended: one that fails is left alone for a while, ever longer."""
        if failure is None:
            self._doubt = self._doubted_until = 0.0
        elif is_fault_of_process(failure):
            self._doubt = min(2 * self._doubt or _FIRST_DOUBT, _MAXIMUM_DOUBT)
            self._doubted_until = time.monotonic() + self._doubt

    @property
    def is_doubtful(self) -> bool:
        """Whether it failed lately, or nothing listens there."""
        if time.monotonic() < self._doubted_until:
            return True
        return self._channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def close(self) -> None:
        """End its calls and its connection."""
        await self._channel.close()


class Replicas:
    """The addresses of a service, each of which can answer every call.

    Args:
        addresses: host:port, several separated by commas.
        tenant: What calls carry.
        traceparent: Tells what calls carry.

    Raises:
        ValueError: there is no address.
    """

    def __init__(self, addresses: str, tenant: str, traceparent: Callable[[], str]) -> None:
        each = [address.strip() for address in addresses.split(",")]
        self.all: Sequence[Replica] = [
            Replica(address, tenant, traceparent) for address in each if address
        ]
        if not self.all:
            raise ValueError(f"{addresses!r} names no host:port.")
        self._turn = random.randrange(len(self.all))  # noqa: S311 # callers begin apart

    def next(self) -> Replica:
        """Return the next in turn that is not doubtful; if all are, the next in turn."""
        for _ in self.all:
            replica = self._in_turn()
            if not replica.is_doubtful:
                return replica
        return self._in_turn()

    @property
    def has_good_one(self) -> bool:
        """Whether one of them is not doubtful."""
        return not all(replica.is_doubtful for replica in self.all)

    def calls(self) -> grpc.aio.Channel:
        """Return a channel for stubs, whose calls go to each in turn."""
        if len(self.all) == 1:
            return self.all[0].calls
        return cast("grpc.aio.Channel", _TurnsChannel(self))

    async def close(self) -> None:
        """End all calls and connections."""
        await asyncio.gather(*(replica.close() for replica in self.all))

    def _in_turn(self) -> Replica:
        self._turn = (self._turn + 1) % len(self.all)
        return self.all[self._turn]


class _DefaultsChannel:
    def __init__(
        self, channel: grpc.aio.Channel, tenant: str, traceparent: Callable[[], str]
    ) -> None:
        self._channel = channel
        self._tenant = ("touchline-tenant", tenant)
        self._traceparent = traceparent

    def unary_unary(self, method: str, **serializers: Any) -> Callable[..., Any]:
        call = self._channel.unary_unary(method, **serializers)
        return self._with_defaults(call, DEFAULT_TIMEOUT)

    def unary_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        return self._with_defaults(self._channel.unary_stream(method, **serializers), None)

    def stream_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        return self._with_defaults(self._channel.stream_stream(method, **serializers), None)

    def _with_defaults(self, call: Callable[..., Any], default: float | None) -> Callable[..., Any]:
        def called(
            request: Any = None,  # a stream may be written afterwards
            *,
            timeout: float | None = default,
            metadata: Iterable[tuple[str, str | bytes]] | None = None,
            **rest: Any,
        ) -> Any:
            traceparent = self._traceparent()
            trace = (("traceparent", traceparent),) if traceparent else ()
            all_metadata = (self._tenant, *trace, *(metadata or ()))
            return call(request, timeout=timeout, metadata=all_metadata, **rest)

        return called


class _TurnsChannel:
    """Makes calls to several replicas in turn.

    A unary call goes on to the next replica where one is not there; it is a coroutine, not gRPC's
    call object. Streams go to one, and whoever reads them continues after what was received.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    def unary_unary(self, method: str, **serializers: Any) -> Callable[..., Any]:
        calls = self._calls("unary_unary", method, serializers)
        tries = max(_TRIES, len(calls))

        async def called(request: Any, *, timeout: float | None = None, **rest: Any) -> Any:  # noqa: ASYNC109 # as gRPC's calls
            end = time.monotonic() + (DEFAULT_TIMEOUT if timeout is None else timeout)
            for left in reversed(range(tries)):
                replica = self._replicas.next()
                seconds = max(0.0, end - time.monotonic())
                try:
                    response = await calls[replica](request, timeout=seconds, **rest)
                except grpc.aio.AioRpcError as error:
                    replica.told(CallFailed.of(error))
                    if error.code() is not grpc.StatusCode.UNAVAILABLE or not left:
                        raise
                else:
                    replica.told(None)
                    return response
            raise AssertionError("the last try returns or raises")

        return called

    def unary_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        return self._of_next(self._calls("unary_stream", method, serializers))

    def stream_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        return self._of_next(self._calls("stream_stream", method, serializers))

    def _calls(
        self, kind: str, method: str, serializers: dict[str, Any]
    ) -> dict[Replica, Callable[..., Any]]:
        return {
            replica: getattr(replica.calls, kind)(method, **serializers)
            for replica in self._replicas.all
        }

    def _of_next(self, calls: dict[Replica, Callable[..., Any]]) -> Callable[..., Any]:
        def called(*arguments: Any, **rest: Any) -> Any:
            return calls[self._replicas.next()](*arguments, **rest)

        return called


def _channel(target: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.max_send_message_length", _MAXIMUM_SENT_BYTES),
            ("grpc.max_receive_message_length", _MAXIMUM_RECEIVED_BYTES),
            # No less than a service lets its callers ping.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.enable_retries", 1),
            ("grpc.service_config", _SERVICE_CONFIG),
            # A restarted service is found again at once, not after gRPC's two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ],
    )
