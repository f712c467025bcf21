"""What callers of the ingestion service meet while something is stopped, slow or full.

Nothing that was acknowledged may be lost, and whatever is sent again counts once.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import grpc
import pytest

from libs.embedded import create_database, database_url_for
from libs.eventstore.appender import Appender
from services.ingestion import __main__ as process
from tests.events import an_event
from tests.ingesting import (
    Ingestion,
    ingestion_on,
    record,
    record_batch,
    status,
    until_queued,
    until_relayed,
    verified,
)
from tests.servers import MakeDatabase, OwnNats, OwnPostgres
from tests.services import build_event_store, mint_store
from tests.store import held_head
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_DUPLICATE,
    OUTCOME_RECORDED,
    Verdict,
)


@pytest.fixture
async def store_url(database_from_template: MakeDatabase) -> str:
    """The URL of an empty event store."""
    url = await database_from_template(build_event_store)
    await mint_store(url)
    return url


@pytest.fixture
async def ingestion(store_url: str, nats: OwnNats) -> AsyncIterator[Ingestion]:
    """The service on a database that others share a server with."""
    async with ingestion_on(store_url, nats.url) as running:
        yield running


async def outcome_of(client: Client, event: Event) -> Verdict | CallFailed:
    try:
        with readable_failures():
            return await record(client, event)
    except CallFailed as failed:
        return failed


async def assert_each_is_recorded_once(client: Client, events: list[Event]) -> None:
    """Whatever became of them so far: all are on the line once, and nothing else is."""
    verdicts = await client.record(events)
    assert {verdict.outcome for verdict in verdicts} <= {OUTCOME_RECORDED, OUTCOME_DUPLICATE}
    assert sorted(verdict.position for verdict in verdicts) == list(range(1, len(events) + 1))
    assert (await status(client)).head_position == len(events)
    whole = await verified(client)
    assert (list(whole.problems), whole.checked_events) == ([], len(events))


async def test_calls_in_flight_are_answered_when_the_service_stops(ingestion: Ingestion) -> None:
    events = [an_event() for _ in range(100)]
    async with held_head(ingestion.database_url):
        calls = [asyncio.ensure_future(record(ingestion.client, event)) for event in events]
        await until_queued(ingestion.client, len(events))
        stopped = asyncio.ensure_future(ingestion.service.stop())
        await asyncio.sleep(0.2)
        assert not any(call.done() for call in calls)
    verdicts = await asyncio.gather(*calls)
    await stopped
    assert {verdict.outcome for verdict in verdicts} == {OUTCOME_RECORDED}

    await ingestion.service.start()
    again = await ingestion.client.record(events)
    assert [(one.outcome, one.position) for one in again] == [
        (OUTCOME_DUPLICATE, verdict.position) for verdict in verdicts
    ]


async def test_a_stop_in_the_middle_of_a_stream_of_calls_loses_nothing_acknowledged(
    ingestion: Ingestion,
) -> None:
    events = [an_event() for _ in range(300)]
    calls = [asyncio.ensure_future(outcome_of(ingestion.client, event)) for event in events]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    await ingestion.service.restart()
    answers = await asyncio.gather(*calls)
    for answer in answers:
        if isinstance(answer, CallFailed):
            # Not begun, or ended by the server: either way the client asks again.
            assert answer.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    acknowledged = [answer.position for answer in answers if isinstance(answer, Verdict)]
    assert acknowledged
    verdicts = await ingestion.client.record(events)
    for verdict, answer in zip(verdicts, answers, strict=True):
        if isinstance(answer, Verdict):
            assert (verdict.outcome, verdict.position) == (OUTCOME_DUPLICATE, answer.position)
    await assert_each_is_recorded_once(ingestion.client, events)


async def test_a_full_queue_is_told_with_the_time_to_come_back(
    store_url: str, nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "Appender", partial(Appender, queue_events=2000))
    async with ingestion_on(store_url, nats.url) as ingestion:
        client = ingestion.client
        batches = [[an_event() for _ in range(1000)] for _ in range(2)]
        late = an_event()
        async with held_head(ingestion.database_url):
            calls = [asyncio.ensure_future(record_batch(client, batch)) for batch in batches]
            await until_queued(client, 2000)
            with pytest.raises(CallFailed) as failed, readable_failures():
                await record(client, late)
            patient = asyncio.ensure_future(client.record([late]))
            await asyncio.sleep(0.3)
        assert failed.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failed.value.reason == "QUEUE_FULL"
        assert failed.value.metadata == {"queued": "2000"}
        assert failed.value.retry_after == 0.25
        assert "nothing of this call was recorded" in failed.value.message
        recorded = [verdict for call in calls for verdict in await call] + await patient
        assert [verdict.outcome for verdict in recorded] == [OUTCOME_RECORDED] * 2001
        now = await status(client)
        assert (now.head_position, now.queued_events) == (2001, 0)


async def test_recording_goes_on_without_nats_and_the_feed_catches_up(
    ingestion: Ingestion, nats: OwnNats
) -> None:
    client = ingestion.client
    await client.record([an_event()])
    await until_relayed(client, 1)
    await nats.kill()
    verdicts = await client.record([an_event() for _ in range(50)])
    assert {verdict.outcome for verdict in verdicts} == {OUTCOME_RECORDED}
    assert (await status(client)).relayed_position == 1
    await nats.start()
    await until_relayed(client, 51)


@pytest.fixture
async def breakable(own_postgres: OwnPostgres, nats: OwnNats) -> AsyncIterator[Ingestion]:
    """The service on a PostgreSQL that the test may kill."""
    await create_database(own_postgres.url, "events")
    async with ingestion_on(database_url_for(own_postgres.url, "events"), nats.url) as running:
        yield running


async def test_a_stopped_postgresql_is_told_and_costs_no_event(
    breakable: Ingestion, own_postgres: OwnPostgres
) -> None:
    client = breakable.client
    events = [an_event() for _ in range(200)]
    first = await record(client, events[0])
    await own_postgres.kill()
    with pytest.raises(CallFailed) as failed, readable_failures():
        await record(client, events[1])
    assert failed.value.code is grpc.StatusCode.UNAVAILABLE
    assert failed.value.reason == "STORE_UNAVAILABLE"
    assert failed.value.retry_after == 1.0
    assert "Call again with the same event ids" in failed.value.message
    assert (await verdict_later(client, an_event(email="none"))).reason == "STORE_UNAVAILABLE"

    patient = asyncio.ensure_future(client.record(events[:100]))
    await own_postgres.start()
    verdicts = await patient
    assert (verdicts[0].outcome, verdicts[0].position) == (OUTCOME_DUPLICATE, first.position)
    await assert_each_is_recorded_once(client, events)


async def verdict_later(client: Client, event: Event) -> CallFailed:
    answer = await outcome_of(client, event)
    assert isinstance(answer, CallFailed)
    return answer


async def test_a_postgresql_killed_among_many_calls_leaves_each_event_once(
    breakable: Ingestion, own_postgres: OwnPostgres
) -> None:
    client = breakable.client
    events = [an_event() for _ in range(400)]
    calls = [asyncio.ensure_future(outcome_of(client, event)) for event in events]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    await own_postgres.kill()
    await own_postgres.start()
    answers = await asyncio.gather(*calls)
    failures = {answer.reason for answer in answers if isinstance(answer, CallFailed)}
    assert failures <= {"STORE_UNAVAILABLE"}
    verdicts = await client.record(events)
    for verdict, answer in zip(verdicts, answers, strict=True):
        if isinstance(answer, Verdict):
            assert (verdict.outcome, verdict.position) == (OUTCOME_DUPLICATE, answer.position)
    await assert_each_is_recorded_once(client, events)
