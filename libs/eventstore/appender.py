"""Group commit: requests that arrive while the disk is busy share the next append."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from libs.eventstore.errors import QueueFull, RequestRefused
from libs.eventstore.records import Row
from libs.eventstore.store import Appended, AppendVerdict, EventStore
from libs.eventstore.traces import appending
from libs.telemetry import current_traceparent

GROUP_EVENTS: Final = 1000
GROUP_BYTES: Final = 1024 * 1024
QUEUE_EVENTS: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Request:
    units: Sequence[Sequence[Row]]
    erasures: int
    events: int
    size: int
    traceparent: str
    verdicts: "asyncio.Future[list[AppendVerdict]]"


class Appender:
    """Joins concurrent requests into appends of at most 1,000 events or 1 MiB.

    A request is never split, and none waits for company: what arrives while an append is under way
    makes up the next one. Requests that know of other erasures than those before them wait for the
    append after. A request whose caller has gone before its turn comes is dropped: who
    asks again, because it took too long, does not double the work.

    Args:
        store: Where to append.
        on_appended: Told of every append, in the order of the line.
        queue_events: How many events may wait.

    Attributes:
        queued_events: How many events wait in the queue or are being appended.
        head_position: Where the line ended after the last append, or 0.
    """

    def __init__(
        self,
        store: EventStore,
        on_appended: Callable[[Appended], None],
        *,
        queue_events: int = QUEUE_EVENTS,
    ) -> None:
        self._store = store
        self._on_appended = on_appended
        self._queue_events = queue_events
        self._streamed_events = queue_events * 3 // 4
        self._waiting: deque[_Request] = deque()
        self._held: deque[_Request] = deque()
        self._arrived = asyncio.Event()
        self.queued_events = 0
        self.head_position = 0

    async def append(
        self, units: Sequence[Sequence[Row]], erasures: int = 0
    ) -> list[AppendVerdict]:
        """Appends units and returns one verdict per event when they are safe on disk.

        Args:
            units: The units.
            erasures: How many erasures there had been when their keys were got; see Keyring.era.

        Raises:
            SealsStale: somebody was erased since; nothing of this request was recorded.
            QueueFull: too many events wait; nothing of this request was taken.
            RequestRefused: the database refuses the content of this request.
            StoreFull: nothing of this request was recorded.
            StoreUnavailable: whether it was recorded is not known; ask again with the same ids.
        """
        request = _request(units, erasures)
        if self.queued_events + request.events > self._queue_events and self.queued_events:
            raise QueueFull(self.queued_events)
        self._queue(request)
        return await request.verdicts

    def append_when_room(
        self, units: Sequence[Sequence[Row]], erasures: int = 0
    ) -> Awaitable[list[AppendVerdict]]:
        """Takes units now, in the order of the calls, and appends them once the queue has room.

        For streams, whose callers wait anyway. They leave a quarter of the queue to single calls,
        so a few busy streams don't make `append` refuse everybody else.

        Returns:
            What gives the verdicts, or fails as `append` does but for QueueFull. To cancel it drops
            the units unless they are being appended.
        """
        request = _request(units, erasures)
        self._held.append(request)
        self._release()
        return request.verdicts

    async def run(self) -> None:
        """Appends what arrives, for ever; run it as a task."""
        while True:
            await self._arrived.wait()
            while group := self._next_group():
                await self._append_group(group)
            self._arrived.clear()

    def _queue(self, request: _Request) -> None:
        self._waiting.append(request)
        self.queued_events += request.events
        self._arrived.set()

    def _release(self) -> None:
        """Queues what streams wait for room with, as far as there is some."""
        while self._held:
            request = self._held[0]
            if not request.verdicts.done():
                full = self.queued_events + request.events > self._streamed_events
                if full and self.queued_events:
                    return
                self._queue(request)
            self._held.popleft()

    def _drop_left(self) -> None:
        """Drops requests at the front of the queue whose callers have gone."""
        while self._waiting and self._waiting[0].verdicts.done():
            self.queued_events -= self._waiting.popleft().events
            self._release()

    def _next_group(self) -> list[_Request]:
        """Takes the requests of the next append; none if all their callers have gone."""
        group: list[_Request] = []
        events = size = 0
        self._drop_left()
        while self._waiting:
            request = self._waiting[0]
            events += request.events
            size += request.size
            if group and (events > GROUP_EVENTS or size > GROUP_BYTES):
                break
            if group and request.erasures != group[0].erasures:
                break
            group.append(self._waiting.popleft())
            self._drop_left()
        return group

    async def _append_group(self, group: list[_Request]) -> None:
        try:
            await self._append(group)
        except Exception as error:
            for request in group:
                if not request.verdicts.done():
                    request.verdicts.set_exception(error)
        finally:
            self.queued_events -= sum(request.events for request in group)
            self._release()

    async def _append(self, group: list[_Request]) -> None:
        try:
            with appending([r.traceparent for r in group], sum(r.events for r in group)):
                units = [unit for request in group for unit in request.units]
                appended = await self._store.append(units, group[0].erasures)
        except asyncpg.PostgresError as error:
            await self._bisect(group, error)
            return
        self.head_position = appended.previous_position + len(appended.rows)
        if appended.rows:
            self._on_appended(appended)
        start = 0
        for request in group:
            verdicts = appended.verdicts[start : start + request.events]
            start += request.events
            if not request.verdicts.done():  # its caller may have gone
                request.verdicts.set_result(verdicts)

    async def _bisect(self, group: list[_Request], error: asyncpg.PostgresError) -> None:
        if len(group) > 1:
            middle = len(group) // 2
            await self._append(group[:middle])
            await self._append(group[middle:])
        elif not group[0].verdicts.done():
            refused = RequestRefused(f"the database refuses the request ({type(error).__name__})")
            refused.__cause__ = error
            group[0].verdicts.set_exception(refused)


def _request(units: Sequence[Sequence[Row]], erasures: int) -> _Request:
    return _Request(
        units=units,
        erasures=erasures,
        events=sum(len(unit) for unit in units),
        size=sum(len(row.record) for unit in units for row in unit),
        traceparent=current_traceparent(),
        verdicts=asyncio.get_running_loop().create_future(),
    )
