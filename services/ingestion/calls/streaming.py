"""The call that records a stream of batches, with a bound on what is under way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from libs.eventstore.records import Row
from libs.eventstore.store import AppendVerdict
from libs.rpc import calls, errors
from services.ingestion.calls.parts import Calls, Context, Parts
from services.ingestion.calls.recording import MAX_BATCH, record
from services.ingestion.recording import TenantSecrets
from touchline.ingestion.v1 import ingestion_service_pb2 as api

WINDOW_EVENTS: Final = 4 * MAX_BATCH
"""How many events of a stream may be unanswered: some in the append, the next ones being sealed."""

WINDOW_BYTES: Final = 16 * 1024 * 1024
"""When they hold so much, no further batch is read either."""

_METHOD: Final = "touchline.ingestion.v1.IngestionService/StreamEvents"


class StreamingCalls(Calls):
    """Records events for as long as a caller sends them."""

    async def StreamEvents(  # noqa: N802 - gRPC names it
        self, request_iterator: AsyncIterator[api.StreamEventsRequest], context: Context
    ) -> AsyncIterator[api.StreamEventsResponse]:
        """Record batches, several at a time, and answer them in their order."""
        stream = _Stream(self._parts, self._parts.tenant_of(context))
        yield api.StreamEventsResponse(window_events=WINDOW_EVENTS)
        reader = asyncio.ensure_future(stream.read(request_iterator))
        try:
            while batch := await stream.oldest():
                yield await batch.answer
                stream.answered(batch)
            await reader
        finally:
            await stream.stop(reader)


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch that is unanswered."""

    events: int
    size: int
    answer: "asyncio.Task[api.StreamEventsResponse]"


class _Stream:
    """One caller's stream: what was read, and is not answered yet."""

    def __init__(self, parts: Parts, tenant: TenantSecrets) -> None:
        self._parts = parts
        self._tenant = tenant
        self._batches: asyncio.Queue[_Batch | None] = asyncio.Queue()
        self._unanswered: set[_Batch] = set()
        self._events = 0
        self._size = 0
        self._room = asyncio.Event()

    async def read(self, requests: AsyncIterator[api.StreamEventsRequest]) -> None:
        """Begin to record each batch while the window is open, until none comes or one is bad.

        While this does not read, gRPC's own flow control stops the caller.
        """
        turn = asyncio.Event()
        turn.set()
        try:
            async for request in requests:
                following = asyncio.Event()
                answer = asyncio.create_task(self._answer(request, turn, following))
                self._add(_Batch(len(request.events), request.ByteSize(), answer))
                if not _is_good(request):
                    break
                turn = following
                while self._is_full():
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._batches.put_nowait(None)

    async def oldest(self) -> _Batch | None:
        """Return the next batch to answer, or None when there will be none."""
        return await self._batches.get()

    def answered(self, batch: _Batch) -> None:
        """Make room for others."""
        self._unanswered.discard(batch)
        self._events -= batch.events
        self._size -= batch.size
        self._room.set()

    async def stop(self, reader: "asyncio.Future[None]") -> None:
        """Drop what is under way; what is being appended is finished without us."""
        tasks: list[asyncio.Future[Any]] = [reader, *(each.answer for each in self._unanswered)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _add(self, batch: _Batch) -> None:
        self._unanswered.add(batch)
        self._events += batch.events
        self._size += batch.size
        self._batches.put_nowait(batch)

    def _is_full(self) -> bool:
        """Tell whether another batch might be more than the window."""
        return self._events + MAX_BATCH > WINDOW_EVENTS or self._size >= WINDOW_BYTES

    async def _answer(
        self, request: api.StreamEventsRequest, turn: asyncio.Event, following: asyncio.Event
    ) -> api.StreamEventsResponse:
        """Record a batch; its events get on the line after those of the batches before it.

        Args:
            request: The batch.
            turn: Set once the batch before this one waits for its append.
            following: Set once this one does. After a failure it never is: nothing that follows a
                batch is appended when that batch could not be.
        """

        async def append(units: Sequence[Sequence[Row]], erasures: int) -> list[AppendVerdict]:
            await turn.wait()
            appended = self._parts.appender.append_when_room(units, erasures)
            following.set()
            return await appended

        with calls.answering(_METHOD):
            if not _is_good(request):
                raise _bad_batch(request)
            verdicts = await record(self._parts, self._tenant, request.events, append)
            if not following.is_set():  # nothing of it was to be appended
                await turn.wait()
                following.set()
        return api.StreamEventsResponse(sequence=request.sequence, verdicts=verdicts)


def _is_good(request: api.StreamEventsRequest) -> bool:
    return 1 <= len(request.events) <= MAX_BATCH


def _bad_batch(request: api.StreamEventsRequest) -> errors.CallError:
    told = (
        f"of the batch with sequence {request.sequence} has {len(request.events):,} entries; send "
        f"1 to {MAX_BATCH:,} events in a batch"
    )
    return errors.invalid_request([("events", told)])
