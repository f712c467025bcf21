"""Drives a range of a projection: history first, then the feed, each stretch in one transaction."""

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from libs.eventstore.chain import Head
from libs.eventstore.client import StoreClient
from libs.postgres.pool import UNREACHABLE
from libs.projection.checkpoints import LEASE, Gone, Halted, LostLease, Ownership
from libs.projection.continuity import Checkpoint, Discontinuity, Fork
from libs.projection.feed import IDLE_SECONDS, Arrived, Feed
from libs.projection.folding import Folding
from libs.projection.generations.generation import Generation
from libs.projection.introducing import check_version, own_generation
from libs.projection.parking import is_outage
from libs.projection.parking.refolding import refold_asked
from libs.projection.partitions import ALL, Partitions
from libs.projection.projection import Projection
from libs.projection.reading import Stretch, read_feed, read_history
from libs.projection.restored import continued_elsewhere
from libs.projection.state import RunnerState, measure
from libs.tasks import running
from touchline.projection.v1.projection_pb2 import ProjectionState

QUICK_PACE: Final = timedelta(milliseconds=20)
"""The pace of what people wait for after recording something."""

PACE: Final = timedelta(milliseconds=100)
"""The pace of everything else: half a dozen projections share a database and a processor.

At 1,000 events/s, twice as long a pace takes a sixth off what all processes need together.
"""

_RETRY_SECONDS: Final = 0.5
_HALTED_SECONDS: Final = 2.0
_PARKED_IDLE_SECONDS: Final = 0.2
_ON_ITS_WAY_SECONDS: Final = 0.5

_log = structlog.get_logger("projection")


