"""Records events as they come, over one stream after the other where streams break."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

import grpc

from touchline.client.attempts import Attempts
from touchline.client.batches import MAXIMUM_BATCH_BYTES, MAXIMUM_BATCH_EVENTS, size_of
from touchline.client.channels import Replica
from touchline.client.recording import Ingestions
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_pb2 import Verdict
from touchline.ingestion.v1.ingestion_service_pb2 import (
    StreamEventsRequest,
    StreamEventsResponse,
)
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub

_HELD_EVENTS: Final = 5 * MAXIMUM_BATCH_EVENTS
_HELD_BYTES: Final = 5 * MAXIMUM_BATCH_BYTES


class EventStream:
    """Events on their way, each held until its verdict is taken.

    Args:
        ingestions: Where to.
        attempts: How often, and for how long.
    """

    def __init__(self, ingestions: Ingestions, attempts: Attempts) -> None:
        self._ingestions = ingestions
        self._attempts = attempts
        self._unanswered: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._ended = False
        self._broken: Exception | None = None
        self._answered: deque[Sequence[Verdict]] = deque()
        self._untaken = 0
        # On the stream of now: the batches sent, and how many events and bytes they have.
        self._batches: deque[int] = deque()
        self._sent = 0
        self._sent_bytes = 0
        self._limit: asyncio.Timeout | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._news = asyncio.Event()

    async def verdicts(
        self, events: AsyncIterable[Event] | Iterable[Event]
    ) -> AsyncGenerator[Verdict, None]:
        """Record events and give their verdicts; see Client.record_stream."""
        reading = asyncio.create_task(self._read(events))
        carrying = asyncio.create_task(self._carry())
        carrying.add_done_callback(lambda _: self._news.set())
        try:
            while self._answered or not carrying.done():
                await self._news.wait()
                self._news.clear()
                while self._answered:
                    for verdict in self._answered.popleft():
                        yield verdict
                        self._untaken -= 1
                    self._room.set()
            await carrying
            if self._broken is not None:
                raise self._broken
        finally:
            await _ended(reading, carrying)

    async def _read(self, events: AsyncIterable[Event] | Iterable[Event]) -> None:
        """Take events from their source while there is room."""
        try:
            if isinstance(events, AsyncIterable):
                async for event in events:
                    self._take(event)
                    if self._is_full():
                        await self._until_room()
            else:
                for count, event in enumerate(events, start=1):
                    self._take(event)
                    if self._is_full():
                        await self._until_room()
                    elif count % MAXIMUM_BATCH_EVENTS == 0:
                        await asyncio.sleep(0)  # lets the others have a turn
        except Exception as error:  # it is raised after the verdicts of what came before it
            self._broken = error
        self._ended = True
        self._changed.set()

    def _take(self, event: Event) -> None:
        size = size_of(event)
        self._unanswered.append((event, size))
        self._bytes += size
        self._changed.set()

    def _is_full(self) -> bool:
        held = len(self._unanswered) + self._untaken
        return held >= _HELD_EVENTS or self._bytes >= _HELD_BYTES

    async def _until_room(self) -> None:
        while self._is_full():
            self._room.clear()
            await self._room.wait()

    async def _carry(self) -> None:
        """Use one stream after the other until everything is answered."""
        while await self._is_needed():
            replica, stub = self._ingestions.next()
            try:
                await self._use_stream(replica, stub)
            except grpc.aio.AioRpcError as error:
                failure = CallFailed.of(error)
            except TimeoutError:
                failure = _silent(replica, self._attempts.seconds)
            else:
                continue
            if self._unanswered:
                await self._ingestions.failed(replica, failure, self._attempts)

    async def _is_needed(self) -> bool:
        """Wait for something to send; tell whether there is any."""
        while not self._unanswered and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._unanswered)

    async def _use_stream(self, replica: Replica, stub: IngestionServiceStub) -> None:
        """Send what is unanswered, and then what comes, until all of it is answered.

        Raises:
            TimeoutError: An answer did not come in time.
            grpc.aio.AioRpcError: The stream broke.
        """
        self._batches.clear()
        self._sent = self._sent_bytes = 0
        call: Any = stub.StreamEvents()
        window: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        writing = asyncio.create_task(self._write(call, window))
        receiving = asyncio.create_task(self._receive(call, window, replica))
        try:
            async with asyncio.timeout(self._attempts.seconds) as self._limit:
                await asyncio.wait({writing, receiving}, return_when=asyncio.FIRST_EXCEPTION)
            for task in (receiving, writing):
                if task.done():
                    task.result()
        finally:
            self._limit = None
            call.cancel()
            await _ended(writing, receiving)

    async def _write(self, call: Any, window: "asyncio.Future[int]") -> None:
        most = await window
        sequence = 0
        try:
            while batch := await self._next_batch(most):
                sequence += 1
                await call.write(StreamEventsRequest(sequence=sequence, events=batch))
            await call.done_writing()
        except asyncio.InvalidStateError:
            pass  # the stream has ended: the receiver knows how

    async def _receive(self, call: Any, window: "asyncio.Future[int]", replica: Replica) -> None:
        response = await call.read()
        if response is not grpc.aio.EOF:
            window.set_result(response.window_events)
            self._watch()
        while (response := await call.read()) is not grpc.aio.EOF:
            self._answer(response)
            replica.told(None)
            self._attempts.succeeded()
        if self._unanswered:
            raise CallFailed(
                grpc.StatusCode.INTERNAL,
                f"{replica.address} ended a stream of events before it had answered all of them. "
                "It is no ingestion service of this version.",
            )

    async def _next_batch(self, window: int) -> list[Event]:
        """Wait for what to send next; return nothing when all is sent and no more will come."""
        while True:
            if batch := self._batch(window):
                self._sent += len(batch)
                self._batches.append(len(batch))
                self._watch()
                return batch
            if self._ended and self._sent == len(self._unanswered):
                self._watch()
                return []
            self._changed.clear()
            await self._changed.wait()

    def _batch(self, window: int) -> list[Event]:
        """Return what to send now: a whole batch, or any events when nothing is under way.

        So a busy stream has large batches and a lone event does not wait, and no clock is needed
        (Nagle's rule, RFC 896).
        """
        most = min(MAXIMUM_BATCH_EVENTS, window)
        unsent = len(self._unanswered) - self._sent
        is_whole = unsent >= most or self._bytes - self._sent_bytes >= MAXIMUM_BATCH_BYTES
        if not unsent or not (is_whole or self._ended or not self._sent):
            return []
        batch: list[Event] = []
        size = 0
        for event, event_bytes in islice(self._unanswered, self._sent, self._sent + most):
            if batch and size + event_bytes > MAXIMUM_BATCH_BYTES:
                break
            batch.append(event)
            size += event_bytes
        if self._sent + len(batch) > window:
            return []
        self._sent_bytes += size
        return batch

    def _answer(self, response: StreamEventsResponse) -> None:
        count = self._batches.popleft() if self._batches else 0
        if count == 0 or len(response.verdicts) != count:
            raise CallFailed(
                grpc.StatusCode.INTERNAL,
                f"An answer on a stream of events has {len(response.verdicts):,} verdicts and "
                f"{count:,} were asked for. It comes from no ingestion service of this version.",
            )
        for _ in range(count):
            _, size = self._unanswered.popleft()
            self._bytes -= size
            self._sent_bytes -= size
        self._sent -= count
        self._untaken += count
        self._answered.append(response.verdicts)
        for changed in (self._news, self._room, self._changed):
            changed.set()
        self._watch()

    def _watch(self) -> None:
        """Expect the next answer in time, if there is something to answer."""
        if self._limit is not None and not self._limit.expired():
            waits = self._sent or self._ended
            now = asyncio.get_running_loop().time()
            self._limit.reschedule(now + self._attempts.seconds if waits else None)


async def _ended(*tasks: "asyncio.Task[None]") -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _silent(replica: Replica, seconds: float) -> CallFailed:
    return CallFailed(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"The ingestion service at {replica.address} did not answer within {seconds:g} s. What was "
        "sent may be recorded: send it again with the same event ids.",
    )
