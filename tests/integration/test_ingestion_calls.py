"""What callers of the ingestion service are told of their events and of their mistakes."""

import asyncio
from typing import Any
from uuid import uuid4

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import NothingToErase, StoreError
from libs.eventstore.records import open_event
from tests.custom_types import register_type
from tests.events import FACTS, an_event
from tests.ingesting import record, record_batch
from tests.services import Touchline
from tests.store import held_head
from touchline.events.v1.decisions_pb2 import Erasure
from touchline.events.v1.event_pb2 import Event
from touchline.failures import MESSAGE_TOO_LARGE, CallFailed, readable_failures
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_CONFLICT,
    OUTCOME_DUPLICATE,
    OUTCOME_RECORDED,
    OUTCOME_REJECTED,
)
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from touchline.store.v1.store_pb2 import EraseRequest, RecordedEvent

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def copied(event: Event, **changes: Any) -> Event:
    copy = Event()
    copy.CopyFrom(event)
    copy.MergeFrom(Event(**changes))
    return copy


async def stored(touchline: Touchline, position: int) -> tuple[RecordedEvent, Event | None]:
    """The record at a position, and the event that other services open it to."""
    async with connect_nats(touchline.nats.service_url, "test") as connection:
        store = StoreClient(connection)
        page = await store.history(position - 1)
        found = RecordedEvent.FromString(page.batch.events[0].record)
        return found, open_event(found, await store.keys_of(found.tenant, [found]))


async def test_an_event_is_recorded_once_and_never_overwritten(
    shared_touchline: Touchline,
) -> None:
    client = shared_touchline.client
    event = an_event()
    first = await record(client, event)
    assert (first.event_id, first.outcome) == (event.event_id, OUTCOME_RECORDED)
    assert first.position > 0
    again = await record(client, event)
    assert (again.outcome, again.position) == (OUTCOME_DUPLICATE, first.position)
    other = await record(client, copied(event, source="another"))
    assert (other.outcome, other.position) == (OUTCOME_CONFLICT, first.position)
    assert not other.violations
    _, kept = await stored(shared_touchline, first.position)
    assert kept is not None
    assert kept.source == event.source


async def test_of_many_callers_with_one_event_a_single_one_records_it(
    shared_touchline: Touchline,
) -> None:
    event = an_event()
    verdicts = await asyncio.gather(*[record(shared_touchline.client, event) for _ in range(100)])
    assert len({verdict.position for verdict in verdicts}) == 1
    outcomes = [verdict.outcome for verdict in verdicts]
    assert sorted(outcomes) == [OUTCOME_RECORDED] + [OUTCOME_DUPLICATE] * 99


async def test_each_event_of_a_batch_gets_its_own_verdict_whatever_the_others_are(
    shared_touchline: Touchline,
) -> None:
    client = shared_touchline.client
    known, fresh, last = an_event(), an_event("order_changed"), an_event("note_added")
    (first,) = await record_batch(client, [known])
    without_id = copied(an_event())
    without_id.event_id = ""
    batch = [
        copied(an_event(), tenant="acme"),
        fresh,
        known,
        without_id,
        copied(known, correlation_id="other"),
        fresh,
        copied(fresh, correlation_id="other"),
        an_event(email="no address"),
        Event(),
        last,
    ]
    verdicts = await record_batch(client, batch)
    assert [verdict.event_id for verdict in verdicts] == [event.event_id for event in batch]
    assert [(verdict.outcome, verdict.position - first.position) for verdict in verdicts] == [
        (OUTCOME_REJECTED, -first.position),
        (OUTCOME_RECORDED, 1),
        (OUTCOME_DUPLICATE, 0),
        (OUTCOME_REJECTED, -first.position),
        (OUTCOME_CONFLICT, 0),
        (OUTCOME_DUPLICATE, 1),
        (OUTCOME_CONFLICT, 1),
        (OUTCOME_REJECTED, -first.position),
        (OUTCOME_REJECTED, -first.position),
        (OUTCOME_RECORDED, 2),
    ]
    fields = [[violation.field for violation in verdict.violations] for verdict in verdicts]
    assert fields[0] == ["tenant"]
    assert fields[3] == ["event_id"]
    assert fields[7] == ["identities[0].value"]
    assert fields[8] == ["identities", "event_id", "source", "occurred_at", "fact"]
    assert not any(fields[index] for index in (1, 2, 4, 5, 6, 9))