class Runner:
    """Keeps one range of a projection at the head of the line.

    Attributes:
        projection: What it drives.
        generation: Which folding of it, as it was last known; None until it is.
        partitions: Whose events.
        state: What it does.
        pace: See below; it may be changed.

    Args:
        projection: What to drive.
        pool: Connections to the projection's database, which find the generation's tables.
        store: History, and the connection on which the feed comes.
        owner: Names this process.
        feed: That of the process. Default: its own.
        generation: What to fold; None: the one that answers, or the first one there is.
        partitions: Whose events.
        lease: For how long the range stays this process's own without a sign of life.
        pace: From the start of one transaction to that of the next, while the feed never rests.
        folding: How often everything in the database had been folded anew when the process began;
            None: that is not known before the range is asked for.
    """

    def __init__(
        self,
        projection: Projection,
        pool: asyncpg.Pool,
        store: StoreClient,
        owner: UUID,
        *,
        feed: Feed | None = None,
        generation: Generation | None = None,
        partitions: Partitions = ALL,
        lease: timedelta = LEASE,
        pace: timedelta = QUICK_PACE,
        folding: int | None = None,
    ) -> None:
        self.projection = projection
        self.generation = generation
        self.partitions = partitions
        self.state = RunnerState()
        self._pool = pool
        self._store = store
        self._feed = feed or Feed(store.connection)
        self._owner = owner
        self._lease = lease
        self.pace = pace
        self._folded_anew = folding
        self._finds_generation = generation is None
        self._renewed = 0.0
        # Both once it is known which generation it is.
        self._ownership: Ownership
        self._folding: Folding
        if generation is not None:
            self._take(generation)

    @property
    def checkpoint(self) -> Checkpoint:
        """What was committed last, as far as this process knows."""
        return Checkpoint(epoch=0) if self.generation is None else self._folding.checkpoint

    def _take(self, generation: Generation) -> None:
        self.generation = generation
        self._ownership = Ownership(
            *(self._pool, generation, self.partitions, self._owner, self._lease),
            folding=self._folded_anew,
        )
        self._folding = Folding(self.projection, self._pool, self._ownership)

    async def run(self) -> None:
        """Fold for as long as the range exists; run it as a task. What is down is waited for.

        Raises:
            FoldsAnew: what was folded here is on no line any more; the process must end.
        """
        while True:
            delay = _RETRY_SECONDS
            try:
                if await self._claim():
                    async with running(self._keep_lease()):
                        await self._follow()
                    delay = 0.0  # the feed is silent, or another: history tells at once
            except Halted as error:
                delay = _HALTED_SECONDS
                await self._halt(str(error))
            except LostLease:
                self._let_go()
                _log.warning("projection lost its lease", projection=self.projection.name)
            except Gone:
                self._let_go()
                if not self._finds_generation:
                    self.state.state = ProjectionState.PROJECTION_STATE_WAITING
                    return
                self.generation, self._folded_anew = None, self._ownership.folding
            except Exception as error:
                if not (is_outage(error) or isinstance(error, Discontinuity)):
                    raise
                reason = type(error).__name__
                _log.warning("projection waits", projection=self.projection.name, reason=reason)
            if self.state.state != ProjectionState.PROJECTION_STATE_HALTED:
                self.state.state = ProjectionState.PROJECTION_STATE_WAITING
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        if self.generation is not None:
            await self._ownership.release()

    def _let_go(self) -> None:
        self.state.owns = False
        self.projection.aborted()  # it may remember what another will hear was erased

    async def _claim(self) -> bool:
        if self.generation is None:
            self._take(await own_generation(self._pool, self.projection))
        claimed = await self._ownership.claim()
        self.state.owns = claimed is not None
        if claimed is None:
            return False  # another process has it, or has just died: its lease ends soon
        await self._folding.begin(claimed)
        self.state.parked_keys = len(self._folding.parked)
        check_version(self._ownership.generation, self.projection)
        return True

    async def _follow(self) -> None:
        await self._catch_up()
        async with self._feed.follow() as follower:
            # What was recorded before the subscription began is in history.
            await self._catch_up()
            await self._ownership.resume(self.checkpoint.epoch)
            began = 0.0
            while True:
                self.state.enter(ProjectionState.PROJECTION_STATE_LIVE)
                # Here and not only when the feed rests: it may never.
                await self._refold_asked()
                # A transaction costs the same for many, and others need the processor as well.
                await asyncio.sleep(began + self.pace.total_seconds() - time.monotonic())
                # Somebody waits when asking for a refold.
                idle = _PARKED_IDLE_SECONDS if self._folding.parked else IDLE_SECONDS
                arrived = await follower.arriving(idle)
                if not arrived.batches:
                    await self._renew()
                    if self._is_at(await self._store.head()):
                        continue
                    # An event may just be on its way.
                    arrived = await follower.arriving(_ON_ITS_WAY_SECONDS)
                if not arrived.batches:
                    return  # the feed is silent, or the store is another: history tells
                began = time.monotonic()
                await self._fold_feed(arrived)

    async def _fold_feed(self, arrived: Arrived) -> None:
        stretch, broken = read_feed(self._folding.at, arrived.batches, self.partitions)
        await self._fold(stretch, arrived)
        if broken is not None:
            # The feed may be late, damaged or replaced; history tells what is true.
            name, reason = self.projection.name, str(broken)
            _log.info("feed does not continue", projection=name, reason=reason)
            await self._catch_up()

    async def _catch_up(self) -> None:
        stretch = await self._first_stretch()
        # Only now: a halted projection stays so until history continues it.
        self.state.enter(ProjectionState.PROJECTION_STATE_CATCHING_UP)
        # First, so that a projection which has parked too many can go on.
        await self._refold_asked()
        while stretch.hashes:
            # What comes next is read while this is folded.
            following = asyncio.create_task(self._read_after(stretch.end))
            try:
                await self._fold(stretch)
                stretch = await following
            finally:
                following.cancel()

    async def _read_after(self, start: Head) -> Stretch:
        return await read_history(self._store, start, self.state.heard, self.partitions)

    async def _first_stretch(self) -> Stretch:
        """Return what follows the checkpoint, or find out why nothing does.

        Raises:
            Halted: somebody has to act.
            FoldsAnew: what was folded has to be thrown away.
        """
        try:
            return await self._read_after(self._folding.at)
        except Fork as fork:  # the store may have been restored
            at = await continued_elsewhere(self._store, self._ownership, self.checkpoint, fork)
            self._folding.checkpoint = at
            return await self._read_after(self._folding.at)
        except Discontinuity as damage:
            raise Halted(
                f"the store's history {damage}: it is damaged. Run `touchline verify`, and restore "
                "a backup if that finds it too"
            ) from damage

    async def _fold(self, stretch: Stretch, arrived: Arrived | None = None) -> None:
        if not stretch.hashes:
            return
        self.state.has_read(stretch)
        try:
            await self._folding.fold(stretch, arrived.senders if arrived else ())
        finally:
            self.state.parked_keys = len(self._folding.parked)
        self.state.has_folded(stretch.events, self.checkpoint.position)
        if self.generation is not None and self.generation.state == "serving":
            measure(self.projection.name, self.state, stretch.events)

    async def _refold_asked(self) -> None:
        await refold_asked(self._folding, self._store)
        self.state.parked_keys = len(self._folding.parked)

    async def _renew(self) -> None:
        if self._since_renewed() < IDLE_SECONDS:
            return
        if not await self._ownership.renew(self.checkpoint.epoch):
            raise LostLease
        self._renewed = time.monotonic()

    async def _keep_lease(self) -> None:
        """Renew while a long batch is folded: others would take over, in turns, for ever."""
        pause = self._ownership.lease.total_seconds() / 4
        while True:
            await asyncio.sleep(pause)
            if self._since_renewed() > pause:
                with suppress(asyncpg.PostgresError, *UNREACHABLE):
                    await self._ownership.renew(self.checkpoint.epoch)

    def _since_renewed(self) -> float:
        return time.monotonic() - max(self._renewed, self._folding.committed_at)

    async def _halt(self, reason: str) -> None:
        if self.state.halt_reason != reason:
            _log.error("projection halted", projection=self.projection.name, reason=reason)
        self.state.state = ProjectionState.PROJECTION_STATE_HALTED
        self.state.halt_reason = reason
        if self.generation is not None:
            await self._ownership.halt(self.checkpoint.epoch, reason)

    def _is_at(self, head: Head) -> bool:
        here = self._folding.at
        known = here.store_id in (b"", head.store_id)  # nothing was read yet, or the same store
        return known and (here.position, here.chain) == (head.position, head.chain)
