"""The life of a generation: begun, followed, switched to, rolled back to, dropped.

Each step is one transaction, conditional on the state it leads from: so it is done once, whoever
tries, and by nobody half. Every process hears of it on the channel CHANGED.
"""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from libs.postgres.queries import load_queries
from libs.projection.generations import tables
from libs.projection.generations.generation import Generation, State, schema_of
from libs.projection.generations.meeting import NotMet, meeting
from libs.projection.generations.records import generations
from libs.projection.partitions import ALL, divided
from libs.projection.projection import Connection, Projection, Table

_HEARD_WITHIN: Final = timedelta(seconds=3)
_SQL: Final = load_queries(Path(__file__).with_name("switching.sql"))


class UnderWay(Exception):
    """Another generation of the projection is being built, or waits to be switched to.

    Attributes:
        generation: Its id.
    """

    def __init__(self, generation: int) -> None:
        super().__init__(f"generation {generation} is being built")
        self.generation = generation


class Switched(NamedTuple):
    """What a switch, or a roll-back, changed.

    Attributes:
        generation: What answers from now on.
        previous: What did before.
        position: Where both stood.
    """

    generation: int
    previous: int
    position: int


async def begin(
    pool: asyncpg.Pool, projection: Projection, workers: int = 1, fill_to: int = 0
) -> Generation:
    """Begin a generation: its row, its empty tables, and a range for each worker.

    Args:
        pool: Connections to the database, for a login that may create schemas there.
        projection: What is to be folded; no reactor.
        workers: How many processes fill it: a power of two, of an undivisible projection 1.
        fill_to: The head, as far as it is known.

    Raises:
        UnderWay: one is being built already.
    """
    name, version = projection.name, projection.fold_version
    ranges = divided(workers) if projection.divisible else [ALL]
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_SQL["forget_failed"], name, version)
            new = await connection.fetchval(_SQL["begin"], name, version, len(ranges), fill_to)
            await connection.execute(_SQL["name_schema"], new, schema_of(new))
            begun = await _generation(connection, new)
            await tables.make(connection, begun, projection.tables)
            columns = [list(column) for column in zip(*ranges, strict=True)]
            await connection.execute(_SQL["add_ranges"], name, new, *columns)
            await connection.execute(_SQL["tell"])
    except asyncpg.UniqueViolationError as error:
        building = await pool.fetchval(_SQL["building"], name, version)
        raise UnderWay(building or 0) from error
    return begun


async def waits_for(pool: asyncpg.Pool, generation: int, reason: str) -> None:
    """Tell what filling a generation waits for; nothing: it goes on."""
    await pool.execute(_SQL["wait"], generation, reason)


async def follow(connection: Connection, generation: int) -> bool:
    """Note in the connection's transaction that a generation is filled; False if it is no more."""
    followed = await connection.fetchval(_SQL["follow"], generation)
    await connection.execute(_SQL["tell"])
    return followed is not None


async def fail(pool: asyncpg.Pool, generation: int, failure: str) -> bool:
    """Give a generation up that is being filled: its tables go, and the reason stays to be told.

    Args:
        pool: Connections to the database.
        generation: Its id.
        failure: Why, without anything personal.

    Returns:
        Whether it was being filled still.
    """
    async with pool.acquire() as connection, connection.transaction():
        # Places before their generation, as in a switch: else two would wait for each other.
        await connection.fetch(_SQL["lock_places"], [generation])
        schema = await connection.fetchval(_SQL["fail"], generation, failure)
        if schema is None:
            return False
        await _forget_places(connection, generation)
        await tables.drop_schema(connection, schema)
        await connection.execute(_SQL["tell"])
    return True


async def serve_first(pool: asyncpg.Pool, generation: int) -> bool:
    """Let a generation answer that follows, if nothing of its fold version does yet."""
    async with pool.acquire() as connection, connection.transaction():
        serves = await connection.fetchval(_SQL["serve_first"], generation) is not None
        if serves:
            await connection.execute(_SQL["tell"])
    return serves


