"""Sees rebuilds through, whichever process dies: starts workers, and clears what is over.

Every process that folds has a keeper. Each step is conditional in the database, so that it does not
matter which of them takes it, or whether two do.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import structlog

from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.generations import switching, tables
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import generations
from libs.projection.projection import Projection

RETIRED_FOR: Final = timedelta(minutes=10)
"""For how long a generation folds on that answered before, to be rolled back to."""

UNREAD_FOR: Final = timedelta(minutes=10)
"""For how long a generation is kept that no living process reads: its release may come back."""

_LOOK_SECONDS: Final = 0.3
# Of two keepers that see the same free ranges the later one finds them taken.
_AFTER_SECONDS: Final = 0.2
_SWEEP_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
# A worker that ends sooner did not get to work.
_QUICK_SECONDS: Final = 10.0
_MOST_QUICK: Final = 5
_SQL: Final = load_queries(Path(__file__).with_name("keeping.sql"))
_log = structlog.get_logger("keeper")


@dataclass(slots=True)
class _Workers:
    """The processes that fill one generation, as this process started them.

    Attributes:
        running: Those that run.
        quick: How many in a row failed as soon as they had begun.
    """

    running: set["asyncio.Task[None]"] = field(default_factory=set)
    quick: int = 0


class Keeper:
    """Keeps the generations of one database. `run` it as a task, and `stop` it afterwards.

    Args:
        pool: Connections to the database, for a login that may create schemas there.
        projections: What this process could fold, by name, as it is at each look.
        module: What a worker runs, such as `services.profile`.
        retired_for: For how long what answered before is kept.
        unread_for: For how long what nobody reads is kept.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        projections: Mapping[str, Projection],
        module: str,
        *,
        retired_for: timedelta = RETIRED_FOR,
        unread_for: timedelta = UNREAD_FOR,
    ) -> None:
        self._pool = pool
        self._projections = projections
        self._module = module
        self._retired_for = retired_for
        self._unread_for = unread_for
        self._workers: dict[int, _Workers] = {}
        self._processes: set[asyncio.subprocess.Process] = set()
        self._swept_at = float("-inf")
        # Since when no living process reads a generation, by its id. A release that went may come
        # back: the time begins anew with each process that keeps.
        self._unread_since: dict[int, float] = {}

    async def run(self) -> None:
        """Keep for ever; what is down is waited for."""
        while True:
            with suppress(asyncpg.PostgresError, *UNREACHABLE):
                await self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self) -> None:
        """End the workers that this process started; others replace them, or it does when back."""
        for process in list(self._processes):
            with suppress(ProcessLookupError):
                process.terminate()
        tasks = [task for one in self._workers.values() for task in one.running]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_STOP_SECONDS)
            if late:
                for process in list(self._processes):
                    with suppress(ProcessLookupError):
                        process.kill()
                await asyncio.wait(late)

    async def _look(self) -> None:
        known = {one.id: one for one in await generations(self._pool)}
        for generation, wants_workers, is_first, is_over in await self._pool.fetch(
            _SQL["kept"], self._retired_for
        ):
            one = known.get(generation)
            if one is None or not self._is_own(one):
                continue
            if wants_workers:
                await self._fill(one)
            elif is_first and await switching.serve_first(self._pool, one.id):
                _log.info("view answers", projection=one.projection, generation=one.id)
            elif is_over:
                await self._drop(one)
        await self._sweep(known)

    def _is_own(self, generation: Generation) -> bool:
        projection = self._projections.get(generation.projection)
        return projection is not None and projection.fold_version == generation.fold_version

    async def _fill(self, generation: Generation) -> None:
        """Start as many workers as there are ranges that nobody fills."""
        workers = self._workers.setdefault(generation.id, _Workers())
        if workers.quick >= _MOST_QUICK:
            failure = "its workers end as soon as they begin; the log of the service says why"
            if await switching.fail(self._pool, generation.id, failure):
                _log.error("rebuild failed", projection=generation.projection, reason=failure)
            del self._workers[generation.id]
            return
        await asyncio.sleep(random.uniform(0, _AFTER_SECONDS))  # noqa: S311 - nobody's secret
        free = await self._pool.fetchval(_SQL["free"], generation.id)
        for _ in range(min(free, generation.workers - len(workers.running))):
            task = asyncio.create_task(self._work(generation, workers))
            workers.running.add(task)
            task.add_done_callback(workers.running.discard)

    async def _work(self, generation: Generation, workers: _Workers) -> None:
        """Run a worker until it ends; it logs to where this process does."""
        began = asyncio.get_running_loop().time()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module, "--rebuild", str(generation.id)),
                stdin=asyncio.subprocess.DEVNULL,
                # Ctrl-C at a terminal is for the service, which ends its workers in order.
                start_new_session=True,
            )
        except OSError as error:  # no memory, for example
            workers.quick += 1
            _log.warning("rebuild worker can't start", generation=generation.id, reason=str(error))
            return
        self._processes.add(process)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            raise
        finally:
            self._processes.discard(process)
        quick = asyncio.get_running_loop().time() - began < _QUICK_SECONDS
        workers.quick = workers.quick + 1 if code > 0 and quick else 0
        if code:
            told: dict[str, Any] = {"projection": generation.projection, "code": code}
            _log.warning("rebuild worker ended", generation=generation.id, **told)

    async def _drop(self, generation: Generation) -> None:
        projection = self._projections[generation.projection]
        # Else somebody reads it still, and it goes the next time.
        with suppress(asyncpg.LockNotAvailableError):
            if await switching.drop(self._pool, generation, projection.tables):
                _log.info("generation dropped", projection=projection.name, id=generation.id)

    async def _sweep(self, known: Mapping[int, Generation]) -> None:
        """Drop what no release that lives reads, and schemas of which nothing tells any more."""
        now = asyncio.get_running_loop().time()
        if now - self._swept_at < min(_SWEEP_SECONDS, self._unread_for.total_seconds()):
            return
        self._swept_at = now
        unread = {row["id"] for row in await self._pool.fetch(_SQL["unread"])}
        since = {one: self._unread_since.get(one, now) for one in unread}
        self._unread_since = since
        for one in [known[each] for each in unread if each in known]:
            projection = self._projections.get(one.projection)
            if projection is None or projection.copy() is None or self._is_own(one):
                continue
            if now - since[one.id] >= self._unread_for.total_seconds():
                await self._forget(one, projection)
        async with self._pool.acquire() as connection, connection.transaction():
            there = await tables.schemas(connection)
            told = {row["schema_name"] for row in await connection.fetch(_SQL["begun_schemas"])}
            for schema in there:
                if schema not in told:
                    await tables.drop_schema(connection, schema)

    async def _forget(self, generation: Generation, projection: Projection) -> None:
        """Drop a generation of another release; it may have answered there."""
        with suppress(asyncpg.LockNotAvailableError):
            await switching.give_up(self._pool, generation, projection.tables)
            _log.info("generation of another release dropped", id=generation.id)
