"""The rules of aggregates' events, which Touchline's own services append over NATS.

A stream and its events' owner are the same thing, so neither can be forged or mixed up alone: the
stream's id is the key of its one identity, and the version is sealed with the event.
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
    fact: AggregateChanged | AggregateSnapshot, owner_key: bytes, stream_id: bytes, version: int
) -> list[Violation]:
    """Return what is wrong with the place in a stream that an aggregate's event is to have."""
    found: Violations = []
    changed = isinstance(fact, AggregateChanged)
    if stream_id != (changes_stream if changed else snapshots_stream)(owner_key):
        found.append(("stream_id", "is not the stream that the event's identity names"))
    if version != fact.version:
        found.append(("stream_version", "is not the version that the event says"))
    return found


def _changed(fact: AggregateChanged, found: Violations) -> None:
    check_texts(fact, _TEXTS, "aggregate_changed.", found)


def _snapshot(fact: AggregateSnapshot, found: Violations) -> None:
    check_texts(fact, _TEXTS, "aggregate_snapshot.", found)


AGGREGATE_RULES: Final[Mapping[str, Rule]] = {
    "aggregate_changed": _changed,
    "aggregate_snapshot": _snapshot,
}
"""By the name of the field of `Event.fact`."""
