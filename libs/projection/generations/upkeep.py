"""Does for tables that are being filled what PostgreSQL by itself would do too late."""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import asyncpg

from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.generations.generation import Generation
from libs.projection.projection import Table
from libs.tasks import end

# By then other workers have committed what they had begun among the same pages.
_LOOKS: Final = 3
_DROPPED: Final = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
_SQL: Final = load_queries(Path(__file__).with_name("filling.sql"))


class Upkeep:
    """Looks after the tables of a generation between the transactions that fill them.

    Use it as a context: what it does beside them ends with the block.

    Args:
        pool: Connections to their database.
        generation: Whose they are.
        tables: Which.
    """

    def __init__(self, pool: asyncpg.Pool, generation: Generation, tables: Iterable[Table]) -> None:
        self._pool = pool
        named = [(f"{generation.schema}.{one.name}", one.append_only) for one in tables]
        self._read = [name for name, append_only in named if not append_only]
        self._filled = 0
        # How many pages each of the others had when it was looked at last, the longest ago first.
        self._pages = {
            name: deque[int](maxlen=_LOOKS) for name, append_only in named if append_only
        }
        self._marking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._marking is not None:
            await end([self._marking])

    async def filled(self) -> None:
        """Do what is due after a transaction that filled them."""
        self._filled += 1
        # Whoever folds next finds out that the generation was dropped.
        with suppress(*_DROPPED):
            if self._filled.bit_count() == 1:  # each time there are twice as many rows
                for name in self._read:
                    await self._analyze(name)
        if self._pages and (self._marking is None or self._marking.done()):
            self._marking = asyncio.create_task(self._mark_all())

    async def marked(self) -> None:
        """Wait until what is being marked is."""
        if self._marking is not None:
            await self._marking

    async def _analyze(self, name: str) -> None:
        """Have statements planned for the table as it is.

        Without statistics a tenant seems to have one row in two hundred, whatever it has, and a
        statement of the fold would read all of them rather than those of some keys.
        """
        await self._pool.execute(f"ANALYZE (SKIP_LOCKED) {name}")

    async def _mark_all(self) -> None:
        """Mark rows of all tables, while others are written: the disk is waited for.

        It is a kindness: where it fails, whoever folds next fails as well and tells it.
        """
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            await self._pool.execute(_SQL["flush"])
            for name, pages in self._pages.items():
                await self._mark(name, pages)

    async def _mark(self, name: str, pages: deque[int]) -> None:
        """Have rows marked as committed while their pages are in memory and not yet on disk.

        Whoever reads them first marks them, else the making of the first index; and as pages have
        checksums, each page that is on disk already is then written to the log as a whole.
        PostgreSQL marks a row once its commit is on disk, and remembers of 32 transactions that did
        not wait for the disk only the last one's place in the log: so the log is flushed before.
        """
        if len(pages) == _LOOKS and pages[0] < pages[1]:
            read = f"SELECT count(*) FROM {name} WHERE ctid >= $1::tid AND ctid < $2::tid"  # noqa: S608 - our own name
            await self._pool.fetchval(read, (pages[0], 0), (pages[1], 0))
        pages.append(await self._pool.fetchval(_SQL["pages"], name))
