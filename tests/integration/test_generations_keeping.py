"""The keeper sees rebuilds through, and clears what is over; it does nothing twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from libs.postgres.pool import open_pool
from libs.projection.generations import keeping, switching
from libs.projection.generations.keeping import Keeper
from libs.projection.generations.records import generations, introduce
from libs.tasks import running
from tests.generating import comes
from tests.projecting import Ledger, build_ledger
from tests.servers import MakeDatabase
from tests.waiting import until

SLEEPER = "import time; time.sleep(60)"
SOON = timedelta(seconds=1)


class Older(Ledger):
    """The fold of another release."""

    fold_version = 7


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(keeping, "_AFTER_SECONDS", 0.05)


@pytest.fixture
async def pool(database_from_template: MakeDatabase) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database in which the Ledger is introduced."""
    async with open_pool(await database_from_template(build_ledger), application="keeps") as pool:
        await introduce(pool, "ledger", 1)
        yield pool


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module whose processes begin to work and never end."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "sleeper"


@asynccontextmanager
async def keeping_one(
    pool: asyncpg.Pool,
    module: str = "",
    *,
    count: int = 1,
    retired_for: timedelta = keeping.RETIRED_FOR,
    unread_for: timedelta = keeping.UNREAD_FOR,
) -> AsyncIterator[list[Keeper]]:
    """Keeps, as so many processes do, until the block ends."""
    keepers = [
        Keeper(pool, {"ledger": Ledger()}, module, retired_for=retired_for, unread_for=unread_for)
        for _ in range(count)
    ]
    async with AsyncExitStack() as stack:
        for one in keepers:
            stack.push_async_callback(one.stop)
        await stack.enter_async_context(running(*[one.run() for one in keepers]))
        yield keepers


async def states(pool: asyncpg.Pool) -> dict[int, str]:
    """The states of all generations."""
    return {one.id: one.state for one in await generations(pool)}


async def are(pool: asyncpg.Pool, *wanted: str) -> bool:
    """Whether those are the states."""
    return list((await states(pool)).values()) == list(wanted)


async def schemas(pool: asyncpg.Pool) -> list[str]:
    """The schemas of generations."""
    rows = await pool.fetch(
        "SELECT nspname FROM pg_namespace WHERE nspname ~ '^generation' ORDER BY 1"
    )
    return [row["nspname"] for row in rows]


async def lease(pool: asyncpg.Pool, until_then: str, first: int = -1) -> None:
    """Lets one range be somebody's, or all of them."""
    await pool.execute(
        "UPDATE projection_checkpoints SET leased_until = $1::text::timestamptz, owner = $2"
        " WHERE first_partition = $3 OR $3 < 0",
        *(until_then, uuid4(), first),
    )


async def test_given_a_generation_to_fill_then_each_range_gets_a_worker_and_a_killed_one_another(
    pool: asyncpg.Pool, sleepers: str
) -> None:
    await switching.begin(pool, Ledger(), 4)
    async with keeping_one(pool, sleepers) as (keeper,):
        await until(lambda: len(keeper._processes) == 4)
        await lease(pool, "infinity")
        await asyncio.sleep(0.5)
        first = {one.pid for one in keeper._processes}
        assert len(first) == 4
        killed = next(iter(keeper._processes))
        killed.send_signal(signal.SIGKILL)
        await until(lambda: len(keeper._processes) == 3)
        await asyncio.sleep(0.5)  # its lease is not over yet
        assert len(keeper._processes) == 3
        await lease(pool, "-infinity", 16)
        await until(lambda: len(keeper._processes) == 4)
        assert len({one.pid for one in keeper._processes} - first) == 1
        processes = list(keeper._processes)
    assert [one.returncode for one in processes] == [-signal.SIGTERM] * 4


async def test_given_a_pause_then_no_worker_is_started_until_it_is_over(
    pool: asyncpg.Pool, sleepers: str
) -> None:
    await switching.pause(pool, "ledger", "we look")
    await switching.begin(pool, Ledger())
    async with keeping_one(pool, sleepers) as (keeper,):
        await asyncio.sleep(0.5)
        assert not keeper._processes
        await switching.resume(pool, "ledger")
        await until(lambda: len(keeper._processes) == 1)


async def test_given_workers_that_end_as_soon_as_they_begin_then_the_rebuild_is_given_up(
    pool: asyncpg.Pool,
) -> None:
    begun = await switching.begin(pool, Ledger())
    async with keeping_one(pool, "nowhere.to_be_found"):
        await comes(lambda: are(pool, "serving", "failed"))
    failed = (await generations(pool))[-1]
    assert failed.id == begun.id
    assert "its workers end as soon as they begin; the log of the service says" in failed.failure
    assert await schemas(pool) == []


