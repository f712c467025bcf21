"""What callers ask of promises: checked, hashed, and told in the customer's own facts."""

import time
from typing import Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs.identity.keys import IdentityKeys
from libs.identity.normalise import IdentityError
from libs.rpc import errors
from services.notification.deliveries.messages import identities_of
from services.notification.domain.rule_checks import MAX_REFERENCE, is_reference
from services.notification.expectations.promises import Change, content_hash, expectation_key
from services.notification.expectations.resolutions import SOURCE
from touchline.events.v1.event_pb2 import ACTOR_KIND_EMPLOYEE, Actor, Event
from touchline.events.v1.facts_pb2 import (
    EXPECTATION_OUTCOME_KEPT,
    EXPECTATION_OUTCOME_RENEGOTIATED,
    EXPECTATION_OUTCOME_WITHDRAWN,
    ExpectationResolved,
    ExpectationSet,
)
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_STREAM
from touchline.ids import decision_id
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.times import micros_of, timestamp_of

_MAX_ID: Final = 256
_MAX_IDENTITIES: Final = 16
_MAX_PROMISE: Final = 1000
_MAX_REASON: Final = 4096
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_BILLION: Final = 1_000_000_000
_OUTCOMES: Final = (
    EXPECTATION_OUTCOME_KEPT,
    EXPECTATION_OUTCOME_RENEGOTIATED,
    EXPECTATION_OUTCOME_WITHDRAWN,
)

Violations = list[tuple[str, str]]


def check_given(request: api.GivePromiseRequest, keys: IdentityKeys) -> None:
    """Refuse what can't be promised.

    Raises:
        CallError: INVALID_REQUEST.
    """
    wrong: Violations = []
    _check_id(request.expectation_id, wrong)
    if not 1 <= len(request.identities) <= _MAX_IDENTITIES:
        wrong.append(("identities", f"must be 1 to {_MAX_IDENTITIES} of one customer"))
    for number, identity in enumerate(request.identities):
        path = f"identities[{number}]"
        if identity.kind == IDENTITY_KIND_STREAM:
            wrong.append((f"{path}.kind", "names no customer"))
            continue
        try:
            keys.identify(identity)
        except IdentityError as error:
            wrong.append((f"{path}.{error.field}", error.description))
    if not 1 <= len(request.promise) <= _MAX_PROMISE:
        wrong.append(("promise", f"must have 1 to {_MAX_PROMISE:,} characters"))
    _check_due(request.due_at, wrong)
    _check_reference(request.promised_by, "promised_by", wrong)
    if request.team:
        _check_reference(request.team, "team", wrong)
    if wrong:
        raise errors.invalid_request(wrong)


def check_resolved(request: api.ResolvePromiseRequest) -> None:
    """Refuse what can't become of a promise.

    Raises:
        CallError: INVALID_REQUEST.
    """
    wrong: Violations = []
    _check_id(request.expectation_id, wrong)
    if request.outcome not in _OUTCOMES:
        told = "must be kept, renegotiated or withdrawn; that it is broken, the deadline says"
        wrong.append(("outcome", told))
    elif request.outcome == EXPECTATION_OUTCOME_RENEGOTIATED:
        _check_due(request.due_at, wrong)
    elif request.HasField("due_at"):
        wrong.append(("due_at", "must be empty unless the promise is renegotiated"))
    if len(request.reason) > _MAX_REASON:
        wrong.append(("reason", f"must have at most {_MAX_REASON:,} characters"))
    if request.expected_version < 0:
        wrong.append(("expected_version", "must be 0 or a version"))
    _check_reference(request.resolved_by, "resolved_by", wrong)
    if wrong:
        raise errors.invalid_request(wrong)


def asked(keys: IdentityKeys, request: Message) -> str:
    """Return the keyed hash of a request: a retry's is the same."""
    return content_hash(keys, request.SerializeToString(deterministic=True))


def change_of(keys: IdentityKeys, request: api.ResolvePromiseRequest) -> Change:
    """Return what is to become of a promise."""
    return Change(
        request.outcome, micros_of(request.due_at), request.expected_version, asked(keys, request)
    )


def given(keys: IdentityKeys, request: api.GivePromiseRequest) -> Event:
    """Return the customer's fact that something was promised, now."""
    event = _fact(keys, request, request.expectation_id, request.promised_by)
    event.identities.extend(request.identities)
    event.expectation_set.CopyFrom(
        ExpectationSet(
            expectation_id=request.expectation_id,
            promise=request.promise,
            due_at=request.due_at,
            team=request.team or request.promised_by,
            promised_by=request.promised_by,
        )
    )
    return event


def resolved(keys: IdentityKeys, request: api.ResolvePromiseRequest, told: Event) -> Event:
    """Return the customer's fact that a promise ended or changed, now.

    Args:
        keys: The tenant's.
        request: The caller's.
        told: What set it, opened.
    """
    awaited = told.expectation_set
    event = _fact(keys, request, request.expectation_id, request.resolved_by)
    event.identities.extend(identities_of(told))
    event.conversation_id = told.conversation_id
    event.correlation_id = told.correlation_id
    event.causation_id = told.event_id
    event.expectation_resolved.CopyFrom(
        ExpectationResolved(
            expectation_id=request.expectation_id,
            outcome=request.outcome,
            reason=request.reason,
            promise=awaited.promise,
            team=awaited.team,
            rules=awaited.rules,
        )
    )
    if request.outcome == EXPECTATION_OUTCOME_RENEGOTIATED:
        event.expectation_resolved.due_at.CopyFrom(request.due_at)
    return event


def _fact(keys: IdentityKeys, request: Message, expectation_id: str, reference: str) -> Event:
    now_us = time.time_ns() // 1000
    key = expectation_key(keys, expectation_id)
    return Event(
        event_id=decision_id(now_us, "promise", key, asked(keys, request)),
        occurred_at=timestamp_of(now_us),
        source=SOURCE,
        actor=Actor(kind=ACTOR_KIND_EMPLOYEE, reference=reference),
    )


def _check_id(expectation_id: str, wrong: Violations) -> None:
    if not 1 <= len(expectation_id) <= _MAX_ID:
        wrong.append(("expectation_id", f"must have 1 to {_MAX_ID} characters"))


def _check_reference(text: str, path: str, wrong: Violations) -> None:
    if not is_reference(text):
        told = f"must be 1 to {MAX_REFERENCE} characters without blanks and @: no address"
        wrong.append((path, told))


def _check_due(due_at: Timestamp, wrong: Violations) -> None:
    if not (0 <= due_at.seconds <= _LAST_SECOND and 0 <= due_at.nanos < _BILLION):
        wrong.append(("due_at", "must be from 1970 to 9999"))
    elif micros_of(due_at) <= time.time_ns() // 1000:
        wrong.append(("due_at", "must be later than now"))
