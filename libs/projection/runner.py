"""Drives a projection: history first, then the feed, each batch in one transaction."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import nats.errors
import nats.js.errors
import structlog
from google.protobuf.message import DecodeError

from libs.eventstore.chain import Head
from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.eventstore.feed import SUBJECT, follow_feed
from libs.postgres.pool import UNREACHABLE
from libs.projection.checkpoints import LEASE, Ownership
from libs.projection.continuity import Checkpoint, Discontinuity, Fork, head_of, next_events
from libs.projection.projection import Projection, Recorded, decode
from libs.projection.waiting import Behind
from libs.tasks import running
from libs.telemetry import declared, messaging, metrics, tracing
from touchline.projection.v1.projection_pb2 import ProjectionState
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent

# How many events one transaction may fold: long enough for COPY to pay.
_LONG_BATCH: Final = 10_000
_IDLE_SECONDS: Final = 1.0
QUICK_PACE: Final = timedelta(milliseconds=20)
"""The pace of what people wait for after recording something."""

PACE: Final = timedelta(milliseconds=50)
"""The pace of everything else: half a dozen projections share a database and a processor."""

_RETRY_SECONDS: Final = 0.5
_HALTED_SECONDS: Final = 2.0

_log = structlog.get_logger("projection")


class LostLease(Exception):
    """Another process owns the projection now; nothing of the batch was written."""


class Halted(Exception):
    """The projection can't go on without skipping events, and stops instead."""


@dataclass(slots=True)
class RunnerState:
    """What a runner says of itself.

    Attributes:
        state: What it does.
        head: The last position of the line that it knows of.
        halt_reason: Why it halted, or empty.
        committed_at: When it last committed, in seconds since 1970, or 0.
        owns: Whether the projection is this process's own.
        waiting_since: When the oldest event that it knows of and has not committed was recorded, in
            seconds since 1970; 0 when there is none.
    """

    state: ProjectionState.ValueType = ProjectionState.PROJECTION_STATE_WAITING
    head: int = 0
    halt_reason: str = ""
    committed_at: float = 0.0
    owns: bool = False
    waiting_since: float = 0.0


