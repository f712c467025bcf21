"""Custom events: their types are registered, known to every replica, and kept by every event."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from libs.embedded import create_database, database_url_for, drop_database
from tests.custom_types import register_type
from tests.events import an_event
from tests.ingesting import Ingestion, ingestion_on, record, record_batch
from tests.proxy import TcpProxy, proxied
from tests.servers import SharedPostgres, start_nats
from tests.services import build_event_store, mint_store
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_RECORDED,
    OUTCOME_REJECTED,
    CustomEventType,
    Verdict,
)

EXAMPLE = (Path(__file__).parents[2] / "examples/types/webinar-attended.json").read_text("utf-8")
WHOLE = '{"properties": {"minutes": {"type": "integer"}}}'
SHORT = '{"properties": {"minutes": {"type": "integer", "maximum": 60}}}'


@dataclass(frozen=True, slots=True)
class Replicas:
    """Two replicas of the service on one store; the second reaches it through a proxy."""

    first: Ingestion
    second: Ingestion
    database: TcpProxy

    @property
    def one(self) -> Client:
        """A client of the first."""
        return self.first.client

    @property
    def two(self) -> Client:
        """A client of the second."""
        return self.second.client


@pytest.fixture(scope="module")
async def replicas(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Replicas]:
    """Both, empty at first; each test registers types of its own."""
    template = await servers.template(build_event_store)
    await create_database(servers.url, "custom_types", template)
    url = database_url_for(servers.url, "custom_types")
    await mint_store(url)
    nats = await start_nats(tmp_path_factory.mktemp("custom_types_nats"))
    async with (
        proxied(url) as (proxy, far),
        ingestion_on(url, nats.url) as one,
        ingestion_on(far, nats.url) as two,
    ):
        yield Replicas(one, two, proxy)
    await nats.stop()
    await drop_database(servers.url, "custom_types")


def custom(name: str, properties: str = "") -> Event:
    """A custom event of a type, with properties as JSON."""
    event = an_event("custom_event")
    event.custom_event.name = name
    event.custom_event.properties_json = properties
    return event


async def types(client: Client) -> dict[str, CustomEventType]:
    """The registered types by name."""
    listed = await client.ingestion.ListCustomEventTypes(api.ListCustomEventTypesRequest())
    return {one.name: one for one in listed.event_types}


def fields(verdict: Verdict) -> list[str]:
    return [violation.field for violation in verdict.violations]


async def test_an_event_of_no_registered_type_is_rejected_until_it_is(replicas: Replicas) -> None:
    event = custom("first.seen")
    verdict = await record(replicas.one, event)
    assert verdict.outcome == OUTCOME_REJECTED
    assert fields(verdict) == ["custom_event.name"]
    assert "register it with RegisterCustomEventType" in verdict.violations[0].description

    registered = await register_type(replicas.one, "first.seen", WHOLE)
    assert (registered.event_type.version, registered.unchanged) == (1, False)
    assert registered.event_type.registered_at.seconds > 1_700_000_000
    assert (await record(replicas.one, event)).outcome == OUTCOME_RECORDED


async def test_a_type_holds_at_once_on_every_replica(replicas: Replicas) -> None:
    await register_type(replicas.one, "both.know", SHORT)
    taken = await record(replicas.two, custom("both.know", '{"minutes": 60}'))
    assert taken.outcome == OUTCOME_RECORDED
    # What an older version forbids and a newer one allows is nowhere rejected either.
    newer = await register_type(replicas.one, "both.know", WHOLE, known=1)
    assert newer.event_type.version == 2
    taken = await record(replicas.two, custom("both.know", '{"minutes": 61}'))
    assert taken.outcome == OUTCOME_RECORDED


async def test_a_stricter_version_is_soon_kept_by_every_replica(replicas: Replicas) -> None:
    await register_type(replicas.one, "gets.stricter", WHOLE)
    assert (await record(replicas.two, custom("gets.stricter"))).outcome == OUTCOME_RECORDED
    await register_type(replicas.one, "gets.stricter", SHORT, known=1)
    async with asyncio.timeout(30):
        while True:
            verdict = await record(replicas.two, custom("gets.stricter", '{"minutes": 61}'))
            if verdict.outcome == OUTCOME_REJECTED:
                break
            await asyncio.sleep(0.1)
    assert fields(verdict) == ["custom_event.properties_json#/minutes"]


async def test_one_bad_custom_event_does_not_fail_its_batch(replicas: Replicas) -> None:
    await register_type(replicas.one, "in.batches", SHORT)
    verdicts = await record_batch(
        replicas.one,
        [
            custom("in.batches", '{"minutes": 1}'),
            an_event(),
            custom("in.batches", '{"minutes": 61, "minutes": 1}'),
            custom("in.batches", '{"minutes": 61}'),
            custom("not.known"),
            custom("no name"),
            custom("in.batches"),
        ],
    )
    taken = [verdict.outcome == OUTCOME_RECORDED for verdict in verdicts]
    assert taken == [True, True, False, False, False, False, True]
    assert [fields(verdict) for verdict in verdicts if verdict.violations] == [
        ["custom_event.properties_json"],
        ["custom_event.properties_json#/minutes"],
        ["custom_event.name"],
        ["custom_event.name"],
    ]


async def test_the_same_definition_again_changes_nothing(replicas: Replicas) -> None:
    first = await register_type(replicas.one, "said.again", WHOLE)
    for client, known in ((replicas.one, 0), (replicas.two, 0), (replicas.two, 1)):
        again = await register_type(client, "said.again", WHOLE, known=known)
        assert again.unchanged
        assert again.event_type == first.event_type
    assert (await types(replicas.two))["said.again"] == first.event_type


async def test_who_does_not_know_the_newest_version_registers_none(replicas: Replicas) -> None:
    await register_type(replicas.one, "fought.over", WHOLE)
    with pytest.raises(CallFailed) as failed, readable_failures():
        await register_type(replicas.two, "fought.over", SHORT)
    assert failed.value.reason == "STALE_VERSION"
    assert failed.value.metadata["version"] == "1"
    assert (await types(replicas.two))["fought.over"].json_schema == WHOLE


async def test_of_many_who_register_at_once_each_name_has_one_winner(replicas: Replicas) -> None:
    schemas = [json.dumps({"maxProperties": most}) for most in range(4)]
    attempts = [
        register_type(client, f"race.{name}", schema)
        for name in range(3)
        for schema in schemas
        for client in (replicas.one, replicas.two)
    ]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    won = [one for one in results if not isinstance(one, BaseException)]
    stale = [one for one in results if isinstance(one, grpc.aio.AioRpcError)]
    assert len(won) + len(stale) == len(attempts)
    assert {one.code() for one in stale} == {grpc.StatusCode.ABORTED}
    assert sum(not one.unchanged for one in won) == 3
    known = await types(replicas.one)
    assert {one.version for name, one in known.items() if name.startswith("race.")} == {1}
    assert known == await types(replicas.two)


@pytest.mark.parametrize(
    ("event_type", "field", "told"),
    [
        (CustomEventType(name="has blanks", json_schema="{}"), "name", "letters"),
        (CustomEventType(name="x" * 129, json_schema="{}"), "name", "1 to 128"),
        (
            CustomEventType(name="x", description="x" * 1001, json_schema="{}"),
            "description",
            "1,001 characters",
        ),
        (CustomEventType(name="x"), "json_schema", "is not JSON"),
        (
            CustomEventType(name="x", json_schema='{"type": "strin"}'),
            "json_schema#/type",
            "strin",
        ),
        (
            CustomEventType(name="x", json_schema='{"$ref": "https://example.com/s"}'),
            "json_schema#/$ref",
            "nothing is fetched",
        ),
    ],
    ids=["blanks", "long name", "long description", "no schema", "wrong schema", "remote"],
)
async def test_what_can_not_be_registered_is_refused_with_its_place(
    replicas: Replicas, event_type: CustomEventType, field: str, told: str
) -> None:
    request = api.RegisterCustomEventTypeRequest(event_type=event_type)
    with pytest.raises(CallFailed) as failed, readable_failures():
        await replicas.one.ingestion.RegisterCustomEventType(request)
    assert failed.value.reason == "INVALID_REQUEST"
    ((where, description),) = failed.value.violations
    assert where == f"event_type.{field}"
    assert told in description


async def test_types_belong_to_their_tenant(replicas: Replicas) -> None:
    await register_type(replicas.one, "ours.alone")
    async with Client.connect(replicas.first.service.listen, tenant="acme") as other:
        assert (await record(other, custom("ours.alone"))).outcome == OUTCOME_REJECTED
        assert await types(other) == {}


async def test_nothing_is_rejected_while_the_store_can_not_be_asked(replicas: Replicas) -> None:
    await register_type(replicas.one, "while.away", SHORT)
    event = custom("while.away", '{"minutes": 1}')
    replicas.database.refuse()
    replicas.database.cut()
    with pytest.raises(CallFailed) as failed, readable_failures():
        await record(replicas.two, event)
    replicas.database.accept()
    assert failed.value.reason == "STORE_UNAVAILABLE"
    (verdict,) = await replicas.two.record([event])  # again, until it is taken
    assert verdict.outcome == OUTCOME_RECORDED
    rejected = await replicas.one.ingestion.ListRejectedEvents(api.ListRejectedEventsRequest())
    assert event.event_id not in [one.event.event_id for one in rejected.rejected_events]


async def test_the_example_of_the_page_is_a_type_and_an_event_of_it(replicas: Replicas) -> None:
    said = json.loads(EXAMPLE)
    schema = json.dumps(said["schema"])
    assert (await register_type(replicas.one, said["name"], schema)).event_type.version == 1
    kept = '{"title": "Glazing for beginners", "minutes": 42, "fee": 9.90}'
    assert (await record(replicas.one, custom(said["name"], kept))).outcome == OUTCOME_RECORDED


async def test_a_started_service_knows_what_was_registered_before(replicas: Replicas) -> None:
    await register_type(replicas.one, "before.restart", WHOLE)
    await register_type(replicas.one, "before.restart", SHORT, known=1)
    await replicas.second.service.restart()
    assert (await types(replicas.two))["before.restart"].version == 2
    verdict = await record(replicas.two, custom("before.restart", '{"minutes": 61}'))
    assert verdict.outcome == OUTCOME_REJECTED
