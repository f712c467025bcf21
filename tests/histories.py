"""Random histories of a customer, for tests of what must hold whatever happened.

Numbers, names and times come from small pools, so that orders change, promises end, conversations
are answered, times tie and retractions hit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from services.profile.domain import Touch
from tests.events import OF_AGGREGATES
from touchline.events.v1 import event_pb2

NOW_US = 1_700_000_000_000_000
_DAY_US = 86_400_000_000

FACTS = {
    one.name: one
    for one in event_pb2.Event.DESCRIPTOR.oneofs_by_name["fact"].fields
    if one.name not in OF_AGGREGATES
}
"""The fields of `Event.fact` that concern a customer, those that Touchline decides among them."""

_TEXTS = st.sampled_from(["", "a", "b", "c"])
_TIMES = st.integers(min_value=-4, max_value=4).map(lambda days: NOW_US + days * _DAY_US)
_IDS = st.integers(min_value=1, max_value=40)
_EVENT_IDS = st.just("") | _IDS.map(lambda number: str(UUID(int=number)))

Leaf = Callable[[FieldDescriptor, str], Any]
"""Chooses the value of a field, given its path; nothing leaves it empty."""


def fill(message: Message, leaf: Leaf, many: Callable[[], int], path: str = "") -> None:
    """Sets every field of a message, and of the messages in it, except those of a oneof.

    Args:
        message: The message.
        leaf: Chooses the scalars and the times.
        many: Chooses how many elements a repeated field has.
        path: Where the message is in the event, with a dot at the end.
    """
    for known in message.DESCRIPTOR.fields:
        if known.containing_oneof is None:
            for _ in range(many() if known.is_repeated else 1):
                _fill_one(message, known, leaf, many, path + known.name)


def _fill_one(message: Message, known: Any, leaf: Leaf, many: Callable[[], int], path: str) -> None:
    field, inner = getattr(message, known.name), known.message_type
    if inner is not None and inner.GetOptions().map_entry:
        field[leaf(inner.fields_by_name["key"], path)] = leaf(inner.fields_by_name["value"], path)
    elif inner is not None and inner is not Timestamp.DESCRIPTOR:
        fill(field.add() if known.is_repeated else field, leaf, many, path + ".")
    elif (value := leaf(known, path)) is not None:
        if known.type == FieldDescriptor.TYPE_BYTES:
            value = value.encode()
        if inner is not None:
            field.CopyFrom(value)
        elif known.is_repeated:
            field.append(value)
        else:
            setattr(message, known.name, value)


@st.composite
def touches(draw: st.DrawFn, number: int) -> Touch:
    """One touch with any fact, and the event id that a number stands for."""
    key, at_us = UUID(int=number), draw(_TIMES)
    event = event_pb2.Event(
        event_id=str(key),
        source=draw(st.sampled_from(["crm", "shop"])),
        conversation_id=draw(_TEXTS),
        actor=event_pb2.Actor(kind=draw(st.sampled_from(event_pb2.ActorKind.values()))),
    )
    name = draw(st.sampled_from(sorted(FACTS)))
    fact: Message = getattr(event, name)
    fact.SetInParent()
    fill(fact, lambda known, _: _draw(draw, known), lambda: draw(st.integers(0, 2)))
    return Touch(number, at_us, at_us, event, key.bytes)


def _draw(draw: st.DrawFn, known: FieldDescriptor) -> object:
    if known.enum_type is not None:
        return draw(st.sampled_from([value.number for value in known.enum_type.values]))
    if known.message_type is not None:
        seconds = draw(st.none() | _TIMES.map(lambda at_us: at_us // 1_000_000))
        return None if seconds is None else Timestamp(seconds=seconds)
    if known.name in ("in_reply_to", "event_id"):
        return draw(_EVENT_IDS)
    if known.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return draw(_TEXTS)
    return draw(st.integers(min_value=0, max_value=3))


def histories(max_size: int = 20) -> st.SearchStrategy[list[Touch]]:
    """Histories of distinct events, in no particular order."""
    numbers = st.lists(_IDS, unique=True, max_size=max_size)
    return numbers.flatmap(lambda chosen: st.tuples(*map(touches, chosen)).map(list))
