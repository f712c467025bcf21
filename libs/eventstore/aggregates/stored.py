"""The library's stored events as events of the line, and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from eventsourcing.persistence import DataError, InternalError, NotSupportedError, StoredEvent

from libs.eventstore.records import event_id_text
from libs.identity.keys import Identified, IdentityKeys
from libs.identity.normalise import IdentityError
from libs.identity.streams import changes_stream, snapshots_stream, stream_identity
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Actor, Event
from touchline.events.v1.facts_pb2 import AggregateChanged, AggregateSnapshot
from touchline.store.v1.store_pb2 import AppendEvent
from touchline.times import timestamp_of
from touchline.uuid7 import uuid7

_UUID: Final = "urn:uuid:"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Purpose(NamedTuple):
    """What a recorder keeps: the fact's field in Event, its message, and its stream."""

    fact: str
    message: type[AggregateChanged | AggregateSnapshot]
    stream_of: Callable[[bytes], bytes]


CHANGES: Final = Purpose("aggregate_changed", AggregateChanged, changes_stream)
SNAPSHOTS: Final = Purpose("aggregate_snapshot", AggregateSnapshot, snapshots_stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What `Application.save` may be told beside the aggregates.

    Attributes:
        causation_id: The event_id of the event that the decision follows from. Default: none.
        occurred_at: When it took effect: its cause's time, with a time zone. Default: now.
        facts: Events of no stream that are recorded in the same unit, all or nothing: what the save
            means to others, in their words. Their event ids are the caller's.
        tracking: The library's; no recorder here can keep it with the events.
    """

    causation_id: str = ""
    occurred_at: datetime | None = None
    facts: Sequence[AppendEvent] = ()
    tracking: object = None

    def __post_init__(self) -> None:
        if self.tracking is not None:
            raise NotSupportedError(
                "tracking can't be saved with events: they are the store's and it is the service's"
            )


def owner_of(keys: IdentityKeys, application: str, originator_id: UUID | str) -> Identified:
    """Return the stream identity of an aggregate.

    Raises:
        DataError: its id can't name a stream.
    """
    if isinstance(originator_id, str) and originator_id.startswith(_UUID):
        raise DataError(f"an aggregate's id may not start with {_UUID}; give the UUID itself")
    name = f"{_UUID}{originator_id}" if isinstance(originator_id, UUID) else originator_id
    try:
        return keys.identify(stream_identity(application, name))
    except IdentityError as error:
        raise DataError(f"an aggregate's id or its application's name {error}") from error


def entry_of(
    stored: StoredEvent, keys: IdentityKeys, application: str, purpose: Purpose, saving: Saving
) -> AppendEvent:
    """Return what to append for a stored event, with an event id of its own.

    Raises:
        DataError: the aggregate's id can't name a stream, or its version is below 0.
    """
    if stored.originator_version < 0:
        raise DataError(f"an aggregate's versions start at 0, not at {stored.originator_version}")
    owner = owner_of(keys, application, stored.originator_id)
    fact = purpose.message(topic=stored.topic, state=stored.state)
    since_1970 = (saving.occurred_at or datetime.now(UTC)) - _EPOCH
    event = Event(
        event_id=uuid7(),
        identities=[stream_identity(owner.canonical_namespace, owner.canonical_value)],
        occurred_at=timestamp_of(since_1970 // _MICROSECOND),
        source=application,
        actor=Actor(kind=ACTOR_KIND_SYSTEM, reference=application),
        causation_id=saving.causation_id,
    )
    getattr(event, purpose.fact).CopyFrom(fact)
    return AppendEvent(
        event=event,
        stream_id=event_id_text(purpose.stream_of(owner.key)),
        stream_version=stored.originator_version,
    )


def stored_of(event: Event, version: int, purpose: Purpose) -> StoredEvent:
    """Return the stored event that an opened event with a version was.

    Raises:
        InternalError: it is none of this purpose.
    """
    if event.WhichOneof("fact") != purpose.fact:
        raise InternalError(f"an event in a stream of {purpose.fact} is another fact")
    fact: AggregateChanged | AggregateSnapshot = getattr(event, purpose.fact)
    name = event.identities[0].value
    return StoredEvent(
        originator_id=UUID(name) if name.startswith(_UUID) else name,
        originator_version=version,
        topic=fact.topic,
        state=fact.state,
    )
