"""What running services tell a real OTLP receiver of an event: its trace, and all that is declared.

docs/telemetry.md. They run on servers of one's own.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from libs.cli.stack import DEFAULTS
from libs.embedded import database_url_for
from libs.telemetry import declared
from tests.customers import email
from tests.events import an_event
from tests.ingesting import until_queued
from tests.otlp import Point, Receiver, attributes_of, receiving
from tests.peers import MailServer
from tests.ruling import a_rule, notice
from tests.running import Installation, Up, children
from tests.servers import SharedPostgres, start_nats
from tests.store import held_head
from tests.waiting import until
from touchline.client import Client
from touchline.events.v1.facts_pb2 import EXPECTATION_OUTCOME_KEPT
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_EMAIL, Identity
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1 import ingestion_service_pb2 as ingestion_api
from touchline.notification.v1.notification_pb2 import Recipient
from touchline.notification.v1.notification_service_pb2 import (
    GivePromiseRequest,
    PublishRuleRequest,
    PutRecipientRequest,
    ResolvePromiseRequest,
)
from touchline.profile.v1 import profile_service_pb2 as profile_api
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.projection.v1.projection_pb2 import PROJECTION_STATE_LIVE
from touchline.projection.v1.projection_service_pb2 import ListProjectionsRequest

FEED = "touchline.feed.batches"
PROJECTIONS = {
    "profile": {"identity_graph", "timeline", "consents", "attributes"},
    "engagement": {"identity_graph", "models", "scores:1:default:1", "score_levels"},
    "notification": {
        *("identity_graph", "timeline", "consents", "notifications"),
        *("rules", "expectations", "deliveries"),
    },
}
ASKING = re.compile("Service/|^deliver ")
APPEND = "touchline.store.append"
RECORD = "touchline.ingestion.v1.IngestionService/RecordEvent"
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "300"}
STATUS = ingestion_api.GetStoreStatusRequest()
CANARY = "wilhelmina.kowalczyk"


@dataclass(slots=True)
class Traced:
    """A running installation that exports, and its callers.

    Attributes:
        up: Its process.
        servers: The URLs of its PostgreSQL and its nats-server, which it did not start.
        recorded: How many events it has recorded.
    """

    installation: Installation
    up: Up
    servers: tuple[str, str]
    receiver: Receiver
    recorded: int = field(default=0)

    async def call(
        self, traceparent: str, what: Callable[[Client], Awaitable[Any]], tenant: str = "default"
    ) -> Any:
        """Calls the services within a trace."""
        services = self.installation.services
        async with Client.connect(
            *(services["ingestion"], services["profile"], tenant),
            engagement=services["engagement"],
            notification=services["notification"],
            traceparent=lambda: traceparent,
        ) as client:
            return await what(client)

    async def record(self, traceparent: str, email: str = "anna@example.com") -> int:
        """Records an event within a trace and returns its position."""
        request = ingestion_api.RecordEventRequest(event=an_event(email=email))
        answer = await self.call(traceparent, lambda client: client.ingestion.RecordEvent(request))
        self.recorded += 1
        return int(answer.verdict.position)

    async def head(self) -> int:
        """The last position of the line."""
        status = await self.call("", lambda client: client.ingestion.GetStoreStatus(STATUS))
        return int(status.status.head_position)

    async def settled(self) -> None:
        """Returns once nothing more follows from what was recorded: what comes next comes alone."""
        before = -1
        async with asyncio.timeout(30):
            while (now := await self.head()) != before or not await self.call("", _all_at(now)):
                before = now
                await asyncio.sleep(1)


def _all_at(head: int) -> Callable[[Client], Awaitable[bool]]:
    """Asks whether every projection follows the feed and stands at the head."""

    async def ask(client: Client) -> bool:
        listed = [
            (await each.ListProjections(ListProjectionsRequest())).projections
            for each in client.projections.values()
        ]
        live = PROJECTION_STATE_LIVE
        return all((one.state, one.position) == (live, head) for each in listed for one in each)

    return ask


@pytest.fixture(scope="module")
async def traced(
    tmp_path_factory: pytest.TempPathFactory, mailbox: MailServer, servers: SharedPostgres
) -> AsyncIterator[Traced]:
    """An installation whose services export to a receiver of their own.

    Notes about its customers are told to a team by email, and so is that a promise was kept.
    """
    async with receiving() as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, **SOON}
        directory = tmp_path_factory.mktemp("traced")
        nats = await start_nats(directory)
        settings |= {
            "TOUCHLINE_SMTP_URL": mailbox.url,
            "TOUCHLINE_DATABASE_URL": servers.url,
            "TOUCHLINE_NATS_URL": nats.url,
        }
        installation = Installation(directory / "home", settings=settings)
        async with installation.up() as up:
            traced = Traced(installation, up, (servers.url, nats.url), receiver)
            await traced.call("", set_up)
            yield traced
        await nats.stop()


async def set_up(client: Client) -> None:
    """Publishes a rule, says where its team is reached, and gives and keeps a promise."""
    calls = client.notification
    rule = a_rule("note_added", notices=[notice(channels=["NOTIFICATION_CHANNEL_EMAIL"])])
    await calls.PublishRule(PublishRuleRequest(definition=rule, published_by="test"))
    team = Recipient(reference=rule.notices[0].reference, email="team@example.com")
    await calls.PutRecipient(PutRecipientRequest(recipient=team))
    promise = GivePromiseRequest(
        expectation_id="traced",
        identities=[email("promised@example.com")],
        promise="Call back",
        promised_by="agent-7",
    )
    promise.due_at.FromSeconds(int(time.time()) + 3600)
    await calls.GivePromise(promise)
    kept = ResolvePromiseRequest(
        expectation_id="traced", outcome=EXPECTATION_OUTCOME_KEPT, resolved_by="agent-7"
    )
    await calls.ResolvePromise(kept)


def new_traceparent() -> str:
    """A caller's, sampled."""
    return f"00-{uuid4().hex}-{uuid4().hex[:16]}-01"


