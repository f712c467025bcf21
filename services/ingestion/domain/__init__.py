"""The rules an event must keep, and what is said of one that does not.

The limits are those of the comments in touchline.events.v1. Descriptions never repeat a value: they
are kept, listed and logged.
"""

from services.ingestion.domain.aggregates import (
    AGGREGATE_RULES,
    identify_stream,
    of_aggregate,
    place_violations,
)
from services.ingestion.domain.custom_events import type_violations
from services.ingestion.domain.decisions import DECISION_RULES, SERVICE_RULES
from services.ingestion.domain.event import (
    MAX_AHEAD_SECONDS,
    MAX_EVENT_BYTES,
    MAX_IDENTITIES,
    MAX_VIOLATIONS,
    identify,
    named_keys,
    occurred_at_us,
    violations_of,
)
from services.ingestion.domain.facts import CALLER_RULES, Rule
from services.ingestion.domain.rules import Violation

__all__ = [
    "AGGREGATE_RULES",
    "CALLER_RULES",
    "DECISION_RULES",
    "MAX_AHEAD_SECONDS",
    "MAX_EVENT_BYTES",
    "MAX_IDENTITIES",
    "MAX_VIOLATIONS",
    "SERVICE_RULES",
    "Rule",
    "Violation",
    "identify",
    "identify_stream",
    "named_keys",
    "occurred_at_us",
    "of_aggregate",
    "place_violations",
    "type_violations",
    "violations_of",
]
