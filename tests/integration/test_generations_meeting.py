"""Ranges come to one position, and stand there for a moment: never for long, and never for nobody.

Invariants 6 and 7.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from libs.postgres.pool import open_pool
from libs.projection.checkpoints import read_ranges
from libs.projection.generations import meeting as meetings
from libs.projection.generations.meeting import NotMet, meeting
from libs.projection.generations.records import introduce
from libs.projection.partitions import ALL
from libs.projection.sharing.dividing import merge, split
from tests.aggregates import Lent
from tests.generating import Desk, comes, desk, new_line, tell
from tests.projecting import Ledger, build_ledger, ledger_of, up_to
from tests.servers import MakeDatabase, SharedPostgres
from tests.waiting import until

CUSTOMERS = [f"{number}@meets.example" for number in range(30)]
# With fewer, two that lock in different orders would seldom meet.
MERGES, MEETINGS = 10, 150


@pytest.fixture(scope="module")
async def lent(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lent]:
    """A line that the tests of this module share."""
    async with new_line(servers, tmp_path_factory) as line:
        await tell(line, *CUSTOMERS)
        yield line


@pytest.fixture
async def pool(database_from_template: MakeDatabase) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database in which a Ledger can write."""
    async with open_pool(await database_from_template(build_ledger), application="meets") as pool:
        yield pool


@pytest.fixture
async def at_desk(database_from_template: MakeDatabase, lent: Lent) -> AsyncIterator[Desk]:
    """A process that folds the line into a Ledger."""
    async with desk(await database_from_template(build_ledger), lent.client, [Ledger()]) as found:
        await found.reached((await lent.client.head()).position, "ledger")
        yield found


async def serving_of(at_desk: Desk) -> int:
    """The generation that answers."""
    return (await at_desk.listed("ledger")).generations[0].generation


async def places(pool: asyncpg.Pool) -> set[int]:
    """Where ranges stand."""
    return {one.checkpoint.position for one in await read_ranges(pool)}


async def is_held(pool: asyncpg.Pool) -> bool:
    """Whether a range may not move on."""
    return any(one.held for one in await read_ranges(pool))


async def test_given_two_generations_that_fold_on_then_they_meet_again_and_again_and_lose_nothing(
    at_desk: Desk, lent: Lent
) -> None:
    serving, new = await serving_of(at_desk), await at_desk.rebuilt(Ledger(), workers=2)

    stop = asyncio.Event()

    async def load() -> int:
        last = 0
        while not stop.is_set():
            last = await tell(lent, *CUSTOMERS[:5])
        return last

    loading, met = asyncio.create_task(load()), list[int]()
    try:
        for _ in range(10):
            async with meeting(at_desk.pool, [serving, new]) as position:
                assert await places(at_desk.pool) == {position}
                await asyncio.sleep(0.05)
                assert await places(at_desk.pool) == {position}
                met.append(position)
            # The crew may merge the ranges of the new one just now, for which they meet too.
            held = {one.generation for one in await read_ranges(at_desk.pool) if one.held}
            assert serving not in held
            await comes(lambda: _beyond(at_desk.pool, position))
    finally:
        # An append that is cancelled may happen still: so the last one is waited for.
        stop.set()
        last = await loading
    assert met == sorted(set(met))
    await comes(lambda: _beyond(at_desk.pool, last - 1))
    assert await ledger_of(at_desk.pool) == up_to(last)
    rows = await at_desk.pool.fetch(f"SELECT position FROM generation_{new}.ledger ORDER BY 1")
    assert [row["position"] for row in rows] == up_to(last)


async def _beyond(pool: asyncpg.Pool, position: int) -> bool:
    return min(await places(pool)) > position


async def test_given_a_block_that_fails_then_what_it_held_goes_on_at_once(
    at_desk: Desk, lent: Lent
) -> None:
    serving = await serving_of(at_desk)
    with pytest.raises(ZeroDivisionError):
        async with meeting(at_desk.pool, [serving]):
            raise ZeroDivisionError
    assert not await is_held(at_desk.pool)
    began = time.monotonic()
    await at_desk.reached(await tell(lent, CUSTOMERS[0]), "ledger")
    assert time.monotonic() - began < 3


async def test_given_a_holder_that_died_then_the_hold_ends_by_itself(
    at_desk: Desk, lent: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meetings, "_HELD", timedelta(seconds=1))
    serving = await serving_of(at_desk)
    async with open_pool(at_desk.url, application="dies", size=1) as pool:
        async with meeting(pool, [serving]) as position:
            pool.terminate()  # so it can't release anything either
        assert await is_held(at_desk.pool)
        last = await tell(lent, *CUSTOMERS)
        await asyncio.sleep(0.2)
        assert await places(at_desk.pool) == {position}
        await at_desk.reached(last, "ledger")
    assert not await is_held(at_desk.pool)


