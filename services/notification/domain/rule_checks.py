"""What is wrong with a rule apart from its expressions: lengths, choices, times, addressees."""

import re
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from services.notification.domain.business_time import NeverDue, due_at
from services.notification.domain.calendars import (
    Violation,
    business_hours_violations,
    quiet_hours_violations,
)
from touchline.events.v1 import decisions_pb2, event_pb2, facts_pb2
from touchline.events.v1.filter_pb2 import EventFilter
from touchline.notification.v1.notification_pb2 import Expect, Notice, RuleDefinition

MAX_RECENT: Final = 100
MAX_REFERENCE: Final = 128
MAX_LETS: Final = 20
MAX_NOTICES: Final = 10
_DAY: Final = 86_400
_MAX_WINDOW: Final = 400 * _DAY
_MAX_AGE: Final = 7 * _DAY
_MAX_WITHIN: Final = 90 * _DAY
_MAX_EXPRESSION: Final = 2000
_SOME_MONDAY_US: Final = 1_704_067_200_000_000  # 2024-01-01
_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# A reference is in the clear in the settings of recipients, and is no address.
_REFERENCE: Final = re.compile(r"[^\s@\x00-\x1f\x7f]{1,128}")
# The words of CEL's grammar, and those that it keeps for others.
_RESERVED: Final = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in"}
    | {"let", "loop", "namespace", "null", "package", "return", "true", "var", "void", "while"}
)
_OWN_TYPES: Final = frozenset(
    {
        event_pb2.EVENT_TYPE_AGGREGATE_CHANGED,
        event_pb2.EVENT_TYPE_AGGREGATE_SNAPSHOT,
        event_pb2.EVENT_TYPE_NOTIFICATION_DECIDED,
        event_pb2.EVENT_TYPE_DELIVERY_ATTEMPTED,
        event_pb2.EVENT_TYPE_NOTIFICATION_READ,
    }
)


def violations_of(definition: RuleDefinition, path: str) -> list[Violation]:
    """Return what is wrong with a rule, its expressions and templates not compiled.

    Args:
        definition: What the rule says.
        path: Of the definition in the request.
    """
    found: list[Violation] = []
    if not _NAME.fullmatch(definition.name):
        told = "must be 1 to 64 lower-case letters, digits, - and _"
        found.append((f"{path}.name", told))
    found += _text(definition.description, 1000, f"{path}.description", required=False)
    found += _filter_violations(definition.on, f"{path}.on")
    found += _duration(definition.window, _MAX_WINDOW, f"{path}.window", zero=True)
    found += _let_violations(definition, path)
    found += _text(definition.condition, _MAX_EXPRESSION, f"{path}.condition", required=False)
    found += _text(definition.reason, 2000, f"{path}.reason")
    if len(definition.notices) > MAX_NOTICES:
        told = f"has {len(definition.notices)} entries; give at most {MAX_NOTICES}"
        found.append((f"{path}.notices", told))
    for index, notice in enumerate(definition.notices[:MAX_NOTICES]):
        found += _notice_violations(notice, f"{path}.notices[{index}]")
    if definition.HasField("expect"):
        found += _expect_violations(definition.expect, f"{path}.expect")
    if definition.HasField("max_age"):
        found += _duration(definition.max_age, _MAX_AGE, f"{path}.max_age")
    return found


def is_reference(text: str) -> bool:
    """Say whether a text can name an employee or a team."""
    return _REFERENCE.fullmatch(text) is not None


def _filter_violations(on: EventFilter, path: str) -> list[Violation]:
    found: list[Violation] = []
    if not on.types:
        found.append((f"{path}.types", "is missing; name at least one type of event"))
    for index, number in enumerate(on.types):
        at = f"{path}.types[{index}]"
        if not number or not _knows(event_pb2.EventType, number):
            found.append((at, "is no type of event that this release knows"))
        elif number in _OWN_TYPES:
            found.append((at, "is what Touchline's services tell each other; rules never see it"))
    for field, choices in (
        ("channels", facts_pb2.Channel),
        ("directions", facts_pb2.Direction),
        ("visibilities", facts_pb2.Visibility),
    ):
        numbers = getattr(on, field)
        found += [
            (f"{path}.{field}[{index}]", "is none that this release knows")
            for index, number in enumerate(numbers)
            if not _knows(choices, number)
        ]
    return found


