"""The scoring model that Touchline ships; docs/scoring.md says why each rule is as it is."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from touchline.engagement.v1.engagement_pb2 import ModelDefinition, ScoreLevel, ScoringRule
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1.facts_pb2 import DIRECTION_INBOUND
from touchline.events.v1.filter_pb2 import EventFilter

NAME: Final = "default"

_INBOUND: Final = EventFilter(
    types=[ev.EVENT_TYPE_INTERACTION], directions=[DIRECTION_INBOUND]
)  # what we say to customers is our effort, not their engagement


def default_model() -> ModelDefinition:
    """Return the definition of the model `default`."""
    return ModelDefinition(
        name=NAME,
        description=(
            "How engaged a customer is: steady product use over weeks, beside what marketing, "
            "sales and service see."
        ),
        rules=[_rule(name, **rule) for name, rule in _RULES.items()],
        levels=[
            ScoreLevel(name="cold", from_score=1),
            ScoreLevel(name="warm", from_score=10),
            ScoreLevel(name="hot", from_score=30),
        ],
    )


def _rule(name: str, *, days: int, on: EventFilter | ev.EventType.ValueType, **rule: Any) -> Any:
    half_life = Duration()
    half_life.FromTimedelta(timedelta(days=days))
    filter_ = on if isinstance(on, EventFilter) else EventFilter(types=[on])
    return ScoringRule(name=name, half_life=half_life, on=filter_, **rule)


_RULES: Final[Mapping[str, Mapping[str, Any]]] = {
    # A day of use counts at most twice, so that weeks of use weigh more than one busy afternoon.
    "product_use": {
        "on": ev.EVENT_TYPE_PRODUCT_USED,
        "weight": 1,
        "days": 28,
        "day_cap": 2,
        "total_cap": 25,
    },
    # An order is told of again when it ships and arrives: only its beginning counts. A day
    # gives two at most, since one purchase may be split into many.
    "orders": {
        "on": ev.EVENT_TYPE_ORDER_CHANGED,
        "condition": 'event.fact.status == "placed"',
        "weight": 10,
        "days": 90,
        "day_cap": 20,
    },
    "returns": {
        "on": ev.EVENT_TYPE_ORDER_CHANGED,
        "condition": 'event.fact.status == "returned"',
        "weight": -5,
        "days": 90,
        "total_cap": 30,
    },
    "contacts": {
        "on": _INBOUND,
        "condition": 'event.fact.intent != "complaint"',
        "weight": 3,
        "days": 30,
        "day_cap": 6,
        "total_cap": 24,
    },
    "complaints": {
        "on": _INBOUND,
        "condition": 'event.fact.intent == "complaint"',
        "weight": -8,
        "days": 60,
        "day_cap": 8,
        "total_cap": 40,
    },
    "visits": {
        "on": ev.EVENT_TYPE_CHECKED_IN,
        "weight": 4,
        "days": 45,
        "day_cap": 4,
        "total_cap": 20,
    },
    "community": {
        "on": ev.EVENT_TYPE_COMMUNITY_POSTED,
        "weight": 2,
        "days": 45,
        "day_cap": 4,
        "total_cap": 20,
    },
    "campaign_opens": {
        "on": ev.EVENT_TYPE_CAMPAIGN_TOUCHED,
        "condition": 'event.fact.action == "opened"',
        "weight": 0.5,
        "days": 14,
        "day_cap": 0.5,
        "total_cap": 4,
    },
    "campaign_answers": {
        "on": ev.EVENT_TYPE_CAMPAIGN_TOUCHED,
        "condition": 'event.fact.action in ["clicked", "converted"]',
        "weight": 2,
        "days": 21,
        "day_cap": 4,
        "total_cap": 16,
    },
    "consents": {
        "on": ev.EVENT_TYPE_CONSENT_CHANGED,
        "condition": 'event.fact.status == "granted"',
        "weight": 2,
        "days": 180,
        "day_cap": 2,
        "total_cap": 6,
    },
    "withdrawals": {
        "on": ev.EVENT_TYPE_CONSENT_CHANGED,
        "condition": 'event.fact.status == "withdrawn"',
        "weight": -4,
        "days": 180,
        "day_cap": 4,
        "total_cap": 12,
    },
    "broken_promises": {
        "on": ev.EVENT_TYPE_EXPECTATION_RESOLVED,
        "condition": 'event.fact.outcome == "broken"',
        "weight": -4,
        "days": 45,
        "total_cap": 20,
    },
}
