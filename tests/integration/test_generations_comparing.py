"""Two generations are compared at one position, and told apart by rows, events and parked keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from libs.projection.generations import comparing
from libs.projection.grpc_api import ProjectionService
from libs.projection.projection import Projection
from libs.projection.runner import Runner
from libs.projection.timeline import Timeline
from libs.tasks import running
from tests.aggregates import Lent
from tests.faulty import Faulty
from tests.generating import (
    CALL,
    Desk,
    comes,
    desk,
    drained,
    key_of,
    new_line,
    refused,
    tell,
)
from tests.projecting import Ledger, build_ledger
from tests.servers import MakeDatabase, SharedPostgres
from tests.sharing import member
from tests.store import TENANTS
from touchline.projection.v1 import projection_service_pb2 as api
from touchline.projection.v1.projection_pb2 import (
    GENERATION_STATE_RETIRED,
    GENERATION_STATE_SERVING,
    PROJECTION_STATE_LIVE,
    PROJECTION_STATE_PAUSED,
)

CUSTOMERS = [f"{number}@compared.example" for number in range(30)]


@pytest.fixture(scope="module")
async def lent(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lent]:
    """A line that the tests of this module share."""
    async with new_line(servers, tmp_path_factory) as line:
        await tell(line, *CUSTOMERS)
        yield line


@pytest.fixture
async def at_desk(database_from_template: MakeDatabase, lent: Lent) -> AsyncIterator[Desk]:
    """A process that folds the line into a timeline."""
    folds: list[Projection] = [Timeline(), Ledger()]
    async with desk(await database_from_template(build_ledger), lent.client, folds) as found:
        await found.reached((await lent.client.head()).position, "timeline", "ledger")
        yield found


async def test_given_events_that_go_on_then_what_is_equal_is_found_equal_at_one_position(
    at_desk: Desk, lent: Lent
) -> None:
    await at_desk.rebuilt(Timeline(), workers=2)

    async def load() -> None:
        while True:
            await tell(lent, *CUSTOMERS[:7])

    async with running(load()):
        for _ in range(5):
            compared = await at_desk.compare("timeline")
            assert [one.table for one in compared.tables] == [
                *("timeline", "timeline_retractions", "parked_keys")
            ]
            assert [one.differing_rows for one in compared.tables] == [0, 0, 0]
            timeline = compared.tables[0]
            assert timeline.live_rows == timeline.copied_rows == compared.position
        switched = await at_desk.switch("timeline")
        assert (await at_desk.roll_back("timeline")).position >= switched.position
    generation = await at_desk.generation(switched.generation)
    assert (generation.compared_position, generation.differing_rows) == (compared.position, 0)


async def test_given_keys_that_only_one_of_them_has_parked_then_they_differ(
    at_desk: Desk, lent: Lent
) -> None:
    faulty = Faulty(Timeline())
    faulty.fails_at = {key_of(CUSTOMERS[20])}
    new = await at_desk.begin("timeline")
    await at_desk.fill(new, faulty)
    await at_desk.watch("timeline")
    await at_desk.reached(await tell(lent, CUSTOMERS[20]), "timeline")
    timeline, _, parked = (await at_desk.compare("timeline")).tables
    assert (parked.live_rows, parked.copied_rows, parked.differing_rows) == (0, 1, 1)
    (told,) = parked.differences
    assert not told.is_live
    assert key_of(CUSTOMERS[20]).hex() in told.row
    first = next(one for one in timeline.differences if one.position == told.position)
    assert (first.is_live, first.event_id, list(first.columns)) == (True, told.event_id, [])
    assert (await refused(at_desk.switch("timeline"))).reason == "GENERATIONS_DIFFER"


async def test_given_an_erasure_that_only_one_of_them_knew_of_then_they_are_compared_again(
    at_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One could open what the other could not any more; once both folded the erasure they agree."""
    monkeypatch.setattr(comparing, "_FORGOTTEN_SECONDS", 0.01)
    new = await at_desk.rebuilt(Ledger())
    where = f"generation_{new}.ledger WHERE position = 5"
    await at_desk.pool.execute(f"DELETE FROM {where}")
    asked = 0

    async def erased_after(_: object, position: int) -> bool:
        nonlocal asked
        asked += 1
        assert position >= len(CUSTOMERS)
        if asked == 3:
            await at_desk.pool.execute(f"INSERT INTO generation_{new}.ledger VALUES (5)")
        return True

    monkeypatch.setattr(comparing, "erased_after", erased_after)
    ledger, _ = (await at_desk.compare("ledger")).tables
    assert (ledger.differing_rows, asked) == (0, 3)
    assert (await at_desk.generation(new)).differing_rows == 0