async def test_given_the_first_generation_of_a_release_then_it_answers_once_it_follows(
    pool: asyncpg.Pool,
) -> None:
    await pool.execute("DELETE FROM projection_generations")
    await introduce(pool, "ledger", Older.fold_version)
    await switching.begin(pool, Ledger())
    async with keeping_one(pool, count=2):
        await lease(pool, "infinity")
        await asyncio.sleep(0.3)
        assert await are(pool, "serving", "filling")
        await pool.execute(
            "UPDATE projection_generations SET state = 'following' WHERE id > 1 "
            "AND state = 'filling'"
        )
        await comes(lambda: are(pool, "serving", "serving"))


async def test_given_one_of_two_that_follow_then_nothing_is_switched_by_itself(
    pool: asyncpg.Pool,
) -> None:
    await switching.begin(pool, Ledger())
    await pool.execute(
        "UPDATE projection_generations SET state = 'following' WHERE state = 'filling'"
    )
    async with keeping_one(pool):
        await asyncio.sleep(0.5)
        assert await are(pool, "serving", "following")


async def test_given_what_answered_before_then_it_is_dropped_when_its_time_is_over(
    pool: asyncpg.Pool,
) -> None:
    begun = await switching.begin(pool, Ledger())
    await pool.execute(
        "UPDATE projection_generations SET state = 'retired', retired_at = clock_timestamp() "
        "WHERE id = $1",
        begun.id,
    )
    async with keeping_one(pool, retired_for=SOON, count=2):
        await asyncio.sleep(0.5)
        assert await schemas(pool) == [begun.schema]
        await comes(lambda: are(pool, "serving"))
    assert await schemas(pool) == []


@pytest.mark.parametrize("state", ["filling", "following", "retired"])
async def test_given_a_drop_that_died_half_way_then_it_is_finished(
    pool: asyncpg.Pool, state: str
) -> None:
    begun = await switching.begin(pool, Ledger())
    await pool.execute(
        "UPDATE projection_generations SET state = $2, retired_at = clock_timestamp() "
        "WHERE id = $1",
        *(begun.id, state),
    )
    await pool.execute("DELETE FROM projection_checkpoints WHERE generation = $1", begun.id)
    async with keeping_one(pool):
        await comes(lambda: are(pool, "serving"))
    assert await schemas(pool) == []


async def test_given_what_no_living_process_reads_then_it_is_kept_a_while_and_dropped(
    pool: asyncpg.Pool,
) -> None:
    older = await switching.begin(pool, Older())
    await pool.execute(
        "UPDATE projection_generations SET state = 'serving' WHERE id = $1", older.id
    )
    await pool.execute("UPDATE projection_generations SET begun_at = '2020-01-01'")
    await lease(pool, "infinity")
    await lives(pool, Older.fold_version)
    async with keeping_one(pool, unread_for=SOON):
        await asyncio.sleep(1.5)
        assert await are(pool, "serving", "serving")
        # It leaves in order; who upgraded may go back.
        await pool.execute("DELETE FROM projection_workers")
        await asyncio.sleep(0.5)
        assert await are(pool, "serving", "serving")
        await comes(lambda: are(pool, "serving"))
    assert await schemas(pool) == []


async def test_given_a_process_that_comes_back_in_time_then_what_it_reads_is_kept(
    pool: asyncpg.Pool,
) -> None:
    older = await switching.begin(pool, Older())
    await pool.execute(
        "UPDATE projection_generations SET state = 'serving' WHERE id = $1", older.id
    )
    await lease(pool, "infinity")
    async with keeping_one(pool, unread_for=SOON * 3):
        await asyncio.sleep(1)
        await lives(pool, Older.fold_version)
        await asyncio.sleep(4)
        assert await are(pool, "serving", "serving")


async def lives(pool: asyncpg.Pool, version: int) -> None:
    """Tells that a process of a fold version lives."""
    await pool.execute(
        "INSERT INTO projection_workers (owner, name, folds, reacts, fold_versions)"
        " VALUES ($1, 'here:1', true, false, jsonb_build_object('ledger', $2::int))",
        *(uuid4(), version),
    )


async def test_given_schemas_of_which_nothing_tells_any_more_then_they_are_dropped(
    pool: asyncpg.Pool,
) -> None:
    begun = await switching.begin(pool, Ledger())
    await lease(pool, "infinity")
    await pool.execute("CREATE SCHEMA generation_9999")
    await pool.execute("CREATE TABLE generation_9999.ledger (position bigint)")
    await pool.execute("CREATE SCHEMA generation_of_heroes")  # somebody else's
    async with keeping_one(pool):
        await comes(lambda: _there(pool, begun.schema, "generation_of_heroes"))


async def _there(pool: asyncpg.Pool, *wanted: str) -> bool:
    return await schemas(pool) == list(wanted)