def concerning(spans: Iterable[Span], traceparent: str) -> list[Span]:
    """The spans that are of a trace or linked to it."""
    trace_id = bytes.fromhex(traceparent[3:35])
    return [
        span
        for span in spans
        if trace_id in (span.trace_id, *(link.trace_id for link in span.links))
    ]


def named(spans: Iterable[Span]) -> dict[str, Span]:
    """Spans by name, but those of projections."""
    return {
        span.name: span
        for span in spans
        if declared.PROJECTION not in attributes_of(span.attributes)
    }


def folds(traced: Traced, caller: str) -> dict[str, dict[str, Span]]:
    """The spans of a trace in which projections folded, by service and projection."""
    return {
        service: {
            attributes_of(span.attributes)[declared.PROJECTION]: span
            for span in concerning(traced.receiver.spans(service), caller)
            if declared.PROJECTION in attributes_of(span.attributes)
        }
        for service in PROJECTIONS
    }


def folded(traced: Traced, caller: str) -> bool:
    """Whether every projection of every service has folded what a caller recorded."""
    found = folds(traced, caller)
    return all(found[service].keys() >= names for service, names in PROJECTIONS.items())


def value(point: Point) -> float:
    """The value of a gauge or counter."""
    return float(point.data.as_int or point.data.as_double)


async def test_an_events_trace_leads_from_its_caller_through_append_and_feed_to_each_projection(
    traced: Traced,
) -> None:
    caller = new_traceparent()
    await traced.settled()
    await traced.record(caller)

    told = {RECORD, "append_events", f"send {FEED}"}  # each service exports in its own time
    await until(lambda: folded(traced, caller) and told <= concerned(traced, caller).keys())
    spans = concerned(traced, caller)
    call, append, send = spans[RECORD], spans["append_events"], spans[f"send {FEED}"]
    of_projections = [one for each in folds(traced, caller).values() for one in each.values()]
    assert {one.trace_id.hex() for one in (call, append, send, *of_projections)} == {caller[3:35]}
    assert call.parent_span_id.hex() == caller[36:52]
    assert append.parent_span_id == send.parent_span_id == call.span_id
    assert {fold.parent_span_id for fold in of_projections} == {send.span_id}
    for span in (append, send):
        assert [link.span_id for link in span.links] == [call.span_id]
    for fold in of_projections:
        assert [link.span_id for link in fold.links] == [send.span_id, call.span_id]
    assert call in traced.receiver.spans("ingestion")


async def test_an_events_trace_leads_on_through_the_decision_to_the_delivery(
    traced: Traced,
) -> None:
    caller = new_traceparent()
    note = an_event("note_added", email="noted@example.com")
    note.occurred_at.GetCurrentTime()  # nothing of the past is told to anybody
    request = ingestion_api.RecordEventRequest(event=note)
    await traced.call(caller, lambda client: client.ingestion.RecordEvent(request))
    traced.recorded += 1

    await until(lambda: "deliver email" in concerned(traced, caller))
    what_happened = [RECORD, f"send {FEED}", "rules"]
    its_decision = [f"send {APPEND}", APPEND]
    await until(lambda: way(traced, caller)[0] == RECORD)
    assert way(traced, caller) == [*what_happened, *its_decision, "deliver email"]
    judged = declared.RULES_EVALUATED.name
    matched = {declared.RULE_VERDICT: "matched"}
    await until(lambda: matched in [one.attributes for one in traced.receiver.points(judged)])