async def test_given_a_generation_that_is_dropped_meanwhile_then_that_is_told(
    at_desk: Desk,
) -> None:
    new = await at_desk.rebuilt(Ledger())
    request = api.CompareGenerationsRequest(projection="ledger")
    told = at_desk.service.CompareGenerations(request, CALL)
    assert (await anext(told)).generation == new
    await at_desk.drop("ledger", new)
    error = await refused(drained(told))
    assert (error.reason, error.metadata["generation"]) == ("GENERATION_NOT_READY", str(new))
    assert "One of them was dropped. Look again." in error.message


async def test_given_a_comparison_under_way_then_nobody_drops_what_it_reads(
    at_desk: Desk,
) -> None:
    new = await at_desk.rebuilt(Ledger())
    request = api.CompareGenerationsRequest(projection="ledger")
    told = at_desk.service.CompareGenerations(request, CALL)
    await anext(told)
    assert (await anext(told)).position > 0
    error = await refused(at_desk.drop("ledger", new))
    assert "Somebody reads its tables just now. Try again." in error.message
    *_, last = await drained(told)
    assert (last.finished, [one.differing_rows for one in last.tables]) == (True, [0, 0])
    await at_desk.drop("ledger", new)


async def test_given_tables_that_are_emptied_before_they_are_read_then_no_difference_is_told(
    at_desk: Desk,
) -> None:
    await at_desk.rebuilt(Ledger())
    await at_desk.compare("ledger")
    first = (await at_desk.switch("ledger")).previous  # whose tables in public others copy
    async with at_desk.pool.acquire() as emptying, emptying.transaction():
        await emptying.execute("LOCK TABLE public.ledger IN ACCESS EXCLUSIVE MODE")
        comparing = asyncio.create_task(refused(at_desk.compare("ledger", first)))
        await comes(lambda: _waits_to_compare(at_desk))
        await at_desk.pool.execute(
            "DELETE FROM projection_checkpoints WHERE generation = $1", first
        )
        await emptying.execute("TRUNCATE public.ledger")
    assert "One of them was dropped. Look again." in (await comparing).message