@dataclass(slots=True)
class _Arrived:
    """What has come on the feed: batches, and the traces that sent them."""

    batches: list[EventBatch] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Successive events, and where they end."""

    events: list[Recorded]
    end: Head


class Runner:
    """Keeps one projection at the head of the line.

    Args:
        projection: What to drive.
        pool: Connections to the projection's database.
        store: History, and the connection on which the feed comes.
        owner: Names this process.
        lease: For how long the projection stays this process's own without a sign of life.
        pace: From the start of one transaction to that of the next, while the feed never rests.
    """

    def __init__(
        self,
        projection: Projection,
        pool: asyncpg.Pool,
        store: StoreClient,
        owner: UUID,
        *,
        lease: timedelta = LEASE,
        pace: timedelta = QUICK_PACE,
    ) -> None:
        self.projection = projection
        self.state = RunnerState()
        self.checkpoint = Checkpoint(epoch=0)
        self._pool = pool
        self._store = store
        self._ownership = Ownership(pool, projection.name, owner, lease)
        self._pace = pace.total_seconds()
        self._renewed = 0.0

    async def run(self) -> None:
        """Fold for ever; run it as a task. What is down is waited for."""
        name = self.projection.name
        while True:
            delay = _RETRY_SECONDS
            try:
                if await self._claim():
                    async with running(self._keep_lease()):
                        await self._follow()
            except Halted as error:
                delay = _HALTED_SECONDS
                await self._halt(str(error))
            except LostLease:
                self.state.owns = False
                _log.warning("projection lost its lease", projection=name)
            except (
                StoreError,
                Behind,
                nats.errors.Error,
                *UNREACHABLE,
                asyncpg.DiskFullError,
                asyncpg.DeadlockDetectedError,
                TimeoutError,
            ) as error:
                _log.warning("projection waits", projection=name, reason=type(error).__name__)
            if self.state.state != ProjectionState.PROJECTION_STATE_HALTED:
                self.state.state = ProjectionState.PROJECTION_STATE_WAITING
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        await self._ownership.release()

    async def _claim(self) -> bool:
        version = self.projection.fold_version
        claimed = await self._ownership.claim(version)
        self.state.owns = claimed is not None
        if claimed is None:
            return False  # another process has it, or has just died: its lease ends soon
        self.checkpoint, folded_by = claimed
        self._renewed = time.monotonic()
        self.projection.aborted()
        if folded_by != version:
            raise Halted(
                f"its tables were folded by version {folded_by} of the fold, and this release has "
                f"version {version}: empty the tables and delete the checkpoint, and it folds anew"
            )
        return True

    async def _follow(self) -> None:
        await self._catch_up()
        async with follow_feed(self._store.connection) as subscription:
            # What was recorded before the subscription began is in history.
            await self._catch_up()
            await self._ownership.resume(self.checkpoint.epoch)
            began = 0.0
            while True:
                self._enter(ProjectionState.PROJECTION_STATE_LIVE)
                if subscription.pending_msgs:
                    # They come fast: a transaction costs the same for many, and others need the
                    # processor as well.
                    await asyncio.sleep(max(0.0, began + self._pace - time.monotonic()))
                arrived = await _pending(subscription)
                if not arrived.batches:
                    await self._renew()
                    if self._is_at(await self._store.head()):
                        continue
                    # An event may just be on its way.
                    arrived = await _pending(subscription)
                if not arrived.batches:
                    return  # the feed is silent, or the store is another: history tells
                began = time.monotonic()
                await self._fold_feed(arrived)

    async def _fold_feed(self, arrived: _Arrived) -> None:
        at, events = self._at, list[Recorded]()
        try:
            for batch in arrived.batches:
                events += decode(at.position + 1, next_events(at, batch))
                at = max(at, head_of(batch), key=lambda head: head.position)
        except Discontinuity as error:
            # The feed may be late, damaged or replaced; history tells what is true.
            _log.info("feed does not continue", projection=self.projection.name, reason=str(error))
            await self._fold(events, at)
            await self._catch_up()
        else:
            await self._fold(events, at, arrived.senders)

    async def _catch_up(self) -> None:
        chunk = await self._read_after(self._at)
        # Only now: a halted projection stays so until history continues it.
        self._enter(ProjectionState.PROJECTION_STATE_CATCHING_UP)
        while chunk.events:
            # What comes next is read while this is folded.
            following = asyncio.create_task(self._read_after(chunk.end))
            try:
                await self._fold(chunk.events, chunk.end)
                chunk = await following
            finally:
                following.cancel()

    async def _read_after(self, start: Head) -> _Chunk:
        # Decoded here already: the database writes what came before meanwhile.
        end, events = start, list[Recorded]()
        while len(events) < _LONG_BATCH:
            page = await self._store.history(end.position)
            self.state.head = max(self.state.head, page.head_position)
            events += decode(end.position + 1, self._continuing(end, page.batch))
            if not page.batch.events:
                break
            end = head_of(page.batch)
            if end.position >= page.head_position:
                break
        return _Chunk(events, end)

    def _continuing(self, at: Head, batch: EventBatch) -> Sequence[PackedEvent]:
        try:
            if batch.previous_chain != at.chain:
                raise Fork(
                    f"has another chain at position {at.position}"
                    if batch.previous_chain
                    else f"ends before position {at.position}"
                )
            return next_events(at, batch)
        except Discontinuity as error:
            raise Halted(
                f"the store's history {error}: this projection folded events that the store does "
                "not have, as after the restore of an older backup. Empty its tables and delete "
                "its checkpoint, and it folds anew from position 1."
            ) from error

    async def _fold(
        self, events: Sequence[Recorded], end: Head, senders: Sequence[str] = ()
    ) -> None:
        if not events:
            return
        before = self.checkpoint
        self.state.head = max(self.state.head, end.position)
        self.state.waiting_since = events[0].recorded_at_us / 1e6
        with messaging.process(
            SUBJECT,
            [*senders, *_traceparents(events)],
            messages=len(events),
            attributes={declared.PROJECTION: self.projection.name},
        ):
            try:
                await self.projection.prepare(events)
                await self._commit(before, events, end)
            except BaseException:
                self.projection.aborted()
                raise
        self.checkpoint = before.after(end)
        self._renewed = time.monotonic()
        self._tell(len(events), events[-1].recorded_at_us / 1e6)

    def _tell(self, count: int, newest_at: float) -> None:
        now = time.time()
        self.state.committed_at = now
        # What follows was recorded no earlier than the newest of these.
        behind = self.checkpoint.position < self.state.head
        self.state.waiting_since = newest_at if behind else 0.0
        if metrics.is_exporting():
            named = {declared.PROJECTION: self.projection.name}
            metrics.add(declared.PROJECTION_EVENTS, count, named)
            stated = {**named, declared.PROJECTION_STATE: state_name(self.state.state)}
            metrics.record(declared.VISIBLE_AFTER, max(0.0, now - newest_at), stated)

    async def _commit(self, before: Checkpoint, events: Sequence[Recorded], end: Head) -> None:
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await self.projection.apply(connection, events)
                if not await self._ownership.advance(connection, before, end):
                    raise LostLease
        except asyncpg.UniqueViolationError as error:
            if await self._ownership.renew(before.epoch):
                raise
            # Its new owner has written these rows already.
            raise LostLease from error

    async def _renew(self) -> None:
        if time.monotonic() - self._renewed < _IDLE_SECONDS:
            return
        if not await self._ownership.renew(self.checkpoint.epoch):
            raise LostLease
        self._renewed = time.monotonic()

    async def _keep_lease(self) -> None:
        """Renew while a long batch is folded: others would take over, in turns, for ever."""
        pause = self._ownership.lease.total_seconds() / 4
        while True:
            await asyncio.sleep(pause)
            if time.monotonic() - self._renewed > pause:
                with suppress(asyncpg.PostgresError, *UNREACHABLE):
                    await self._ownership.renew(self.checkpoint.epoch)

    async def _halt(self, reason: str) -> None:
        if self.state.halt_reason != reason:
            _log.error("projection halted", projection=self.projection.name, reason=reason)
        self.state.state = ProjectionState.PROJECTION_STATE_HALTED
        self.state.halt_reason = reason
        await self._ownership.halt(self.checkpoint.epoch, reason)

    def _enter(self, state: ProjectionState.ValueType) -> None:
        self.state.state = state
        self.state.halt_reason = ""

    def _is_at(self, head: Head) -> bool:
        here = self._at
        known = here.store_id in (b"", head.store_id)  # nothing was read yet, or the same store
        return known and (here.position, here.chain) == (head.position, head.chain)

    @property
    def _at(self) -> Head:
        return Head(self.checkpoint.store_id, self.checkpoint.position, self.checkpoint.chain)


def state_name(state: ProjectionState.ValueType) -> str:
    """Return a state as metrics name it, such as `catching_up`."""
    return ProjectionState.Name(state).removeprefix("PROJECTION_STATE_").lower()


async def _pending(subscription: Any) -> _Arrived:
    """Return what has arrived, waiting a moment for the first."""
    arrived = _Arrived()
    events = 0
    try:
        message = await subscription.next_msg(timeout=_IDLE_SECONDS)
        while True:
            with suppress(DecodeError):  # a damaged message leaves a gap, and history fills it
                arrived.batches.append(EventBatch.FromString(message.data))
                events += len(arrived.batches[-1].events)
                if tracing.is_exporting():
                    arrived.senders.append(messaging.traceparent_in(message.headers))
            if events >= _LONG_BATCH or not subscription.pending_msgs:
                return arrived
            message = await subscription.next_msg(timeout=_IDLE_SECONDS)
    except (TimeoutError, nats.errors.TimeoutError):
        return arrived


def _traceparents(events: Sequence[Recorded]) -> list[str]:
    if not tracing.is_exporting():
        return []
    return [event.record.traceparent for event in events if event.record.traceparent]
