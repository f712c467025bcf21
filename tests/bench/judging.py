"""How fast the notification service catches up, judges, and fills inboxes."""

import time
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from tests.bench import ingest
from tests.bench.beside import BesideCopy
from tests.bench.events import crm_identity
from tests.bench.figures import median_figure
from tests.bench.folding import Folded, folded
from tests.bench.report import Report
from tests.bench.rules import DESCRIPTION
from tests.bench.scale import Scale
from tests.bench.stage import Stage
from touchline.events.v1.decisions_pb2 import (
    CHANNEL_VERDICT_CHOSEN,
    NOTIFICATION_CHANNEL_INBOX,
    NOTIFICATION_KIND_ALERT,
    ConsideredChannel,
    NotificationDecided,
    NotificationRecipient,
)
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Actor, Event
from touchline.store.v1.store_pb2 import AppendEvent, AppendRequest, AppendUnit

_KNOWLEDGE: Final = ("identity_graph", "timeline", "consents")
_YOUNG_SECONDS: Final = 12 * 3600
_APPENDED_AT_ONCE: Final = 500


async def measure(report: Report, stage: Stage, ingestion: str, scale: Scale, head: int) -> None:
    """Judge a history, then young events; then fold what was decided about as many customers."""
    report.heading(f"The reactor `rules`, alone, from position 0 to {head:,}", DESCRIPTION)
    await _know(stage)
    await _catch_up(report, stage, scale)
    await _judge(report, stage, ingestion, scale, head)
    report.heading("The projection `notifications`, alone")
    await _notify(report, stage, scale)


async def _know(stage: Stage) -> None:
    """Bring up to the head what rules ask."""
    for projection in _KNOWLEDGE:
        await folded(stage, "notification", projection, anew=False)


async def _catch_up(report: Report, stage: Stage, scale: Scale) -> None:
    folds: list[Folded] = []
    with report.progress("rounds", scale.rounds) as advance:
        for number in range(scale.rounds):
            folds.append(await folded(stage, "notification", "rules"))
            advance(number + 1)
    _add(report, "rules_catching_up", folds, "a year's events; only the last day's are judged")


async def _judge(report: Report, stage: Stage, ingestion: str, scale: Scale, head: int) -> None:
    folds: list[Folded] = []
    with report.progress("rounds", scale.rounds) as advance:
        for number in range(scale.rounds):
            head, _, _ = await ingest.send(
                *(ingestion, scale, 1000, 8000 + number, head),
                events=scale.judged,
                span_seconds=_YOUNG_SECONDS,
            )
            await _know(stage)
            folds.append(await folded(stage, "notification", "rules", anew=False))
            advance(number + 1)
    _add(report, "rules_judging", folds, f"{scale.judged:,} events of the last 12 hours")


def _add(report: Report, name: str, folds: Sequence[Folded], events: str) -> None:
    last = folds[-1]
    note = f"{events}; {last.rows:,} decisions; {last.cost}"
    speeds = [fold.speed for fold in folds]
    report.add(median_figure(name, speeds, "events/s", note, last.cores))


async def _notify(report: Report, stage: Stage, scale: Scale) -> None:
    await folded(stage, "notification", "notifications")
    notifications = BesideCopy(stage, "notification", "notifications", "notifications")
    with report.progress("rounds", scale.rounds) as advance:
        for number in range(scale.rounds):
            await _append_decisions(stage, scale)
            await notifications.run(anew=False)
            advance(number + 1)
    notifications.report(report, "notifications_vs_copy", "history, opening each decision")


async def _append_decisions(stage: Stage, scale: Scale) -> None:
    """Put decisions onto the line as a sender does."""
    async with connect_nats(stage.servers.nats_service_url, "bench") as nats:
        store = StoreClient(nats)
        for start in range(0, scale.notified, _APPENDED_AT_ONCE):
            numbers = range(start, min(start + _APPENDED_AT_ONCE, scale.notified))
            decided = [_decision(number % scale.customers) for number in numbers]
            units = [AppendUnit(events=[AppendEvent(event=event)]) for event in decided]
            await store.append(AppendRequest(tenant="default", units=units))


def _decision(customer: int) -> Event:
    event = Event(
        event_id=str(uuid4()),
        identities=[crm_identity(customer)],
        source="notification",
        actor=Actor(kind=ACTOR_KIND_SYSTEM, reference="notification"),
        causation_id=str(uuid4()),
        notification_decided=NotificationDecided(
            rule="social-in-says",
            rule_version=1,
            recipient=NotificationRecipient(reference="team:care"),
            kind=NOTIFICATION_KIND_ALERT,
            title="interaction from bench",
            text="The customer complains on social media, and says that a lawyer will write to us.",
            reason="It is so",
            considered=[
                ConsideredChannel(
                    channel=NOTIFICATION_CHANNEL_INBOX, verdict=CHANNEL_VERDICT_CHOSEN
                )
            ],
            rules=["social-in-says"],
        ),
    )
    event.occurred_at.FromNanoseconds(time.time_ns())
    return event
