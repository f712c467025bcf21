"""Every span, metric and attribute that the services make, declared once.

Names and meanings are those of OpenTelemetry's semantic conventions 1.44 where these have some,
else they start with `touchline.`. `docs/telemetry.md` tells the same, which a test checks. None of
the attributes may hold anything personal (DESIGN, invariant 11).
"""

from dataclasses import dataclass
from typing import Final, Literal

Instrument = Literal["histogram", "counter", "gauge"]

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_COUNT: Final = "messaging.batch.message_count"
DATABASE_SYSTEM: Final = "db.system.name"
DATABASE_PROCEDURE: Final = "db.stored_procedure.name"
DATABASE_BATCH: Final = "db.operation.batch.size"
APPEND_REQUESTS: Final = "touchline.append.requests"
VERDICT: Final = "touchline.verdict"
PROJECTION: Final = "touchline.projection.name"
PROJECTION_STATE: Final = "touchline.projection.state"
OUTBOX_STATE: Final = "touchline.outbox.state"
DELIVERY_CHANNEL: Final = "touchline.notification.channel"
DELIVERY_OUTCOME: Final = "touchline.delivery.outcome"
EXPECTATION_OUTCOME: Final = "touchline.expectation.outcome"
RULE_VERDICT: Final = "touchline.rule.verdict"
SERVER_ADDRESS: Final = "server.address"

ATTRIBUTES: Final = {
    RPC_SYSTEM: "`grpc`, or `nats` for the store's API",
    RPC_METHOD: "package, service and method; on NATS the subject",
    RPC_STATUS: "gRPC's name of the status; on NATS `OK` or the code of the store's API",
    ERROR_TYPE: "only on failures: the status, or the exception's type, never its text",
    MESSAGING_SYSTEM: "`nats`",
    MESSAGING_OPERATION: "`send` or `process`",
    MESSAGING_OPERATION_TYPE: "the same",
    MESSAGING_DESTINATION: "the subject",
    MESSAGING_COUNT: "how many events, unless it is one",
    DATABASE_SYSTEM: "`postgresql`",
    DATABASE_PROCEDURE: "`append_events`",
    DATABASE_BATCH: "how many events, unless it is one",
    APPEND_REQUESTS: "how many requests share the append",
    VERDICT: "`recorded`, `duplicate`, `conflict`, `rejected`, `version_taken`, `unit_refused`",
    PROJECTION: "such as `timeline`",
    PROJECTION_STATE: "`live`, `catching_up`, `waiting` or `halted`",
    OUTBOX_STATE: "`waiting`, or `dead`: the store does not take it",
    DELIVERY_CHANNEL: "`email` or `webhook`",
    DELIVERY_OUTCOME: "`sent`, `failed`, `skipped`, `deferred` or `suppressed`",
    EXPECTATION_OUTCOME: "`kept`, `broken`, `renegotiated` or `withdrawn`",
    RULE_VERDICT: "`matched`, `not_matched`, `failed` or `stopped`",
    SERVER_ADDRESS: "the host of the mail server or of the webhook, never who is reached",
}
"""What each attribute holds."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: Dotted.
        instrument: A gauge is read when it is exported; the others are told.
        unit: In UCUM; braces hold what is counted.
        description: Of one sentence.
        attributes: The names of all attributes that its points may have.
        boundaries: Of a histogram's buckets, in its unit.
    """

    name: str
    instrument: Instrument
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SpanKindOf:
    """A sort of spans.

    Attributes:
        name: Of the spans; in angle brackets what differs among them.
        kind: In OpenTelemetry's terms.
        description: What it covers, and what it is linked to.
        attributes: The names of all attributes that it may have.
    """

    name: str
    kind: Literal["SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
    description: str
    attributes: tuple[str, ...]


# As the conventions advise for rpc.server.call.duration and messaging durations.
_CALL_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
_DELAY_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 1800.0, 3600.0, 86400.0),
)
_GROUP_EVENTS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
_MESSAGING: Final = (MESSAGING_SYSTEM, MESSAGING_OPERATION, MESSAGING_DESTINATION, ERROR_TYPE)

