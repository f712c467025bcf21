"""A process reads the generations of its own fold versions, and takes up a switch by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import pytest

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.pool import open_pool
from libs.projection.generations.generation import Generation, State
from libs.projection.generations.records import generations, introduce
from libs.projection.generations.switching import begin, follow, switch
from libs.projection.projection import Projection
from libs.projection.serving import Serving
from libs.projection.timeline import Timeline
from libs.projection.waiting import Building, Checkpoints, follow_checkpoints
from tests.customers import new_email, record, told
from tests.given import note
from tests.projecting import Ledger, build_ledger
from tests.servers import MakeDatabase
from tests.services import Touchline
from tests.sharing import member
from tests.waiting import until

LEDGER: Final = ("ledger",)


class NewLedger(Ledger):
    """What another release folds."""

    fold_version = 2


@pytest.fixture
async def url(database_from_template: MakeDatabase) -> str:
    """A database in which a Ledger can write, with its first generation."""
    url = await database_from_template(build_ledger)
    async with open_pool(url, application="introduces") as pool:
        await introduce(pool, "ledger", 1)
    return url


@pytest.fixture
async def pool(url: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to it that find what is in public."""
    async with open_pool(url, application="acts") as pool:
        yield pool


@asynccontextmanager
async def reading(
    url: str, version: int = 1
) -> AsyncIterator[tuple[Serving, Checkpoints, asyncpg.Pool]]:
    """Reads the ledger as a process of a release does until the block ends."""
    serving = Serving({"ledger": version})
    async with (
        open_pool(url, application="reads", setup=serving.setup) as pool,
        follow_checkpoints(url, pool, serving=serving) as checkpoints,
    ):
        yield serving, checkpoints, pool


async def built(pool: asyncpg.Pool, projection: Projection | None = None) -> Generation:
    """Makes another generation, which follows from now on."""
    begun = await begin(pool, projection or Ledger())
    async with pool.acquire() as connection, connection.transaction():
        await follow(connection, begun.id)
    return begun


