"""Brings ranges and generations to one position, and holds them there for a moment.

Ranges fold on by themselves, each at its own position. To compare, switch or merge them all must
stand at one: that of the foremost. Each checkpoint is told not to go beyond; those behind get there
by folding, and whoever asked does what it has to in a transaction that locks them. If it dies, the
hold ends by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries

_HELD: Final = timedelta(seconds=5)
_LOOK_SECONDS: Final = 0.01
# Whoever lacks more is waited for before anything is held: what answers stands still no longer than
# it takes to fold so many.
_NEARLY: Final = 2_000
_BEHIND: Final = (
    "Generation {generation} of {projection} came to position {position} and not to {foremost} in "
    "time. Try again once it has caught up."
)
_SQL: Final = load_queries(Path(__file__).with_name("meeting.sql"))


class NotMet(Exception):
    """Ranges did not come to one position; the message says why, and what to do."""


@asynccontextmanager
async def meeting(
    pool: asyncpg.Pool, generations: Collection[int], within: float = 5.0
) -> AsyncIterator[int]:
    """Hold every range of some generations at one position while the block runs.

    The hold ends after five seconds in any case: whoever acts in the block locks the checkpoints
    and makes sure that they are still there.

    Args:
        pool: Connections to their database.
        generations: By their ids.
        within: Seconds in which they have to get there.

    Yields:
        The position.

    Raises:
        NotMet: one of them is not folded, halts, or does not get there in time.
    """
    ids = list(generations)
    end = asyncio.get_running_loop().time() + within
    position = await _held(pool, ids, end)
    try:
        await _until_there(pool, ids, position, end)
        yield position
    finally:
        with suppress(asyncpg.PostgresError, *UNREACHABLE):  # else it ends by itself
            await pool.execute(_SQL["release"], ids, position)


async def _held(pool: asyncpg.Pool, ids: list[int], end: float) -> int:
    """Tell all ranges to go no further than the foremost is, and return where that is."""
    while True:
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(_SQL["lock"], ids)
            _check(ids, rows)
            position: int = max(row["position"] for row in rows)
            last = min(rows, key=lambda row: row["position"])
            is_held = any(row["is_held"] for row in rows)
            unfolded = _unfolded(rows)
            if not is_held and not unfolded and position - last["position"] <= _NEARLY:
                await connection.execute(_SQL["hold"], ids, position, _HELD)
                return position
        if asyncio.get_running_loop().time() > end:
            if is_held:
                raise NotMet("Something else is being compared, switched or merged. Try again.")
            raise NotMet(unfolded or _BEHIND.format(**last, foremost=position))
        await asyncio.sleep(_LOOK_SECONDS)


async def _until_there(pool: asyncpg.Pool, ids: list[int], position: int, end: float) -> None:
    while True:
        rows = await pool.fetch(_SQL["places"], ids)
        _check(ids, rows)
        late = [row for row in rows if row["position"] != position]
        if not late:
            _check_one_line(rows)
            return
        if asyncio.get_running_loop().time() > end:
            raise NotMet(_unfolded(late) or _BEHIND.format(**late[0], foremost=position))
        await asyncio.sleep(_LOOK_SECONDS)


def _check(ids: list[int], rows: Sequence[Any]) -> None:
    if {row["generation"] for row in rows} != set(ids):
        raise NotMet("One of them was dropped. Look again.")
    for row in rows:
        name = f"generation {row['generation']} of {row['projection']}"
        if row["halt_reason"]:
            raise NotMet(f"{name[0].upper()}{name[1:]} halted: {row['halt_reason']}")
        if row.get("is_paused"):
            raise NotMet(f"{row['projection']} is paused: resume it first.")


def _unfolded(rows: Sequence[Any]) -> str:
    """Return that nobody folds one of some ranges, or nothing; it may just change hands."""
    for row in rows:
        if not row["is_leased"]:
            return (
                f"Nobody folds generation {row['generation']} of {row['projection']}: start a "
                "process of its release with the role project."
            )
    return ""


def _check_one_line(rows: Sequence[Any]) -> None:
    if len({row["chain"] for row in rows}) > 1:
        raise NotMet(
            "They stand at one position on two different lines: one of them folded another store."
        )
