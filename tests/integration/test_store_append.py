"""The line: one order without gaps, each id once ever, units, streams (invariants 1, 2, 5)."""

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest

from libs.eventstore.chain import GENESIS, extend
from libs.eventstore.records import Row
from libs.eventstore.store import EventStore
from tests.servers import MakeDatabase
from tests.store import (
    CONFLICT,
    DUPLICATE,
    RECORDED,
    UNIT_REFUSED,
    VERSION_TAKEN,
    Line,
    build_store,
    open_line,
    row,
    whole_line,
)

_BAD_OWNER = b"five!"


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


async def read_until(store: EventStore, last: int) -> list[bytes]:
    """Polls history as a projection does, and checks at every step that it is a continuation."""
    after, chain, hashes = 0, GENESIS, []
    while after < last:
        page = await store.history(after)
        assert page.first == after + 1
        assert page.previous_chain == chain
        assert page.last - after == len(page.events)
        found = [event.content_hash for event in page.events]
        chain = extend(chain, found)
        assert page.chain == chain
        hashes += found
        after = page.last
    return hashes


async def test_many_appenders_make_one_line_without_gaps_and_a_reader_skips_nothing(
    line: Line,
) -> None:
    chance = random.Random(7)
    numbers = iter(range(1, 10_000))
    calls = [
        [[row(number := next(numbers), f"event {number}")] for _ in range(chance.randint(1, 7))]
        for _ in range(120)
    ]
    total = sum(len(units) for units in calls)
    waiting = list(calls)

    async def append() -> list[int]:
        positions: list[int] = []
        while waiting:
            units = waiting.pop()
            verdicts = await line.append(*units)
            assert {outcome for outcome, _ in verdicts} == {RECORDED}
            positions += [position or 0 for _, position in verdicts]
        assert positions == sorted(positions)  # a caller's later call comes later
        return positions

    reading = asyncio.create_task(read_until(line.store, total))
    positions = await asyncio.gather(*(append() for _ in range(8)))

    assert sorted(position for one in positions for position in one) == [*range(1, total + 1)]
    assert len(await asyncio.wait_for(reading, 30)) == total
    head = await line.store.head()
    assert head.position == total


async def test_positions_are_taken_in_commit_order_and_a_rolled_back_append_takes_none(
    line: Line,
) -> None:
    slow = await asyncpg.connect(line.url)
    transaction = slow.transaction()
    await transaction.start()
    one = row(1)
    position = await slow.fetchval(
        "SELECT positions[1] FROM append_events(ARRAY[0], ARRAY[1]::smallint[], ARRAY[$1::uuid],"
        " ARRAY[$2::bytea], ARRAY[1]::smallint[], ARRAY[28]::smallint[], ARRAY[$3::bytea],"
        " ARRAY[$4::bytea], NULL, NULL)",
        *("00000000-0000-0000-0000-000000000001", one.owner_key, one.content_hash, one.record),
    )
    assert position == 1
    second = asyncio.create_task(line.append([row(2)]))
    await asyncio.sleep(0.2)
    assert not second.done()  # or it would be before an event with a smaller position
    assert not (await line.store.history(0)).events
    await transaction.rollback()
    await slow.close()
    assert await second == [(RECORDED, 1)]


async def test_a_failing_append_leaves_no_gap(line: Line) -> None:
    await line.append([row(1)])
    with pytest.raises(asyncpg.CheckViolationError):
        await line.append([row(2)], [row(3, owner=_BAD_OWNER)])
    assert await line.append([row(4)]) == [(RECORDED, 2)]
    assert [len(page.events) for page in await whole_line(line.store)] == [2]


async def test_recorded_times_never_run_backwards(line: Line) -> None:
    far = 9_000_000_000_000_000
    await line.owner("UPDATE store_head SET recorded_at_us = $1", far)
    await line.append([row(1)])
    await line.append([row(2)])
    (page,) = await whole_line(line.store)
    assert [event.recorded_at_us for event in page.events] == [far, far]


async def test_an_id_is_recorded_once_ever(line: Line) -> None:
    await line.append([row(1, "a")])
    await line.append(*[[row(number, "x")] for number in range(2, 50)])
    assert await line.append([row(1, "a")]) == [(DUPLICATE, 1)]
    assert await line.append([row(1, "b")]) == [(CONFLICT, 1)]
    assert await line.append([row(50)], [row(1, "a")], [row(51)]) == [
        (RECORDED, 50),
        (DUPLICATE, 1),
        (RECORDED, 51),
    ]
    (page,) = await whole_line(line.store)
    assert page.events[0].record == b"a"


