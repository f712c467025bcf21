"""Folds what is this process's share, with a runner per range."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.checkpoints import FoldsAnew, RangeState, read_folding, read_ranges
from libs.projection.feed import Feed
from libs.projection.generations.generation import Generation
from libs.projection.generations.meeting import NotMet
from libs.projection.generations.records import generations
from libs.projection.parking import is_outage
from libs.projection.partitions import Partitions
from libs.projection.projection import Projection
from libs.projection.runner import PACE, Runner
from libs.projection.serving import Serving
from libs.projection.sharing.beginning import begin_versions, introduce_new
from libs.projection.sharing.dividing import merge, split
from libs.projection.sharing.living import Heartbeat
from libs.projection.sharing.pools import FoldingPools
from libs.projection.sharing.shares import Plan, Share, plan
from libs.tasks import running

RETIRED_PACE: Final = timedelta(milliseconds=200)
"""The pace of a generation that is only kept to be rolled back to."""

_FOLDED: Final = ("following", "serving", "retired")
_LOOK_SECONDS: Final = 0.5
_HEARD_SECONDS: Final = 0.5
# A process that starts again is not worth merging for, nor one that was busy for a moment.
_MERGE_AFTER: Final = timedelta(seconds=10)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("crew")

Key = tuple[int, Partitions]
"""A range: its generation's id, and its partitions."""


