"""The rules of an event apart from those of its fact, and of its identities."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from libs.identity.keys import Identified, IdentityKeys, owner_first
from libs.identity.normalise import IdentityError
from services.ingestion.domain.facts import CALLER_RULES, Rule
from services.ingestion.domain.rules import (
    Violation,
    Violations,
    check_choices,
    check_nanos,
    check_texts,
    choice,
    is_uuid,
    known,
    text,
)
from touchline.events.v1 import event_pb2
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_STREAM

MAX_EVENT_BYTES: Final = 256 * 1024
MAX_IDENTITIES: Final = 16
MAX_AHEAD_SECONDS: Final = 24 * 3600
MAX_VIOLATIONS: Final = 20
"""How many are told of one event: enough to correct it, and an answer stays small."""

_MOST_NAMED: Final = 1000
_LAST_SECOND: Final = 2**40

_EVENT: Final = (
    text("source", 128, required=True),
    text("conversation_id", 256),
    text("correlation_id", 256),
)
_ACTOR: Final = (text("reference", 128),)
_ACTOR_CHOICES: Final = (choice("kind", known(event_pb2.ActorKind)),)
_CONTEXT: Final = (
    text("device", 256),
    text("app", 256),
    text("locale", 64),
    text("time_zone", 64),
    text("campaign", 256),
)
_LOCATION: Final = (text("name", 256),)


def identify(event: Event, keys: IdentityKeys) -> tuple[tuple[Identified, ...], list[Violation]]:
    """Return whom an event concerns, its owner first, and what is wrong with its identities."""
    identities = event.identities
    count = len(identities)
    if not 1 <= count <= MAX_IDENTITIES:
        return (), [("identities", f"has {count} entries; give 1 to {MAX_IDENTITIES}")]
    try:
        if count > 1:
            return owner_first([keys.identify(identity) for identity in identities]), []
        alone = keys.identify(identities[0])
        if alone.kind != IDENTITY_KIND_STREAM:
            return (alone,), []
    except ValueError:  # an identity can't be used, or one of several is a stream
        pass
    return (), _identity_violations(event, keys)


def named_keys(event: Event, keys: IdentityKeys) -> list[bytes]:
    """Return the keys of those of an event's first 1,000 identities that can be used."""
    found: dict[bytes, None] = {}
    for identity in event.identities[:_MOST_NAMED]:
        with suppress(IdentityError):
            found[keys.identify(identity).key] = None
    return list(found)


def occurred_at_us(event: Event) -> int | None:
    """Return when an event says that it happened, in microseconds since 1970; None if it does not.

    Nor does a time that no clock tells.
    """
    time = event.occurred_at
    usable = event.HasField("occurred_at") and 0 <= time.seconds < _LAST_SECOND
    return time.seconds * 1_000_000 + time.nanos // 1000 if usable else None


def violations_of(
    event: Event, tenant: str, now_us: int, rules: Mapping[str, Rule] = CALLER_RULES
) -> list[Violation]:
    """Return the rules that an event breaks, apart from those of its identities; at most 20.

    Args:
        event: The event as its caller sent it.
        tenant: The name of the call's tenant.
        now_us: The store's clock, in microseconds since 1970.
        rules: Those of each fact. Default: what holds for callers.
    """
    found: Violations = []
    _check_envelope(event, tenant, found)
    _check_occurred_at(event, now_us, found)
    if event.HasField("actor"):
        check_texts(event.actor, _ACTOR, "actor.", found)
        check_choices(event.actor, _ACTOR_CHOICES, "actor.", found)
    if event.HasField("context"):
        _check_context(event.context, found)
    fact_name = event.WhichOneof("fact")
    if fact_name is None:
        found.append(("fact", "is missing, or of a kind this release does not know"))
    else:
        rules[fact_name](getattr(event, fact_name), found)
    return found[:MAX_VIOLATIONS]


def _identity_violations(event: Event, keys: IdentityKeys) -> Violations:
    found: Violations = []
    for index, identity in enumerate(event.identities):
        if identity.kind == IDENTITY_KIND_STREAM:
            told = "names an aggregate of Touchline's own; give an identity of the customer"
            found.append((f"identities[{index}].kind", told))
            continue
        try:
            keys.identify(identity)
        except IdentityError as error:
            found.append((f"identities[{index}].{error.field}", error.description))
    return found


def _check_envelope(event: Event, tenant: str, found: Violations) -> None:
    if not is_uuid(event.event_id):
        told = "is not a UUID; make one, best a UUIDv7, and send it again on a retry"
        found.append(("event_id", told))
    if event.tenant and event.tenant != tenant:
        told = "is not the call's tenant; leave it empty or send the call as that tenant"
        found.append(("tenant", told))
    if event.causation_id and not is_uuid(event.causation_id):
        told = "is not a UUID; give the event_id of the cause or leave it empty"
        found.append(("causation_id", told))
    check_texts(event, _EVENT, "", found)
    size = event.ByteSize()
    if size > MAX_EVENT_BYTES:
        told = f"the event has {size:,} bytes and may have {MAX_EVENT_BYTES:,}; shorten or split it"
        found.append(("", told))


def _check_occurred_at(event: Event, now_us: int, found: Violations) -> None:
    if not event.HasField("occurred_at"):
        found.append(("occurred_at", "is missing; say when it happened"))
        return
    time = event.occurred_at
    seconds = time.seconds
    if seconds < 0:
        found.append(("occurred_at", "is before 1970; check its unit, it is in seconds"))
    elif seconds * 1_000_000 + time.nanos // 1000 > now_us + MAX_AHEAD_SECONDS * 1_000_000:
        told = "is more than 24 hours ahead; check the sender's clock and the unit"
        found.append(("occurred_at", told))
    check_nanos(time, "occurred_at", found)


def _check_context(context: event_pb2.Context, found: Violations) -> None:
    check_texts(context, _CONTEXT, "context.", found)
    if not context.HasField("location"):
        return
    place = context.location
    check_texts(place, _LOCATION, "context.location.", found)
    if not -90 <= place.latitude <= 90:
        found.append(("context.location.latitude", "is outside -90 to 90 degrees"))
    if not -180 <= place.longitude <= 180:
        found.append(("context.location.longitude", "is outside -180 to 180 degrees"))
