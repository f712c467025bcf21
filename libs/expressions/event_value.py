"""How an event looks to expressions; docs/expressions.md is the specification."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from touchline.events.v1.event_pb2 import ACTOR_KIND_EMPLOYEE, ACTOR_KIND_SYSTEM, Event
from touchline.events.v1.facts_pb2 import CustomEvent, Money
from touchline.times import micros_of

_MICROS: Final = 1_000_000
_LARGEST: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CONTEXT: Final = ("device", "app", "locale", "time_zone", "campaign")
_ACTORS: Final[Mapping[int, str]] = {
    ACTOR_KIND_EMPLOYEE: "employee",
    ACTOR_KIND_SYSTEM: "system",
}
# What a type says by itself, as the envelope does; an interaction that doesn't say is private.
_IMPLIED: Final[Mapping[str, Mapping[str, object]]] = {
    "interaction": {"visibility": "private"},
    "product_used": {"channel": "app"},
    "campaign_touched": {"direction": "outbound"},
    "community_posted": {
        "channel": "community",
        "direction": "inbound",
        "visibility": "public",
    },
}
# Whose channel is the event's: a consent's is what it is about, and a delivery's is ours.
_CONTACTS: Final = frozenset(
    {"interaction", "order_changed", "payment_attempted", "campaign_touched"}
)
_CONTACT: Final = ("channel", "direction", "visibility")
_Reader = Callable[[Any], object]

Fields: TypeAlias = "Mapping[str, Fields]"
"""Names of fields, and what these have themselves; empty where anything or nothing may follow."""


def event_value(event: Event) -> dict[str, object]:
    """Return an event as expressions see it, without its identities.

    Texts and enums that are not said are empty and numbers 0; messages that are not there, such as
    the location or an amount, are absent, for `has`.
    """
    context = event.context
    kind = event.WhichOneof("fact") or ""
    fact = _message(getattr(event, kind)) if kind else {}
    said = {**_IMPLIED.get(kind, {})}
    if kind in _CONTACTS:
        said |= {name: fact[name] for name in _CONTACT if fact.get(name)}
    actor = event.actor
    value: dict[str, object] = {
        "id": event.event_id,
        "type": kind,
        "at": _time(event.occurred_at),
        "source": event.source,
        "actor": {
            "kind": _ACTORS.get(actor.kind, "customer"),
            "reference": actor.reference,
        },
        **{name: said.get(name, "") for name in _CONTACT},
        "conversation_id": event.conversation_id,
        **{name: getattr(context, name) for name in _CONTEXT},
        "fact": fact,
    }
    if context.HasField("location"):
        place = context.location
        value["location"] = {
            "latitude": place.latitude,
            "longitude": place.longitude,
            "name": place.name,
        }
    return value


def _message(message: Message) -> dict[str, object]:
    if isinstance(message, Money):
        return {"amount": message.micros / _MICROS, "currency": message.currency_code}
    if isinstance(message, CustomEvent):
        return {"name": message.name, "properties": _properties(message.properties_json)}
    return {
        name: read(getattr(message, name))
        for name, read, optional in _fields(message)
        if not optional or message.HasField(name)
    }


def _properties(text: str) -> dict[str, object]:
    """Return the properties of a custom event; none when they are no such, which none recorded is.

    Whole numbers that are no integers to expressions are doubles.
    """
    try:
        properties = json.loads(text or "{}", parse_int=_whole)
    except (ValueError, RecursionError):
        return {}
    return properties if isinstance(properties, dict) else {}


def _whole(digits: str) -> int | float:
    number = int(digits)
    return number if -_LARGEST <= number <= _LARGEST else float(number)


_FIELDS: dict[str, tuple[tuple[str, _Reader, bool], ...]] = {}


def _fields(message: Message) -> tuple[tuple[str, _Reader, bool], ...]:
    known = _FIELDS.get(message.DESCRIPTOR.full_name)
    if known is None:
        known = tuple(
            (field.name, _reader(field), field.message_type is not None and not _many(field))
            for field in cast("list[FieldDescriptor]", message.DESCRIPTOR.fields)
        )
        _FIELDS[message.DESCRIPTOR.full_name] = known
    return known


def _many(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _reader(field: FieldDescriptor) -> _Reader:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict
    one = _one(field)
    return (lambda values: [one(value) for value in values]) if _many(field) else one


def _one(field: FieldDescriptor) -> _Reader:
    if field.enum_type is not None:
        names = _enum_names(field.enum_type)
        return lambda number: names.get(number, "")
    if field.message_type is not None:
        return _time if field.message_type.full_name == "google.protobuf.Timestamp" else _message
    return lambda value: value


def _enum_names(enum: EnumDescriptor) -> Mapping[int, str]:
    """Names by number: lower-case, without the prefix that they share; unspecified is empty."""
    prefix = len(enum.values[0].name) - len("UNSPECIFIED")
    return {v.number: v.name[prefix:].lower() if v.number else "" for v in enum.values}


def _time(timestamp: Timestamp) -> datetime:
    return _EPOCH + timedelta(microseconds=micros_of(timestamp))


def _below(message: Descriptor) -> Fields:
    if message.full_name == Money.DESCRIPTOR.full_name:
        return {"amount": {}, "currency": {}}
    if message.full_name == CustomEvent.DESCRIPTOR.full_name:
        return {"name": {}, "properties": {}}
    if message.full_name == Timestamp.DESCRIPTOR.full_name:
        return {}
    return {
        field.name: _below(field.message_type)
        if field.message_type is not None and not _many(field)
        else {}
        for field in cast("list[FieldDescriptor]", message.fields)
    }


def _facts() -> Fields:
    fields: dict[str, Fields] = {}
    for fact in Event.DESCRIPTOR.oneofs_by_name["fact"].fields:
        for name, below in _below(cast("Descriptor", fact.message_type)).items():
            fields[name] = {**fields.get(name, {}), **below}
    return fields


EVENT_FIELDS: Final[Fields] = {
    **dict.fromkeys(event_value(Event()), cast("Fields", {})),
    "actor": {"kind": {}, "reference": {}},
    "location": {"latitude": {}, "longitude": {}, "name": {}},
    "fact": _facts(),
}
"""Every field that an event's value may have; those of all facts together."""