async def switch(
    pool: asyncpg.Pool,
    serving: Generation,
    other: Generation,
    state: State,
    *,
    past_halt: bool = False,
) -> Switched:
    """Let another generation answer, in one transaction at which both stand at one position.

    Args:
        pool: Connections to their database.
        serving: What answers now; it is retired.
        other: What is to answer.
        state: The state that it leaves: `following`, or, to roll back, `retired`.
        past_halt: Whether what answers may have halted: it comes nowhere, and is passed.

    Raises:
        NotMet: they did not come to one position, or changed meanwhile.
    """
    both = [serving.id, other.id]
    passed = past_halt and await pool.fetchval(_SQL["is_halted"], serving.id)
    met = [other.id] if passed else both
    async with meeting(pool, met) as position:
        async with pool.acquire() as connection, connection.transaction():
            # The truth about who answers must not be lost with the views' commits.
            await connection.execute("SET LOCAL synchronous_commit = on")
            rows = await connection.fetch(_SQL["lock_places"], both)
            if {row["position"] for row in rows if row["generation"] in met} != {position}:
                raise NotMet("One of them went on meanwhile. Try again.")
            # Nobody who heard of a position reads what lacks it.
            if any(row["position"] > position for row in rows):
                raise NotMet("What answers halted further on. Try again once it has come there.")
            retired = await connection.fetchval(_SQL["retire"], serving.id)
            served = await connection.fetchval(_SQL["serve"], other.id, state)
            if retired is None or served is None:
                raise NotMet("Somebody switched, rolled back or dropped it meanwhile. Look again.")
            await connection.execute(_SQL["tell"])
        return Switched(other.id, serving.id, position)


async def remember(pool: asyncpg.Pool, generation: int, position: int, differing: int) -> None:
    """Remember how a generation compared with the one that answers."""
    await pool.execute(_SQL["remember"], generation, position, differing)


async def heard(pool: asyncpg.Pool, generation: int) -> None:
    """Wait until every process that lives has heard that a generation is retired, if it is.

    Until then some may read it: to them its tables would be empty.

    Args:
        pool: Connections to the database.
        generation: Its id.
    """
    seconds = await pool.fetchval(_SQL["is_heard_in"], generation, _HEARD_WITHIN)
    await asyncio.sleep(seconds or 0)


async def drop(pool: asyncpg.Pool, generation: Generation, its: Iterable[Table]) -> bool:
    """Drop a generation that does not answer, with its tables; False if it answers by now.

    Args:
        pool: Connections to the database.
        generation: Which one.
        its: Its projection's tables.

    Raises:
        asyncpg.LockNotAvailableError: somebody reads it; come again later.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetch(_SQL["lock_places"], [generation.id])
        if await connection.fetchval(_SQL["lock"], generation.id) == "serving":
            return False
        # First what its runners need: they end before the tables go.
        await _forget_places(connection, generation.id)
        await connection.execute(_SQL["tell"])
    await tables.drop(pool, generation, its)
    await pool.execute(_SQL["forget"], generation.id)
    return True


async def give_up(pool: asyncpg.Pool, generation: Generation, its: Iterable[Table]) -> None:
    """Drop a generation that answered for processes of another release, of which none is left."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_SQL["give_up"], generation.id)
    await drop(pool, generation, its)


async def pause(pool: asyncpg.Pool, projection: str, reason: str) -> None:
    """Have nobody fold a projection until it is resumed."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_SQL["pause"], projection, reason)
        await connection.execute(_SQL["tell"])


async def resume(pool: asyncpg.Pool, projection: str) -> None:
    """Have a projection folded again."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_SQL["resume"], projection)
        await connection.execute(_SQL["tell"])


async def _forget_places(connection: Connection, generation: int) -> None:
    await connection.execute(_SQL["drop_parked"], generation)
    await connection.execute(_SQL["drop_ranges"], generation)


async def _generation(connection: Connection, generation: int) -> Generation:
    return next(one for one in await generations(connection) if one.id == generation)