async def test_a_rejected_event_is_an_answer_not_a_failed_call(
    shared_touchline: Touchline,
) -> None:
    event = an_event()
    event.occurred_at.seconds = -1
    verdict = await record(shared_touchline.client, event)
    assert verdict.outcome == OUTCOME_REJECTED
    assert verdict.position == 0
    (violation,) = verdict.violations
    assert violation.field == "occurred_at"
    assert "before 1970" in violation.description


@pytest.mark.parametrize("fact", FACTS)
async def test_every_kind_of_fact_can_be_read_as_it_was_sent(
    shared_touchline: Touchline, fact: str
) -> None:
    if fact == "custom_event":
        await register_type(shared_touchline.client)
    event = an_event(fact)
    event.tenant = "default"
    event.actor.reference = "agent-7"
    event.context.location.name = "Graz"
    event.identities.add(kind=3, value="+43 664 1234567")
    verdict = await record(shared_touchline.client, event)
    found, opened = await stored(shared_touchline, verdict.position)
    assert opened is not None
    assert [identity.canonical_value for identity in opened.identities] == [
        "anna@example.com",
        "+436641234567",
    ]
    for identity in opened.identities:
        identity.ClearField("canonical_value")
    event.ClearField("tenant")
    assert opened == event
    assert found.type == event.DESCRIPTOR.fields_by_name[fact].number


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_one_to_a_thousand_events(
    shared_touchline: Touchline, count: int
) -> None:
    with pytest.raises(CallFailed) as failed, readable_failures():
        await record_batch(shared_touchline.client, [an_event()] * count)
    assert failed.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.value.reason == "INVALID_REQUEST"
    assert failed.value.metadata == {"field": "events"}
    ((field, told),) = failed.value.violations
    assert field == "events"
    assert f"has {count:,} entries; send 1 to 1,000" in told


async def test_a_batch_of_a_thousand_is_taken(shared_touchline: Touchline) -> None:
    verdicts = await record_batch(shared_touchline.client, [an_event() for _ in range(1000)])
    positions = [verdict.position for verdict in verdicts]
    assert positions == list(range(positions[0], positions[0] + 1000))


async def test_a_call_needs_an_event(shared_touchline: Touchline) -> None:
    with pytest.raises(CallFailed) as failed, readable_failures():
        await shared_touchline.client.ingestion.RecordEvent(api.RecordEventRequest())
    assert failed.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.value.violations == (("event", "is missing"),)


async def test_an_event_over_256_kib_is_rejected_and_the_rest_recorded(
    shared_touchline: Touchline,
) -> None:
    large = an_event("note_added")
    large.note_added.text = "x" * 300_000
    verdicts = await shared_touchline.client.record([large, an_event()])
    assert [verdict.outcome for verdict in verdicts] == [OUTCOME_REJECTED, OUTCOME_RECORDED]
    assert {violation.field for violation in verdicts[0].violations} == {"", "note_added.text"}


async def test_a_message_over_the_limit_is_told_in_words_by_our_client(
    shared_touchline: Touchline,
) -> None:
    large = an_event("note_added")
    large.note_added.text = "x" * (9 * 1024 * 1024)
    with pytest.raises(CallFailed) as failed:
        await shared_touchline.client.record([large])
    assert failed.value.reason == MESSAGE_TOO_LARGE
    assert "has 9.0 MiB and may have 8.0. Send fewer events" in str(failed.value)


async def test_a_message_over_the_limit_from_any_other_client_does_no_harm(
    shared_touchline: Touchline,
) -> None:
    large = an_event("note_added")
    large.note_added.text = "x" * (9 * 1024 * 1024)
    async with grpc.aio.insecure_channel(shared_touchline.ingestion.listen) as channel:
        stub = IngestionServiceStub(channel)
        with pytest.raises(CallFailed) as failed, readable_failures():
            await stub.RecordEvent(api.RecordEventRequest(event=large))
        answer = await stub.RecordEvent(api.RecordEventRequest(event=an_event()))
    assert failed.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert answer.verdict.outcome == OUTCOME_RECORDED


async def test_a_tenant_that_the_settings_do_not_name_is_refused(
    shared_touchline: Touchline,
) -> None:
    async with shared_touchline.client_of("nobody") as client:
        for call in (
            client.ingestion.RecordEvent(api.RecordEventRequest(event=an_event())),
            client.ingestion.GetStoreStatus(api.GetStoreStatusRequest()),
            client.ingestion.ListRejectedEvents(api.ListRejectedEventsRequest()),
        ):
            with pytest.raises(CallFailed) as failed, readable_failures():
                await call
            assert failed.value.code is grpc.StatusCode.INVALID_ARGUMENT
            assert failed.value.reason == "UNKNOWN_TENANT"
            assert failed.value.metadata == {"tenant": "nobody"}
            assert "TOUCHLINE_TENANTS" in failed.value.message


