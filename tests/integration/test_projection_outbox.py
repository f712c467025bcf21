"""What a reactor decides comes onto the line once, whatever happens in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from libs.embedded import create_database, database_url_for
from libs.eventstore.errors import StoreUnavailable
from libs.projection.gauges import outbox_readings
from libs.projection.outbox import Decision, Outbox, Sender
from libs.projection.waiting import Behind
from libs.telemetry import context, declared
from tests.aggregates import Lent, build_stores, lent_line
from tests.deciding import REACTOR, Desk, new_desk
from tests.projecting import LIVE, checkpoint_of, ledger_of
from tests.servers import MakeDatabase, SharedPostgres, start_nats
from tests.services import mint_store
from tests.store import eventually, held_head
from tests.waiting import until

SHORT = timedelta(seconds=0.3)
TRACES = [f"00-{number:032x}-{number:016x}-01" for number in (0xA1, 0xB2)]


@pytest.fixture(scope="module")
async def lent(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lent]:
    """A line on which each test has a customer of its own."""
    nats = await start_nats(tmp_path_factory.mktemp("outbox_nats"))
    await create_database(servers.url, "outbox_line", await servers.template(build_stores))
    url = database_url_for(servers.url, "outbox_line")
    await mint_store(url)
    async with lent_line(url, nats, patience=0.5) as lent:
        yield lent
    await nats.stop()


@pytest.fixture
async def desk(servers: SharedPostgres, lent: Lent) -> AsyncIterator[Desk]:
    """A reactor's database."""
    async with new_desk(servers, lent) as desk:
        yield desk


async def emptied(desk: Desk) -> None:
    """Waits until nothing is left in the outbox."""

    async def is_empty() -> bool:
        return not await desk.rows()

    await eventually(is_empty)


async def decided(desk: Desk, number: int = 1) -> None:
    """Waits until so many decisions are in the outbox."""

    async def are_there() -> bool:
        return len(await desk.rows()) == number

    await eventually(are_there)


async def test_what_is_decided_about_an_event_comes_onto_the_line(desk: Desk) -> None:
    await desk.says("Nobody answers")
    async with desk.reacting(desk.reactor()) as runner, desk.sending(runner):
        await until(lambda: runner.state.state == LIVE)
        await eventually(lambda: _has(desk, "ring back: Nobody answers"))
        await desk.says("Still nobody")
        await eventually(lambda: _has(desk, "ring back: Still nobody"))
        await decided(desk, 0)
    assert await desk.notes() == ["ring back: Nobody answers", "ring back: Still nobody"]


async def test_a_reactor_that_fails_after_it_decided_has_decided_nothing(desk: Desk) -> None:
    await desk.says("Hello?")
    reactor = desk.reactor()
    reactor.failures = 1
    async with desk.reacting(reactor) as runner:
        await until(lambda: reactor.failures == 0)
        assert await desk.rows() == []
        assert await checkpoint_of(desk.pool) == 0
        assert await ledger_of(desk.pool) == []
        await decided(desk)
        await until(lambda: runner.state.state == LIVE)
    assert len(await ledger_of(desk.pool)) == 1


async def test_a_reactor_that_can_not_prepare_yet_decides_later(desk: Desk) -> None:
    await desk.says("Hello?")
    reactor = desk.reactor()
    reactor.unprepared = [StoreUnavailable("no keys"), Behind("timeline", 0, "")]
    async with desk.reacting(reactor) as runner:
        await until(lambda: runner.state.state == LIVE)
    assert reactor.unprepared == []
    assert len(await desk.rows()) == len(await ledger_of(desk.pool)) == 1


async def test_given_a_kill_between_commit_and_append_then_the_next_process_appends_it_once(
    desk: Desk,
) -> None:
    await desk.says("Hello?")
    async with desk.reacting(desk.reactor()) as runner:
        await decided(desk)
        await until(lambda: runner.state.state == LIVE)
    assert await desk.notes() == []
    async with desk.sending(runner):
        await emptied(desk)
    assert await desk.notes() == ["ring back: Hello?"]


async def test_given_a_lost_answer_then_it_is_appended_again_and_recorded_once(desk: Desk) -> None:
    await desk.decide(desk.note("once"))
    desk.lent.lose_answers = 1
    async with desk.sending():
        await eventually(lambda: _has(desk, "once"))
        assert len(await desk.rows()) == 1  # nobody said that it is there
        await emptied(desk)
    assert await desk.notes() == ["once"]


