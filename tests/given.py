"""Touches of a customer in few words, for tests that read given / when / then.

Times are written as `2024-03-01 10:00` and are UTC. What isn't said is what most tests don't care
about; every field of an event and of its fact can be given by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from libs.consents import CONSENT, Standing, Word, standing, word_of
from services.profile.domain import Touch
from touchline.events.v1 import event_pb2, facts_pb2

KEY = b"k" * 16
"""An identity's key."""

_ids = count(1_000_000)  # above the ids that tests choose


def us(time: str) -> int:
    """Microseconds since 1970 of a time such as `2024-03-01` or `2024-03-01 10:00`."""
    return int(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()) * 1_000_000


def stamp(time: str) -> Timestamp:
    """The protobuf form of a time."""
    return Timestamp(seconds=us(time) // 1_000_000)


def money(amount: float, currency: str = "EUR") -> facts_pb2.Money:
    """An amount of money."""
    return facts_pb2.Money(currency_code=currency, micros=round(amount * 1_000_000))


def touch(time: str, *, event_id: int | None = None, source: str = "test", **event: Any) -> Touch:
    """An event with any fact; ids count up, so that of two at one time the later built is last."""
    number = next(_ids) if event_id is None else event_id
    key = UUID(int=number)
    told = event_pb2.Event(event_id=str(key), source=source, occurred_at=stamp(time), **event)
    return Touch(number, us(time), us(time), told, key.bytes)


def _interaction(time: str, channel: str, way: str, said: dict[str, Any]) -> Touch:
    own = facts_pb2.Interaction.DESCRIPTOR.fields_by_name
    fact = facts_pb2.Interaction(
        channel=facts_pb2.Channel.Value(f"CHANNEL_{channel.upper()}"),
        direction=facts_pb2.Direction.Value(f"DIRECTION_{way.upper()}"),
        **{name: said.pop(name) for name in list(said) if name in own},
    )
    return touch(time, interaction=fact, **said)


def contact(time: str, channel: str, way: str = "inbound", **said: Any) -> Touch:
    """A contact on any channel."""
    return _interaction(time, channel, way, said)


def call(time: str, way: str = "inbound", *, seconds: int = 300, **said: Any) -> Touch:
    """A phone call."""
    return _interaction(time, "phone", way, {"duration_seconds": seconds, **said})


def email(time: str, way: str = "inbound", **said: Any) -> Touch:
    """An email."""
    return _interaction(time, "email", way, said)


def public_post(time: str, way: str = "inbound", **said: Any) -> Touch:
    """A public post on a social network."""
    return _interaction(
        time, "social", way, {"visibility": facts_pb2.VISIBILITY_PUBLIC, "network": "w", **said}
    )


def community_post(
    time: str, *, title: str = "", text: str = "", in_reply_to: str = "", **event: Any
) -> Touch:
    """A post in a community."""
    post = facts_pb2.CommunityPosted(
        community="riders", title=title, text=text, in_reply_to=in_reply_to
    )
    return touch(time, community_posted=post, **event)


def order(
    time: str,
    order_id: str,
    status: str = "unspecified",
    *,
    promised: str | None = None,
    amount: facts_pb2.Money | None = None,
    source: str = "shop",
    event_id: int | None = None,
    **change: Any,
) -> Touch:
    """A change of an order."""
    fact = facts_pb2.OrderChanged(
        order_id=order_id,
        status=facts_pb2.OrderStatus.Value(f"ORDER_STATUS_{status.upper()}"),
        promised_at=None if promised is None else stamp(promised),
        amount=amount,
        **change,
    )
    return touch(time, source=source, event_id=event_id, order_changed=fact)


def case(time: str, case_id: str, status: str = "unspecified", **change: Any) -> Touch:
    """A change of a service case."""
    value = facts_pb2.CaseStatus.Value(f"CASE_STATUS_{status.upper()}")
    fact = facts_pb2.CaseChanged(case_id=case_id, status=value, **change)
    return touch(time, source="desk", case_changed=fact)


def promise(time: str, expectation_id: str, due: str, text: str = "Call back") -> Touch:
    """A promise."""
    fact = facts_pb2.ExpectationSet(expectation_id=expectation_id, promise=text, due_at=stamp(due))
    return touch(time, source="crm", expectation_set=fact)


def outcome(
    time: str, expectation_id: str, how: str, *, due: str | None = None, reason: str = ""
) -> Touch:
    """How a promise ended or changed."""
    fact = facts_pb2.ExpectationResolved(
        expectation_id=expectation_id,
        outcome=facts_pb2.ExpectationOutcome.Value(f"EXPECTATION_OUTCOME_{how.upper()}"),
        due_at=None if due is None else stamp(due),
        reason=reason,
    )
    return touch(time, source="deadlines", expectation_resolved=fact)


def traits(time: str, values: Mapping[str, str], **event: Any) -> Touch:
    """Something learned about the customer."""
    return touch(time, traits_observed=facts_pb2.TraitsObserved(traits=values), **event)


def consent(
    time: str,
    purpose: str,
    status: str,
    channel: str = "unspecified",
    *,
    proof: str = "",
    event_id: int | None = None,
) -> Touch:
    """A consent given or withdrawn."""
    fact = facts_pb2.ConsentChanged(
        purpose=purpose,
        channel=facts_pb2.Channel.Value(f"CHANNEL_{channel.upper()}"),
        status=facts_pb2.ConsentStatus.Value(f"CONSENT_STATUS_{status.upper()}"),
        proof=proof,
    )
    return touch(time, event_id=event_id, consent_changed=fact)


def words(*touches: Touch, key: bytes = KEY) -> list[Word]:
    """What touches say of consents and preferences, all under one identity; none retracted."""
    retracted = {touch.event.event_retracted.event_id for touch in touches}
    told = [
        word_of(one.event, one.event_id, (key,), one.occurred_at_us, one.recorded_at_us)
        for one in touches
        if one.event.event_id not in retracted
    ]
    return [word for word in told if word is not None]


def consents(*touches: Touch) -> list[Standing]:
    """How the consents in touches stand, all given under one identity."""
    return standing(words(*touches), [KEY], CONSENT)


def campaign(time: str, name: str, action: str, channel: str = "email") -> Touch:
    """A touch of a campaign."""
    fact = facts_pb2.CampaignTouched(
        campaign=name,
        action=facts_pb2.CampaignAction.Value(f"CAMPAIGN_ACTION_{action.upper()}"),
        channel=facts_pb2.Channel.Value(f"CHANNEL_{channel.upper()}"),
    )
    return touch(time, campaign_touched=fact)


def used(time: str, product: str, seconds: int = 60, **fact: Any) -> Touch:
    """A use of a product."""
    use = facts_pb2.ProductUsed(product=product, duration_seconds=seconds, **fact)
    return touch(time, product_used=use)


def signal(time: str, kind: str, text: str = "") -> Touch:
    """A signal."""
    return touch(time, signal_observed=facts_pb2.SignalObserved(kind=kind, text=text))


def note(time: str, text: str) -> Touch:
    """An employee's note."""
    return touch(time, note_added=facts_pb2.NoteAdded(text=text))


def retraction(time: str, of: Touch, reason: str = "") -> Touch:
    """The retraction of another touch."""
    fact = facts_pb2.EventRetracted(event_id=of.event.event_id, reason=reason)
    return touch(time, event_retracted=fact)


def by_employee(reference: str = "agent-7") -> event_pb2.Actor:
    """An employee who acts."""
    return event_pb2.Actor(kind=event_pb2.ACTOR_KIND_EMPLOYEE, reference=reference)