class Crew:
    """Keeps a runner for each range that is this process's share.

    A view is folded by a copy of its fold for each range, on connections of its generation's own. A
    reactor is run as the object given, on the connections that read: it reads other views.

    Attributes:
        projections: All that the process knows, by name.
        runners: Those that run here now.

    Args:
        url: The database of the projections.
        pool: Connections that read it.
        store: History, and the connection on which the feed comes.
        owner: Names the process.
        folds: What the process knows: views and reactors.
        settings: Of the sessions that fold.
        pace: Of what answers.
        serving: What the process reads; reactors begin once all of it can be read.
        projects: Whether to fold views.
        reacts: Whether to fold reactors.
        merge_after: For how long there have to be too many ranges before two are merged.
    """

    def __init__(
        self,
        url: str,
        pool: asyncpg.Pool,
        store: StoreClient,
        owner: UUID,
        folds: Sequence[Projection],
        *,
        settings: Mapping[str, str],
        serving: Serving,
        pace: timedelta = PACE,
        projects: bool = True,
        reacts: bool = True,
        merge_after: timedelta = _MERGE_AFTER,
    ) -> None:
        self.projections = {one.name: one for one in folds}
        self.runners: list[Runner] = []
        self._pool, self._store, self._owner = pool, store, owner
        self._feed = Feed(store.connection)
        self._pace = pace
        self._serving = serving
        self._projects, self._reacts = projects, reacts
        self._merge_after = merge_after.total_seconds()
        self._pools = FoldingPools(url, settings)
        self._running: dict[Key, tuple[Runner, asyncio.Task[None]]] = {}
        self._folding: int | None = None
        self._wanted_since: dict[Key, float] = {}
        self._reconciling = asyncio.Lock()

    async def run(self) -> None:
        """Share the work for ever; run it as a task. What is down is waited for.

        Raises:
            FoldsAnew: what was folded here is on no line any more; the process must end.
            Exception: a defect of a runner.
        """
        try:
            while True:
                with suppress(*UNREACHABLE):
                    await self._work(await self._pools.public())
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await self._end(list(self._running))

    async def stop(self) -> None:
        """Give all leases back, and tell that the process is gone; called once `run` has ended."""
        await self._end(list(self._running))
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            await self._pool.execute(_SQL["release_all"], self._owner)
            await self._pool.execute(_SQL["leave"], self._owner)
            await self._pool.execute(_SQL["changed"])
        await self._pools.close()

    def add(self, projection: Projection) -> None:
        """Fold one more from now on, and read what this release folds of it."""
        self.projections[projection.name] = projection
        if not _is_reactor(projection):
            self._serving.watch(projection.name, projection.fold_version)
        self._serving.changed.set()

    async def remove(self, name: str) -> None:
        """Fold one no more, and return once its runners have ended and their leases are free."""
        self.projections.pop(name, None)
        self._serving.unwatch(name)
        async with self._reconciling:
            await self._give_up(
                [key for key, (one, _) in self._running.items() if one.projection.name == name]
            )

    async def _work(self, public: asyncpg.Pool) -> None:
        heartbeat = Heartbeat(
            *(public, self._owner),
            folds=self._projects,
            # Until its views are built, whoever reacted before goes on.
            reacts=lambda: self._reacts and self._serving.is_ready,
            fold_versions=self._fold_versions,
        )
        async with running(heartbeat.run()):
            while True:
                self._serving.changed.clear()
                try:
                    async with self._reconciling:
                        await self._reconcile(public, heartbeat)
                except Exception as error:
                    if not is_outage(error):
                        raise
                    _log.warning("crew waits", reason=type(error).__name__)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._serving.changed.wait(), _LOOK_SECONDS)

    def _fold_versions(self) -> dict[str, int]:
        views = (one for one in self.projections.values() if not _is_reactor(one))
        return {**self._serving.folds, **{one.name: one.fold_version for one in views}}

    async def _reconcile(self, public: asyncpg.Pool, heartbeat: Heartbeat) -> None:
        await self._check_folding(public)
        self._look_after_ended()
        mine = [one for one in self.projections.values() if self._may_fold(one)]
        ranges = await read_ranges(public)
        if await introduce_new(public, mine, ranges):
            ranges = await read_ranges(public)
        known = {one.id: one for one in await generations(public)}
        paused = {row["projection"] for row in await public.fetch(_SQL["paused"])}
        shares = self._shares(known, ranges, paused)
        await self._end_what_is_not(shares)
        now = plan(list(shares.values()), await heartbeat.living(), heartbeat.me)
        await self._follow(public, now)
        self._keep_pace(known)
        await self._pools.keep({known[key[0]].schema for key in self._running if key[0] in known})
        await begin_versions(public, self._store, mine, known.values())

    def _may_fold(self, projection: Projection) -> bool:
        if _is_reactor(projection):
            return self._reacts and self._serving.is_ready
        return self._projects

    def _shares(
        self, known: Mapping[int, Generation], ranges: Sequence[RangeState], paused: set[str]
    ) -> dict[Key, Share]:
        found = {}
        for state in ranges:
            one = known.get(state.generation)
            fold = self.projections.get(state.projection)
            if one is None or fold is None or state.projection in paused:
                continue
            is_reactor = _is_reactor(fold)
            is_ours = is_reactor or one.fold_version == fold.fold_version
            if is_ours and one.state in _FOLDED and self._may_fold(fold):
                divisible = fold.divisible and not is_reactor and not state.erasure_waits
                key = (one.id, state.partitions)
                found[key] = Share(one, state, is_reactor=is_reactor, divisible=divisible)
        return found

    async def _check_folding(self, public: asyncpg.Pool) -> None:
        folding = await read_folding(public)
        if self._folding not in (None, folding):
            raise FoldsAnew("another process emptied its tables", self._folding or 0)
        self._folding = folding

    def _look_after_ended(self) -> None:
        for key, (runner, task) in list(self._running.items()):
            if task.done():
                self._forget(key, runner)
                task.result()  # a defect: it ends the process, as any task's

    async def _end_what_is_not(self, shares: Mapping[Key, Share]) -> None:
        """End what was dropped, split, paused, or taken by another process."""
        lost = [
            key
            for key in self._running
            if key not in shares
            or (shares[key].state.leased and shares[key].state.owner != self._owner)
        ]
        await self._give_up(lost)

    async def _follow(self, public: asyncpg.Pool, now: Plan) -> None:
        if now.give_up is not None:
            await self._give_up([_key(now.give_up)])
            await public.execute(_SQL["changed"])
        for share in now.split:
            await self._split(public, share)
        merged = await self._merge_some(public, now.merge)
        for share in now.take:
            await self._start(share)
        if now.split or merged:
            self._serving.changed.set()  # what came of it is run next

    async def _start(self, share: Share) -> None:
        fold: Projection | None = self.projections.get(share.state.projection)
        if fold is None or _key(share) in self._running:
            return
        pool = self._pool
        if not share.is_reactor:
            fold, pool = fold.copy(), await self._pools.of(share.generation)
        if fold is None:
            return
        runner = Runner(
            *(fold, pool, self._store, self._owner),
            feed=self._feed,
            generation=share.generation,
            partitions=share.partitions,
            pace=self._pace,
            folding=self._folding,
        )
        task = asyncio.create_task(runner.run())
        task.add_done_callback(lambda _: self._serving.changed.set())
        self._running[_key(share)] = (runner, task)
        self.runners.append(runner)

    async def _split(self, public: asyncpg.Pool, share: Share) -> None:
        await self._end([_key(share)])
        if await split(public, share.generation.id, share.partitions, self._owner):
            _log.info("range is split", projection=share.state.projection, **_named(share))

    async def _merge_some(self, public: asyncpg.Pool, wanted: Sequence[Share]) -> bool:
        """Merge the first of what was wanted for a while."""
        now = asyncio.get_running_loop().time()
        since = {_key(one): self._wanted_since.get(_key(one), now) for one in wanted}
        self._wanted_since = since
        for one in wanted:
            key = _key(one)
            if now - since[key] < self._merge_after:
                continue
            with suppress(NotMet):
                if await merge(
                    *(public, one.generation.id, one.partitions, self._owner),
                    partial(self._end, [key]),
                ):
                    _log.info("ranges are merged", projection=one.state.projection, **_named(one))
                    return True
            del since[key]  # not again at once
        return False

    def _keep_pace(self, known: Mapping[int, Generation]) -> None:
        for (generation, _), (runner, _) in self._running.items():
            if generation in known:
                runner.generation = known[generation]
                is_retired = known[generation].state == "retired"
                runner.pace = RETIRED_PACE if is_retired else self._pace

    async def _give_up(self, keys: Sequence[Key]) -> None:
        given = [self._running[key][0] for key in keys if key in self._running]
        await self._end(keys)
        for runner in given:
            await runner.stop()

    async def _end(self, keys: Sequence[Key]) -> None:
        """End runners; their leases stay."""
        pending = {self._running[key][1] for key in keys if key in self._running}
        while pending:
            for task in pending:
                task.cancel()  # more than once: nats-py swallows a cancellation while it flushes
            _, pending = await asyncio.wait(pending, timeout=_HEARD_SECONDS)
        for key in keys:
            if key in self._running:
                self._forget(key, self._running[key][0])

    def _forget(self, key: Key, runner: Runner) -> None:
        del self._running[key]
        self.runners.remove(runner)


def _is_reactor(projection: Projection) -> bool:
    return projection.copy() is None


def _key(share: Share) -> Key:
    return share.generation.id, share.partitions


def _named(share: Share) -> dict[str, int]:
    first, last = share.partitions
    return {"generation": share.generation.id, "first": first, "last": last}
