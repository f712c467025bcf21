"""What was rejected is tried again, corrected or discarded, and never lost or kept twice."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.ingestion.calls.quarantine import MAX_RETRIED
from tests.custom_types import register_type
from tests.events import an_event
from tests.ingesting import record, record_batch
from tests.services import Touchline
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_CONFLICT,
    OUTCOME_DUPLICATE,
    OUTCOME_RECORDED,
    OUTCOME_REJECTED,
    RejectedEvent,
    Verdict,
)


@pytest.fixture
async def client(shared_touchline: Touchline) -> AsyncIterator[Client]:
    """A client, and nothing kept among the rejected at first."""
    await shared_touchline.execute(shared_touchline.stores.events, "DELETE FROM rejected_events")
    yield shared_touchline.client
    await shared_touchline.execute(shared_touchline.stores.events, "DELETE FROM rejected_events")


def unregistered(name: str) -> Event:
    """An event that is valid once its type is registered."""
    event = an_event("custom_event")
    event.custom_event.name = name
    return event


def without_source() -> Event:
    """An event that breaks one rule, for ever."""
    event = an_event()
    event.source = ""
    return event


async def kept(client: Client) -> list[RejectedEvent]:
    """What is kept, the oldest first."""
    request, found = api.ListRejectedEventsRequest(page_size=500), list[RejectedEvent]()
    while True:
        page = await client.ingestion.ListRejectedEvents(request)
        found += page.rejected_events
        if not page.next_page_token:
            return found[::-1]
        request.page_token = page.next_page_token


async def rejected(client: Client, *events: Event) -> list[int]:
    """Record events that are rejected, and return their numbers among the rejected."""
    verdicts = await record_batch(client, events)
    assert {verdict.outcome for verdict in verdicts} == {OUTCOME_REJECTED}
    numbers = {one.event.event_id: one.rejected_id for one in await kept(client)}
    return [numbers[event.event_id] for event in events]


async def retry(client: Client, *rejected_ids: int, after: int = 0) -> dict[int, Verdict]:
    """What became of each event that was found."""
    response = await client.ingestion.RetryRejectedEvents(
        api.RetryRejectedEventsRequest(rejected_ids=rejected_ids, after_rejected_id=after)
    )
    return {one.rejected_id: one.verdict for one in response.retried_events}


async def correct(client: Client, rejected_id: int, event: Event) -> Verdict:
    request = api.CorrectRejectedEventRequest(rejected_id=rejected_id, event=event)
    return (await client.ingestion.CorrectRejectedEvent(request)).verdict


async def test_what_is_valid_now_is_recorded_and_no_longer_kept(client: Client) -> None:
    event = unregistered("retried.soon")
    number, other = await rejected(client, event, without_source())
    await register_type(client, "retried.soon")
    found = await retry(client)
    assert found[number].outcome == OUTCOME_RECORDED
    assert found[other].outcome == OUTCOME_REJECTED
    assert [violation.field for violation in found[other].violations] == ["source"]
    assert [one.rejected_id for one in await kept(client)] == [other]
    assert (await record(client, event)).outcome == OUTCOME_DUPLICATE


async def test_what_is_still_rejected_is_kept_once_with_the_rules_it_breaks_now(
    client: Client,
) -> None:
    event = unregistered("retried.later")
    event.custom_event.properties_json = '{"a": 1}'
    (number,) = await rejected(client, event)
    before = await kept(client)
    await register_type(client, "retried.later", '{"additionalProperties": false}')
    verdict = (await retry(client, number))[number]
    (now,) = await kept(client)
    assert (now.rejected_id, now.event) == (number, event)
    assert now.rejected_at == before[0].rejected_at
    assert before[0].violations[0].field == "custom_event.name"
    assert list(now.violations) == list(verdict.violations)
    assert now.violations[0].field == "custom_event.properties_json"


async def test_only_those_that_are_named_are_tried_and_unknown_ones_are_skipped(
    client: Client,
) -> None:
    events = [unregistered("retried.named") for _ in range(3)]
    numbers = await rejected(client, *events)
    await register_type(client, "retried.named")
    found = await retry(client, numbers[0], numbers[2], numbers[0], 2**60)
    assert list(found) == [numbers[0], numbers[2]]
    assert [one.rejected_id for one in await kept(client)] == [numbers[1]]
    assert await retry(client, numbers[0]) == {}


async def test_all_are_tried_in_calls_of_a_bounded_number(client: Client) -> None:
    events = [unregistered("retried.all") for _ in range(MAX_RETRIED + 20)]
    numbers = await rejected(client, *events)
    await register_type(client, "retried.all")
    first = await client.ingestion.RetryRejectedEvents(api.RetryRejectedEventsRequest())
    assert [one.rejected_id for one in first.retried_events] == numbers[:MAX_RETRIED]
    assert first.next_after_rejected_id == numbers[MAX_RETRIED - 1]
    rest = await client.ingestion.RetryRejectedEvents(
        api.RetryRejectedEventsRequest(after_rejected_id=first.next_after_rejected_id)
    )
    assert [one.rejected_id for one in rest.retried_events] == numbers[MAX_RETRIED:]
    assert rest.next_after_rejected_id == 0
    assert await kept(client) == []


async def test_large_events_are_tried_too(client: Client) -> None:
    events = [without_source() for _ in range(15)]
    for event in events:
        event.ClearField("interaction")
        event.traits_observed.traits.update({f"t{n}": "x" * 4096 for n in range(60)})
    numbers = await rejected(client, *events)
    assert list(await retry(client, *numbers)) == numbers


async def test_many_who_retry_the_same_record_it_once(client: Client) -> None:
    events = [unregistered("retried.together") for _ in range(20)]
    await rejected(client, *events)
    await register_type(client, "retried.together")
    results = await asyncio.gather(*(retry(client) for _ in range(8)))
    outcomes = [verdict.outcome for found in results for verdict in found.values()]
    assert outcomes.count(OUTCOME_RECORDED) == len(events)
    assert set(outcomes) <= {OUTCOME_RECORDED, OUTCOME_DUPLICATE}
    assert await kept(client) == []


async def test_a_crash_after_recording_leaves_a_duplicate_that_the_next_retry_clears(
    client: Client, shared_touchline: Touchline
) -> None:
    event = unregistered("retried.crashed")
    (number,) = await rejected(client, event)
    await register_type(client, "retried.crashed")
    recorded = await record(client, event)  # as by a process that ended before it removed the row
    verdict = (await retry(client))[number]
    assert (verdict.outcome, verdict.position) == (OUTCOME_DUPLICATE, recorded.position)
    assert await kept(client) == []
    count = await _count(shared_touchline, event)
    assert count == 1


async def test_what_another_event_has_the_id_of_stays(client: Client) -> None:
    event = unregistered("retried.conflict")
    (number,) = await rejected(client, event)
    await register_type(client, "retried.conflict")
    await record(client, an_event(event_id=event.event_id))
    verdict = (await retry(client))[number]
    assert verdict.outcome == OUTCOME_CONFLICT
    assert [one.rejected_id for one in await kept(client)] == [number]
    corrected = an_event("custom_event")
    corrected.custom_event.name = "retried.conflict"
    assert (await correct(client, number, corrected)).outcome == OUTCOME_RECORDED
    assert await kept(client) == []


@pytest.mark.parametrize("same_id", [True, False], ids=["the same id", "another id"])
async def test_a_corrected_event_takes_the_place_of_the_rejected_one(
    client: Client, same_id: bool
) -> None:
    event = without_source()
    number, other = await rejected(client, event, without_source())
    corrected = an_event(event_id=event.event_id if same_id else "")
    verdict = await correct(client, number, corrected)
    assert verdict.outcome == OUTCOME_RECORDED
    assert verdict.event_id == corrected.event_id
    assert [one.rejected_id for one in await kept(client)] == [other]
    with pytest.raises(CallFailed) as failed, readable_failures():
        await correct(client, number, corrected)
    assert failed.value.reason == "REJECTED_EVENT_NOT_FOUND"
    assert failed.value.metadata == {"rejected_id": str(number)}


async def test_a_correction_that_breaks_a_rule_as_well_leaves_all_as_it_was(client: Client) -> None:
    event = without_source()
    (number,) = await rejected(client, event)
    before = await kept(client)
    worse = without_source()
    worse.actor.reference = "x" * 200
    for wrong in (worse, Event(), event):
        verdict = await correct(client, number, wrong)
        assert verdict.outcome == OUTCOME_REJECTED
        assert verdict.violations
    assert await kept(client) == before


async def test_a_correction_needs_an_event(client: Client) -> None:
    with pytest.raises(CallFailed) as failed, readable_failures():
        await client.ingestion.CorrectRejectedEvent(api.CorrectRejectedEventRequest(rejected_id=1))
    assert [field for field, _ in failed.value.violations] == ["event"]


async def test_what_is_discarded_is_gone(client: Client) -> None:
    numbers = await rejected(client, without_source(), without_source(), without_source())
    request = api.DiscardRejectedEventsRequest(rejected_ids=[numbers[0], numbers[2], 2**60])
    assert (await client.ingestion.DiscardRejectedEvents(request)).discarded_events == 2
    assert (await client.ingestion.DiscardRejectedEvents(request)).discarded_events == 0
    assert [one.rejected_id for one in await kept(client)] == [numbers[1]]


@pytest.mark.parametrize("count", [0, MAX_RETRIED + 1])
async def test_a_call_discards_one_to_five_hundred(client: Client, count: int) -> None:
    request = api.DiscardRejectedEventsRequest(rejected_ids=range(1, count + 1))
    with pytest.raises(CallFailed) as failed, readable_failures():
        await client.ingestion.DiscardRejectedEvents(request)
    assert [field for field, _ in failed.value.violations] == ["rejected_ids"]


async def test_another_tenants_rejected_events_are_as_if_they_were_not(
    client: Client, shared_touchline: Touchline
) -> None:
    (number,) = await rejected(client, without_source())
    async with shared_touchline.client_of("acme") as other:
        assert await retry(other) == {}
        assert await retry(other, number) == {}
        discard = api.DiscardRejectedEventsRequest(rejected_ids=[number])
        assert (await other.ingestion.DiscardRejectedEvents(discard)).discarded_events == 0
        with pytest.raises(CallFailed) as failed, readable_failures():
            await correct(other, number, an_event())
        assert failed.value.reason == "REJECTED_EVENT_NOT_FOUND"
    assert [one.rejected_id for one in await kept(client)] == [number]


async def _count(touchline: Touchline, event: Event) -> int:
    connection = await asyncpg.connect(touchline.stores.events)
    try:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM events WHERE event_id = $1::text::uuid", event.event_id
        )
    finally:
        await connection.close()
    return found
