"""What customers may see of events: the templates of notices to them see nothing else.

It is what the customer's own view shows, and what they did themselves: no notes, no signals, no
scores, no talk within the company, and not which employee it was.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from touchline.events.v1.event_pb2 import Event, EventType

_EVERYTHING: Final = frozenset({"*"})

FACTS: Final[dict[str, frozenset[str]]] = {
    "interaction": frozenset(
        {"channel", "network", "direction", "visibility", "title", "text", "intent"}
    ),
    "community_posted": frozenset({"community", "title", "text"}),
    "order_changed": _EVERYTHING,
    "product_used": _EVERYTHING,
    "consent_changed": _EVERYTHING,
    "preference_changed": frozenset({"purpose", "channel", "status"}),
    "traits_observed": _EVERYTHING,
    "checked_in": _EVERYTHING,
    "payment_attempted": _EVERYTHING,
    "expectation_set": frozenset({"expectation_id", "promise", "due_at"}),
    "expectation_resolved": frozenset({"expectation_id", "promise", "outcome", "due_at"}),
}
"""By type: the fields of its fact, `*` for all. What is not here does not exist for customers."""

_ENVELOPE: Final = frozenset(
    {"id", "type", "at", "source", "channel", "direction", "visibility", "conversation_id"}
    | {"location", "device", "app", "locale", "time_zone"}
)
_THEIR_DIRECTIONS: Final = ("inbound", "outbound")

HIDDEN_TYPES: Final[frozenset[int]] = frozenset(
    field.number
    for field in Event.DESCRIPTOR.oneofs_by_name["fact"].fields
    if field.name not in FACTS
)
"""The types of events that do not exist for customers."""

# Of an event that does not exist for customers, its time is all that is left.
_HIDDEN_USE: Final = re.compile(r"\bevent\b(?!\s*\.\s*at\b)")
_IN_TEMPLATE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def seen_by_customer(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what its customer may see of an event as expressions see it; None: not that it is."""
    fields = FACTS.get(event["type"])
    if fields is None:
        return None
    if event["type"] == "interaction" and event.get("direction") not in _THEIR_DIRECTIONS:
        return None
    seen = {name: value for name, value in event.items() if name in _ENVELOPE}
    fact = event["fact"]
    seen["fact"] = {
        name: value for name, value in fact.items() if fields == _EVERYTHING or name in fields
    }
    if actor := event.get("actor"):
        seen["actor"] = {"kind": actor["kind"]}
    return seen


def without_fact(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is left for customers of an event that does not exist for them."""
    return {"at": event["at"]}


def reaches_hidden(expressions: Iterable[str], templates: Iterable[str]) -> bool:
    """Say whether sources use more of `event` than its time."""
    within = [code for template in templates for code in _IN_TEMPLATE.findall(template)]
    return any(_HIDDEN_USE.search(code) for code in (*expressions, *within))


def type_names(types: Iterable[int]) -> str:
    """Return the names of types of events as expressions write them, joined."""
    return ", ".join(
        EventType.Name(number).removeprefix("EVENT_TYPE_").lower()  # type: ignore[arg-type]
        for number in types
    )
