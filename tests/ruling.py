"""Rules in few words, and what they make of touches, for tests that read given / when / then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import ParseDict

from libs.expressions import event_value
from services.notification.domain.evaluation import Evaluation, Told, evaluate
from services.notification.domain.knowledge import attributes_in, consents_in, scores_in
from services.notification.domain.rules import InvalidRule, compile_rule
from services.notification.domain.scopes import Known, Scopes
from services.profile.domain import Touch
from tests.given import KEY, words
from touchline.events.v1.event_pb2 import Event, EventType
from touchline.notification.v1.notification_pb2 import RuleDefinition

EXAMPLES: Final = Path(__file__).parents[1] / "examples" / "rules"
CUSTOMER: Final = {"customer": True}
TEAM: Final = {"reference": "team:fraud"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def example(name: str) -> RuleDefinition:
    """A rule of examples/rules."""
    return ParseDict(json.loads((EXAMPLES / f"{name}.json").read_text()), RuleDefinition())


def a_rule(*types: str, **said: Any) -> RuleDefinition:
    """A valid rule; every field can be given by name, as JSON has it."""
    on = {"types": [f"EVENT_TYPE_{name.upper()}" for name in types or ("interaction",)]}
    told = {"name": "a-rule", "on": on, "reason": "because", **said}
    return ParseDict(told, RuleDefinition())


def notice(to: Mapping[str, Any] = TEAM, **said: Any) -> dict[str, Any]:
    """A notice; every field can be given by name, as JSON has it."""
    return {**to, "title": "Look", **said}


def wrong_with(definition: RuleDefinition) -> dict[str, str]:
    """What is wrong with a rule: descriptions by path."""
    try:
        compile_rule(definition, path="")
    except InvalidRule as error:
        return {path.removeprefix("."): told for path, told in error.violations}
    return {}


def known(event: Touch, *before: Touch, late: timedelta = timedelta()) -> Known:
    """What is known when an event is judged after others."""
    told: list[Event] = [one.event for one in before]
    return Known(
        event=event_value(event.event),
        occurred_at_us=event.occurred_at_us,
        now=_EPOCH + timedelta(microseconds=event.occurred_at_us) + late,
        recent=[
            (one.occurred_at_us, event_value(one.event))
            for one in sorted(before, key=lambda one: one.occurred_at_us, reverse=True)
        ],
        attributes=attributes_in(told),
        consents=consents_in(words(*before), [KEY]),
        scores=scores_in(told),
    )


def made_of(
    definition: RuleDefinition, event: Touch, *before: Touch, chain: Sequence[str] = ()
) -> Evaluation:
    """What a rule makes of an event, after others."""
    scopes = Scopes(known(event, *before))
    # No time passes: a pause of the test run is no rule's fault.
    return evaluate(compile_rule(definition, 3), scopes, chain, clock=float)


def told_to(evaluation: Evaluation, reference: str = "") -> Told:
    """The one notice to a reference, or to the customer."""
    (told,) = [one for one in evaluation.told if one.recipient.reference == reference]
    return told


def values_of(evaluation: Evaluation) -> dict[str, str]:
    """The named values by name."""
    return {value.name: value.value for value in evaluation.values}


def every_type() -> list[str]:
    """The types of events, as `a_rule` takes them."""
    return [name.removeprefix("EVENT_TYPE_").lower() for name in EventType.keys()[1:]]
