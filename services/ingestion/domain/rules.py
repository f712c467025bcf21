"""The kinds of rules that fields have in common.

Each function adds what is wrong to a list and is otherwise silent: nearly every event is valid, and
at tens of thousands a second a generator for each message would be the dearest part of checking.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from touchline.events.v1.facts_pb2 import Money

Violation = tuple[str, str]
"""The path of a field within the event; what is wrong with it and what to do."""

Violations = list[Violation]

is_uuid: Final = re.compile(
    "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
).fullmatch
_is_currency: Final = re.compile("[A-Z]{3}").fullmatch

_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999, where a Timestamp ends."""
_MAX_NANOS: Final = 999_999_999


Text = tuple[str, int, bool]
"""A text field: its name, its longest length in characters, and whether it must be there."""

Choice = tuple[str, "Known", bool]
"""A field with an enum: its name, the enum, and whether it must be given."""


class Known(NamedTuple):
    """An enum: its name, and the numbers this release knows."""

    name: str
    numbers: frozenset[int]


def text(name: str, limit: int, *, required: bool = False) -> Text:
    """Return the rule of a text field; a bare tuple, which is the fastest to unpack."""
    return name, limit, required


def choice(name: str, known: Known, *, required: bool = False) -> Choice:
    """Return the rule of a field with an enum."""
    return name, known, required


def known(enum: Any) -> Known:
    """Return an enum as the rules use it: protobuf's own wrappers are slow to ask."""
    return Known(enum.DESCRIPTOR.name, frozenset(enum.values()))


def check_texts(message: Any, texts: tuple[Text, ...], path: str, found: Violations) -> None:
    """Check text fields of a message that stands at `path`, which is empty or ends with a dot."""
    for name, limit, required in texts:
        length = len(getattr(message, name))
        if length > limit:
            told = f"has {length:,} characters; at most {limit:,} are allowed, so shorten it"
            found.append((path + name, told))
        elif required and not length:
            found.append((path + name, "is missing"))


def check_choices(message: Any, choices: tuple[Choice, ...], path: str, found: Violations) -> None:
    """Check fields with enums; left unspecified is well unless one is required."""
    for name, enum, required in choices:
        value = getattr(message, name)
        if value not in enum.numbers:
            told = f"has the number {value}, which {enum.name} does not know here; send a known one"
            found.append((path + name, told))
        elif required and not value:
            found.append((path + name, f"is missing; give one of {enum.name}"))


def check_names(
    names: Sequence[str], limit: int, longest: int, field: str, found: Violations
) -> None:
    """Check a list of at most `limit` texts of at most `longest` characters each."""
    count = len(names)
    if not count:
        return
    if count > limit:
        found.append((field, too_many(count, limit)))
    for index, name in enumerate(names[:limit]):
        if len(name) > longest:
            told = f"has {len(name):,} characters; at most {longest} are allowed"
            found.append((f"{field}[{index}]", told))


def check_list(
    entries: Sequence[Message], limit: int, field: str, found: Violations
) -> Iterable[tuple[Any, str]]:
    """Return the messages of a list with their paths, dot and all; none when it is too long."""
    if len(entries) > limit:
        found.append((field, too_many(len(entries), limit)))
        return ()
    return [(entry, f"{field}[{index}].") for index, entry in enumerate(entries)]


def too_many(count: int, limit: int) -> str:
    """Say that a list is too long."""
    return f"has {count:,} entries; at most {limit} are allowed"


def check_reference(value: str, field: str, found: Violations) -> None:
    """Check the event_id of another event, which may be left out."""
    if value and not is_uuid(value):
        found.append((field, "is not a UUID; give an event_id or leave it empty"))


def check_money(money: Money, field: str, found: Violations) -> None:
    """Check an amount; its micros may be any number."""
    if not _is_currency(money.currency_code):
        told = "is not a code of ISO 4217 in three capital letters, such as EUR"
        found.append((f"{field}.currency_code", told))


def check_nanos(time: Timestamp, field: str, found: Violations) -> None:
    """Check the fraction of a second."""
    if not 0 <= time.nanos <= _MAX_NANOS:
        found.append((field, "has nanos outside 0 to 999,999,999"))


def check_time(time: Timestamp, field: str, found: Violations) -> None:
    """Check a time that may lie far ahead, such as a deadline."""
    if not 0 <= time.seconds <= _LAST_SECOND:
        found.append((field, "is before 1970 or after 9999; check its unit, it is in seconds"))
    check_nanos(time, field, found)
