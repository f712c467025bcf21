"""The rules an event must keep, and what is said of one that does not.

The limits are those of the comments in touchline.events.v1. Descriptions never repeat a value: they
are kept, listed and logged.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from libs.identity.keys import Identified, IdentityKeys, owner_first
from libs.identity.normalise import IdentityError
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.events.v1.event_pb2 import Event

Violation = tuple[str, str]

MAX_EVENT_BYTES: Final = 256 * 1024
MAX_IDENTITIES: Final = 16
MAX_AHEAD_SECONDS: Final = 24 * 3600
_MAX_NANOS: Final = 999_999_999

_UUID: Final = re.compile(
    "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
)
_CURRENCY: Final = re.compile("[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class _Text:
    """A text field: its name, its longest length in characters, and whether it must be there."""

    name: str
    limit: int
    required: bool = False


_EVENT_TEXTS: Final = (
    _Text("source", 128, required=True),
    _Text("conversation_id", 256),
    _Text("correlation_id", 256),
)
_CONTEXT_TEXTS: Final = (
    _Text("device", 256),
    _Text("app", 256),
    _Text("locale", 64),
    _Text("time_zone", 64),
    _Text("campaign", 256),
)
_FACT_TEXTS: Final[dict[str, tuple[_Text, ...]]] = {
    "interaction": (
        _Text("network", 128),
        _Text("title", 1000),
        _Text("text", 65_536),
        _Text("intent", 128),
    ),
    "community_posted": (
        _Text("community", 256, required=True),
        _Text("title", 1000),
        _Text("text", 65_536),
    ),
    "order_changed": (_Text("order_id", 256, required=True),),
    "product_used": (_Text("product", 256, required=True), _Text("feature", 256)),
    "case_changed": (
        _Text("case_id", 256, required=True),
        _Text("subject", 1000),
        _Text("priority", 64),
    ),
    "campaign_touched": (_Text("campaign", 256, required=True),),
    "consent_changed": (_Text("purpose", 256, required=True), _Text("proof", 1000)),
    "traits_observed": (),
    "note_added": (_Text("text", 65_536, required=True),),
    "signal_observed": (_Text("kind", 128, required=True), _Text("text", 4096)),
    "expectation_set": (
        _Text("expectation_id", 256, required=True),
        _Text("promise", 1000, required=True),
    ),
    "expectation_resolved": (
        _Text("expectation_id", 256, required=True),
        _Text("reason", 4096),
    ),
    "event_retracted": (_Text("reason", 1000),),
}


def identify(event: Event, keys: IdentityKeys) -> tuple[tuple[Identified, ...], list[Violation]]:
    """Return whom an event concerns, its owner first, and what is wrong with its identities."""
    count = len(event.identities)
    if not 1 <= count <= MAX_IDENTITIES:
        return (), [("identities", f"has {count} entries; give 1 to {MAX_IDENTITIES}")]
    found, violations = [], []
    for index, identity in enumerate(event.identities):
        try:
            found.append(keys.identify(identity))
        except IdentityError as error:
            violations.append((f"identities[{index}].{error.field}", error.description))
    return (() if violations else owner_first(found)), violations


def violations_of(event: Event, tenant: str, now_us: int) -> list[Violation]:
    """Return every rule that an event breaks, apart from those of its identities.

    Args:
        event: The event as its caller sent it.
        tenant: The name of the call's tenant.
        now_us: The store's clock, in microseconds since 1970.
    """
    fact_name = event.WhichOneof("fact")
    violations = [*_envelope(event, tenant, now_us)]
    if event.HasField("context"):
        violations += _context(event.context)
    if fact_name is None:
        violations.append(("fact", "is missing, or of a kind this release does not know"))
        return violations
    fact = getattr(event, fact_name)
    violations += _texts(fact, _FACT_TEXTS[fact_name], f"{fact_name}.")
    if check := _FACT_RULES.get(fact_name):
        violations += [(f"{fact_name}.{field}", said) for field, said in check(fact)]
    return violations


def _envelope(event: Event, tenant: str, now_us: int) -> Iterator[Violation]:
    if not _UUID.fullmatch(event.event_id):
        yield "event_id", "is not a UUID; make one, best a UUIDv7, and send it again on a retry"
    if event.tenant and event.tenant != tenant:
        yield "tenant", "is not the call's tenant; leave it empty or send the call as that tenant"
    if event.causation_id and not _UUID.fullmatch(event.causation_id):
        yield "causation_id", "is not a UUID; give the event_id of the cause or leave it empty"
    yield from _texts(event, _EVENT_TEXTS, "")
    if len(event.actor.reference) > 128:
        yield "actor.reference", "is longer than 128 characters; shorten it"
    yield from _known(event.actor.kind, event_pb2.ActorKind, "actor.kind", required=False)
    if not event.HasField("occurred_at"):
        yield "occurred_at", "is missing; say when it happened"
    else:
        yield from _occurred(event.occurred_at.seconds, event.occurred_at.nanos, now_us)
    if event.ByteSize() > MAX_EVENT_BYTES:
        yield "", f"the event has more than {MAX_EVENT_BYTES} bytes; shorten its texts or split it"


def _occurred(seconds: int, nanos: int, now_us: int) -> Iterator[Violation]:
    if seconds < 0:
        yield "occurred_at", "is before 1970; check its unit, it is in seconds"
    elif seconds * 1_000_000 > now_us + MAX_AHEAD_SECONDS * 1_000_000:
        yield "occurred_at", "is more than 24 hours ahead; check the sender's clock and the unit"
    if not 0 <= nanos <= _MAX_NANOS:
        yield "occurred_at", "has nanos outside 0 to 999,999,999"


def _context(context: event_pb2.Context) -> Iterator[Violation]:
    yield from _texts(context, _CONTEXT_TEXTS, "context.")
    if context.HasField("location"):
        place = context.location
        if not -90 <= place.latitude <= 90:
            yield "context.location.latitude", "is outside -90 to 90 degrees"
        if not -180 <= place.longitude <= 180:
            yield "context.location.longitude", "is outside -180 to 180 degrees"
        yield from _texts(place, (_Text("name", 256),), "context.location.")


def _texts(message: Any, texts: tuple[_Text, ...], path: str) -> Iterator[Violation]:
    for text in texts:
        length = len(getattr(message, text.name))
        if length > text.limit:
            yield path + text.name, f"has {length:,} characters; at most {text.limit:,} are allowed"
        elif text.required and not length:
            yield path + text.name, "is missing"


def _known(value: int, enum: Any, field: str, *, required: bool) -> Iterator[Violation]:
    if value not in _numbers(enum):
        yield field, f"has the number {value}, which {enum.DESCRIPTOR.name} does not know"
    elif required and not value:
        yield field, f"is missing; give one of {enum.DESCRIPTOR.name}"


_NUMBERS: Final[dict[str, frozenset[int]]] = {}


def _numbers(enum: Any) -> frozenset[int]:
    name = enum.DESCRIPTOR.name
    if name not in _NUMBERS:
        _NUMBERS[name] = frozenset(enum.values())
    return _NUMBERS[name]


def _reference(value: str, field: str) -> Iterator[Violation]:
    if value and not _UUID.fullmatch(value):
        yield field, "is not a UUID; give an event_id or leave it empty"


def _money(money: facts_pb2.Money, field: str) -> Iterator[Violation]:
    if not _CURRENCY.fullmatch(money.currency_code):
        yield f"{field}.currency_code", "is not a code of ISO 4217, such as EUR"


def _time(timestamp: Any, field: str) -> Iterator[Violation]:
    if timestamp.seconds < 0 or not 0 <= timestamp.nanos <= _MAX_NANOS:
        yield field, "is before 1970, or its nanos are outside 0 to 999,999,999"


def _interaction(fact: facts_pb2.Interaction) -> Iterator[Violation]:
    yield from _known(fact.channel, facts_pb2.Channel, "channel", required=True)
    yield from _known(fact.direction, facts_pb2.Direction, "direction", required=True)
    yield from _known(fact.visibility, facts_pb2.Visibility, "visibility", required=False)
    yield from _reference(fact.in_reply_to, "in_reply_to")
    if len(fact.participants) > 64:
        yield "participants", "has more than 64 entries"
    if any(len(participant) > 128 for participant in fact.participants):
        yield "participants", "has an entry of more than 128 characters"


def _community(fact: facts_pb2.CommunityPosted) -> Iterator[Violation]:
    yield from _reference(fact.in_reply_to, "in_reply_to")


def _order(fact: facts_pb2.OrderChanged) -> Iterator[Violation]:
    yield from _known(fact.status, facts_pb2.OrderStatus, "status", required=False)
    yield from _known(fact.channel, facts_pb2.Channel, "channel", required=False)
    if fact.HasField("amount"):
        yield from _money(fact.amount, "amount")
    if fact.HasField("promised_at"):
        yield from _time(fact.promised_at, "promised_at")
    if len(fact.items) > 500:
        yield "items", "has more than 500 entries"
    for index, item in enumerate(fact.items):
        path = f"items[{index}]."
        yield from _texts(item, (_Text("sku", 256), _Text("name", 1000)), path)
        if item.HasField("unit_price"):
            yield from _money(item.unit_price, f"{path}unit_price")


def _case(fact: facts_pb2.CaseChanged) -> Iterator[Violation]:
    yield from _known(fact.status, facts_pb2.CaseStatus, "status", required=False)


def _campaign(fact: facts_pb2.CampaignTouched) -> Iterator[Violation]:
    yield from _known(fact.action, facts_pb2.CampaignAction, "action", required=True)
    yield from _known(fact.channel, facts_pb2.Channel, "channel", required=False)


def _consent(fact: facts_pb2.ConsentChanged) -> Iterator[Violation]:
    yield from _known(fact.status, facts_pb2.ConsentStatus, "status", required=True)
    yield from _known(fact.channel, facts_pb2.Channel, "channel", required=False)


def _traits(fact: facts_pb2.TraitsObserved) -> Iterator[Violation]:
    if not 1 <= len(fact.traits) <= 64:
        yield "traits", f"has {len(fact.traits)} entries; give 1 to 64"
    if any(not 1 <= len(name) <= 128 for name in fact.traits):
        yield "traits", "has a name that is empty or longer than 128 characters"
    if any(len(value) > 4096 for value in fact.traits.values()):
        yield "traits", "has a value of more than 4,096 characters"


def _expectation_set(fact: facts_pb2.ExpectationSet) -> Iterator[Violation]:
    if not fact.HasField("due_at"):
        yield "due_at", "is missing; say until when"
    else:
        yield from _time(fact.due_at, "due_at")


def _expectation_resolved(fact: facts_pb2.ExpectationResolved) -> Iterator[Violation]:
    yield from _known(fact.outcome, facts_pb2.ExpectationOutcome, "outcome", required=True)
    renegotiated = fact.outcome == facts_pb2.EXPECTATION_OUTCOME_RENEGOTIATED
    if renegotiated != fact.HasField("due_at"):
        yield "due_at", "is required when renegotiated, and must be empty otherwise"
    elif renegotiated:
        yield from _time(fact.due_at, "due_at")


def _retraction(fact: facts_pb2.EventRetracted) -> Iterator[Violation]:
    if not _UUID.fullmatch(fact.event_id):
        yield "event_id", "is not a UUID; give the event_id of the event that no longer counts"


_FACT_RULES: Final[dict[str, Callable[[Any], Iterator[Violation]]]] = {
    "interaction": _interaction,
    "community_posted": _community,
    "order_changed": _order,
    "case_changed": _case,
    "campaign_touched": _campaign,
    "consent_changed": _consent,
    "traits_observed": _traits,
    "expectation_set": _expectation_set,
    "expectation_resolved": _expectation_resolved,
    "event_retracted": _retraction,
}
