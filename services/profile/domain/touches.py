"""The touches of a profile, made ready for a fold: retracted ones out, masked, in one order.

Every view starts here, so none depends on the order of arrival or on what was delivered twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from services.profile.domain.field_policy import FieldPolicy, mask
from touchline.events.v1 import event_pb2

_TYPES = {
    one.name: cast("event_pb2.EventType.ValueType", one.number)
    for one in event_pb2.Event.DESCRIPTOR.oneofs_by_name["fact"].fields
}


@dataclass(frozen=True, slots=True)
class Touch:
    """One opened event of a profile, with what the store says of it.

    Attributes:
        position: Its place in the store.
        recorded_at_us: When the store accepted it, in microseconds since 1970.
        occurred_at_us: When it happened, in microseconds since 1970.
        event: The event, opened; views see none of its identities, which may have stayed sealed.
            Without a fact when its data key was erased.
        event_id: The event's UUID, 16 bytes.
        type: The type of its fact, also when that was erased. Folds go by the event.
        owner_key: The identity that owns it. Only its own events can be retracted by it.
    """

    position: int
    recorded_at_us: int
    occurred_at_us: int
    event: event_pb2.Event
    event_id: bytes
    type: event_pb2.EventType.ValueType = event_pb2.EVENT_TYPE_UNSPECIFIED
    owner_key: bytes = b""


@dataclass(frozen=True, slots=True)
class Seen:
    """One touch as a view may know it.

    Attributes:
        at_us: When it happened, in microseconds since 1970.
        event_id: The event's UUID, 16 bytes.
        type: The type of its fact.
        event: What the view's policy allows of the event.
    """

    at_us: int
    event_id: bytes
    type: event_pb2.EventType.ValueType
    event: event_pb2.Event


def order(seen: Seen) -> tuple[int, bytes]:
    """The one order of all folds: by time, then by id, so that a tie has the same winner always."""
    return seen.at_us, seen.event_id


def see(touches: Iterable[Touch], policy: FieldPolicy) -> tuple[Seen, ...]:
    """Makes touches ready for a fold, in `order`.

    A retraction is final: it removes its target whether it arrives before or after it, and can't
    itself be retracted. What was retracted by mistake is recorded again under a new id.

    Args:
        touches: Events of one profile in any order, any of them more than once.
        policy: What the view may see.
    """
    counted: dict[bytes, Touch] = {}
    retracted: set[tuple[bytes, bytes | None]] = set()
    for touch in touches:
        event = touch.event
        if event.HasField("event_retracted"):
            retracted.add((touch.owner_key, id_bytes(event.event_retracted.event_id)))
        elif policy.admits(event):
            counted[touch.event_id] = touch
    seen = [
        _seen(touch, policy)
        for touch in counted.values()
        if (touch.owner_key, touch.event_id) not in retracted
    ]
    return tuple(sorted(seen, key=order))


def _seen(touch: Touch, policy: FieldPolicy) -> Seen:
    masked = mask(touch.event, policy)
    return Seen(
        at_us=touch.occurred_at_us,
        event_id=touch.event_id,
        type=_TYPES[cast("str", masked.WhichOneof("fact"))],
        event=masked,
    )


def of_type(history: Sequence[Seen], *types: event_pb2.EventType.ValueType) -> list[Seen]:
    """The touches of some types, in the order they have."""
    return [seen for seen in history if seen.type in types]


def id_bytes(event_id: str) -> bytes | None:
    """The 16 bytes of an event id in another event, or nothing when it is no UUID."""
    try:
        return UUID(event_id).bytes
    except ValueError:
        return None


def timestamp(at_us: int) -> Timestamp:
    """The protobuf form of a time in microseconds since 1970."""
    return Timestamp(seconds=at_us // 1_000_000, nanos=at_us % 1_000_000 * 1000)