async def test_tenants_share_no_event_ids(shared_touchline: Touchline) -> None:
    event = an_event()
    async with shared_touchline.client_of("acme") as acme:
        mine = await record(shared_touchline.client, event)
        theirs = await record(acme, copied(event, source="theirs"))
    assert (mine.outcome, theirs.outcome) == (OUTCOME_RECORDED, OUTCOME_RECORDED)
    assert theirs.position == mine.position + 1


async def test_a_deadline_that_passes_leaves_an_event_that_is_recorded_once(
    shared_touchline: Touchline,
) -> None:
    client, event = shared_touchline.client, an_event()
    async with held_head(shared_touchline.stores.events):
        with pytest.raises(CallFailed) as failed, readable_failures():
            await record(client, event, within=0.2)
        assert failed.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "longer" in failed.value.message
    again = await record(client, event)
    once_more = await record(client, event)
    assert again.outcome in (OUTCOME_RECORDED, OUTCOME_DUPLICATE)
    assert (once_more.outcome, once_more.position) == (OUTCOME_DUPLICATE, again.position)


@pytest.mark.parametrize(
    ("sent", "kept"), [(TRACEPARENT, TRACEPARENT), ("anna@example.com", ""), ("", "")]
)
async def test_the_callers_trace_is_stored_with_the_event_unless_it_is_none(
    shared_touchline: Touchline, sent: str, kept: str
) -> None:
    metadata = (("traceparent", sent),) if sent else ()
    response = await shared_touchline.client.ingestion.RecordEvent(
        api.RecordEventRequest(event=an_event()), metadata=metadata
    )
    found, _ = await stored(shared_touchline, response.verdict.position)
    assert found.traceparent == kept


async def test_both_services_tell_their_health_and_their_methods(
    shared_touchline: Touchline,
) -> None:
    for service, names in (
        (shared_touchline.ingestion, {"touchline.ingestion.v1.IngestionService"}),
        (
            shared_touchline.profile,
            {
                "touchline.profile.v1.ProfileService",
                "touchline.projection.v1.ProjectionService",
            },
        ),
    ):
        async with grpc.aio.insecure_channel(service.listen) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            for name in ("", *names):
                told = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert told.status == health_pb2.HealthCheckResponse.SERVING
            assert names < await reflected(channel)


async def reflected(channel: grpc.aio.Channel) -> set[str]:
    services: Any = reflection_pb2_grpc  # its stub is typed for synchronous channels only
    stub = services.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    async for response in stub.ServerReflectionInfo(iter([asked])):
        return {service.name for service in response.list_services_response.service}
    return set()


async def test_another_service_erases_over_nats_and_the_service_says_what_is_left(
    touchline: Touchline,
) -> None:
    verdict = await record(touchline.client, an_event(email="to-be-erased@example.org"))
    sealed, opened = await stored(touchline, verdict.position)
    assert opened is not None
    request = EraseRequest(
        erasure_id=str(uuid4()),
        erasure=Erasure(identity_keys=[sealed.owner_key]),
        reason="request 7",
    )
    async with connect_nats(touchline.nats.service_url, "test") as connection:
        store = StoreClient(connection)
        assert open_event(sealed, await store.keys_of(1, [sealed])) is not None
        answer = await store.erase(request)
        assert (answer.deleted_keys, answer.erased_events) == (1, 1)
        assert await store.erase(request) == answer
        assert open_event(sealed, await store.keys_of(1, [sealed])) is not None  # it remembers
        store.forget_keys()
        assert open_event(sealed, await store.keys_of(1, [sealed])) is None
        request.erasure_id = str(uuid4())
        with pytest.raises(NothingToErase, match="nobody is to be erased"):
            await store.erase(request)
        request.reason = ""
        with pytest.raises(StoreError, match="give a reason"):
            await store.erase(request)
    asked = api.CheckErasureRequest(position=answer.position)
    checks = (await touchline.client.ingestion.CheckErasure(asked)).checks
    assert [(one.what, one.left) for one in checks] == [
        *(("data keys", 0), ("kept event keys", 0), ("events", 0), ("rejected events", 0)),
        *(("data keys in memory", 0), ("seals in memory", 0)),
    ]
    with pytest.raises(CallFailed, match="position"), readable_failures():
        await touchline.client.ingestion.CheckErasure(
            api.CheckErasureRequest(position=verdict.position)
        )