def way(traced: Traced, caller: str) -> list[str]:
    """The names of the spans from the caller's down to the delivery, each the next one's parent."""
    spans = {one.span_id: one for one in concerning(traced.receiver.spans(), caller)}
    at: Span | None = concerned(traced, caller)["deliver email"]
    names: list[str] = []
    while at is not None:
        names.append(attributes_of(at.attributes).get(declared.PROJECTION, at.name))
        at = spans.get(at.parent_span_id)
    return names[::-1]


async def test_callers_who_share_a_batch_find_it_linked_to_their_traces(traced: Traced) -> None:
    callers = [new_traceparent() for _ in range(20)]  # fewer than a span has links
    async with held_head(database_url_for(traced.servers[0], "touchline_store")):
        recording = asyncio.gather(*map(traced.record, callers))
        await traced.call("", lambda client: until_queued(client, len(callers)))
    await recording

    shared = {"append_events", f"send {FEED}"}
    for caller in callers:
        await until(lambda caller=caller: shared <= concerned(traced, caller).keys())  # type: ignore[misc]
        await until(lambda caller=caller: folded(traced, caller))  # type: ignore[misc]
    appends = [span for span in traced.receiver.spans() if span.name == "append_events"]
    together = [span for span in appends if len({link.trace_id for link in span.links}) > 1]
    assert together
    assert not [span for span in together if span.parent_span_id]


def concerned(traced: Traced, caller: str) -> dict[str, Span]:
    return named(concerning(traced.receiver.spans(), caller))


async def test_what_a_read_asks_the_store_is_in_its_trace_and_polling_makes_no_traces(
    traced: Traced,
) -> None:
    caller, address = new_traceparent(), "reader@example.com"
    last = await traced.record("", address)
    who = ProfileReference(identity=Identity(kind=IDENTITY_KIND_EMAIL, value=address))
    request = profile_api.ListTimelineEventsRequest(profile=who, after_position=last)
    await traced.call(caller, lambda client: client.profile.ListTimelineEvents(request))

    asked, keys = (
        "touchline.profile.v1.ProfileService/ListTimelineEvents",
        "touchline.store.data-keys",
    )
    await until(lambda: concerned(traced, caller).keys() >= {asked, keys})
    spans = concerned(traced, caller)
    assert spans[keys].parent_span_id == spans[asked].span_id
    assert spans[keys] in traced.receiver.spans("ingestion")
    every = {span.span_id: span for span in traced.receiver.spans()}
    for span in every.values():
        if span.name in ("touchline.store.history", "touchline.store.head"):
            # A promise and a delivery ask for the head once; what polls has no parent.
            assert ASKING.search(every[span.parent_span_id].name)


async def test_every_declared_metric_is_exported_as_declared_and_no_other(traced: Traced) -> None:
    await traced.record(new_traceparent())
    declared_metrics = {one.name: one for one in (*declared.METRICS, *declared.SDK_METRICS)}
    await until(lambda: traced.receiver.metrics().keys() >= declared_metrics.keys())

    kinds = {"histogram": "histogram", "counter": "sum", "gauge": "gauge"}
    for name, metric in traced.receiver.metrics().items():
        if name not in declared_metrics:
            assert name.startswith("otel.sdk.")
            continue
        told = declared_metrics[name]
        assert (metric.unit, metric.WhichOneof("data")) == (told.unit, kinds[told.instrument])
        for point in traced.receiver.points(name):
            assert set(point.attributes) <= set(told.attributes), name
            if told in declared.METRICS and told.instrument == "histogram":
                assert tuple(point.data.explicit_bounds) == told.boundaries
    for one in declared.METRICS:
        assert traced.receiver.metrics()[one.name].description == one.description


async def test_every_span_is_declared_with_its_attributes(traced: Traced) -> None:
    await traced.record(new_traceparent())
    await until(lambda: bool(traced.receiver.spans("profile")))
    for span in traced.receiver.spans():
        kind = Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_")
        [told] = [
            one
            for one in declared.SPANS
            if one.kind == kind and one.name.split()[0] in (span.name.split()[0], "<rpc.method>")
        ]
        assert attributes_of(span.attributes).keys() <= set(told.attributes)


async def test_gauges_and_counters_tell_what_was_recorded(traced: Traced) -> None:
    await traced.record(new_traceparent())
    head = await traced.head()

    def told(metric: declared.Metric, **attributes: str) -> list[float]:
        return [
            value(point)
            for point in traced.receiver.points(metric.name)
            if attributes.items() <= point.attributes.items()
        ]

    count = sum(map(len, PROJECTIONS.values()))
    await until(lambda: told(declared.HEAD_POSITION) == told(declared.RELAY_POSITION) == [head])
    await until(lambda: told(declared.PROJECTION_POSITION) == [head] * count)
    await until(lambda: told(declared.PROJECTION_LAG) == [0] * count)
    assert told(declared.PROJECTION_LAG_TIME) == [0] * count
    assert told(declared.PROJECTION_EVENTS) == [head] * count
    assert told(declared.APPEND_QUEUE) == [0]
    assert told(declared.RELAY_LEADER) == [1]
    states = traced.receiver.points(declared.PROJECTION_STATES.name)
    live = {declared.PROJECTION_STATE: "live"}
    assert told(declared.PROJECTION_STATES, **live) == [1] * count
    assert sum(map(value, states)) == count
    assert told(declared.EXPECTATIONS_RESOLVED) == [1]
    assert told(declared.VERDICTS, **{declared.VERDICT: "recorded"}) == [head]
    delays = traced.receiver.points(declared.VISIBLE_AFTER.name)
    assert all(0 < point.data.sum < 60 * point.data.count for point in delays)