async def put(pool: asyncpg.Pool, generation: Generation, position: int) -> None:
    """Folds one position into a generation, as its process does."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            f"INSERT INTO {generation.schema}.ledger (position) VALUES ($1)", position
        )
        await connection.execute(
            "UPDATE projection_checkpoints SET position = $2 WHERE generation = $1",
            *(generation.id, position),
        )
        await connection.execute(
            "SELECT pg_notify('touchline_checkpoint', $1)", f"{generation.id} 0 {position}"
        )


async def say(pool: asyncpg.Pool, *states: tuple[Generation, State]) -> None:
    """Says what generations are for, in one transaction, wherever they stand."""
    async with pool.acquire() as connection, connection.transaction():
        for generation, state in states:
            await connection.execute(
                "UPDATE projection_generations SET state = $2 WHERE id = $1", generation.id, state
            )
        await connection.execute("SELECT pg_notify('touchline_generations', '')")


async def first(pool: asyncpg.Pool) -> Generation:
    """The generation in public."""
    return next(one for one in await generations(pool) if one.schema == "public")


async def positions_in(pool: asyncpg.Pool) -> list[int]:
    """What a reader finds."""
    rows = await pool.fetch("SELECT position FROM ledger ORDER BY position")
    return [row["position"] for row in rows]


async def test_given_a_switch_then_the_same_statements_find_the_new_tables(
    url: str, pool: asyncpg.Pool
) -> None:
    old, new = await first(pool), await built(pool)
    await put(pool, old, 1)
    await put(pool, new, 1)
    async with reading(url) as (serving, _, reader):
        assert await positions_in(reader) == [1]
        assert serving.generation("ledger") == old
        await pool.execute(f"INSERT INTO {new.schema}.ledger (position) VALUES (77)")
        await say(pool, (old, "retired"), (new, "serving"))
        await until(lambda: serving.schema("ledger") == new.schema)
        assert await positions_in(reader) == [1, 77]
        # Every connection, also one that was used before.
        for found in await asyncio.gather(*(positions_in(reader) for _ in range(5))):
            assert found == [1, 77]
        await say(pool, (new, "retired"), (old, "serving"))
        await until(lambda: serving.schema("ledger") == "public")
        assert await positions_in(reader) == [1]


async def test_given_a_new_one_that_is_behind_what_was_heard_then_the_old_one_is_read_on(
    url: str, pool: asyncpg.Pool
) -> None:
    old, new = await first(pool), await built(pool)
    await put(pool, old, 1)
    await put(pool, new, 1)
    async with reading(url) as (serving, checkpoints, reader):
        await put(pool, old, 5)
        await checkpoints.wait(LEDGER, 5, 5.0)
        await say(pool, (old, "retired"), (new, "serving"))
        await asyncio.sleep(1.2)  # it looks twice a second
        assert serving.generation("ledger") is not None
        assert serving.schema("ledger") == "public"
        assert checkpoints.position(LEDGER) == 5
        assert await positions_in(reader) == [1, 5]

        await put(pool, new, 4)
        await asyncio.sleep(0.2)
        assert serving.schema("ledger") == "public"
        await put(pool, new, 5)
        await until(lambda: serving.schema("ledger") == new.schema)
        assert checkpoints.position(LEDGER) == 5
        assert await positions_in(reader) == [1, 4, 5]
        # What the retired one folds says nothing any more.
        await put(pool, old, 9)
        await asyncio.sleep(0.2)
        assert checkpoints.position(LEDGER) == 5


async def test_given_one_that_is_dropped_before_it_was_left_then_the_other_is_read(
    url: str, pool: asyncpg.Pool
) -> None:
    old, new = await first(pool), await built(pool)
    await put(pool, old, 5)
    async with reading(url) as (serving, checkpoints, reader):
        await checkpoints.wait(LEDGER, 5, 5.0)
        await pool.execute("DELETE FROM projection_generations WHERE id = $1", old.id)
        await say(pool, (new, "serving"))
        await until(lambda: serving.schema("ledger") == new.schema)
        assert await positions_in(reader) == []


async def test_given_only_another_release_s_then_there_is_nothing_to_read_until_its_own_serves(
    url: str, pool: asyncpg.Pool
) -> None:
    old = await first(pool)
    await put(pool, old, 3)
    async with reading(url, version=2) as (serving, checkpoints, reader):
        assert (serving.is_ready, serving.missing) == (False, "ledger")
        for position in (0, 3):
            with pytest.raises(Building) as building:
                await checkpoints.wait(LEDGER, position, 5.0)
        assert building.value.projection == "ledger"
        new = await built(pool, NewLedger())
        await put(pool, new, 3)
        with pytest.raises(Building):
            await checkpoints.wait(LEDGER, 0, 5.0)
        await say(pool, (new, "serving"))
        await until(lambda: serving.is_ready)
        await checkpoints.wait(LEDGER, 3, 5.0)
        assert serving.missing == ""
        assert await positions_in(reader) == [3]
    # The release before goes on reading its own.
    async with reading(url) as (serving, _, reader):
        assert serving.generation("ledger") == old


async def test_given_generations_then_who_waits_for_all_waits_for_those_that_do_not_answer_too(
    url: str, pool: asyncpg.Pool
) -> None:
    old, new = await first(pool), await begin(pool, Ledger())
    async with reading(url) as (_, checkpoints, __):
        await put(pool, old, 5)
        await checkpoints.wait(LEDGER, 5, 5.0)
        waiting = asyncio.create_task(checkpoints.wait_for_all(5, 10.0))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await put(pool, new, 6)
        assert await waiting == {"ledger": 5}


async def test_given_parked_keys_then_those_of_the_generation_that_answers_degrade_it(
    url: str, pool: asyncpg.Pool
) -> None:
    old, new = await first(pool), await built(pool)
    key = bytes(range(16))

    async def tell(sign: str, generation: Generation) -> None:
        statement = (
            "INSERT INTO parked_keys (generation, projection, tenant, owner_key, position, "
            "event_id, error) VALUES ($1, 'ledger', 1, $2, 1, gen_random_uuid(), 'KeyError')"
            if sign == "+"
            else "DELETE FROM parked_keys WHERE generation = $1 AND owner_key = $2"
        )
        text = f"{sign} 1 {key.hex()} {generation.id} ledger"
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(statement, generation.id, key)
            await connection.execute("SELECT pg_notify('touchline_parked', $1)", text)

    async with reading(url) as (serving, checkpoints, _):
        await tell("+", new)
        await asyncio.sleep(0.2)
        assert checkpoints.degraded(LEDGER, 1, [key]) == []
        await say(pool, (old, "retired"), (new, "serving"))
        await until(lambda: serving.schema("ledger") == new.schema)
        assert checkpoints.degraded(LEDGER, 1, [key]) == ["ledger"]
        assert checkpoints.parked_by(LEDGER, 1) == {key: ["ledger"]}
        await tell("-", new)
        await until(lambda: not checkpoints.parked_among(1, [key]))


async def test_given_many_of_one_shape_then_they_are_not_found_unless_their_schema_is_named(
    url: str, pool: asyncpg.Pool
) -> None:
    await introduce(pool, "timeline", Timeline.fold_version)
    async with open_pool(url, application="renames") as renaming:
        new = await built(renaming)
        await renaming.execute("UPDATE projection_generations SET projection = 'scores:' || id")
    serving = Serving()
    async with (
        open_pool(url, application="reads", setup=serving.setup) as reader,
        follow_checkpoints(url, reader, serving=serving),
    ):
        await say(pool, (new, "serving"))
        await until(lambda: serving.schema(f"scores:{new.id}") == new.schema)
        assert await reader.fetchval("SHOW search_path") == "public"


@pytest.fixture
async def store(touchline: Touchline) -> AsyncIterator[StoreClient]:
    """The store's API, as a service sees it."""
    async with connect_nats(touchline.nats.service_url, "serves") as connection:
        yield StoreClient(connection, timeout=2.0)


