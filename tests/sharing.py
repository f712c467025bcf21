"""Crews of tests: several in this process, each as a process of its own would have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import uuid4

import asyncpg

from libs.eventstore.client import StoreClient
from libs.postgres.pool import open_pool
from libs.projection.consents import Consents
from libs.projection.identity_graph import IdentityGraph
from libs.projection.projection import Projection
from libs.projection.serving import Serving
from libs.projection.sharing import Crew
from libs.projection.timeline import Timeline
from libs.projection.waiting import Checkpoints, follow_checkpoints
from tests.projecting import Ledger

MERGES_AFTER = timedelta(seconds=0.5)


@dataclass(slots=True)
class Member:
    """A process that shares: what it runs and reads.

    Attributes:
        crew: Folds.
        serving: Says which generations it reads.
        checkpoints: Wait for them.
        pool: Connections that read.
    """

    crew: Crew
    serving: Serving
    checkpoints: Checkpoints
    pool: asyncpg.Pool
    _task: asyncio.Task[None]

    async def kill(self) -> None:
        """Ends it where it stands, as SIGKILL does: its leases stay, and it is not told of."""
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1)

    async def leave(self) -> None:
        """Ends it in order."""
        await self.kill()
        await self.crew.stop()

    def check(self) -> None:
        """Raises what it failed with."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()


def folds() -> list[Projection]:
    """Two projections that can be divided, and two that can't."""
    return [Ledger(), Timeline(), Consents(), IdentityGraph()]


@asynccontextmanager
async def member(
    url: str, store: StoreClient, its: Sequence[Projection] | None = None
) -> AsyncIterator[Member]:
    """Runs a process that shares until the block ends.

    Args:
        url: The database, in which a Ledger can write.
        store: The store.
        its: What it folds.
    """
    its = folds() if its is None else its
    serving = Serving({one.name: one.fold_version for one in its if one.copy() is not None})
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(url, application="shares", setup=serving.setup)
        )
        checkpoints = await stack.enter_async_context(
            follow_checkpoints(url, pool, serving=serving)
        )
        crew = Crew(
            *(url, pool, store, uuid4(), its),
            settings={"synchronous_commit": "off"},
            serving=serving,
            pace=timedelta(milliseconds=20),
            merge_after=MERGES_AFTER,
        )
        task = asyncio.create_task(crew.run())
        one = Member(crew, serving, checkpoints, pool, task)
        try:
            yield one
            one.check()
        finally:
            await one.leave()


class Ours(NamedTuple):
    """A range that somebody folds."""

    projection: str
    first: int
    last: int


def shared_by(one: Member) -> set[Ours]:
    """The ranges that a member folds now."""
    return {
        Ours(runner.projection.name, *runner.partitions)
        for runner in one.crew.runners
        if runner.state.owns
    }


def all_of(projection: str, parts: int = 1) -> set[Ours]:
    """A projection's ranges, when it has so many."""
    size = 64 // parts
    return {Ours(projection, first, first + size - 1) for first in range(0, 64, size)}


def everything(parts: int = 1) -> set[Ours]:
    """All ranges of `folds` when there are so many of what can be divided."""
    return (
        all_of("ledger", parts)
        | all_of("timeline", parts)
        | all_of("consents")
        | all_of("identity_graph")
    )
