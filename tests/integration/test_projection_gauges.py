"""What a projection tells of how far behind it is, from memory alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.pool import open_pool
from libs.projection.gauges import readings
from libs.projection.runner import Runner
from libs.telemetry import declared
from libs.telemetry.declared import Metric
from tests.customers import new_email, record, told
from tests.given import note
from tests.projecting import LIVE, Ledger, build_ledger, runner_of
from tests.servers import MakeDatabase
from tests.services import Touchline
from tests.waiting import until

RETRY_SECONDS = 0.5


@pytest.fixture
async def pool(database_from_template: MakeDatabase) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database in which a Ledger can write."""
    async with open_pool(await database_from_template(build_ledger), application="ledger") as pool:
        yield pool


@pytest.fixture
async def store(shared_touchline: Touchline) -> AsyncIterator[StoreClient]:
    """The store's API."""
    async with connect_nats(shared_touchline.nats.service_url, "ledger") as connection:
        yield StoreClient(connection)


def read(metric: Metric, runner: Runner) -> list[float]:
    """The values of a gauge."""
    return [value for value, _ in readings([runner])[metric]()]


def state_of(runner: Runner) -> list[object]:
    """The states that a projection says it is in."""
    points = readings([runner])[declared.PROJECTION_STATES]()
    return [attributes[declared.PROJECTION_STATE] for value, attributes in points if value]


async def test_given_a_projection_held_up_then_its_lag_grows_until_it_goes_on(
    shared_touchline: Touchline, pool: asyncpg.Pool, store: StoreClient
) -> None:
    ledger = Ledger()
    async with runner_of(ledger, pool, store) as runner:
        await until(lambda: runner.state.state == LIVE)
        position = runner.checkpoint.position
        assert read(declared.PROJECTION_POSITION, runner) == [position]
        assert read(declared.PROJECTION_LAG, runner) == [0]
        assert read(declared.PROJECTION_LAG_TIME, runner) == [0]

        ledger.before.clear()
        before = time.time()
        ledger.started.clear()
        last = await record(
            shared_touchline.client,
            *(told(note("2024-03-01", "Called"), new_email()) for _ in range(3)),
        )
        await ledger.started.wait()
        assert read(declared.PROJECTION_POSITION, runner) == [position]
        assert read(declared.PROJECTION_LAG, runner) == [last - position]
        (first,) = read(declared.PROJECTION_LAG_TIME, runner)
        (then,) = read(declared.PROJECTION_LAG_TIME, runner)
        assert 0 < first < then < time.time() - before + 1

        ledger.before.set()
        await until(lambda: read(declared.PROJECTION_POSITION, runner) == [last])
        await until(lambda: read(declared.PROJECTION_LAG_TIME, runner) == [0])
        assert read(declared.PROJECTION_LAG, runner) == [0]
        assert state_of(runner) == ["live"]


async def test_given_two_processes_then_only_the_one_that_runs_it_tells_positions(
    shared_touchline: Touchline, pool: asyncpg.Pool, store: StoreClient
) -> None:
    def owners(*runners: Runner) -> list[bool]:
        return [bool(read(declared.PROJECTION_POSITION, one)) for one in runners]

    await record(shared_touchline.client, told(note("2024-03-01", "Called"), new_email()))
    async with runner_of(Ledger(), pool, store) as one:
        await until(lambda: one.state.state == LIVE)
        async with runner_of(Ledger(), pool, store) as other:
            assert (owners(one, other), state_of(other)) == ([True, False], ["waiting"])
            # Its lease ends as if it had been frozen for long.
            await pool.execute("UPDATE projection_checkpoints SET leased_until = '-infinity'")
            await until(lambda: other.state.state == LIVE)
            await until(lambda: state_of(one) == ["waiting"])
            await asyncio.sleep(2 * RETRY_SECONDS)  # it asks for the lease again, in vain
            assert owners(one, other) == [False, True]
            assert read(declared.PROJECTION_LAG, one) == []
