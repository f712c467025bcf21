"""A hundred rules as a company might have them, twenty groups of five.

The five of a group look at the same events: two at what the event says itself, three also at what
happened in the week before, at what is known of the customer, and at the score. So each of the
bench's events is looked at by five, and what most of them ask is not so.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from google.protobuf.duration_pb2 import Duration

from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.events.v1.filter_pb2 import EventFilter
from touchline.notification.v1.notification_pb2 import Notice, RuleDefinition

DESCRIPTION: Final = (
    "100 rules over 11 types of events, of which 5 look at each event of the bench: two at the "
    "event alone, one at the week before, one at what is known of the customer, one at the score."
)
INTENT: Final = "complaint"
WORD: Final = "lawyer"
TEAM: Final = "team:bench"
"""Is told by one rule alone: of an inbound contact on social media that complains and threatens."""

_WEEK: Final = Duration(seconds=7 * 24 * 3600)
_CHANNELS: Final = {
    "phone": facts.CHANNEL_PHONE,
    "email": facts.CHANNEL_EMAIL,
    "chat": facts.CHANNEL_CHAT,
    "social": facts.CHANNEL_SOCIAL,
    "web": facts.CHANNEL_WEB,
}
_DIRECTIONS: Final = {"in": facts.DIRECTION_INBOUND, "out": facts.DIRECTION_OUTBOUND}
# By type: what the event must say itself for somebody to be told. A tenth of the bench's orders do.
_SAYS: Final = {
    "product_used": "event.fact.feature == 'factory reset'",
    "order_changed": "event.fact.amount.amount >= 450.0",
    "case_changed": "event.fact.priority == 'urgent'",
    "campaign_touched": "event.fact.action == 'converted'",
    "consent_changed": "event.fact.status == 'withdrawn'",
    "signal_observed": "event.fact.kind == 'job_change'",
    "checked_in": "event.fact.place.startsWith('Airport')",
    "payment_attempted": "event.fact.status == 'declined'",
    "community_posted": f"event.fact.text.contains('{WORD}')",
    "expectation_resolved": "event.fact.outcome == 'broken'",
}
_COMPLAINS: Final = f"event.fact.intent == '{INTENT}' && event.fact.text.contains('{WORD}')"


class _Group(NamedTuple):
    """Five rules: which events they look at, what those must say, and who is told then."""

    name: str
    on: EventFilter
    says: str
    team: str = "team:care"


def hundred_rules() -> list[RuleDefinition]:
    """Return the rules."""
    return [rule for group in _groups() for rule in _five(group)]


def _groups() -> Iterator[_Group]:
    for channel, number in _CHANNELS.items():
        for direction, way in _DIRECTIONS.items():
            on = EventFilter(types=[ev.EVENT_TYPE_INTERACTION], channels=[number], directions=[way])
            probed = (channel, direction) == ("social", "in")
            team = TEAM if probed else "team:care"
            yield _Group(f"{channel}-{direction}", on, _COMPLAINS, team)
    for name, says in _SAYS.items():
        on = EventFilter(types=[ev.EventType.Value(f"EVENT_TYPE_{name.upper()}")])
        yield _Group(name, on, says)


def _five(group: _Group) -> Iterator[RuleDefinition]:
    conditions = {
        "says": group.says,
        "source": "event.source == 'branch-office' && hour_in(event.at, 'Europe/Vienna') >= 18",
        "often": "recent.filter(e, e.type == event.type).size() >= 50",
        "known": "'segment' in attributes && attributes.segment == 'key account'",
        "score": "'default' in scores && scores.default.level == 'hot'",
    }
    for name, condition in conditions.items():
        yield RuleDefinition(
            name=f"{group.name}-{name}",
            on=group.on,
            window=_WEEK if name == "often" else None,
            condition=condition,
            reason="It is so: {{ event.type }} at {{ event.at }}",
            notices=[
                Notice(
                    reference=group.team if name == "says" else "team:care",
                    title="{{ event.type }} from {{ event.source }}",
                )
            ],
        )
