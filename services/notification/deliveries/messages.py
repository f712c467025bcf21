"""What a notification says, in the words of the channels that carry it."""

from datetime import UTC, datetime

from services.notification.deliveries.claims import Claim
from services.notification.deliveries.outcomes import Message
from touchline.events.v1.decisions_pb2 import (
    NOTIFICATION_KIND_TASK,
    DeliveryOutcome,
    NotificationChannel,
)
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import Identity


def message_of(claim: Claim, event: Event) -> Message:
    """Return a notification as channels send it; the same for every attempt."""
    decided = event.notification_decided
    at = datetime.fromtimestamp(claim.recorded_at_us // 1_000_000, UTC)
    return Message(
        notification_id=str(claim.notification_id),
        kind="task" if decided.kind == NOTIFICATION_KIND_TASK else "alert",
        title=decided.title,
        text=decided.text,
        reason=decided.reason,
        values=tuple((one.name, one.value) for one in decided.values),
        cause_event_id=event.causation_id,
        decided_at=f"{at:%Y-%m-%dT%H:%M:%SZ}",
    )


def identities_of(event: Event) -> list[Identity]:
    """Return the identities of an opened event as an event that follows from it names them.

    One that was erased has no value any more, and is left out.
    """
    return [
        Identity(kind=one.kind, namespace=one.namespace, value=one.value)
        for one in event.identities
        if one.value
    ]


def channel_name(channel: NotificationChannel.ValueType) -> str:
    """Return a channel as telemetry names it, such as `email`."""
    return NotificationChannel.Name(channel).removeprefix("NOTIFICATION_CHANNEL_").lower()


def outcome_name(outcome: DeliveryOutcome.ValueType) -> str:
    """Return an outcome as telemetry names it, such as `sent`."""
    return DeliveryOutcome.Name(outcome).removeprefix("DELIVERY_OUTCOME_").lower()
