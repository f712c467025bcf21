"""What `python -m services.NAME --rebuild GENERATION` runs: a process that fills a generation.

It takes a range that nobody fills, and the next one, until all are near the head. Whoever finds
them there takes them all, makes the indexes and says that the generation follows, in one
transaction. As many may run as there are ranges; one that is killed costs what its transaction had.
"""

import asyncio
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.postgres.pool import UNREACHABLE, open_pool
from libs.postgres.queries import load_queries
from libs.projection.checkpoints import LEASE, Gone, LostLease, Ownership, RangeState, read_ranges
from libs.projection.generations import tables
from libs.projection.generations.ahead import Sizes
from libs.projection.generations.filling import SETTINGS, Failed, Filler, kept, waiting_for
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import generations
from libs.projection.generations.switching import fail, follow
from libs.projection.parking import is_outage
from libs.projection.projection import Projection
from libs.tasks import OrderlyEnd, running

Projections = Callable[[str], Awaitable[Projection | None]]
"""Returns a service's fold of a name, or None if the service has none of it."""

_APPLICATION: Final = "rebuild"
_CONNECTIONS: Final = 3
_LOOK_SECONDS: Final = 0.5
_DISK_FULL: Final = (
    "the database's disk is full. The live generation is untouched; make room for a second one, "
    "and rebuild again"
)
_SQL: Final = load_queries(Path(__file__).with_name("filling.sql"))
_log = structlog.get_logger("rebuild")


class CannotFill(OrderlyEnd):
    """There is nothing this process can fill; the message says why."""


def named(folds: Iterable[Projection]) -> Projections:
    """Return what finds each of some folds by its name."""
    by_name = {one.name: one for one in folds}

    async def find(name: str) -> Projection | None:
        return by_name.get(name)

    return find


async def run_worker(
    generation_id: int,
    database_url: str,
    store: StoreClient,
    projections: Projections,
    stop: asyncio.Event,
    settings: Mapping[str, str],
    *,
    sizes: Sizes | None = None,
    lease: timedelta = LEASE,
) -> None:
    """Fill a generation, alone or with others, until it follows or is given up.

    Args:
        generation_id: Which one.
        database_url: Where it is.
        store: History.
        projections: The service's folds.
        stop: Set to end between two transactions.
        settings: Further settings of sessions that fold.
        sizes: How much to do at once.
        lease: For how long a range stays this process's own without a sign of life.

    Raises:
        CannotFill: there is no such generation, or this release does not fold it.
    """
    async with open_pool(database_url, application=_APPLICATION, size=1) as pool:
        generation = await _generation(pool, generation_id)
    if generation is None:
        raise CannotFill(f"there is no generation {generation_id} in this database")
    projection = await _fold_of(generation, projections)
    own = {**settings, **SETTINGS, "search_path": generation.search_path}
    async with open_pool(
        database_url, application=_APPLICATION, size=_CONNECTIONS, settings=own
    ) as pool:
        filler = Filler(
            *(projection, generation, pool, store, uuid4(), stop), sizes=sizes, lease=lease
        )

        def connect() -> Awaitable[asyncpg.Connection]:
            named = {**own, "application_name": _APPLICATION}
            return asyncpg.connect(database_url, server_settings=named)

        async with running(_end_with_parent(stop)):
            await Worker(projection, generation, pool, store, stop, filler, connect).run()


