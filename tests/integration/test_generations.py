"""A view is rebuilt beside the one that answers, compared, switched to, rolled back and dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import grpc
import pytest

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.projection.generations import switching
from libs.projection.generations.ahead import Sizes
from libs.projection.generations.worker import run_worker
from libs.projection.projection import Connection, Projection, Recorded
from libs.projection.timeline import Timeline
from tests.customers import new_email, record, timeline, told
from tests.given import note
from tests.rebuilding import compare, projections, rebuild, switch
from tests.services import Touchline
from touchline.client import Client
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed
from touchline.profile.v1.profile_service_pb2 import GetPopulationRequest
from touchline.projection.v1 import projection_service_pb2 as api
from touchline.projection.v1.projection_pb2 import (
    GENERATION_STATE_FAILED,
    GENERATION_STATE_FILLING,
    GENERATION_STATE_FOLLOWING,
    GENERATION_STATE_RETIRED,
    GENERATION_STATE_SERVING,
    PROJECTION_STATE_PAUSED,
    Generation,
    GenerationState,
)
from touchline.projection.v1.projection_pb2 import (
    Projection as Told,
)

SERVING, RETIRED = GENERATION_STATE_SERVING, GENERATION_STATE_RETIRED
FOLLOWING, FILLING = GENERATION_STATE_FOLLOWING, GENERATION_STATE_FILLING


class Wrong(Timeline):
    """A fold with a defect: the second event has a wrong direction, and the third is not there."""

    def copy(self) -> Wrong:
        """The same fold."""
        return Wrong()

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Folds what the timeline folds, and then spoils it."""
        await super().apply(connection, events)
        await connection.execute("UPDATE timeline SET direction = 9 WHERE position = 2")
        await connection.execute("DELETE FROM timeline WHERE position = 3")


@pytest.fixture
def with_workers(touchline: Touchline, monkeypatch: pytest.MonkeyPatch) -> Touchline:
    """Services whose rebuilds are filled by processes, which inherit the settings."""
    for name, value in touchline.profile.environment.items():
        monkeypatch.setenv(name, value)
    return touchline


async def tell(client: Client, who: Identity, count: int = 5) -> int:
    """Records notes about a customer, and returns the last position."""
    notes = [told(note("2026-03-01 10:00", f"Call {number}"), who) for number in range(count)]
    return await record(client, *notes)


async def generations_of(
    client: Client, name: str = "timeline"
) -> list[tuple[int, GenerationState.ValueType]]:
    """Every generation of a projection of the profile service, with its state."""
    return [(one.generation, one.state) for one in (await told_of(client, name)).generations]


async def told_of(client: Client, name: str = "timeline") -> Told:
    """What the profile service says of a projection."""
    (found,) = [one for one in await projections(client, "profile") if one.name == name]
    return found


