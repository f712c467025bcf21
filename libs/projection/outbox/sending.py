"""Sends the outbox: who does, when it begins, and what wakes it."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.checkpoints import LEASE
from libs.projection.outbox.appending import Appender, Row
from libs.projection.outbox.deciding import Outbox
from libs.projection.projection import Projection

_CHANNEL: Final = "touchline_outbox"
_MAX_EVENTS: Final = 1000
_MAX_BYTES: Final = 900 * 1024  # NATS takes 1 MiB
_IDLE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 0.5
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("outbox")


class LostLead(Exception):
    """Another process sends now."""


@dataclass(slots=True)
class OutboxState:
    """What a sender says of the outbox.

    Attributes:
        owns: Whether this process sends.
        waiting: How many decisions wait to be appended.
        oldest_at: When the oldest of them was decided, in seconds since 1970; 0 if there is none.
        dead: How many the store does not take.
    """

    owns: bool = False
    waiting: int = 0
    oldest_at: float = 0.0
    dead: int = 0


class Sender:
    """Appends the outbox of a database to the store; of several processes one does at a time.

    It begins when every projection has reached the head that was there at its start, so that
    nothing is told that events which are recorded already would have prevented.

    Args:
        outbox: Opens the rows.
        pool: Connections to the database.
        store: Takes the decisions.
        folds: The projections and reactors of the database, as this release folds them, in whatever
            process.
        owner: Names this process.
        lease: For how long this process sends without a sign of life.
    """

    def __init__(
        self,
        outbox: Outbox,
        pool: asyncpg.Pool,
        store: StoreClient,
        folds: Sequence[Projection],
        *,
        owner: UUID,
        lease: timedelta = LEASE,
    ) -> None:
        self.state = OutboxState()
        self._appender = Appender(outbox, pool, store)
        self._pool = pool
        self._store = store
        # Of a reactor there is one generation, of whatever version.
        self._waits_for = {
            one.name: None if one.copy() is None else one.fold_version for one in folds
        }
        self._owner = owner
        self._lease = lease
        self._renew_seconds = lease.total_seconds() / 4
        self._woken = asyncio.Event()
        self._led_at = self._measured_at = 0.0
        self._caught_up = False

    def wake(self) -> None:
        """Look at once; a commit that decides does so by itself."""
        self._woken.set()

    async def run(self) -> None:
        """Send for ever; run it as a task. What is down is waited for."""
        while True:
            try:
                await self._lead()
                async with self._listening() as connection:
                    await self._until_caught_up()
                    while not connection.is_closed():
                        await self._lead()
                        await self._send_all()
                        await self._idle(min(_IDLE_SECONDS, self._renew_seconds))
            except LostLead:
                self.state.owns = False
            except (
                StoreError,
                *UNREACHABLE,
                asyncpg.DiskFullError,
                asyncpg.DeadlockDetectedError,
                TimeoutError,
            ) as error:
                _log.warning("outbox waits", reason=type(error).__name__)
                with suppress(asyncpg.PostgresError, *UNREACHABLE, TimeoutError):
                    await self._measure()
            await asyncio.sleep(_RETRY_SECONDS)

    async def stop(self) -> None:
        """Let another process send at once."""
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            await self._pool.execute(_SQL["release"], self._owner)

    async def _lead(self) -> None:
        now = time.monotonic()
        if self.state.owns and now - self._led_at < self._renew_seconds:
            return
        if await self._pool.fetchval(_SQL["lead"], self._owner, self._lease) is None:
            raise LostLead
        self.state.owns = True
        self._led_at = now

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        def heard(*_: object) -> None:
            self.wake()

        async with self._pool.acquire() as connection:
            await connection.add_listener(_CHANNEL, heard)
            try:
                yield connection
            finally:
                if not connection.is_closed():
                    await connection.remove_listener(_CHANNEL, heard)

    async def _until_caught_up(self) -> None:
        if self._caught_up:
            return
        head = await self._store.head()
        names, versions = list(self._waits_for), list(self._waits_for.values())
        arguments = (names, versions, head.position, head.store_id)
        while not await self._pool.fetchval(_SQL["reached"], *arguments):
            await self._lead()
            await self._measure_sometimes()
            await asyncio.sleep(_LOOK_SECONDS)
        self._caught_up = True

    async def _send_all(self) -> None:
        self._woken.clear()
        while rows := await self._pool.fetch(_SQL["next"], _MAX_EVENTS, _MAX_BYTES):
            await self._measure_sometimes()
            for _, same in groupby(
                (Row(*row) for row in rows), key=lambda row: (row.tenant, row.traceparent)
            ):
                await self._appender.append(list(same))
            await self._lead()
        await self._measure_sometimes(drained=True)

    async def _idle(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)

    async def _measure_sometimes(self, *, drained: bool = False) -> None:
        if drained:
            self.state.waiting, self.state.oldest_at = 0, 0.0
        if time.monotonic() - self._measured_at >= _IDLE_SECONDS:
            await self._measure()

    async def _measure(self) -> None:
        row: Any = await self._pool.fetchrow(_SQL["measure"])
        self.state.waiting, self.state.oldest_at, self.state.dead = row
        self._measured_at = time.monotonic()