async def test_an_id_twice_in_one_call_is_recorded_once(line: Line) -> None:
    verdicts = await line.append([row(1, "a")], [row(1, "a")], [row(1, "b")], [row(2)])
    assert verdicts == [(RECORDED, 1), (DUPLICATE, 1), (CONFLICT, 1), (RECORDED, 2)]


async def test_tenants_share_no_ids(line: Line) -> None:
    verdicts = await line.append([row(1, "a")], [row(1, "b", tenant=2)])
    assert verdicts == [(RECORDED, 1), (RECORDED, 2)]
    assert await line.append([row(1, "b", tenant=2)]) == [(DUPLICATE, 2)]


async def test_concurrent_callers_with_one_id_get_one_position(line: Line) -> None:
    answers = await asyncio.gather(*(line.append([row(1, "same")]) for _ in range(10)))
    assert sorted(answer[0] for answer in answers) == [(RECORDED, 1)] + [(DUPLICATE, 1)] * 9


async def test_a_unit_is_recorded_whole(line: Line) -> None:
    unit = [row(1, stream=(7, 1)), row(2, stream=(7, 2)), row(3, stream=(8, 1))]
    assert await line.append(unit) == [(RECORDED, 1), (RECORDED, 2), (RECORDED, 3)]
    assert await line.append(unit) == [(DUPLICATE, 1), (DUPLICATE, 2), (DUPLICATE, 3)]


async def test_a_taken_version_refuses_its_unit_and_no_other(line: Line) -> None:
    await line.append([row(1, stream=(7, 1))])
    unit = [row(2, stream=(8, 1)), row(3, stream=(7, 1)), row(4)]
    assert await line.append([row(5)], unit, [row(6, stream=(8, 1))]) == [
        (RECORDED, 2),
        (UNIT_REFUSED, None),
        (VERSION_TAKEN, None),
        (UNIT_REFUSED, None),
        (RECORDED, 3),  # the refused unit took no version
    ]
    assert await line.append([row(2, stream=(8, 2))]) == [(RECORDED, 4)]  # and no id


async def test_of_two_units_for_one_version_the_first_wins(line: Line) -> None:
    first, second = [row(1, stream=(7, 1)), row(2)], [row(3, stream=(7, 1)), row(4)]
    assert await line.append(first, second) == [
        (RECORDED, 1),
        (RECORDED, 2),
        (VERSION_TAKEN, None),
        (UNIT_REFUSED, None),
    ]


async def test_of_many_concurrent_callers_for_one_version_one_wins(line: Line) -> None:
    async def append(number: int) -> tuple[int, int | None]:
        (verdict,) = await line.append([row(number, stream=(7, 1))])
        return verdict

    verdicts = await asyncio.gather(*(append(number) for number in range(1, 11)))
    assert sorted(verdicts, key=str) == [(RECORDED, 1)] + [(VERSION_TAKEN, None)] * 9


async def test_versions_of_tenants_and_streams_are_apart(line: Line) -> None:
    rows = [row(1, stream=(7, 1)), row(2, stream=(7, 1), tenant=2), row(3, stream=(8, 1))]
    assert [outcome for outcome, _ in await line.append(rows)] == [RECORDED] * 3


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ([row(1, "a"), row(2)], [(DUPLICATE, 1), (UNIT_REFUSED, None)]),
        ([row(2), row(1, "b")], [(UNIT_REFUSED, None), (CONFLICT, 1)]),
        # No event of the unit is there, so none can be a duplicate of it.
        ([row(2, "a"), row(2, "a")], [(UNIT_REFUSED, None), (CONFLICT, None)]),
        ([row(2, "a"), row(2, "b")], [(UNIT_REFUSED, None), (CONFLICT, None)]),
    ],
)
async def test_a_unit_with_an_id_twice_is_refused(
    line: Line, unit: list[Row], expected: list[tuple[int, int | None]]
) -> None:
    await line.append([row(1, "a")])
    assert await line.append(unit, [row(9)]) == [*expected, (RECORDED, 2)]
    assert (await line.store.head()).position == 2
