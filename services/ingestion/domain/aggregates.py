"""The rules of aggregates' events, which Touchline's own services append over NATS.

A stream's id is the key of its events' one identity, so nobody mixes up two streams unnoticed.
"""

from collections.abc import Mapping
from typing import Final

from libs.identity.keys import Identified, IdentityKeys
from libs.identity.normalise import IdentityError
from libs.identity.streams import changes_stream, snapshots_stream
from services.ingestion.domain.facts import Rule
from services.ingestion.domain.rules import Violation, Violations, check_texts, text
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import AggregateChanged, AggregateSnapshot
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_STREAM

_TEXTS: Final = (text("topic", 512, required=True),)


def of_aggregate(event: Event) -> AggregateChanged | AggregateSnapshot | None:
    """Return the fact of an aggregate's event; None for any other event."""
    match event.WhichOneof("fact"):
        case "aggregate_changed":
            return event.aggregate_changed
        case "aggregate_snapshot":
            return event.aggregate_snapshot
        case _:
            return None


def identify_stream(
    event: Event, keys: IdentityKeys
) -> tuple[tuple[Identified, ...], list[Violation]]:
    """Return the stream of an aggregate's event, and what is wrong with its identities."""
    if [identity.kind for identity in event.identities] != [IDENTITY_KIND_STREAM]:
        return (), [("identities", "must be one, the aggregate's stream")]
    try:
        return (keys.identify(event.identities[0]),), []
    except IdentityError as error:
        return (), [(f"identities[0].{error.field}", error.description)]


def place_violations(
    fact: AggregateChanged | AggregateSnapshot, owner_key: bytes, stream_id: bytes
) -> list[Violation]:
    """Return what is wrong with the stream that an aggregate's event is to be in."""
    stream_of = changes_stream if isinstance(fact, AggregateChanged) else snapshots_stream
    if stream_id == stream_of(owner_key):
        return []
    return [("stream_id", "is not the stream that the event's identity names")]


def _changed(fact: AggregateChanged, found: Violations) -> None:
    check_texts(fact, _TEXTS, "aggregate_changed.", found)


def _snapshot(fact: AggregateSnapshot, found: Violations) -> None:
    check_texts(fact, _TEXTS, "aggregate_snapshot.", found)


AGGREGATE_RULES: Final[Mapping[str, Rule]] = {
    "aggregate_changed": _changed,
    "aggregate_snapshot": _snapshot,
}
"""By the name of the field of `Event.fact`."""
