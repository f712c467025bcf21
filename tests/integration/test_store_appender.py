"""Group commit: who waits together is appended together, and answers for itself alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.eventstore.errors import QueueFull, RequestRefused
from libs.eventstore.records import Row
from libs.eventstore.store import AppendVerdict
from tests.servers import MakeDatabase
from tests.store import DUPLICATE, RECORDED, Line, build_store, held_head, open_line, row
from tests.waiting import until

Pending = asyncio.Task[list[AppendVerdict]]


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store), queue_events=3000) as line:
        yield line


@asynccontextmanager
async def busy(line: Line) -> AsyncIterator[Pending]:
    """Keeps an append of event 1 waiting, and with it all that arrive until the block ends."""
    async with held_head(line.url):
        first = asyncio.create_task(line.appender.append([[row(1)]]))
        await until(lambda: line.appender.queued_events == 1)
        await asyncio.sleep(0.05)
        yield first
    await first


def ask(line: Line, *rows: Row) -> Pending:
    return asyncio.create_task(line.appender.append([[one] for one in rows]))


def stream(line: Line, *rows: Row) -> Pending:
    async def append() -> list[AppendVerdict]:
        return await line.appender.append_when_room([[one] for one in rows])

    return asyncio.create_task(append())


def rows(first: int, count: int) -> list[Row]:
    return [row(number, f"event {number}") for number in range(first, first + count)]


async def test_requests_that_wait_share_one_append(line: Line) -> None:
    async with busy(line):
        waiting = [ask(line, row(number)) for number in range(2, 52)]
        await until(lambda: line.appender.queued_events == 51)
    answers = await asyncio.gather(*waiting)
    assert answers == [[(RECORDED, position)] for position in range(2, 52)]
    assert [len(one.rows) for one in line.appended] == [1, 50]
    assert line.appender.queued_events == 0


async def test_a_lone_request_waits_for_nobody(line: Line) -> None:
    for number in range(1, 4):
        await asyncio.wait_for(ask(line, row(number)), 30)
    assert [len(one.rows) for one in line.appended] == [1, 1, 1]


async def test_an_append_has_at_most_a_thousand_events_and_splits_no_request(line: Line) -> None:
    async with busy(line):
        waiting = [ask(line, *rows(start, 400)) for start in (1000, 2000, 3000)]
        await until(lambda: line.appender.queued_events == 1201)
        waiting.append(ask(line, *rows(4000, 1500)))
        await until(lambda: line.appender.queued_events == 2701)
    await asyncio.gather(*waiting)
    assert [len(one.rows) for one in line.appended] == [1, 800, 400, 1500]


async def test_an_append_has_at_most_a_mebibyte(line: Line) -> None:
    large = b"x" * 400 * 1024
    async with busy(line):
        waiting = [ask(line, row(number, record=large)) for number in range(2, 7)]
        await until(lambda: line.appender.queued_events == 6)
    await asyncio.gather(*waiting)
    assert [len(one.rows) for one in line.appended] == [1, 2, 2, 1]


async def test_a_full_queue_refuses_at_once_and_what_waits_is_recorded(line: Line) -> None:
    async with busy(line):
        waiting = ask(line, *rows(2, 2900))
        await until(lambda: line.appender.queued_events == 2901)
        with pytest.raises(QueueFull) as told:
            await line.appender.append([[one] for one in rows(5000, 100)])
        assert told.value.queued == 2901
        fits = ask(line, *rows(6000, 99))
        await until(lambda: line.appender.queued_events == 3000)
    assert len(await waiting) + len(await fits) == 2999
    assert (await line.store.head()).position == 3000
    # Nothing of what was refused was taken.
    assert await ask(line, row(5000, "event 5000")) == [(RECORDED, 3001)]


async def test_a_request_larger_than_the_queue_may_come_alone(line: Line) -> None:
    assert len(await ask(line, *rows(1, 3001))) == 3001


async def test_only_the_request_that_the_database_refuses_fails(line: Line) -> None:
    async with busy(line):
        waiting = [ask(line, row(number)) for number in range(2, 8)]
        bad = [
            ask(line, row(90), row(91, owner=b"short")),
            ask(line, row(92, owner=b"longer than sixteen")),
        ]
        waiting += [ask(line, row(number)) for number in range(8, 11)]
        await until(lambda: line.appender.queued_events == 13)
    for one in bad:
        with pytest.raises(RequestRefused, match="CheckViolationError") as told:
            await one
        assert "short" not in str(told.value)
    answers = await asyncio.gather(*waiting)
    assert answers == [[(RECORDED, position)] for position in range(2, 11)]
    assert line.appender.queued_events == 0
    assert await ask(line, row(90)) == [(RECORDED, 11)]


async def test_a_value_that_no_column_holds_fails_its_request_only(line: Line) -> None:
    async with busy(line):
        bad = ask(line, row(2, stream=(7, 2**70)))
        good = ask(line, row(3))
        await until(lambda: line.appender.queued_events == 3)
    with pytest.raises(RequestRefused):
        await bad
    assert await good == [(RECORDED, 2)]


async def test_a_caller_who_leaves_before_its_turn_is_dropped_and_harms_nobody(line: Line) -> None:
    async with busy(line):
        before, leaves, after = (ask(line, row(number)) for number in (2, 3, 4))
        await until(lambda: line.appender.queued_events == 4)
        leaves.cancel()
        await asyncio.sleep(0)
    assert await before == [(RECORDED, 2)]
    assert await after == [(RECORDED, 3)]
    assert leaves.cancelled()
    assert await ask(line, row(3)) == [(RECORDED, 4)]
    assert line.appender.queued_events == 0


async def test_a_caller_who_leaves_during_its_append_is_recorded_all_the_same(line: Line) -> None:
    async with held_head(line.url):
        leaves = ask(line, row(1))
        await until(lambda: line.appender.queued_events == 1)
        await asyncio.sleep(0.05)
        leaves.cancel()
    assert await ask(line, row(1)) == [(DUPLICATE, 1)]


async def test_streams_wait_for_room_in_their_order_and_leave_some_to_single_calls(
    line: Line,
) -> None:
    async with busy(line):
        streams = [stream(line, *rows(start, 1000)) for start in (2000, 3000, 4000, 5000)]
        await asyncio.sleep(0)
        assert line.appender.queued_events == 2001  # a third thousand would take the last quarter
        single = ask(line, *rows(6000, 900))
        await until(lambda: line.appender.queued_events == 2901)
    answers = await asyncio.gather(*streams, single)
    assert [one[0].position for one in answers] == [2, 1002, 2902, 3902, 2002]
    assert line.appender.queued_events == 0


async def test_who_leaves_while_waiting_for_room_makes_room(line: Line) -> None:
    async with busy(line):
        streams = [stream(line, *rows(start, 2000)) for start in (2000, 4000, 6000)]
        await asyncio.sleep(0)
        assert line.appender.queued_events == 2001
        streams[0].cancel()
        streams[1].cancel()
        await asyncio.sleep(0)
    assert (await streams[2])[0] == (RECORDED, 2)
    assert line.appender.queued_events == 0


async def test_a_caller_who_leaves_a_refused_request_harms_nobody(line: Line) -> None:
    async with busy(line):
        leaves, stays = ask(line, row(2, owner=b"short")), ask(line, row(3))
        await until(lambda: line.appender.queued_events == 3)
        leaves.cancel()
        await asyncio.sleep(0)
    assert await stays == [(RECORDED, 2)]


async def test_the_relay_is_told_of_appends_in_the_order_of_the_line(line: Line) -> None:
    await asyncio.gather(*(ask(line, *rows(start, 3)) for start in range(10, 400, 10)))
    position, chain = 0, bytes(32)
    for one in line.appended:
        assert (one.previous_position, one.previous_chain) == (position, chain)
        position, chain = position + len(one.rows), one.chain
    head = await line.store.head()
    assert (head.position, head.chain) == (position, chain)


async def test_what_adds_nothing_is_not_told(line: Line) -> None:
    await ask(line, row(1))
    await ask(line, row(1))
    assert len(line.appended) == 1
