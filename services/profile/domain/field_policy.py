"""What a view may see of an event; docs/views.md shows the four policies side by side.

A fold is handed copies that hold the allowed fields and nothing else. So a field a view may not
show can't appear in it, not even by a mistake in the fold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from touchline.events.v1 import event_pb2, facts_pb2

_FACTS = {one.name: one for one in event_pb2.Event.DESCRIPTOR.oneofs_by_name["fact"].fields}


@dataclass(frozen=True, slots=True)
class FieldPolicy:
    """The fields of events that one view may see; what it doesn't name doesn't exist for the view.

    Attributes:
        fields: Paths from `Event`, such as `source`, `actor.kind` or `interaction.title`. A path
            that ends at a message allows all of it.
        directions: The directions of the interactions the view may know of at all. Private
            contacts between customers are nobody's business, whatever this says.

    Raises:
        ValueError: A path names no field: a policy that misspells one can't be imported.
    """

    fields: frozenset[str]
    directions: frozenset[facts_pb2.Direction.ValueType] = frozenset()
    _envelope: _Copy = field(init=False, repr=False, compare=False)
    _facts: dict[str, _Copy] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepares the copying, which is done for every event of every read."""
        facts: dict[str, list[str]] = {}
        envelope = []
        for path in self.fields:
            head, _, rest = path.partition(".")
            if head in _FACTS:
                facts.setdefault(head, []).append(rest)
            else:
                envelope.append(path)
        copies = {name: _copy(_FACTS[name].message_type, paths) for name, paths in facts.items()}
        object.__setattr__(self, "_envelope", _copy(event_pb2.Event.DESCRIPTOR, envelope))
        object.__setattr__(self, "_facts", copies)

    @property
    def reads(self) -> frozenset[event_pb2.EventType.ValueType]:
        """The event types a view is folded from, retractions always among them."""
        types = {cast("event_pb2.EventType.ValueType", _FACTS[name].number) for name in self._facts}
        return frozenset(types | {event_pb2.EVENT_TYPE_EVENT_RETRACTED})

    def admits(self, event: event_pb2.Event) -> bool:
        """Says whether the view may know that the event exists."""
        fact = event.WhichOneof("fact")
        if fact is None or fact not in self._facts:
            return False
        if fact != "interaction":
            return True
        contact = event.interaction
        private = contact.visibility != facts_pb2.VISIBILITY_PUBLIC
        among_customers = contact.direction == facts_pb2.DIRECTION_PEER
        return contact.direction in self.directions and not (private and among_customers)


def mask(event: event_pb2.Event, policy: FieldPolicy) -> event_pb2.Event:
    """Copies the fields of an event that a policy allows; the event itself stays as it is."""
    masked = event_pb2.Event()
    policy._envelope.run(event, masked)
    name = event.WhichOneof("fact")
    if name is not None and name in policy._facts:
        fact: Message = getattr(masked, name)
        fact.SetInParent()
        policy._facts[name].run(getattr(event, name), fact)
    return masked


@dataclass(frozen=True, slots=True)
class _Copy:
    """The fields of one message type to copy, by how they are copied."""

    scalars: tuple[str, ...]
    repeated: tuple[str, ...]
    messages: tuple[str, ...]
    parts: tuple[tuple[str, _Copy], ...]

    def run(self, source: Message, target: Message) -> None:
        """Copies them, from a message to an empty one of the same type."""
        for name in self.scalars:
            if value := getattr(source, name):
                setattr(target, name, value)
        for name in self.repeated:
            getattr(target, name).MergeFrom(getattr(source, name))
        for name in self.messages:
            if source.HasField(name):
                getattr(target, name).CopyFrom(getattr(source, name))
        for name, part in self.parts:
            if source.HasField(name):
                part.run(getattr(source, name), getattr(target, name))


def _copy(message: Descriptor | None, paths: Iterable[str]) -> _Copy:
    """Sorts paths below a message type by how they are copied; a scalar has nothing below it."""
    fields = {} if message is None else message.fields_by_name
    scalars, repeated, messages = [], [], []
    below: dict[str, list[str]] = {}
    for path in sorted(paths):
        name, _, rest = path.partition(".")
        known = fields.get(name)
        if known is None or (rest and known.is_repeated):
            raise ValueError(f"a field policy names {path!r}, which no event has")
        if rest:
            below.setdefault(name, []).append(rest)
        elif known.is_repeated:
            repeated.append(name)
        elif known.message_type is not None:
            messages.append(name)
        else:
            scalars.append(name)
    parts = tuple((name, _copy(fields[name].message_type, rest)) for name, rest in below.items())
    return _Copy(tuple(scalars), tuple(repeated), tuple(messages), parts)
