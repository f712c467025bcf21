"""The rules of decisions, which Touchline's own services append over NATS beside callers' facts.

The protos of decisions name no limits, since nobody outside writes them: what a template or an
expression made may be as long as the longest text of a fact, and names as long as names.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from services.ingestion.domain.facts import CALLER_RULES, Rule
from services.ingestion.domain.rules import (
    Violations,
    check_choices,
    check_list,
    check_names,
    check_texts,
    check_time,
    choice,
    is_uuid,
    known,
    text,
)
from touchline.events.v1 import decisions_pb2

_NAME: Final = 128
_LONGEST: Final = 65_536
_MAX_RULES: Final = 16
_MAX_CONSIDERED: Final = 16
_MAX_VALUES: Final = 64

_CHANNEL: Final = choice("channel", known(decisions_pb2.NotificationChannel), required=True)
_CROSSED: Final = (
    text("model", _NAME, required=True),
    text("from_level", _NAME),
    text("to_level", _NAME),
)
_DECIDED: Final = (
    text("rule", _NAME, required=True),
    text("title", _LONGEST, required=True),
    text("text", _LONGEST),
    text("reason", _LONGEST),
    text("purpose", 256),
)
_DECIDED_CHOICES: Final = (choice("kind", known(decisions_pb2.NotificationKind)),)
_RECIPIENT: Final = (text("reference", _NAME),)
_CONSIDERED: Final = (text("reason", _LONGEST),)
_CONSIDERED_CHOICES: Final = (
    _CHANNEL,
    choice("verdict", known(decisions_pb2.ChannelVerdict), required=True),
)
_VALUE: Final = (text("name", _NAME, required=True), text("value", _LONGEST))
_ATTEMPT: Final = (text("reason", _LONGEST),)
_ATTEMPT_CHOICES: Final = (
    _CHANNEL,
    choice("outcome", known(decisions_pb2.DeliveryOutcome), required=True),
)
_READ: Final = (text("reader", _NAME),)
_IDENTITY_DECIDED: Final = (text("reason", 4096, required=True),)
_IDENTITY_DECISION_CHOICES: Final = (
    choice("kind", known(decisions_pb2.IdentityDecisionKind), required=True),
)
_KEY_BYTES: Final = 16
_MAX_PROFILES: Final = 2
_MAX_DECIDED_KEYS: Final = 5000


def _crossed(fact: decisions_pb2.ScoreCrossed, found: Violations) -> None:
    check_texts(fact, _CROSSED, "score_crossed.", found)
    if not isfinite(fact.score):
        found.append(("score_crossed.score", "is not a finite number"))


def _decided(fact: decisions_pb2.NotificationDecided, found: Violations) -> None:
    path = "notification_decided."
    check_texts(fact, _DECIDED, path, found)
    check_choices(fact, _DECIDED_CHOICES, path, found)
    check_texts(fact.recipient, _RECIPIENT, f"{path}recipient.", found)
    if fact.recipient.customer and fact.recipient.reference:
        told = "must be empty when the customer is told"
        found.append((f"{path}recipient.reference", told))
    check_names(fact.rules, _MAX_RULES, _NAME, f"{path}rules", found)
    if fact.HasField("expires_at"):
        check_time(fact.expires_at, f"{path}expires_at", found)
    for one, at in check_list(fact.considered, _MAX_CONSIDERED, f"{path}considered", found):
        check_texts(one, _CONSIDERED, at, found)
        check_choices(one, _CONSIDERED_CHOICES, at, found)
        if one.HasField("not_before"):
            check_time(one.not_before, f"{at}not_before", found)
    for value, at in check_list(fact.values, _MAX_VALUES, f"{path}values", found):
        check_texts(value, _VALUE, at, found)


def _attempted(fact: decisions_pb2.DeliveryAttempted, found: Violations) -> None:
    _check_notification(fact, "delivery_attempted.", found)
    check_texts(fact, _ATTEMPT, "delivery_attempted.", found)
    check_choices(fact, _ATTEMPT_CHOICES, "delivery_attempted.", found)
    if fact.HasField("retry_at"):
        check_time(fact.retry_at, "delivery_attempted.retry_at", found)


def _read(fact: decisions_pb2.NotificationRead, found: Violations) -> None:
    _check_notification(fact, "notification_read.", found)
    check_texts(fact, _READ, "notification_read.", found)


def _identity_decided(fact: decisions_pb2.IdentityDecided, found: Violations) -> None:
    path = "identity_decided.decision."
    decision = fact.decision
    check_texts(fact, _IDENTITY_DECIDED, "identity_decided.", found)
    check_choices(decision, _IDENTITY_DECISION_CHOICES, path, found)
    if not 1 <= len(decision.profiles) <= _MAX_PROFILES:
        found.append((f"{path}profiles", f"must be 1 to {_MAX_PROFILES}"))
    sides = [decision.left_keys, decision.right_keys]
    if sum(map(len, sides)) > _MAX_DECIDED_KEYS:
        found.append((f"{path}left_keys", f"has, with right_keys, more than {_MAX_DECIDED_KEYS:,}"))
    named = [decision.joined_keys, decision.revoked_event_ids, *sides]
    keys = [key for keys in named for key in keys]
    keys += [profile.root_key for profile in decision.profiles]
    if any(len(key) != _KEY_BYTES for key in keys):
        found.append((path[:-1], f"has a key or an id that has not {_KEY_BYTES} bytes"))
    if any(profile.version < 1 for profile in decision.profiles):
        found.append((f"{path}profiles", "has a version below 1"))


def _check_notification(fact: Any, path: str, found: Violations) -> None:
    if not is_uuid(fact.notification_id):
        told = "is not a UUID; give the event_id of the decision to notify"
        found.append((f"{path}notification_id", told))


DECISION_RULES: Final[Mapping[str, Rule]] = {
    "score_crossed": _crossed,
    "notification_decided": _decided,
    "delivery_attempted": _attempted,
    "notification_read": _read,
    "identity_decided": _identity_decided,
}
"""By the name of the field of `Event.fact`."""

SERVICE_RULES: Final[Mapping[str, Rule]] = {**CALLER_RULES, **DECISION_RULES}
"""What holds for Touchline's own services, apart from aggregates."""