class Worker:
    """Sees to a generation from one process.

    Args:
        projection: Its fold.
        generation: What to fill.
        pool: Connections to its database that find the generation's tables first.
        store: Where the head is asked for.
        stop: Set to end.
        filler: Fills its ranges.
        connect: Makes a connection on which a statement may take as long as it takes.
    """

    def __init__(
        self,
        projection: Projection,
        generation: Generation,
        pool: asyncpg.Pool,
        store: StoreClient,
        stop: asyncio.Event,
        filler: Filler,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
    ) -> None:
        self._projection = projection
        self._generation = generation
        self._pool = pool
        self._store = store
        self._stop = stop
        self._filler = filler
        self._connect = connect

    async def run(self) -> None:
        """Fill until the generation is filled no more, by whomever, or the process is to stop."""
        named = {"generation": self._generation.id, "projection": self._projection.name}
        _log.info("filling begins", **named)
        try:
            await self._fill()
        except Gone:
            _log.info("the generation is no more", **named)
        except Failed as error:
            await self._give_up(str(error))
        except asyncpg.DiskFullError:
            await self._give_up(_DISK_FULL)
        _log.info("filling ends", **named, peak_rss_mib=peak_rss_mib())

    async def _fill(self) -> None:
        while not self._stop.is_set():
            try:
                if not await self._step():
                    return
            except asyncpg.DiskFullError:
                raise
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._filler.wait(waiting_for(error))

    async def _step(self) -> bool:
        """Do what is to be done next; tell whether there may be more."""
        found = await _generation(self._pool, self._generation.id)
        if found is None or found.state != "filling":
            return False
        head = (await self._store.head()).position
        await self._filler.go_on()
        ranges = [one for one in await read_ranges(self._pool) if one.generation == found.id]
        far = [one for one in ranges if self._filler.sizes.is_far(one.checkpoint.position, head)]
        free = [one for one in far if not one.leased]
        if free:
            await self._filler.fill(free[0].partitions)
        elif far or not await self._finished(ranges):
            await self._idle()  # others are at it; should they die, this process goes on
        return True

    async def _finished(self, ranges: Sequence[RangeState]) -> bool:
        """Take all ranges, make the indexes and note that the generation follows.

        Returns:
            False: others have some of the ranges still, or it is to be tried again.
        """
        holds = [self._filler.hold_of(one.partitions) for one in ranges]
        epochs = list[int]()
        try:
            for hold in holds:
                claimed = await hold.claim()
                if claimed is None:
                    return False
                epochs.append(claimed.epoch)
            async with kept(holds, epochs):
                await self._index_or_stop(holds, epochs)
        finally:
            for hold in holds[: len(epochs)]:
                await hold.release()
        return True

    async def _index_or_stop(self, holds: Sequence[Ownership], epochs: Sequence[int]) -> None:
        indexing = asyncio.create_task(self._index(holds, epochs))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({indexing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if indexing.done():
                await indexing
        finally:
            for task in (indexing, stopping):
                task.cancel()
            await asyncio.gather(indexing, stopping, return_exceptions=True)

    async def _index(self, holds: Sequence[Ownership], epochs: Sequence[int]) -> None:
        """Make the indexes, and note that the generation follows, in one transaction.

        Raises:
            LostLease: another process has one of the ranges; nothing was made.
        """
        began = time.monotonic()
        connection = await self._connect()
        try:
            # Whoever else writes these tables lost its ranges to this process.
            await connection.fetchval(_SQL["end_zombies"], self._generation.schema, _APPLICATION)
            async with connection.transaction():
                await tables.index(connection, self._generation, self._projection.tables)
                for table in self._projection.tables:
                    # The first reader is not to plan with what the tables had when they were empty.
                    await connection.execute(f"ANALYZE {self._generation.schema}.{table.name}")
                for hold, epoch in zip(holds, epochs, strict=True):
                    if not await hold.renew(epoch, connection):
                        raise LostLease
                await follow(connection, self._generation.id)
        finally:
            connection.terminate()
        seconds = round(time.monotonic() - began, 1)
        _log.info("indexes are made", generation=self._generation.id, seconds=seconds)

    async def _idle(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), _LOOK_SECONDS)

    async def _give_up(self, reason: str) -> None:
        """Have the generation dropped, once that can be written."""
        _log.error(
            "filling failed",
            generation=self._generation.id,
            projection=self._projection.name,
            reason=reason,
        )
        while not self._stop.is_set():
            try:
                await fail(self._pool, self._generation.id, reason)
            except (asyncpg.PostgresError, *UNREACHABLE) as error:
                _log.warning("giving up waits", reason=type(error).__name__)
                await self._idle()
            else:
                return


def peak_rss_mib() -> int:
    """Return how much memory this process had at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)


async def _end_with_parent(stop: asyncio.Event) -> None:
    """Set the event when the process that started this one is gone: another one's keeper goes on.

    What was killed with its servers would else wait for these for ever.
    """
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - only asking tells
        await asyncio.sleep(_LOOK_SECONDS)
    _log.warning("rebuild worker ends: the process that started it is gone")
    stop.set()


async def _generation(pool: asyncpg.Pool, generation_id: int) -> Generation | None:
    return next((one for one in await generations(pool) if one.id == generation_id), None)


async def _fold_of(generation: Generation, projections: Projections) -> Projection:
    projection = await projections(generation.projection)
    if projection is None:
        raise CannotFill(f"this service has no projection {generation.projection}")
    if projection.fold_version != generation.fold_version:
        raise CannotFill(
            f"generation {generation.id} of {generation.projection} is of version "
            f"{generation.fold_version} of the fold, and this release has version "
            f"{projection.fold_version}: a process of its own release has to fill it"
        )
    return projection