async def test_given_a_meeting_then_another_one_of_the_same_waits_for_its_end(
    at_desk: Desk,
) -> None:
    serving = await serving_of(at_desk)
    async with meeting(at_desk.pool, [serving]):
        with pytest.raises(NotMet, match="Something else is being compared"):
            await meet(at_desk.pool, [serving], within=0.2)
        waits = asyncio.create_task(meet(at_desk.pool, [serving]))
        await asyncio.sleep(0.2)
        assert not waits.done()
    assert await waits > 0


async def test_given_a_generation_far_behind_then_what_answers_is_not_held_for_it(
    at_desk: Desk, lent: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meetings, "_NEARLY", 10)
    serving, new = await serving_of(at_desk), await at_desk.begin("ledger")
    await at_desk.pool.execute(
        "UPDATE projection_checkpoints SET leased_until = 'infinity' WHERE generation = $1", new
    )
    trying = asyncio.create_task(meet(at_desk.pool, [serving, new], within=1.5))
    await asyncio.sleep(0.2)
    assert not await is_held(at_desk.pool)
    await at_desk.reached(await tell(lent, *CUSTOMERS), "ledger")
    with pytest.raises(NotMet, match=f"Generation {new} of ledger came to position 0 and not to"):
        await trying
    assert not await is_held(at_desk.pool)


@pytest.mark.parametrize(
    ("change", "why", "at_once"),
    [
        ("halt_reason = 'a fork'", "of ledger halted: a fork", True),
        ("chain = 'other'", "on two different lines", True),
        # It may just change hands.
        ("leased_until = '-infinity'", "Nobody folds generation", False),
    ],
)
async def test_given_a_range_that_stands_still_then_it_is_told(
    pool: asyncpg.Pool, change: str, why: str, at_once: bool
) -> None:
    generation, mine = await introduced(pool)
    assert await split(pool, generation, ALL, mine)
    await pool.execute(LEASED)
    assert await meet(pool, [generation]) == 0
    await pool.execute(f"UPDATE projection_checkpoints SET {change} WHERE first_partition = 32")
    began = time.monotonic()
    with pytest.raises(NotMet, match=why):
        await meet(pool, [generation], within=1.0)
    assert (time.monotonic() - began < 0.9) == at_once
    assert not await is_held(pool)


async def test_given_ranges_that_change_hands_then_whoever_meets_waits_for_their_new_owner(
    pool: asyncpg.Pool,
) -> None:
    generation, _ = await introduced(pool)
    await pool.execute("UPDATE projection_checkpoints SET leased_until = '-infinity'")
    waits = asyncio.create_task(meet(pool, [generation]))
    await asyncio.sleep(0.2)
    assert not waits.done()
    await pool.execute(LEASED)
    assert await waits == 0


async def test_given_meetings_splits_and_merges_at_once_then_none_is_in_anothers_way(
    pool: asyncpg.Pool,
) -> None:
    generation, mine = await introduced(pool)
    merged = met = 0

    async def divide() -> None:
        nonlocal merged
        while merged < MERGES or met < MEETINGS:
            await split(pool, generation, ALL, mine)
            # One row only: who locks several does so in the order in which meetings do.
            await pool.execute(f"{LEASED} WHERE first_partition = 32")
            with suppress(NotMet):
                merged += await merge(pool, generation, ALL.halves[0], mine, nothing)

    async def look() -> None:
        nonlocal met
        while merged < MERGES or met < MEETINGS:
            with suppress(NotMet):
                await meet(pool, [generation])
                met += 1

    async with asyncio.timeout(60):
        # A deadlock raises here.
        await asyncio.gather(divide(), *[look() for _ in range(4)])


async def nothing() -> None:
    """There is no runner to stop."""


LEASED = "UPDATE projection_checkpoints SET leased_until = 'infinity'"


async def introduced(pool: asyncpg.Pool) -> tuple[int, UUID]:
    """A generation whose range a process has that folds nothing, and that process."""
    await introduce(pool, "ledger", 1)
    mine = uuid4()
    await pool.execute(f"{LEASED}, owner = $1", mine)
    return await pool.fetchval("SELECT id FROM projection_generations"), mine


async def meet(pool: asyncpg.Pool, generations: list[int], within: float = 5.0) -> int:
    """Holds generations at one position, and returns it."""
    async with meeting(pool, generations, within=within) as position:
        return position


async def test_given_a_paused_projection_or_a_dropped_generation_then_it_is_told(
    at_desk: Desk,
) -> None:
    serving = await serving_of(at_desk)
    for gone in ([12345], [serving, 12345]):
        with pytest.raises(NotMet, match="One of them was dropped"):
            await meet(at_desk.pool, gone)
    await at_desk.pool.execute("INSERT INTO projection_pauses VALUES ('ledger', 'we look')")
    with pytest.raises(NotMet, match="ledger is paused: resume it first"):
        await meet(at_desk.pool, [serving])
    await until(lambda: not at_desk.process.crew.runners)