async def test_durations_of_calls_tell_method_status_and_a_trace_as_an_example(
    traced: Traced,
) -> None:
    caller = new_traceparent()
    await traced.record(caller)

    def calls() -> list[Mapping[str, str]]:
        return [point.attributes for point in traced.receiver.points("rpc.server.call.duration")]

    wanted = {declared.RPC_SYSTEM: "grpc", declared.RPC_METHOD: RECORD, declared.RPC_STATUS: "OK"}
    await until(lambda: wanted in calls())
    await until(lambda: caller[3:35] in examples(traced.receiver))
    assert {declared.RPC_SYSTEM: "nats", declared.RPC_METHOD: "touchline.store.history",
            declared.RPC_STATUS: "OK"} in calls()  # fmt: skip


def examples(receiver: Receiver) -> set[str]:
    """The trace ids that all exports named as examples of durations of calls."""
    return {
        exemplar.trace_id.hex()
        for one in receiver.resource_metrics
        for scope in one.scope_metrics
        for metric in scope.metrics
        if metric.name == "rpc.server.call.duration"
        for point in metric.histogram.data_points
        for exemplar in point.exemplars
    }


async def test_nothing_personal_is_told_whatever_callers_send(traced: Traced) -> None:
    address = f"{CANARY}@example.com"
    valid = an_event("note_added", email=address)
    valid.note_added.text = valid.source = valid.conversation_id = CANARY
    valid.context.device = CANARY
    invalid = an_event("traits_observed", email=address)
    invalid.event_id = CANARY
    invalid.traits_observed.traits[CANARY] = CANARY
    batch = ingestion_api.BatchRecordEventsRequest(events=[valid, valid, invalid])
    who = ProfileReference(identity=Identity(kind=IDENTITY_KIND_EMAIL, value=address))
    seen = ProfileReference(profile_id=CANARY)

    async def failing(client: Client, reference: ProfileReference, token: str = "") -> None:
        asked = profile_api.ListTimelineEventsRequest(profile=reference, page_token=token)
        with pytest.raises(CallFailed), readable_failures():
            await client.profile.ListTimelineEvents(asked)

    caller = new_traceparent()
    answer = await traced.call(caller, lambda client: client.ingestion.BatchRecordEvents(batch))
    traced.recorded += 1
    await traced.call(caller, lambda client: failing(client, seen))
    await traced.call(caller, lambda client: failing(client, who, CANARY))
    await traced.call(caller, lambda client: failing(client, who), tenant=CANARY)
    await traced.call(CANARY, lambda client: failing(client, seen))

    last = answer.verdicts[0].position
    await until(lambda: folded(traced, caller))
    for verdict in ("recorded", "duplicate", "rejected"):
        await until(lambda verdict=verdict: verdict in verdicts(traced.receiver))  # type: ignore[misc]
    await until(
        lambda: any(
            value(one) >= last for one in traced.receiver.points("touchline.relay.position")
        )
    )
    for canary in (CANARY, CANARY.split(".")[1]):
        assert canary.encode() not in traced.receiver.everything()


def verdicts(receiver: Receiver) -> set[str]:
    return {point.attributes[declared.VERDICT] for point in receiver.points(declared.VERDICTS.name)}


async def test_servers_of_ones_own_are_used_and_none_is_started(traced: Traced) -> None:
    installation = traced.installation
    ours = children(traced.up.process.pid).values()
    assert {command.split("services.")[-1].strip() for command in ours} == set(DEFAULTS)
    for url in traced.servers:
        assert url.rpartition("@")[2].partition("/")[0] in traced.up.text
    head = await traced.head()
    contacts = ("examples/contacts.csv", "--mapping", "examples/contacts.toml")
    assert (await installation.run("import", *contacts)).code == 0
    assert f"head {head + 3}" in (await installation.run("status")).words
    assert not (installation.home / "postgres").exists()
    connection = await asyncpg.connect(database_url_for(traced.servers[0], "touchline_profile"))
    assert await connection.fetchval("SELECT count(*) FROM identities") > 0
    await connection.close()
