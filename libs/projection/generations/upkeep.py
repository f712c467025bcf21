"""Does for tables that are being filled what PostgreSQL by itself would do too late."""

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg

from libs.postgres.queries import load_queries
from libs.projection.generations.generation import Generation
from libs.projection.projection import Table

# By then other workers have committed what they had begun among the same pages.
_TRANSACTIONS: Final = 3
_SQL: Final = load_queries(Path(__file__).with_name("filling.sql"))


class Upkeep:
    """Looks after the tables of a generation between the transactions that fill them.

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
        # How many pages each of the others had after the last transactions, the oldest first.
        self._pages = {
            name: deque[int](maxlen=_TRANSACTIONS) for name, append_only in named if append_only
        }

    async def filled(self) -> None:
        """Do what is due after a transaction that filled them."""
        self._filled += 1
        # Whoever folds next finds out that the generation was dropped.
        with suppress(asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            await self._look_after()

    async def _look_after(self) -> None:
        if self._filled.bit_count() == 1:  # each time there are twice as many rows
            for name in self._read:
                await self._analyze(name)
        for name, pages in self._pages.items():
            await self._mark(name, pages)

    async def _analyze(self, name: str) -> None:
        """Have statements planned for the table as it is.

        Without statistics a tenant seems to have one row in two hundred, whatever it has, and a
        statement of the fold would read all of them rather than those of some keys.
        """
        await self._pool.execute(f"ANALYZE (SKIP_LOCKED) {name}")

    async def _mark(self, name: str, pages: deque[int]) -> None:
        """Have rows marked as committed while their pages are in memory and not yet on disk.

        Whoever reads them first marks them, else the making of the first index; and as pages have
        checksums, each page that is on disk already is then written to the log as a whole. Of four
        million rows that was a third of the time that the primary key took.

        PostgreSQL marks a row once its commit is on disk, and remembers of 32 transactions that did
        not wait for the disk only the last one's place in the log: so the log is flushed before.
        """
        if len(pages) == _TRANSACTIONS and pages[0] < pages[1]:
            await self._pool.execute(_SQL["flush"])
            read = f"SELECT count(*) FROM {name} WHERE ctid >= $1::tid AND ctid < $2::tid"  # noqa: S608 - our own name
            await self._pool.fetchval(read, (pages[0], 0), (pages[1], 0))
        pages.append(await self._pool.fetchval(_SQL["pages"], name))