CALL_DURATION: Final = Metric(
    "rpc.server.call.duration",
    "histogram",
    "s",
    "Time to answer a call, or a batch of a stream.",
    (RPC_SYSTEM, RPC_METHOD, RPC_STATUS, ERROR_TYPE),
    _CALL_SECONDS,
)
SEND_DURATION: Final = Metric(
    "messaging.client.operation.duration",
    "histogram",
    "s",
    "Time to publish a batch on the feed, or to append decisions.",
    _MESSAGING,
    _CALL_SECONDS,
)
PROCESS_DURATION: Final = Metric(
    "messaging.process.duration",
    "histogram",
    "s",
    "Time to fold a batch and to commit it with its checkpoint.",
    (*_MESSAGING, PROJECTION),
    _CALL_SECONDS,
)
VERDICTS: Final = Metric(
    "touchline.ingestion.verdicts",
    "counter",
    "{event}",
    "Events answered, by what became of them.",
    (VERDICT,),
)
APPEND_DURATION: Final = Metric(
    "touchline.append.duration",
    "histogram",
    "s",
    "Time to append a group of requests to the store.",
    (ERROR_TYPE,),
    _CALL_SECONDS,
)
APPEND_EVENTS: Final = Metric(
    "touchline.append.events",
    "histogram",
    "{event}",
    "Events in a group that was appended.",
    (),
    _GROUP_EVENTS,
)
APPEND_QUEUE: Final = Metric(
    "touchline.append.queue.size",
    "gauge",
    "{event}",
    "Events that wait for an append or are being appended.",
)
HEAD_POSITION: Final = Metric(
    "touchline.store.head.position",
    "gauge",
    "{event}",
    "The store's last position, as far as this process has seen: the highest one counts.",
)
RELAY_POSITION: Final = Metric(
    "touchline.relay.position",
    "gauge",
    "{event}",
    "The last position on the feed, from the process that leads.",
)
RELAY_LEADER: Final = Metric(
    "touchline.relay.leader",
    "gauge",
    "{leader}",
    "1 in the process that publishes the feed, 0 in the others.",
)
PROJECTION_POSITION: Final = Metric(
    "touchline.projection.position",
    "gauge",
    "{event}",
    "The last position a projection committed, from the process that runs it.",
    (PROJECTION,),
)
PROJECTION_LAG: Final = Metric(
    "touchline.projection.lag.events",
    "gauge",
    "{event}",
    "How many events a projection is behind the head that it knows of.",
    (PROJECTION,),
)
PROJECTION_LAG_TIME: Final = Metric(
    "touchline.projection.lag.duration",
    "gauge",
    "s",
    "For how long the oldest event that a projection knows of and has not committed is recorded.",
    (PROJECTION,),
)
PROJECTION_PARKED_KEYS: Final = Metric(
    "touchline.projection.parked_keys",
    "gauge",
    "{key}",
    "Customers whose events a projection could not fold and has set aside.",
    (PROJECTION,),
)
PROJECTION_STATES: Final = Metric(
    "touchline.projection.state",
    "gauge",
    "{projection}",
    "1 for the state that a projection is in, 0 for the others, from each process that may run it.",
    (PROJECTION, PROJECTION_STATE),
)
PROJECTION_EVENTS: Final = Metric(
    "touchline.projection.events",
    "counter",
    "{event}",
    "Events that a projection folded and committed.",
    (PROJECTION,),
)
VISIBLE_AFTER: Final = Metric(
    "touchline.projection.visible.duration",
    "histogram",
    "s",
    "Time from recording until readers see it, of the newest event of each committed batch.",
    (PROJECTION, PROJECTION_STATE),
    _DELAY_SECONDS,
)
OUTBOX_SIZE: Final = Metric(
    "touchline.outbox.size",
    "gauge",
    "{decision}",
    "Decisions that are not on the line, from the process that sends them.",
    (OUTBOX_STATE,),
)
OUTBOX_AGE: Final = Metric(
    "touchline.outbox.age",
    "gauge",
    "s",
    "For how long the oldest decision has been waiting to be appended.",
)

