"""Projections of tests, and runners on a real store, feed and database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import asyncpg

from libs.eventstore.client import StoreClient
from libs.projection.checkpoints import LEASE
from libs.projection.projection import Connection, Projection, Recorded, Table
from libs.projection.runner import Runner
from libs.tasks import running
from tests.services import build_views
from touchline.projection.v1.projection_pb2 import (
    PROJECTION_STATE_HALTED,
    PROJECTION_STATE_LIVE,
    PROJECTION_STATE_WAITING,
)

LIVE, HALTED, WAITING = (
    PROJECTION_STATE_LIVE,
    PROJECTION_STATE_HALTED,
    PROJECTION_STATE_WAITING,
)


class Ledger:
    """A projection that writes down each position it folds, and how often.

    It fails, or takes its time, when the test says so. A position that is folded twice is an error,
    as it is in the timeline.

    Attributes:
        name: Of its checkpoint.
        failures: How many times to fail, after the rows are written.
        before: Waited for before rows are written.
        after: Waited for after they are, before the transaction ends.
        started: Set when it has come to a batch.
        written: Set when it has written a batch's rows.
        forgot: How often it was told to forget.
    """

    fold_version = 1
    divisible = True
    tables = (Table("ledger"),)

    def __init__(self) -> None:
        self.name = "ledger"
        self.failures = 0
        self.forgot = 0
        self.started, self.written = asyncio.Event(), asyncio.Event()
        self.before, self.after = asyncio.Event(), asyncio.Event()
        self.before.set()
        self.after.set()

    def copy(self) -> Ledger:
        """The same fold, remembering nothing."""
        return Ledger()

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """It needs nothing."""

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Writes the positions down."""
        self.started.set()
        await self.before.wait()
        statement = "INSERT INTO ledger (position) SELECT unnest($1::bigint[])"
        await connection.execute(statement, [event.position for event in events])
        self.written.set()
        await self.after.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the test wants it to fail here")

    def aborted(self) -> None:
        """Counts."""
        self.forgot += 1


async def build_ledger(url: str) -> None:
    """Fills a database in which a Ledger can write."""
    await build_views(url)
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE ledger (position bigint PRIMARY KEY)")
    await connection.close()


async def ledger_of(pool: asyncpg.Pool) -> list[int]:
    """The positions that were folded."""
    rows = await pool.fetch("SELECT position FROM ledger ORDER BY position")
    return [row["position"] for row in rows]


def up_to(last: int) -> list[int]:
    """Every position up to one, once."""
    return list(range(1, last + 1))


async def checkpoint_of(pool: asyncpg.Pool) -> int:
    """The position that the Ledger committed."""
    position = await pool.fetchval(
        "SELECT position FROM projection_checkpoints WHERE projection = 'ledger'"
    )
    return int(position)


@dataclass(frozen=True, slots=True)
class Folds:
    """What a process folds, as ProjectionService asks for it."""

    runners: Sequence[Runner]

    @property
    def projections(self) -> dict[str, Projection]:
        """What its runners drive."""
        return {one.projection.name: one.projection for one in self.runners}


@asynccontextmanager
async def runner_of(
    ledger: Ledger, pool: asyncpg.Pool, store: StoreClient, lease: timedelta = LEASE
) -> AsyncIterator[Runner]:
    """Runs a projection until the block ends, as a process of its own would; its lease stays."""
    runner = Runner(ledger, pool, store, uuid4(), lease=lease)
    async with running(runner.run()):
        yield runner