async def test_given_switches_and_roll_backs_under_load_then_everybody_reads_their_own_writes(
    touchline: Touchline, url: str, store: StoreClient, pool: asyncpg.Pool
) -> None:
    its: Sequence[Projection] = [Ledger()]
    stop = asyncio.Event()

    async def caller(position: int = 0) -> int:
        """Records and reads at once, and never finds less than before."""
        who, calls = new_email(), 0
        while not stop.is_set():
            position = await record(touchline.client, told(note("2024-03-01", "Called"), who))
            for each in (one, other):
                await each.checkpoints.wait(LEDGER, position, 10.0)
                found = await each.pool.fetchval("SELECT max(position) FROM ledger")
                assert found >= position
            calls += 1
        return calls

    async with member(url, store, its) as one, member(url, store, its) as other:
        await until(lambda: one.serving.is_ready and other.serving.is_ready)
        new = await built(pool)
        answers, retired = await first(pool), new
        callers = [asyncio.create_task(caller()) for _ in range(3)]
        await follows(pool, answers, new)
        await switch(pool, answers, new, "following")
        for _ in range(5):
            answers, retired = retired, answers
            await until(lambda: one.serving.schema("ledger") == answers.schema)  # noqa: B023
            await until(lambda: other.serving.schema("ledger") == answers.schema)  # noqa: B023
            await asyncio.sleep(0.3)
            await switch(pool, answers, retired, "retired")
        stop.set()
        assert min(await asyncio.gather(*callers)) > 3


async def follows(pool: asyncpg.Pool, old: Generation, new: Generation) -> None:
    """Returns once a generation is folded as far as another, and by somebody."""
    behind = (
        "SELECT min(n.position) < min(o.position) OR bool_or(n.leased_until < clock_timestamp()) "
        "FROM projection_checkpoints n, projection_checkpoints o "
        "WHERE o.generation = $1 AND n.generation = $2"
    )
    async with asyncio.timeout(30):
        while await pool.fetchval(behind, old.id, new.id):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
