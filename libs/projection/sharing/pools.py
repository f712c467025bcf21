"""Connections of folds: each generation's find its own tables first, whatever is read meanwhile."""

from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from typing import Final

import asyncpg

from libs.postgres.pool import open_pool
from libs.projection.generations.generation import PUBLIC, Generation

# Several projections are folded in public; of a generation beside, ranges of one.
_SIZE_OF_PUBLIC: Final = 8
_SIZE: Final = 4


class FoldingPools:
    """The pools of a process's folds, by schema.

    Args:
        url: Their database.
        settings: Of each session.
    """

    def __init__(self, url: str, settings: Mapping[str, str]) -> None:
        self._url = url
        self._settings = settings
        self._open: dict[str, tuple[asyncpg.Pool, AsyncExitStack]] = {}

    async def public(self) -> asyncpg.Pool:
        """Return the pool of what is in public: also of everything that has no generation."""
        return await self._of(PUBLIC, PUBLIC, _SIZE_OF_PUBLIC)

    async def of(self, generation: Generation) -> asyncpg.Pool:
        """Return a generation's pool.

        Raises:
            OSError, asyncpg.PostgresError: the server can't be reached.
        """
        size = _SIZE_OF_PUBLIC if generation.schema == PUBLIC else _SIZE
        return await self._of(generation.schema, generation.search_path, size)

    async def keep(self, schemas: Collection[str]) -> None:
        """Close the pools of all schemas but some; that of public stays."""
        for schema in set(self._open) - {PUBLIC, *schemas}:
            _, stack = self._open.pop(schema)
            await stack.aclose()

    async def close(self) -> None:
        """Close all."""
        while self._open:
            _, (_, stack) = self._open.popitem()
            await stack.aclose()

    async def _of(self, schema: str, search_path: str, size: int) -> asyncpg.Pool:
        if schema not in self._open:
            stack = AsyncExitStack()
            pool = await stack.enter_async_context(
                open_pool(
                    self._url,
                    application="folds",
                    size=size,
                    patience=0.0,
                    settings={**self._settings, "search_path": search_path},
                )
            )
            self._open[schema] = (pool, stack)
        return self._open[schema][0]