async def test_given_a_reactor_that_folds_anew_then_what_it_decided_stands(desk: Desk) -> None:
    await desk.says("Hello?")
    async with desk.reacting(desk.reactor()) as runner, desk.sending(runner, lease=SHORT):
        await eventually(lambda: _has(desk, "ring back: Hello?"))
        await emptied(desk)
    await desk.pool.execute("DELETE FROM projection_checkpoints; TRUNCATE ledger")
    again = replace(desk, words="write a letter")  # its rule has changed meanwhile
    async with again.reacting(again.reactor()) as runner:
        await until(lambda: runner.state.state == LIVE)
    assert len(await desk.rows()) == 1
    async with again.sending(runner, lease=SHORT):
        await emptied(desk)
    assert await desk.notes() == ["ring back: Hello?"]


async def test_the_same_decision_twice_is_one_and_the_first_stands(desk: Desk) -> None:
    await desk.decide(desk.note("first", 1))
    await desk.decide(desk.note("second", 1), desk.note("other", 2))
    async with desk.sending():
        await emptied(desk)
    assert await desk.notes() == ["first", "other"]


async def test_a_decision_that_the_store_rejects_is_dead_and_holds_nobody_up(desk: Desk) -> None:
    wrong = desk.note("nowhere", 2)
    wrong.source = ""
    await desk.decide(desk.note("before", 1), wrong, desk.note("after", 3))
    async with desk.sending():
        await eventually(lambda: _is_dead(desk))
        (dead,) = await desk.rows()
    assert (dead["state"], dead["reactor"], str(dead["event_id"])) == (
        "dead",
        REACTOR,
        wrong.event_id,
    )
    assert "source" in dead["detail"]
    assert await desk.notes() == ["before", "after"]


async def test_a_decision_for_a_tenant_that_the_store_does_not_know_dies_after_some_attempts(
    desk: Desk,
) -> None:
    await desk.decide(desk.note("lost", 1), tenant="nobody")
    await desk.decide(desk.note("found", 2))
    async with desk.sending() as sender:
        await eventually(lambda: _has(desk, "found"))
        await decided(desk)
        (row,) = await desk.rows()
        assert (row["state"], row["attempts"]) == ("waiting", 1)
        assert "nobody" in row["detail"]
        await desk.pool.execute("UPDATE outbox SET attempts = 4, due_at = '-infinity'")
        sender.wake()
        await eventually(lambda: _is_dead(desk))


async def test_what_another_secret_sealed_is_dead_and_says_so(desk: Desk) -> None:
    await desk.decide(desk.note("sealed"))
    async with desk.sending(outbox=Outbox(bytes(32))):
        await eventually(lambda: _is_dead(desk))
        (dead,) = await desk.rows()
    assert "another TOUCHLINE_IDENTITY_SECRET" in dead["detail"]
    assert await desk.notes() == []


async def test_nothing_personal_lies_in_the_outbox(desk: Desk) -> None:
    await desk.decide(desk.note("rings at night"))
    (row,) = await desk.rows()
    told = b"".join(
        bytes(value) if isinstance(value, bytes) else str(value).encode() for value in row.values()
    )
    for secret in (b"rings at night", desk.customer.value.encode(), b"example.net"):
        assert secret not in told


async def test_a_commit_that_decides_waits_for_the_disk(desk: Desk) -> None:
    async with desk.pool.acquire() as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "off"
        async with connection.transaction():
            await desk.outbox.decide(connection, REACTOR, [])
            assert await connection.fetchval("SHOW synchronous_commit") == "off"
            told = [Decision("default", desk.note("durable"), 1)]
            await desk.outbox.decide(connection, REACTOR, told)
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "off"


async def test_a_sender_begins_once_its_projections_reached_the_head_of_its_start(
    desk: Desk,
) -> None:
    await desk.says("Hello?")
    await desk.decide(desk.note("decided before"))
    reactor = desk.reactor()
    reactor.failures = 2  # so it is behind for a second
    async with desk.reacting(reactor) as runner, desk.sending(runner) as sender:
        await until(lambda: sender.state.waiting == 1)
        await until(lambda: reactor.failures == 0)
        assert await desk.notes() == []
        await eventually(lambda: _has(desk, "decided before"))
        assert runner.checkpoint.position > 0


async def test_given_a_store_that_is_away_then_decisions_wait_and_none_is_lost(
    database_from_template: MakeDatabase, servers: SharedPostgres, tmp_path: Path
) -> None:
    nats = await start_nats(tmp_path)
    url = await database_from_template(build_stores)
    async with lent_line(url, nats, patience=0.5) as lent, new_desk(servers, lent) as desk:
        async with desk.sending() as sender:
            await until(lambda: sender.state.owns)
            await nats.kill()
            await desk.decide(desk.note("one", 1), desk.note("two", 2))
            await until(lambda: sender.state.waiting == 2)
            await nats.start()
            await emptied(desk)
        assert await desk.notes() == ["one", "two"]
    await nats.stop()


