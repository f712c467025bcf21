"""What a record says in the clear: who needs to know what about an event that nobody opens."""

import struct
from hashlib import blake2b
from typing import Final, NamedTuple
from uuid import UUID

from libs.eventstore.errors import SealBroken
from touchline.events.v1.decisions_pb2 import Erasure, IdentityDecision
from touchline.events.v1.event_pb2 import Event, EventType
from touchline.events.v1.facts_pb2 import (
    CHANNEL_APP,
    CHANNEL_COMMUNITY,
    CHANNEL_UNSPECIFIED,
    DIRECTION_INBOUND,
    DIRECTION_OUTBOUND,
    DIRECTION_UNSPECIFIED,
    VISIBILITY_PUBLIC,
    VISIBILITY_UNSPECIFIED,
    Channel,
    Direction,
    Visibility,
)
from touchline.store.v1.store_pb2 import RecordedEvent

_DIGEST_BYTES: Final = 32
_CLEAR: Final = struct.Struct(">H16s16sHBBBqB16sq")
_TYPES: Final[dict[str, EventType.ValueType]] = {
    field.name: field.number  # type: ignore[misc]  # EventType is the field's number
    for field in Event.DESCRIPTOR.oneofs_by_name["fact"].fields
}


class Clear(NamedTuple):
    """What an envelope says in the clear, authenticated with what is sealed."""

    tenant: int
    event_id: bytes
    owner_key: bytes
    type: EventType.ValueType
    channel: Channel.ValueType
    direction: Direction.ValueType
    visibility: Visibility.ValueType
    occurred_at_us: int
    historical: bool
    stream_id: bytes
    stream_version: int
    retracts: bytes
    # What every service folds of a decision about who is who, and of an erasure; None for the rest.
    identity_decision: IdentityDecision | None = None
    erasure: Erasure | None = None


def clear_of(
    tenant: int,
    event_id: bytes,
    owner_key: bytes,
    event: Event,
    stream_id: bytes = b"",
    stream_version: int = 0,
) -> Clear:
    """Return what the envelope of an event says.

    Args:
        tenant: The tenant's number.
        event_id: The event's UUID, 16 bytes.
        owner_key: The owner's identity key, 16 bytes.
        event: The event, which is valid.
        stream_id: Of its decision stream, 16 bytes. Default: it is a fact.
        stream_version: Its version in that stream.
    """
    channel, direction, visibility = (
        CHANNEL_UNSPECIFIED,
        DIRECTION_UNSPECIFIED,
        VISIBILITY_UNSPECIFIED,
    )
    retracts, decision, erasure = b"", None, None
    fact = event.WhichOneof("fact") or ""
    match fact:
        case "interaction":
            contact = event.interaction
            channel, direction = contact.channel, contact.direction
            visibility = contact.visibility
        case "product_used":
            channel = CHANNEL_APP
        case "order_changed":
            channel = event.order_changed.channel
        case "payment_attempted":
            channel = event.payment_attempted.channel
        case "campaign_touched":
            channel, direction = event.campaign_touched.channel, DIRECTION_OUTBOUND
        case "community_posted":
            channel, direction = CHANNEL_COMMUNITY, DIRECTION_INBOUND
            visibility = VISIBILITY_PUBLIC
        case "event_retracted":
            retracts = UUID(event.event_retracted.event_id).bytes
        case "identity_decided":
            decision = event.identity_decided.decision
        case "profile_erased":
            erasure = event.profile_erased.erasure
    occurred = event.occurred_at
    return Clear(
        *(tenant, event_id, owner_key, _TYPES[fact]),
        *(channel, direction, visibility),
        occurred.seconds * 1_000_000 + occurred.nanos // 1000,
        event.historical,
        stream_id,
        stream_version,
        retracts,
        decision,
        erasure,
    )


def clear_in(record: RecordedEvent) -> Clear:
    """Return what a record's envelope says."""
    return Clear(
        *(record.tenant, record.event_id, record.owner_key, record.type),
        *(record.channel, record.direction, record.visibility),
        *(record.occurred_at_us, record.historical),
        record.stream_id,
        record.stream_version,
        record.retracts,
        record.identity_decision if record.HasField("identity_decision") else None,
        record.erasure if record.HasField("erasure") else None,
    )


def authenticated(clear: Clear) -> bytes:
    """Return the bytes that are authenticated with the sealed rest.

    Raises:
        SealBroken: a field is out of its range, so that nothing was ever sealed beside it.
    """
    try:
        packed = _CLEAR.pack(*clear[:11]) + clear.retracts
    except struct.error as error:
        raise SealBroken("a clear field of the record is out of its range") from error
    for folded in (clear.identity_decision, clear.erasure):
        if folded is not None:
            told = folded.SerializeToString(deterministic=True)
            packed += blake2b(told, digest_size=_DIGEST_BYTES).digest()
    return packed
