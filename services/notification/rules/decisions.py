"""What rules decide, as events: whom to tell, and what a customer may expect."""

from collections.abc import Sequence
from typing import Final

from libs.projection.projection import Recorded
from services.notification.domain.business_time import due_at
from services.notification.domain.rules import CompiledRule, micros_of_duration
from services.notification.rules.addressing import Meant
from services.notification.rules.knowing import Judged
from touchline.events.v1.decisions_pb2 import ConsideredChannel, NotificationDecided
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Actor, Event
from touchline.events.v1.facts_pb2 import ExpectationSet
from touchline.ids import decision_id
from touchline.times import micros_of, timestamp_of

SOURCE: Final = "notification"
# What waits for the end of quiet hours, or for a server that is down, has this long at least.
_LEAST_TIME_US: Final = 3_600_000_000


def chain_of(event: Event) -> Sequence[str]:
    """Return the rules that led to an event; callers' events have none."""
    match event.WhichOneof("fact"):
        case "expectation_set":
            return event.expectation_set.rules
        case "expectation_resolved":
            return event.expectation_resolved.rules
        case _:
            return ()


def notification_id(cause: Recorded, rule: CompiledRule, notice: int) -> str:
    """Return the id of the decision to render one of a rule's notices about an event."""
    return _decision_id(cause, "notification", rule.name, str(notice))


def expectation_id(cause: Recorded, rule: CompiledRule) -> str:
    """Return the id of the decision that a customer may expect what a rule promises."""
    return _decision_id(cause, "expectation", rule.name)


def notification_decided(one: Judged, meant: Meant, channels: Sequence[ConsideredChannel]) -> Event:
    """Return the decision to tell somebody something."""
    rule, told = meant.rule, meant.told
    last_us = max((micros_of(channel.not_before) for channel in channels), default=0)
    acts_until_us = one.recorded.record.occurred_at_us + rule.max_age_us
    decision = _decision(one, notification_id(one.recorded, rule, told.notice))
    decision.notification_decided.CopyFrom(
        NotificationDecided(
            rule=rule.name,
            rule_version=rule.version,
            notice=told.notice,
            recipient=told.recipient,
            kind=told.kind,
            title=told.title,
            text=told.text,
            reason=told.reason,
            purpose=meant.notice.purpose,
            considered=channels,
            values=told.values,
            rules=[*chain_of(one.event), rule.name],
            expires_at=timestamp_of(max(acts_until_us, last_us + _LEAST_TIME_US)),
        )
    )
    return decision


def expectation_set(one: Judged, rule: CompiledRule, promise: str) -> Event:
    """Return the decision that the customer may expect something.

    Raises:
        NeverDue: the rule's hours have that much time no more, as after a change of holidays.
    """
    expect = rule.definition.expect
    due_us = due_at(
        one.recorded.record.occurred_at_us,
        micros_of_duration(expect.within),
        expect.hours if expect.HasField("hours") else None,
    )
    decision = _decision(one, expectation_id(one.recorded, rule))
    decision.expectation_set.CopyFrom(
        ExpectationSet(
            expectation_id=f"{rule.name}:{one.event.event_id}",
            promise=promise,
            due_at=timestamp_of(due_us),
            team=expect.team,
            rules=[*chain_of(one.event), rule.name],
            answers=one.event.event_id,
        )
    )
    return decision


def _decision_id(cause: Recorded, kind: str, *target: str) -> str:
    return decision_id(cause.recorded_at_us, cause.record.event_id, kind, *target)


def _decision(one: Judged, event_id: str) -> Event:
    """Return a decision without its fact: it concerns whom its cause concerns, and when."""
    cause = one.event
    event = Event(
        event_id=event_id,
        # Of an identity that was erased only its kind is left.
        identities=[identity for identity in cause.identities if identity.value],
        source=SOURCE,
        actor=Actor(kind=ACTOR_KIND_SYSTEM, reference=SOURCE),
        conversation_id=cause.conversation_id,
        causation_id=cause.event_id,
        correlation_id=cause.correlation_id,
    )
    event.occurred_at.CopyFrom(cause.occurred_at)
    for identity in event.identities:
        identity.ClearField("canonical_value")
    return event