async def _waits_to_compare(desk: Desk) -> bool:
    """Whether a comparison has its snapshot, and waits for the tables."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LOCK%' AND wait_event = $1"
    return bool(await desk.pool.fetchval(waiting, "relation"))


async def test_given_a_pause_or_a_halt_then_it_is_told_and_nothing_is_switched(
    at_desk: Desk,
) -> None:
    await at_desk.rebuilt(Ledger())
    await at_desk.compare("ledger")
    paused = await at_desk.service.PauseProjection(
        api.PauseProjectionRequest(projection="ledger", reason="we look"), CALL
    )
    listed = await at_desk.listed("ledger")
    assert (listed.state, listed.position) == (PROJECTION_STATE_PAUSED, paused.position)
    for call in (at_desk.compare("ledger"), at_desk.switch("ledger")):
        error = await refused(call)
        assert error.reason == "GENERATION_NOT_READY"
        assert "ledger is paused: resume it first." in error.message
    await at_desk.service.ResumeProjection(api.ResumeProjectionRequest(projection="ledger"), CALL)
    await comes(lambda: _is_live(at_desk))
    await at_desk.pool.execute("UPDATE projection_checkpoints SET halt_reason = 'a fork'")
    error = await refused(at_desk.switch("ledger"))
    assert "of ledger halted: a fork" in error.message


async def test_given_what_answers_has_halted_then_a_rebuild_takes_its_place_when_that_is_said(
    at_desk: Desk, lent: Lent
) -> None:
    halted = (await at_desk.listed("ledger")).generations[0].generation
    await at_desk.pool.execute(
        "UPDATE projection_checkpoints SET halt_reason = 'a fork', owner = NULL,"
        " epoch = epoch + 1, leased_until = 'infinity' WHERE generation = $1",
        halted,
    )
    position = await tell(lent, "after@the-halt.example")
    new = await at_desk.rebuilt(Ledger())
    for call in (at_desk.compare("ledger"), at_desk.switch("ledger")):
        assert (await refused(call)).reason in ("GENERATION_NOT_READY", "GENERATIONS_DIFFER")
    switched = await at_desk.switch("ledger", accept=True)
    assert (switched.generation, switched.previous) == (new, halted)
    assert switched.position >= position
    await at_desk.reached(position, "ledger")
    assert "halted" in (await refused(at_desk.roll_back("ledger"))).message


async def _is_live(at_desk: Desk) -> bool:
    return (await at_desk.listed("ledger")).state == PROJECTION_STATE_LIVE


async def test_given_somebody_who_listens_no_more_then_the_rebuild_goes_on_and_is_heard_again(
    at_desk: Desk,
) -> None:
    new = await at_desk.begin("ledger", workers=4)
    ranges = (await at_desk.listed("ledger")).generations[-1].ranges
    assert [(one.first, one.last) for one in ranges] == [(0, 15), (16, 31), (32, 47), (48, 63)]
    heard = asyncio.create_task(at_desk.watch("ledger"))
    await asyncio.gather(*[at_desk.fill(new, Ledger()) for _ in range(4)])
    *_, last = await heard
    assert last.stage == api.REBUILD_STAGE_FOLLOWING
    assert last.generation == new
    assert last.folded_events == last.events > 0
    assert {one.generation for one in await heard} == {new}


class Idle:
    """What a process knows and does not fold."""

    def __init__(self) -> None:
        self.projections: Mapping[str, Projection] = {"ledger": Ledger()}
        self.runners: Sequence[Runner] = []


async def test_given_a_process_that_folds_nothing_itself_then_it_lists_what_others_fold(
    at_desk: Desk, lent: Lent
) -> None:
    process = at_desk.process
    service = ProjectionService(
        *(Idle(), at_desk.url, lent.client, process.pool, TENANTS, process.checkpoints, {})
    )
    new = await at_desk.rebuilt(Ledger())
    await at_desk.compare("ledger")
    first = (await at_desk.switch("ledger")).previous
    (ledger,) = (await service.ListProjections(api.ListProjectionsRequest(), CALL)).projections
    assert [(one.generation, one.state) for one in ledger.generations] == [
        (first, GENERATION_STATE_RETIRED),
        (new, GENERATION_STATE_SERVING),
    ]
    workers = {each.worker for one in ledger.generations for each in one.ranges}
    assert all(":" in one for one in workers)
    assert ledger.position == ledger.head_position > 0


async def test_given_a_divided_projection_that_folds_on_then_it_is_verified_at_one_position(
    at_desk: Desk, lent: Lent
) -> None:
    async with member(at_desk.url, lent.client, [Timeline(), Ledger()]):
        await comes(lambda: _is_divided(at_desk))

        async def load() -> None:
            while True:
                await tell(lent, *CUSTOMERS[:5])

        request = api.VerifyProjectionRequest(projection="ledger")
        async with running(load()):
            for _ in range(3):
                *_, last = await drained(at_desk.service.VerifyProjection(request, CALL))
                assert last.finished
                assert [one.differing_rows for one in last.tables] == [0]
                assert last.tables[0].live_rows == last.position


async def _is_divided(at_desk: Desk) -> bool:
    ranges = (await at_desk.listed("ledger")).generations[0].ranges
    return len(ranges) == 2 and all(one.worker for one in ranges)


async def test_given_a_switch_then_what_answers_is_verified_and_not_what_is_in_public(
    at_desk: Desk,
) -> None:
    new = await at_desk.rebuilt(Ledger())
    await at_desk.compare("ledger")
    await at_desk.switch("ledger")
    request = api.VerifyProjectionRequest(projection="ledger")
    await at_desk.pool.execute("DELETE FROM public.ledger WHERE position = 4")
    *_, last = await drained(at_desk.service.VerifyProjection(request, CALL))
    assert last.tables[0].differing_rows == 0
    where = f"generation_{new}.ledger WHERE position = 4"
    await at_desk.pool.execute(f"DELETE FROM {where}")
    *_, last = await drained(at_desk.service.VerifyProjection(request, CALL))
    assert [(one.is_live, one.position) for one in last.tables[0].differences] == [(False, 4)]
