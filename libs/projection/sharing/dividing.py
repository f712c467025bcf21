"""Splits ranges, and merges them again."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from libs.postgres.queries import load_queries
from libs.projection.generations.meeting import meeting
from libs.projection.partitions import Partitions

# A range that is taken over meanwhile has to wait for this.
_MEET_SECONDS: Final = 2.0
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class _ChangedHands(Exception):
    """A half is another process's now, or stands elsewhere; both stay as they are."""


async def split(pool: asyncpg.Pool, generation: int, whole: Partitions, owner: UUID) -> bool:
    """Split a range into halves at one place; the second is free.

    Args:
        pool: Connections to the database.
        generation: Whose range it is.
        whole: The range; its owner folds it no more.
        owner: The owner.

    Returns:
        Whether it was still the owner's, and could be split.
    """
    first, _ = whole.halves
    made = await pool.fetchrow(_SQL["split"], generation, *whole, first.last, owner)
    return made is not None


async def merge(
    pool: asyncpg.Pool,
    generation: int,
    first: Partitions,
    owner: UUID,
    stop: Callable[[], Awaitable[None]],
) -> bool:
    """Make two halves one range again, at a position where both stand still for a moment.

    Args:
        pool: Connections to the database.
        generation: Whose ranges they are.
        first: The first half.
        owner: Its owner.
        stop: Ends what folds it here, once both stand still.

    Returns:
        Whether both could be merged.

    Raises:
        NotMet: they did not come to one position.
    """
    second = first.sibling
    async with meeting(pool, [generation], within=_MEET_SECONDS):
        await stop()
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetch(_SQL["lock_halves"], generation, first.first, second.first)
                gone: Any = await connection.fetchrow(_SQL["merge_second"], generation, *second)
                if gone is None:
                    return False
                one = (generation, *first, second.last, owner)
                if await connection.fetchrow(_SQL["merge_first"], *one, *gone) is None:
                    raise _ChangedHands
        except _ChangedHands:
            return False
    return True
