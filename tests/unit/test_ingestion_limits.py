"""The rules, the comments of touchline.events.v1 and its descriptors tell the same.

Fields are found by walking the descriptors, so that one added later can't be forgotten.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from libs.identity.keys import IdentityKeys
from services.ingestion import domain
from tests.events import FACTS, OF_SERVICES, an_event
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_EXTERNAL_ID, IDENTITY_KIND_STREAM

PROTOS = Path(__file__).parents[2] / "protos" / "touchline" / "events" / "v1"
NOW_US = 1_700_000_000_000_000
KEYS = IdentityKeys(b"\x1d" * 32)

WITHOUT_A_LIMIT_OF_CHARACTERS = {
    "causation_id",  # a UUID
    "community_posted.in_reply_to",  # a UUID
    "custom_event.name",  # a name
    "custom_event.properties_json",  # 64 KiB
    "event_id",  # a UUID
    "event_retracted.event_id",  # a UUID
    "expectation_set.answers",  # a UUID
    "interaction.in_reply_to",  # a UUID
    "order_changed.amount.currency_code",  # three letters
    "order_changed.items[0].unit_price.currency_code",  # three letters
    "payment_attempted.amount.currency_code",  # three letters
    "tenant",  # the call's
}
"""The text fields that another rule bounds."""

IGNORED = {"identities[0].canonical_value"}
"""What callers may set and the store never keeps."""


class Field(NamedTuple):
    """A field somewhere in an event: the path that violations tell, and the way there."""

    path: str
    way: tuple[FieldDescriptor, ...]

    @property
    def last(self) -> FieldDescriptor:
        return self.way[-1]

    @property
    def comment(self) -> str:
        message = self.last.full_name.split(".")[-2]
        return COMMENTS[f"{message}.{self.last.name}"]


def comments() -> Iterator[tuple[str, str]]:
    """Yields `Message.field` and its comment, of every field in the protos."""
    for proto in sorted(PROTOS.glob("*.proto")):
        message, told = "", ""
        for line in proto.read_text().splitlines():
            text = line.strip()
            if opened := re.match(r"message (\w+) \{", text):
                message = opened[1]
            elif text.startswith("//"):
                told += text.removeprefix("//")
                continue
            elif field := re.match(r"(?:[\w.]+|repeated [\w.]+|map<.+>) (\w+) = \d+;", text):
                yield f"{message}.{field[1]}", told
            told = ""


COMMENTS = dict(comments())


def fields(descriptor: Descriptor, path: str = "", way: Any = ()) -> Iterator[Field]:
    """Yields every field of our own messages that an event can hold, the outer ones first."""
    for field in descriptor.fields:
        entries = field.is_repeated and not is_map(field)
        here = Field(f"{path}{field.name}{'[0]' if entries else ''}", (*way, field))
        yield here
        kind = field.message_type
        if kind is not None and not is_map(field) and kind.file.package.startswith("touchline"):
            yield from fields(kind, f"{here.path}.", here.way)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


FIELDS = [one for one in fields(Event.DESCRIPTOR) if one.way[0].name not in OF_SERVICES]
TEXTS = [
    field
    for field in FIELDS
    if field.last.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.path not in IGNORED
]
LIMITED = [field for field in TEXTS if field.path not in WITHOUT_A_LIMIT_OF_CHARACTERS]
ENUMS = [field for field in FIELDS if field.last.cpp_type == FieldDescriptor.CPPTYPE_ENUM]
REQUIRED = [
    field
    for field in FIELDS
    if re.search(r"(?<!not )[Rr]equired\.|Required for external ids", field.comment)
    and field.last.name not in ("fact", "currency_code")
]


def with_field(field: Field, value: Any) -> Event:
    """A valid event but for one field, which has that value; None leaves it out."""
    outer = field.way[0]
    event = an_event(outer.name) if outer.name in FACTS else an_event()
    if outer.name == "identities":
        identity = event.identities[0]
        identity.kind, identity.namespace = IDENTITY_KIND_EXTERNAL_ID, "crm"
    message: Any = event
    for step in field.way[:-1]:
        message = getattr(message, step.name)
        if step.is_repeated:
            message = message[0] if message else message.add()
        if step.name in ("amount", "unit_price"):
            message.currency_code = "EUR"
    if value is None:
        message.ClearField(field.last.name)
    elif field.last.is_repeated:
        getattr(message, field.last.name).append(value)
    else:
        setattr(message, field.last.name, value)
    return event


def broken(event: Event) -> list[str]:
    _, found = domain.identify(event, KEYS)
    return [path for path, _ in found + domain.violations_of(event, "default", NOW_US)]


def by_path(field: Field) -> str:
    return field.path


def test_the_walk_finds_what_an_event_has() -> None:
    assert {field.way[0].name for field in FIELDS} >= set(FACTS)
    every = {field.name for field in Event.DESCRIPTOR.oneofs_by_name["fact"].fields}
    assert {*FACTS} == every - OF_SERVICES
    assert {"actor.reference", "context.location.name", "interaction.participants[0]"} < {
        field.path for field in TEXTS
    }
    assert len(COMMENTS) > 80
    assert all(COMMENTS.values())


@pytest.mark.parametrize("field", TEXTS, ids=by_path)
def test_every_text_is_bounded_by_a_rule(field: Field) -> None:
    assert broken(with_field(field, "x" * 70_000)) == [field.path]


@pytest.mark.parametrize("field", LIMITED, ids=by_path)
def test_a_text_may_have_as_many_characters_as_its_comment_says(field: Field) -> None:
    (told,) = re.findall(r"at most ([\d,]+) characters", field.comment)
    limit = int(told.replace(",", ""))
    assert broken(with_field(field, "x" * limit)) == []
    assert broken(with_field(field, "x" * (limit + 1))) == [field.path]


@pytest.mark.parametrize("field", ENUMS, ids=by_path)
def test_a_number_that_no_enum_knows_is_refused(field: Field) -> None:
    enum = field.last.enum_type
    assert enum is not None
    known = enum.values_by_number
    for number in (max(known) + 1, -1):
        found = broken(with_field(field, number))
        assert found[:1] == [field.path]
    for number in known:
        refused = field.path in broken(with_field(field, number))
        of_streams = field.path == "identities[0].kind" and number == IDENTITY_KIND_STREAM
        assert refused == (of_streams or (not number and field in REQUIRED))


@pytest.mark.parametrize("field", REQUIRED, ids=by_path)
def test_what_a_comment_requires_is_missed(field: Field) -> None:
    assert broken(with_field(field, None)) == [field.path]


def test_what_a_caller_sets_in_the_stores_own_field_is_ignored() -> None:
    event = an_event()
    event.identities[0].canonical_value = "x" * 70_000
    assert broken(event) == []
    (identified,), _ = domain.identify(event, KEYS)
    assert identified.canonical_value == "anna@example.com"
