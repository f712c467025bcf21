"""What the ingestion service tells of itself when metrics are exported."""

from collections import Counter
from collections.abc import Iterable

from libs.eventstore.appender import Appender
from libs.eventstore.feed.relay import Relay
from libs.telemetry import declared, metrics
from libs.telemetry.metrics import Reading
from touchline.ingestion.v1.ingestion_pb2 import Outcome
from touchline.store.v1.store_pb2 import AppendOutcome


def readings(appender: Appender, relay: Relay, head: int) -> dict[declared.Metric, Reading]:
    """Return the gauges of the store.

    Args:
        appender: Knows the queue, and where this process's appends ended.
        relay: Knows the feed.
        head: The store's last position at the start.
    """
    return {
        declared.APPEND_QUEUE: lambda: [(appender.queued_events, {})],
        declared.HEAD_POSITION: lambda: [
            (max(head, appender.head_position, relay.state.position), {})
        ],
        declared.RELAY_POSITION: lambda: [(relay.state.position, {})] if relay.state.leads else [],
        declared.RELAY_LEADER: lambda: [(int(relay.state.leads), {})],
    }


def count_recorded(outcomes: Iterable[Outcome.ValueType]) -> None:
    """Count the verdicts that a caller got."""
    if metrics.is_exporting():
        for outcome, count in Counter(outcomes).items():
            name = Outcome.Name(outcome).removeprefix("OUTCOME_").lower()
            metrics.add(declared.VERDICTS, count, {declared.VERDICT: name})


def count_appended(outcomes: Iterable[AppendOutcome.ValueType]) -> None:
    """Count the verdicts that another service got."""
    if metrics.is_exporting():
        for outcome, count in Counter(outcomes).items():
            name = AppendOutcome.Name(outcome).removeprefix("APPEND_OUTCOME_").lower()
            metrics.add(declared.VERDICTS, count, {declared.VERDICT: name})
