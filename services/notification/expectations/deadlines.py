"""Watches deadlines, and decides that an expectation is broken when one has passed.

Only the process that drives the reactor does, and only once that has folded everything which was
recorded before the deadline was looked at: an answer on its way is not overlooked.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.identity_graph import IdentityGraph
from libs.projection.opening import open_records
from libs.projection.outbox import Decision, Outbox
from libs.projection.runner import Runner
from libs.projection.waiting import Behind, Checkpoints
from libs.telemetry import declared
from libs.telemetry.metrics import Reading
from services.notification.expectations.keeping import NAME, Expectations
from services.notification.expectations.resolutions import broken
from touchline.notification.v1.notification_pb2 import EXPECTATION_STATE_OPEN
from touchline.store.v1.store_pb2 import RecordedEvent
from touchline.times import MICROS_PER_SECOND

_AT_ONCE: Final = 500
# Whoever takes the reactor over begins to watch within this time.
_IDLE_SECONDS: Final = 1.0
# A change wakes; this is for a clock that was set.
_LOOK_SECONDS: Final = 30.0
_WAIT_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.5
_COUNT_SECONDS: Final = 10.0
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("expectations")


class Deadlines:
    """Watches the deadlines of one reactor's expectations.

    Args:
        expectations: The reactor; it tells when a deadline may have changed.
        runners: What this process folds now, the reactor or not.
        pool: The service's database.
        store: Says how far the line goes, and opens events.
        outbox: Takes decisions.
        checkpoints: How far the reactor came.
        readers: By tenant number.
    """

    def __init__(
        self,
        expectations: Expectations,
        runners: Collection[Runner],
        pool: asyncpg.Pool,
        store: StoreClient,
        outbox: Outbox,
        checkpoints: Checkpoints,
        readers: Mapping[int, Reader],
    ) -> None:
        self._expectations = expectations
        self._runners = runners
        self._pool = pool
        self._store = store
        self._outbox = outbox
        self._checkpoints = checkpoints
        self._readers = readers
        self._open = 0
        self._next_us: int | None = None
        self._counted_at = 0.0

    async def run(self) -> None:
        """Watch for ever; run it as a task. What is down is waited for."""
        while True:
            try:
                await self._watch()
            except (
                StoreError,
                Behind,
                *UNREACHABLE,
                asyncpg.DiskFullError,
                asyncpg.DeadlockDetectedError,
                TimeoutError,
            ) as error:
                _log.warning("deadlines wait", reason=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)

    def readings(self) -> dict[declared.Metric, Reading]:
        """Return the gauges of expectations."""
        return {
            declared.EXPECTATIONS_OPEN: lambda: [(self._open, {})] if self._owns else [],
            declared.EXPECTATIONS_OVERDUE: lambda: [(self._overdue(), {})] if self._owns else [],
        }

    @property
    def _runner(self) -> Runner | None:
        return next((one for one in self._runners if one.projection is self._expectations), None)

    @property
    def _owns(self) -> bool:
        return self._runner is not None and self._runner.state.owns

    def _overdue(self) -> float:
        return 0.0 if self._next_us is None else max(0.0, time.time() - self._next_us / 1e6)

    async def _watch(self) -> None:
        """Wait for the next deadline or a change, and decide what is due."""
        if not self._owns:
            await asyncio.sleep(_IDLE_SECONDS)
            return
        changed = self._expectations.changed
        if changed.is_set():
            changed.clear()
            # What it wrote can be read once it is committed.
            reached = self._expectations.changed_at
            await self._checkpoints.wait((NAME,), reached, _WAIT_SECONDS)
        await self._count_sometimes()
        self._next_us = await self._pool.fetchval(_SQL["next_due"])
        now_us = time.time_ns() // 1000
        if self._next_us is not None and self._next_us <= now_us:
            await self._break(now_us)
            return
        pause = _LOOK_SECONDS
        if self._next_us is not None:
            pause = min(pause, (self._next_us - now_us) / MICROS_PER_SECOND)
        with suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), pause)

    async def _break(self, now_us: int) -> None:
        head = await self._store.head()
        await self._checkpoints.wait((NAME,), head.position, _WAIT_SECONDS)
        # How far it is known who was erased, before anything is opened.
        known_at = self._checkpoints.position((IdentityGraph.name,))
        rows = await self._pool.fetch(_SQL["overdue"], now_us, _AT_ONCE)
        decisions = await self._decisions(rows, known_at)
        columns = [list(column) for column in zip(*decisions, strict=True)]
        if not columns:
            await asyncio.sleep(_RETRY_SECONDS)  # something else was decided meanwhile
            return
        if (runner := self._runner) is None:
            return  # another process watches from now on
        async with self._pool.acquire() as connection, connection.transaction():
            epoch = runner.checkpoint.epoch
            taken = await connection.fetch(_SQL["break"], *columns, NAME, epoch)
            still = {(tenant, key) for tenant, key in taken}
            await self._outbox.decide(
                connection,
                NAME,
                [
                    decision
                    for (tenant, key, _), decision in decisions.items()
                    if decision is not None and (tenant, key) in still
                ],
            )
        if not taken:
            await asyncio.sleep(_RETRY_SECONDS)  # another process watches from now on

    async def _decisions(
        self, rows: Sequence[asyncpg.Record], known_at: int
    ) -> dict[tuple[int, bytes, int], Decision | None]:
        """Return what is to be decided of each deadline; None where the customer was erased."""
        opened = await open_records(
            self._store, [RecordedEvent.FromString(row["record"]) for row in rows]
        )
        found: dict[tuple[int, bytes, int], Decision | None] = {}
        for (tenant, key, due_at_us, recorded_at_us, _), told in zip(rows, opened, strict=True):
            decision = None
            if told is not None and tenant in self._readers:
                event = broken(told, key, due_at_us, recorded_at_us)
                decision = Decision(self._readers[tenant].name, event, known_at)
            found[tenant, key, due_at_us] = decision
        return found

    async def _count_sometimes(self) -> None:
        if time.monotonic() - self._counted_at < _COUNT_SECONDS:
            return
        self._open = await self._pool.fetchval(_SQL["count"], EXPECTATION_STATE_OPEN)
        self._counted_at = time.monotonic()
