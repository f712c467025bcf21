"""Events about an expectation, reduced to what says how it stands."""

from dataclasses import dataclass
from typing import Final

from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Event
from touchline.events.v1.facts_pb2 import (
    EXPECTATION_OUTCOME_BROKEN,
    EXPECTATION_OUTCOME_UNSPECIFIED,
    ExpectationOutcome,
)
from touchline.times import micros_of

SET: Final = EXPECTATION_OUTCOME_UNSPECIFIED
"""Stands for "it was set" where others have an outcome."""

DECIDED_BY: Final = "notification"
"""The source of what is decided when a deadline passes."""


@dataclass(frozen=True, slots=True)
class Telling:
    """An event that set, changed or ended an expectation.

    Attributes:
        event_id: Its UUID, 16 bytes.
        occurred_at_us: When it happened, in microseconds since 1970.
        outcome: How it ended or changed; SET when it was set.
        due_at_us: The deadline it set; 0 when it set none.
        by_deadline: Whether a deadline decided it, rather than a person or another system.
        recorded_at_us: When the store accepted it; 0 is enough for those who decide nothing.
        historical: Whether it is of the past, told late; for those who decide, too.
    """

    event_id: bytes
    occurred_at_us: int
    outcome: ExpectationOutcome.ValueType = SET
    due_at_us: int = 0
    by_deadline: bool = False
    recorded_at_us: int = 0
    historical: bool = False


def telling_of(
    event: Event,
    event_id: bytes,
    occurred_at_us: int,
    *,
    recorded_at_us: int = 0,
    historical: bool = False,
) -> Telling | None:
    """Return what an event tells of an expectation; None when it tells of none.

    It reads the fact's outcome and deadline, and of the envelope the source and the actor's kind;
    a copy of the event that holds these is enough. The other arguments are as in `Telling`.
    """
    if event.HasField("expectation_set"):
        outcome, due_at = SET, event.expectation_set.due_at
    elif event.expectation_resolved.outcome:
        ended = event.expectation_resolved
        outcome, due_at = ended.outcome, ended.due_at
    else:
        return None
    return Telling(
        event_id,
        occurred_at_us,
        outcome,
        micros_of(due_at),
        by_deadline=_by_deadline(event),
        recorded_at_us=recorded_at_us,
        historical=historical,
    )


def _by_deadline(event: Event) -> bool:
    return (
        event.expectation_resolved.outcome == EXPECTATION_OUTCOME_BROKEN
        and event.source == DECIDED_BY
        and event.actor.kind == ACTOR_KIND_SYSTEM
    )
