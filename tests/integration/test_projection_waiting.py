"""Waiting until projections, of whatever process, have folded a position."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from libs.postgres.pool import open_pool
from libs.projection.generations.records import introduce
from libs.projection.waiting import Behind, Checkpoints, follow_checkpoints
from tests.servers import MakeDatabase
from tests.services import build_views
from tests.waiting import until

BOTH = ("identity_graph", "timeline")
TELL = """
    SELECT pg_notify('touchline_checkpoint', concat_ws(' ', generation, first_partition, position))
    FROM projection_checkpoints WHERE projection = $1"""


@pytest.fixture
async def url(database_from_template: MakeDatabase) -> str:
    """A database with both projections, at the start."""
    url = await database_from_template(build_views)
    connection = await asyncpg.connect(url)
    for name in BOTH:
        await introduce(connection, name, 1)
    await connection.close()
    return url


@pytest.fixture
async def pool(url: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to it, as the process that waits has them."""
    async with open_pool(url, application="waits") as pool:
        yield pool


async def move(url: str, name: str, position: int, *, tell: bool = True, halted: str = "") -> None:
    """Commits a checkpoint as a process elsewhere does."""
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        await connection.execute(
            "UPDATE projection_checkpoints SET position = $2, halt_reason = $3 "
            "WHERE projection = $1",
            *(name, position, halted),
        )
        if tell:
            await connection.execute(TELL, name)
    await connection.close()


async def test_given_positions_that_are_reached_then_waiting_returns_at_once(
    url: str, pool: asyncpg.Pool
) -> None:
    for name in BOTH:
        await move(url, name, 7)
    async with follow_checkpoints(url, pool) as checkpoints:
        await until(lambda: checkpoints.position(BOTH) == 7)
        started = time.monotonic()
        for position in (0, 3, 7):
            await checkpoints.wait(BOTH, position, 0.0)
        assert time.monotonic() - started < 0.1


async def test_given_a_position_that_comes_then_waiting_ends_with_the_slowest_projection(
    url: str, pool: asyncpg.Pool
) -> None:
    async with follow_checkpoints(url, pool) as checkpoints:
        await until(lambda: checkpoints.position(BOTH) == 0)
        waiting = asyncio.create_task(checkpoints.wait(BOTH, 5, 10.0))
        await move(url, "timeline", 9)
        await asyncio.sleep(0.1)
        assert not waiting.done()
        moved = time.monotonic()
        await move(url, "identity_graph", 5)
        await waiting
        # By notification: looking at the table comes twice a second only.
        assert time.monotonic() - moved < 0.4


async def test_given_a_position_that_does_not_come_then_it_says_which_projection_is_behind(
    url: str, pool: asyncpg.Pool
) -> None:
    async with follow_checkpoints(url, pool) as checkpoints:
        await move(url, "identity_graph", 9)
        await move(url, "timeline", 4)
        started = time.monotonic()
        with pytest.raises(Behind) as behind:
            await checkpoints.wait(BOTH, 5, 0.3)
        assert 0.25 < time.monotonic() - started < 2
    assert (behind.value.projection, behind.value.position) == ("timeline", 4)
    assert behind.value.halt_reason == ""


async def test_given_no_time_to_wait_then_the_table_is_asked_before_giving_up(
    url: str, pool: asyncpg.Pool
) -> None:
    # Nothing follows: not even a notification was heard.
    checkpoints = Checkpoints(pool)
    with pytest.raises(Behind):
        await checkpoints.wait(BOTH, 1, 0.0)
    for name in BOTH:
        await move(url, name, 1, tell=False)
    await checkpoints.wait(BOTH, 1, 0.0)


async def test_given_a_notification_that_is_lost_then_the_table_tells(
    url: str, pool: asyncpg.Pool
) -> None:
    async with follow_checkpoints(url, pool) as checkpoints:
        waiting = asyncio.create_task(checkpoints.wait(BOTH, 5, 10.0))
        for name in BOTH:
            await move(url, name, 5, tell=False)
        await waiting


async def test_given_a_connection_that_is_lost_then_it_listens_again(
    url: str, pool: asyncpg.Pool
) -> None:
    async with follow_checkpoints(url, pool) as checkpoints:
        for round_ in (1, 2):
            await listening(pool)
            await pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
            waiting = asyncio.create_task(checkpoints.wait(BOTH, round_, 10.0))
            for name in BOTH:
                await move(url, name, round_)
            await waiting
        await listening(pool)
        for name in BOTH:
            await move(url, name, 9)
        await until(lambda: checkpoints.position(BOTH) == 9)


async def listening(pool: asyncpg.Pool) -> None:
    """Returns once somebody listens on a connection to the database."""
    listeners = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    async with asyncio.timeout(30):
        while not await pool.fetchval(listeners):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


async def test_given_a_projection_that_halted_then_waiting_ends_early_and_says_why(
    url: str, pool: asyncpg.Pool
) -> None:
    async with follow_checkpoints(url, pool) as checkpoints:
        await move(url, "identity_graph", 3)
        await move(url, "timeline", 2, tell=False, halted="another store")
        started = time.monotonic()
        with pytest.raises(Behind) as behind:
            await checkpoints.wait(BOTH, 3, 30.0)
        assert time.monotonic() - started < 5
        assert (behind.value.projection, behind.value.halt_reason) == ("timeline", "another store")
        await checkpoints.wait(BOTH, 2, 0.0)  # what was folded before can be read

        # It goes on: an earlier halt is no reason to give up any more.
        await move(url, "timeline", 4)
        await until(lambda: checkpoints.position(["timeline"]) == 4)
        waiting = asyncio.create_task(checkpoints.wait(BOTH, 5, 10.0))
        await move(url, "identity_graph", 5)
        await asyncio.sleep(0.05)
        await move(url, "timeline", 5)
        await waiting


async def test_given_a_projection_that_is_folded_anew_then_its_position_is_the_new_one(
    url: str, pool: asyncpg.Pool
) -> None:
    async with follow_checkpoints(url, pool) as checkpoints:
        for name in BOTH:
            await move(url, name, 9)
        await until(lambda: checkpoints.position(BOTH) == 9)
        await move(url, "timeline", 1)
        await until(lambda: checkpoints.position(BOTH) == 1)
        with pytest.raises(Behind):
            await checkpoints.wait(BOTH, 9, 0.2)