DELIVERIES: Final = Metric(
    "touchline.notification.deliveries",
    "counter",
    "{attempt}",
    "Attempts to deliver a notification, by what became of them.",
    (DELIVERY_CHANNEL, DELIVERY_OUTCOME),
)
DELIVERY_DURATION: Final = Metric(
    "touchline.notification.delivery.duration",
    "histogram",
    "s",
    "Time from claiming a delivery until its outcome is written down.",
    (DELIVERY_CHANNEL, DELIVERY_OUTCOME),
    (*_CALL_SECONDS, 30.0),
)
DELIVERIES_WAITING: Final = Metric(
    "touchline.notification.delivery.waiting",
    "gauge",
    "{delivery}",
    "Deliveries that have not ended, from each process that delivers: the same in all.",
    (DELIVERY_CHANNEL,),
)
DELIVERIES_OVERDUE: Final = Metric(
    "touchline.notification.delivery.overdue",
    "gauge",
    "s",
    "For how long the oldest delivery that is due has been waiting, 0 if none is.",
    (DELIVERY_CHANNEL,),
)
EXPECTATIONS_OPEN: Final = Metric(
    "touchline.notification.expectations.open",
    "gauge",
    "{expectation}",
    "Expectations that are open, from the process that watches deadlines.",
)
EXPECTATIONS_OVERDUE: Final = Metric(
    "touchline.notification.expectations.overdue",
    "gauge",
    "s",
    "For how long the oldest deadline has passed without a decision, 0 if none has.",
)
EXPECTATIONS_RESOLVED: Final = Metric(
    "touchline.notification.expectations.resolved",
    "counter",
    "{expectation}",
    "Expectations that ended or changed, by how; nothing of the past.",
    (EXPECTATION_OUTCOME,),
)
RULES_EVALUATED: Final = Metric(
    "touchline.notification.rules.evaluated",
    "counter",
    "{evaluation}",
    "Rules that judged an event, by what they made of it; nothing of the past.",
    (RULE_VERDICT,),
)

METRICS: Final = (
    *(CALL_DURATION, SEND_DURATION, PROCESS_DURATION, VERDICTS),
    *(APPEND_DURATION, APPEND_EVENTS, APPEND_QUEUE),
    *(HEAD_POSITION, RELAY_POSITION, RELAY_LEADER),
    *(PROJECTION_POSITION, PROJECTION_LAG, PROJECTION_LAG_TIME),
    *(PROJECTION_PARKED_KEYS, PROJECTION_STATES, PROJECTION_EVENTS, VISIBLE_AFTER),
    *(OUTBOX_SIZE, OUTBOX_AGE),
    *(DELIVERIES, DELIVERY_DURATION, DELIVERIES_WAITING, DELIVERIES_OVERDUE),
    *(EXPECTATIONS_OPEN, EXPECTATIONS_OVERDUE, EXPECTATIONS_RESOLVED, RULES_EVALUATED),
)
"""The metrics that the services make."""

_COMPONENT: Final = ("otel.component.type", "otel.component.name", ERROR_TYPE)

SDK_METRICS: Final = (
    Metric(
        "otel.sdk.processor.span.processed",
        "counter",
        "{span}",
        "Spans handed to the exporter; with `error.type` `queue_full` those that were dropped.",
        _COMPONENT,
    ),
    Metric(
        "otel.sdk.exporter.span.exported",
        "counter",
        "{span}",
        "Spans exported; with `error.type` those that the receiver did not take.",
        (*_COMPONENT, "server.address", "server.port"),
    ),
)
"""The metrics of the OpenTelemetry SDK itself that tell whether spans are lost."""

_MESSAGING_SPAN: Final = (*_MESSAGING, MESSAGING_OPERATION_TYPE, MESSAGING_COUNT)

SPANS: Final = (
    SpanKindOf(
        "<rpc.method>",
        "SERVER",
        "A call, under the caller's span; on NATS only where the caller has one. Of "
        "`StreamEvents`, which may last for days, each batch has one.",
        (RPC_SYSTEM, RPC_METHOD, RPC_STATUS, ERROR_TYPE),
    ),
    SpanKindOf(
        "append_events",
        "CLIENT",
        "One append to the store; linked to the calls whose events are in it.",
        (DATABASE_SYSTEM, DATABASE_PROCEDURE, DATABASE_BATCH, APPEND_REQUESTS, ERROR_TYPE),
    ),
    SpanKindOf(
        "send <subject>",
        "PRODUCER",
        "One batch on its way to the feed, linked to the calls whose events are in it; or "
        "decisions on their way to the store, linked to the fold that decided.",
        _MESSAGING_SPAN,
    ),
    SpanKindOf(
        "process <subject>",
        "CONSUMER",
        "One projection folds a batch; linked to the `send` spans and the calls of its events.",
        (*_MESSAGING_SPAN, PROJECTION),
    ),
    SpanKindOf(
        "deliver <touchline.notification.channel>",
        "CLIENT",
        "One attempt to deliver a notification, under the event that caused it.",
        (DELIVERY_CHANNEL, DELIVERY_OUTCOME, SERVER_ADDRESS, ERROR_TYPE),
    ),
)
"""The sorts of spans that the services make."""