def _let_violations(definition: RuleDefinition, path: str) -> list[Violation]:
    if len(definition.let) > MAX_LETS:
        told = f"has {len(definition.let)} entries; give at most {MAX_LETS}"
        return [(f"{path}.let", told)]
    found: list[Violation] = []
    for index, binding in enumerate(definition.let):
        at = f"{path}.let[{index}]"
        if not _IDENTIFIER.fullmatch(binding.name) or binding.name in _RESERVED:
            told = "must be a name in CEL: at most 64 letters, digits and _, not one of its words"
            found.append((f"{at}.name", told))
        found += _text(binding.expression, _MAX_EXPRESSION, f"{at}.expression")
    return found


def _notice_violations(notice: Notice, path: str) -> list[Violation]:
    found: list[Violation] = []
    match notice.WhichOneof("to"):
        case "customer":
            if not notice.customer:
                found.append((f"{path}.customer", "must be true, or name somebody else"))
        case "reference":
            if not is_reference(notice.reference):
                told = f"must be 1 to {MAX_REFERENCE} characters without blanks and @: no address"
                found.append((f"{path}.reference", told))
        case "expression":
            found += _text(notice.expression, _MAX_EXPRESSION, f"{path}.expression")
        case _:
            told = "has no addressee; give customer, reference or expression"
            found.append((path, told))
    if not _knows(decisions_pb2.NotificationKind, notice.kind):
        found.append((f"{path}.kind", "is none that this release knows"))
    found += _text(notice.title, 500, f"{path}.title")
    found += _text(notice.text, 10_000, f"{path}.text", required=False)
    found += _channel_violations(notice, path)
    if notice.purpose and not notice.customer:
        told = "is about a customer's consent; only notices to customers have one"
        found.append((f"{path}.purpose", told))
    found += _text(notice.purpose, 256, f"{path}.purpose", required=False)
    if notice.HasField("quiet_hours"):
        found += quiet_hours_violations(notice.quiet_hours, f"{path}.quiet_hours")
    return found


def _channel_violations(notice: Notice, path: str) -> list[Violation]:
    found: list[Violation] = []
    for index, channel in enumerate(notice.channels):
        at = f"{path}.channels[{index}]"
        if not channel or not _knows(decisions_pb2.NotificationChannel, channel):
            found.append((at, "is no channel that this release knows"))
        elif channel in notice.channels[:index]:
            found.append((at, "is there twice"))
    return found


def _expect_violations(expect: Expect, path: str) -> list[Violation]:
    found = _text(expect.promise, 1000, f"{path}.promise")
    found += _duration(expect.within, _MAX_WITHIN, f"{path}.within")
    if not is_reference(expect.team):
        told = f"must be 1 to {MAX_REFERENCE} characters without blanks and @: no address"
        found.append((f"{path}.team", told))
    if expect.HasField("hours"):
        found += business_hours_violations(expect.hours, f"{path}.hours")
        found = found or _never_due(expect, path)
    return found


def _never_due(expect: Expect, path: str) -> list[Violation]:
    try:
        due_at(_SOME_MONDAY_US, expect.within.ToMicroseconds(), expect.hours)
    except NeverDue as error:
        return [(f"{path}.within", str(error))]
    return []


def _text(text: str, most: int, path: str, *, required: bool = True) -> list[Violation]:
    if required and not text.strip():
        return [(path, "is missing")]
    if len(text) > most:
        return [(path, f"has {len(text):,} characters and may have {most:,}")]
    return []


def _duration(
    duration: Duration, most_seconds: int, path: str, *, zero: bool = False
) -> list[Violation]:
    exact = duration.seconds + duration.nanos / 1e9
    mixed = duration.seconds * duration.nanos < 0 or abs(duration.nanos) >= 1_000_000_000
    low = exact < 0 if zero else exact < 1e-6
    if mixed or low or exact > most_seconds:
        least = "0" if zero else "more than 0"
        return [(path, f"must be {least} and at most {most_seconds // _DAY} days")]
    return []


def _knows(choices: Any, number: int) -> bool:
    return number in choices.values()