async def refused(call: object) -> CallFailed:
    """Why a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc] # a call of a stub
    return CallFailed.of(error.value)


async def test_a_view_is_rebuilt_switched_to_and_rolled_back_and_says_the_same_throughout(
    with_workers: Touchline,
) -> None:
    client, who = with_workers.client, new_email()
    position = await tell(client, who)
    before = await timeline(client, who, position)
    ((first, _),) = await generations_of(client)

    second = await rebuild(client, "profile", "timeline", workers=2)
    assert await generations_of(client) == [(first, SERVING), (second, FOLLOWING)]
    compared = await compare(client, "profile", "timeline")
    assert (compared.serving, compared.generation) == (first, second)
    assert compared.position >= position
    assert [(one.table, one.differing_rows) for one in compared.tables] == [
        *(("timeline", 0), ("timeline_retractions", 0), ("parked_keys", 0))
    ]
    assert compared.tables[0].live_rows == compared.tables[0].copied_rows >= 5

    switched = await switch(client, "profile", "timeline")
    assert (switched.generation, switched.previous) == (second, first)
    assert await timeline(client, who, position) == before
    later = await tell(client, who, 2)
    assert len(await timeline(client, who, later)) == len(before) + 2

    back = await client.projections["profile"].RollBackProjection(
        api.RollBackProjectionRequest(projection="timeline")
    )
    assert (back.generation, back.previous) == (first, second)
    assert await generations_of(client) == [(first, SERVING), (second, RETIRED)]
    # What was recorded meanwhile is there as well: it folded on.
    assert len(await timeline(client, who, later)) == len(before) + 2

    await client.projections["profile"].DropGeneration(
        api.DropGenerationRequest(projection="timeline", generation=second)
    )
    assert await generations_of(client) == [(first, SERVING)]
    async with connected(with_workers.stores.views) as views:
        schemas = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'generation%'"
        assert await views.fetch(schemas) == []


async def test_a_fold_with_a_defect_is_found_by_its_rows_and_events_and_not_switched_to(
    touchline: Touchline,
) -> None:
    client, who = touchline.client, new_email()
    position = await tell(client, who)
    await timeline(client, who, position)
    async with connected(touchline.stores.views) as views:
        rows = await views.fetch("SELECT position, event_id FROM timeline ORDER BY position")
    events = {row["position"]: str(row["event_id"]) for row in rows}
    generation = await filled_by(touchline, Wrong())
    await until_state(client, generation, FOLLOWING)

    compared = await compare(client, "profile", "timeline")
    table = compared.tables[0]
    assert (table.table, table.live_rows, table.copied_rows) == ("timeline", 5, 4)
    assert table.differing_rows == 3
    found = [
        (one.is_live, one.position, one.event_id, list(one.columns)) for one in table.differences
    ]
    assert sorted(found) == [
        (False, 2, events[2], ["direction"]),
        (True, 2, events[2], ["direction"]),
        (True, 3, events[3], []),
    ]

    failed = await refused(
        client.projections["profile"].SwitchProjection(
            api.SwitchProjectionRequest(projection="timeline")
        )
    )
    assert (failed.reason, failed.metadata["differing_rows"]) == ("GENERATIONS_DIFFER", "3")
    assert len(await timeline(client, who, position)) == 5

    # The difference may be wanted: then somebody says so.
    await client.projections["profile"].SwitchProjection(
        api.SwitchProjectionRequest(projection="timeline", accept_differences=True)
    )
    await until_answers(client, generation)
    assert len(await timeline(client, who, position)) == 4


async def test_what_can_not_be_done_is_refused_with_a_reason(with_workers: Touchline) -> None:
    client = with_workers.client
    service = client.projections["profile"]
    position = await tell(client, new_email())
    await client.profile.GetPopulation(population_after(position))
    ((first, _),) = await generations_of(client)

    async def begun(**asked: object) -> None:
        [one async for one in service.RebuildProjection(api.RebuildProjectionRequest(**asked))]  # type: ignore[arg-type]

    async def compared(**asked: object) -> None:
        [one async for one in service.CompareGenerations(api.CompareGenerationsRequest(**asked))]  # type: ignore[arg-type]

    named = {"projection": "timeline"}
    for call, reason in (
        (begun(projection="timelines"), "PROJECTION_NOT_FOUND"),
        (begun(**named, workers=3), "INVALID_REQUEST"),
        (begun(**named, watch=True), "GENERATION_NOT_FOUND"),
        (compared(**named), "GENERATION_NOT_FOUND"),
        (compared(**named, generation=999), "GENERATION_NOT_FOUND"),
        (compared(projection="timeline", generation=first), "GENERATION_NOT_READY"),
        (
            service.SwitchProjection(api.SwitchProjectionRequest(projection="timeline")),
            "GENERATION_NOT_FOUND",
        ),
        (
            service.RollBackProjection(api.RollBackProjectionRequest(projection="timeline")),
            "GENERATION_NOT_FOUND",
        ),
        (
            service.DropGeneration(api.DropGenerationRequest(projection="timeline")),
            "INVALID_REQUEST",
        ),
        (
            service.DropGeneration(
                api.DropGenerationRequest(projection="timeline", generation=first)
            ),
            "GENERATION_NOT_READY",
        ),
        (
            service.PauseProjection(api.PauseProjectionRequest(projection="x")),
            "PROJECTION_NOT_FOUND",
        ),
    ):
        assert (await refused(call)).reason == reason

    await rebuild(client, "profile", "timeline")
    assert (await refused(begun(**named))).reason == "REBUILD_UNDER_WAY"
    await begun(**named, watch=True)  # it follows: nothing more is to be watched
    # It was never compared.
    uncompared = await refused(
        service.SwitchProjection(api.SwitchProjectionRequest(projection="timeline"))
    )
    assert (uncompared.reason, uncompared.metadata["differing_rows"]) == ("GENERATIONS_DIFFER", "0")


async def test_a_paused_projection_is_read_as_it_stands_and_says_why(touchline: Touchline) -> None:
    client, who = touchline.client, new_email()
    position = await tell(client, who)
    before = await timeline(client, who, position)
    service = client.projections["profile"]
    await service.PauseProjection(
        api.PauseProjectionRequest(projection="timeline", reason="the fold is looked at")
    )
    await until_paused(client)
    told = await told_of(client)
    assert (told.state, told.pause_reason) == (PROJECTION_STATE_PAUSED, "the fold is looked at")

    later = await tell(client, who, 1)
    assert (await refused(timeline(client, who, later))).reason == "PROJECTION_PAUSED"
    assert await timeline(client, who) == before
    await service.ResumeProjection(api.ResumeProjectionRequest(projection="timeline"))
    assert len(await timeline(client, who, later)) == len(before) + 1


async def test_a_rebuild_that_is_given_up_says_why_and_leaves_nothing(
    touchline: Touchline,
) -> None:
    client = touchline.client
    async with asyncpg.create_pool(touchline.stores.views, min_size=1, max_size=2) as pool:
        begun = await switching.begin(pool, Timeline())
        assert await switching.fail(pool, begun.id, "the database's disk is full")
        assert not await switching.fail(pool, begun.id, "again")
        (_, failed) = (await told_of(client)).generations
        assert (failed.state, failed.failure) == (
            GENERATION_STATE_FAILED,
            "the database's disk is full",
        )
        assert failed.ranges == Generation().ranges
        assert not await pool.fetchval("SELECT to_regnamespace($1) IS NOT NULL", begun.schema)
        # It is told until another one begins.
        again = await switching.begin(pool, Timeline())
        states = [state for _, state in await generations_of(client)]
        assert states == [SERVING, FILLING]
        with pytest.raises(switching.UnderWay) as under_way:
            await switching.begin(pool, Timeline())
        assert under_way.value.generation == again.id


def population_after(position: int) -> GetPopulationRequest:
    """Asks for the population once everything is folded."""
    return GetPopulationRequest(after_position=position)


async def filled_by(touchline: Touchline, fold: Projection) -> int:
    """Begins a generation and fills it by a fold of the test; returns its id once it follows."""

    async def named(_: str) -> Projection:
        return fold

    url = touchline.stores.views
    async with (
        asyncpg.create_pool(url, min_size=1, max_size=1) as pool,
        connect_nats(touchline.nats.service_url, "test") as nats,
    ):
        begun = await switching.begin(pool, fold)
        # To the very end: what is left the service folds itself.
        whole = Sizes(near=0)
        store, stop = StoreClient(nats), asyncio.Event()
        await run_worker(begun.id, url, store, named, stop, {}, sizes=whole)
    return begun.id


async def until_state(client: Client, generation: int, state: GenerationState.ValueType) -> None:
    """Returns once a generation is in a state and somebody folds all of it."""
    async with asyncio.timeout(30):
        while True:
            for one in (await told_of(client)).generations:
                folded = one.ranges and all(each.worker for each in one.ranges)
                if (one.generation, one.state) == (generation, state) and folded:
                    return
            await asyncio.sleep(0.05)


async def until_answers(client: Client, generation: int) -> None:
    """Returns once the service has taken up a switch."""
    await until_state(client, generation, SERVING)
    await asyncio.sleep(1)


async def until_paused(client: Client) -> None:
    """Returns once nobody folds the timeline any more."""
    async with asyncio.timeout(30):
        while True:
            generations = (await told_of(client)).generations
            if not any(each.worker for one in generations for each in one.ranges):
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Gives a connection to a database."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