async def test_a_commit_that_decides_wakes_the_sender_and_so_does_the_process(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.projection.outbox.sending._IDLE_SECONDS", 3600)
    async with desk.sending() as sender:
        await until(lambda: sender.state.owns)
        await asyncio.sleep(0.1)
        await desk.decide(desk.note("heard", 1))
        await emptied(desk)
        assert await desk.notes() == ["heard"]
        await desk.pool.execute(
            "INSERT INTO outbox (reactor, tenant, event_id, sealed, traceparent) "
            "VALUES ('mute', 'default', gen_random_uuid(), 'broken', '')"
        )
        sender.wake()
        await eventually(lambda: _is_dead(desk))
        assert [row["reactor"] for row in await desk.rows()] == ["mute"]


async def test_of_two_processes_one_sends_and_the_other_takes_over(desk: Desk) -> None:
    lease = timedelta(seconds=1)  # shorter ones run out on a busy machine
    async with AsyncExitStack() as killed:
        one = await killed.enter_async_context(desk.sending(lease=lease))
        await until(lambda: one.state.owns)
        async with desk.sending(lease=lease) as other:
            await asyncio.sleep(1.5 * lease.total_seconds())
            assert (one.state.owns, other.state.owns) == (True, False)
            await killed.aclose()
            await until(lambda: other.state.owns)
            await desk.decide(desk.note("sent"))
            await emptied(desk)
    assert await desk.notes() == ["sent"]


async def test_a_process_that_was_frozen_for_long_notices_that_another_sends(desk: Desk) -> None:
    async with desk.sending(lease=SHORT) as frozen:
        await until(lambda: frozen.state.owns)
        await desk.pool.execute(
            "UPDATE outbox_sender SET owner = gen_random_uuid(), leased_until = 'infinity'"
        )
        await until(lambda: not frozen.state.owns)
        await desk.decide(desk.note("the other's"))
        await asyncio.sleep(SHORT.total_seconds())
        assert len(await desk.rows()) == 1


async def test_a_process_that_stops_lets_another_send_at_once(desk: Desk) -> None:
    async with desk.sending(lease=timedelta(hours=1)) as one:
        await until(lambda: one.state.owns)
    async with desk.sending() as other:
        await asyncio.sleep(0.1)
        assert not other.state.owns
        await one.stop()
        await until(lambda: other.state.owns)


async def test_each_decision_carries_the_trace_that_decided_it(desk: Desk) -> None:
    for number, trace in enumerate((*TRACES, "")):
        context.carry(trace)
        await desk.decide(desk.note(f"first of {number}", 2 * number))
        await desk.decide(desk.note(f"second of {number}", 2 * number + 1))
    context.carry("")
    async with desk.sending():
        await emptied(desk)
    carried = [record.traceparent for record in await desk.decided()]
    assert carried == [TRACES[0], TRACES[0], TRACES[1], TRACES[1], "", ""]


async def test_an_outbox_of_more_than_a_request_may_hold_goes_in_several(desk: Desk) -> None:
    await desk.decide(*[desk.note(f"{number:04}", number) for number in range(1100)])
    await desk.decide(*[desk.note("x" * 9_000, number) for number in range(1100, 1250)])
    async with desk.sending():
        await emptied(desk)
    notes = await desk.notes()
    assert len(notes) == 1250
    assert notes[:1100] == [f"{number:04}" for number in range(1100)]


async def test_the_gauges_tell_how_many_wait_how_long_and_which_are_dead(desk: Desk) -> None:
    def told(sender: Sender) -> dict[str, float]:
        gauges = outbox_readings(sender)
        points = {
            str(attributes[declared.OUTBOX_STATE]): value
            for value, attributes in gauges[declared.OUTBOX_SIZE]()
        }
        ages = [value for value, _ in gauges[declared.OUTBOX_AGE]()]
        return points | dict(zip(["age"], ages, strict=False))

    wrong = desk.note("wrong", 1)
    wrong.source = ""
    await desk.decide(wrong, desk.note("fine", 2))
    before = time.time()
    async with held_head(desk.lent.line.url), desk.sending() as sender:
        assert told(sender) == {}
        await until(lambda: sender.state.waiting == 2)
        waiting = told(sender)
        assert (waiting["waiting"], waiting["dead"]) == (2, 0)
        assert 0 < waiting["age"] < time.time() - before + 60
    async with desk.sending(lease=SHORT) as other:
        await desk.pool.execute("UPDATE outbox_sender SET leased_until = '-infinity'")
        await until(lambda: other.state.dead == 1)
        assert told(other) == {"waiting": 0, "dead": 1, "age": 0}


async def _has(desk: Desk, note: str) -> bool:
    return note in await desk.notes()


async def _is_dead(desk: Desk) -> bool:
    return [row["state"] for row in await desk.rows()] == ["dead"]
