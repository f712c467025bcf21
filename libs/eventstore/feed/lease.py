"""The lease by which one relay leads, and what its holder reports."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from libs.eventstore.errors import StoreError
from libs.eventstore.store import database_errors
from libs.postgres.queries import load_queries

# A database that answers later than this is as good as gone: the lease runs meanwhile.
_ANSWER_SECONDS: Final = 2.0
_SQL: Final = load_queries(Path(__file__).with_name("relay.sql"))


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that was just taken or renewed.

    Attributes:
        epoch: Counts the leaders.
        until: When it ends, by this process's monotonic clock.
        store_id: The store that the database holds now.
    """

    epoch: int
    until: float
    store_id: bytes


@dataclass(frozen=True, slots=True)
class RelayReport:
    """What the relays say of the feed, whichever of them leads.

    Attributes:
        led: Whether one leads, or tries to.
        epoch: Counts the leaders.
        position: The last position on the feed, as of a second ago.
        problem: Why nothing is published, and what to do, as it was found last. Empty: all is well.
    """

    led: bool
    epoch: int
    position: int
    problem: str


class RelayLease:
    """One process's side of the lease.

    Args:
        pool: Connections to the store's database.
        holder: Names this process.
    """

    def __init__(self, pool: asyncpg.Pool, holder: UUID) -> None:
        self._pool = pool
        self._holder = holder

    async def take(
        self, lasts: timedelta, *, position: int | None = None, problem: str | None = None
    ) -> Held | None:
        """Take or renew the lease, unless another holds it, and report.

        Args:
            lasts: For how long.
            position: The last position on the feed. None: not known yet.
            problem: What is wrong with the feed. None: not known yet.

        Raises:
            StoreError: the database can't be reached, or does not answer in time.
        """
        asked = time.monotonic()
        async with database_errors(), asyncio.timeout(_ANSWER_SECONDS):
            row: Any = await self._pool.fetchrow(
                _SQL["take_relay_lease"], self._holder, lasts, position, problem
            )
        if row is None:
            return None
        # Counted from before the question: never longer than the database thinks.
        return Held(row["epoch"], asked + lasts.total_seconds(), row["store_id"].bytes)

    async def release(self, problem: str | None = None) -> None:
        """Give the lease back if it is this process's, and say why; nobody waits for its end."""
        with suppress(StoreError, asyncpg.PostgresError):
            async with database_errors(), asyncio.timeout(_ANSWER_SECONDS):
                await self._pool.execute(_SQL["release_relay_lease"], self._holder, problem)


async def relay_report(pool: asyncpg.Pool) -> RelayReport:
    """Return what the relays of all processes say.

    Raises:
        StoreError: the database can't be reached.
    """
    async with database_errors():
        row: Any = await pool.fetchrow(_SQL["relay_report"])
    return RelayReport(row["led"], row["epoch"], row["position"], row["problem"])
