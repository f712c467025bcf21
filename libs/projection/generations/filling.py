"""Fills a range of a generation at full speed: the fold that runs live, on history, in long steps.

The rows are the live ones: the same fold makes them, and the checkpoint moves in the transaction
that writes them. So it does not matter how much a transaction folds, by how many processes, and how
often one of them is killed.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.checkpoints import LEASE, Halted, LostLease, Ownership
from libs.projection.continuity import Discontinuity, Fork
from libs.projection.folding import Folding, NotErased, TooManyParked
from libs.projection.generations.ahead import Sizes, read_ahead
from libs.projection.generations.generation import Generation
from libs.projection.generations.switching import waits_for
from libs.projection.generations.upkeep import Upkeep
from libs.projection.parking import MOST_PARKED, is_outage
from libs.projection.partitions import Partitions
from libs.projection.projection import Projection
from libs.projection.restored import continued_elsewhere
from libs.tasks import running

SETTINGS: Final = {
    "synchronous_commit": "off",
    # Everything is read by keys, of tables that were empty when their statements were planned.
    "enable_seqscan": "off",
    "jit": "off",
    # A process that froze in a transaction must not hold up the one that takes over.
    "idle_in_transaction_session_timeout": "10s",
}
"""How sessions differ that fill."""

_LOOK_SECONDS: Final = 0.5
_SQL: Final = load_queries(Path(__file__).with_name("filling.sql"))
_log = structlog.get_logger("rebuild")


class Failed(Exception):
    """The generation can't be filled; the message says why, and what to do."""


class Filler:
    """Fills ranges of one generation, one after another.

    Args:
        projection: Its fold.
        generation: What to fill.
        pool: Connections to its database that find the generation's tables first, with SETTINGS.
        store: History.
        owner: Names this process.
        stop: Set to end between two transactions.
        sizes: How much to do at once.
        lease: For how long a range stays this process's own without a sign of life.
    """

    def __init__(
        self,
        projection: Projection,
        generation: Generation,
        pool: asyncpg.Pool,
        store: StoreClient,
        owner: UUID,
        stop: asyncio.Event,
        *,
        sizes: Sizes | None = None,
        lease: timedelta = LEASE,
    ) -> None:
        self.sizes = sizes or Sizes()
        self._projection = projection
        self._generation = generation
        self._pool = pool
        self._store = store
        self._owner = owner
        self._stop = stop
        self._lease = lease
        self._waits_for: str | None = None  # what another process said is not known

    def hold_of(self, partitions: Partitions) -> Ownership:
        """Return this process's hold on a range, which it has yet to claim."""
        return Ownership(self._pool, self._generation, partitions, self._owner, self._lease)

    async def fill(self, partitions: Partitions) -> None:
        """Fill a range up to near the head, unless it is another's; what is down is waited for.

        Raises:
            Failed: it can't be filled.
            Gone: the generation is no more.
            asyncpg.DiskFullError: nothing more can be written.
        """
        hold = self.hold_of(partitions)
        folding = Folding(self._projection, self._pool, hold)
        try:
            while not self._stop.is_set():
                with suppress(LostLease):
                    if await self._filled(folding, hold):
                        return
        finally:
            self._projection.aborted()
            await hold.release()

    async def _filled(self, folding: Folding, hold: Ownership) -> bool:
        """Fill until that is done or something is away; tell whether nothing is left to do."""
        try:
            claimed = await hold.claim()
            if claimed is None:
                return True
            await folding.begin(claimed)
            async with kept([hold], [claimed.epoch]):
                await self._fold(folding, hold)
        except (TooManyParked, NotErased) as error:
            raise Failed(_at_fault(error)) from error
        except asyncpg.DiskFullError:
            raise
        except Exception as error:
            if isinstance(error, LostLease) or not is_outage(error):
                raise
            await self.wait(waiting_for(error))
            return False
        return True

    async def _fold(self, folding: Folding, hold: Ownership) -> None:
        partitions = hold.partitions
        tables = self._projection.tables
        try:
            async with (
                Upkeep(self._pool, self._generation, tables) as upkeep,
                read_ahead(self._store, folding.at, partitions, self.sizes) as stretches,
            ):
                async for stretch in stretches:
                    await self._until_resumed()
                    if self._stop.is_set():
                        return
                    await folding.fold(stretch)
                    await upkeep.filled()
                    await self.go_on()
        except Fork as fork:  # the store may have been restored
            try:
                await continued_elsewhere(self._store, hold, folding.checkpoint, fork)
            except Halted as error:
                raise Failed(str(error)) from error
            raise LostLease from fork  # what is adopted is claimed anew
        except Discontinuity as damage:
            raise Failed(
                f"the store's history {damage}: it is damaged. Run `touchline verify`, and restore "
                "a backup if that finds it too"
            ) from damage

    async def _until_resumed(self) -> None:
        """Return at once unless the projection is paused; else once it is not, or at the end."""
        while not self._stop.is_set():
            reason = await self._pool.fetchval(_SQL["paused"], self._projection.name)
            if reason is None:
                return
            await self.wait(f"it is paused ({reason}); `touchline projections resume` ends that")

    async def wait(self, reason: str) -> None:
        """Tell what the generation waits for, and wait a moment."""
        if reason != self._waits_for:
            _log.warning("filling waits", projection=self._projection.name, reason=reason)
            await self._tell(reason)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), _LOOK_SECONDS)

    async def go_on(self) -> None:
        """Tell that the generation waits for nothing."""
        if self._waits_for != "":
            await self._tell("")

    async def _tell(self, reason: str) -> None:
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            await waits_for(self._pool, self._generation.id, reason)
            self._waits_for = reason


@asynccontextmanager
async def kept(holds: Sequence[Ownership], epochs: Sequence[int]) -> AsyncIterator[None]:
    """Keep ranges this process's own while the block runs, however long its transactions are."""
    pause = min(hold.lease for hold in holds).total_seconds() / 4

    async def renew() -> None:
        while True:
            await asyncio.sleep(pause)
            with suppress(asyncpg.PostgresError, *UNREACHABLE):
                for hold, epoch in zip(holds, epochs, strict=True):
                    await hold.renew(epoch)

    async with running(renew()):
        yield


def _at_fault(error: TooManyParked | NotErased) -> str:
    if isinstance(error, NotErased):
        return str(error)
    return (
        f"it fails at the events of more than {MOST_PARKED} customers, so the fold is at fault. "
        "Correct it, and rebuild again"
    )


def waiting_for(error: Exception) -> str:
    """Return what an outage has a generation wait for, without anything that an event says."""
    if isinstance(error, StoreError):
        return str(error)
    return f"its database does not take what is written ({type(error).__name__})"
