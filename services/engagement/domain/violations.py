"""What a scoring model must not say; each violation is a field path and what to do about it."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration

from libs.expressions import ExpressionError, compile_expression
from services.engagement.domain.model import NAMES
from services.engagement.domain.scoring import THOUSAND
from touchline.engagement.v1.engagement_pb2 import ModelDefinition, ScoreLevel, ScoringRule
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_AGGREGATE_CHANGED,
    EVENT_TYPE_AGGREGATE_SNAPSHOT,
    EVENT_TYPE_EVENT_RETRACTED,
    EVENT_TYPE_SCORE_CROSSED,
)
from touchline.filters import filter_violations

MAX_RULES: Final = 50
MAX_LEVELS: Final = 10
MAX_DESCRIPTION: Final = 1_000
MAX_CONDITION: Final = 2_000
MAX_WEIGHT: Final = 1_000.0
# What fits in a bigint as thousandths, with all the room there is.
_MAX_POINTS: Final = 1e9
_NS: Final = 1_000_000_000
_MAX_HALF_LIFE_NS: Final = 3_653 * 86_400 * _NS
_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_NAMED: Final = "must be 1 to 64 lower-case letters, digits, - and _"

# What can't be counted, and why.
_UNCOUNTED: Final = {
    EVENT_TYPE_AGGREGATE_CHANGED: "belongs to no customer",
    EVENT_TYPE_AGGREGATE_SNAPSHOT: "belongs to no customer",
    EVENT_TYPE_EVENT_RETRACTED: "takes back what another event gave, and gives nothing itself",
    EVENT_TYPE_SCORE_CROSSED: "follows from scores: a score that counts it could move for ever",
}

Violation = tuple[str, str]


def violations(definition: ModelDefinition, path: str = "definition") -> list[Violation]:
    """Return everything that is wrong with a definition.

    Args:
        definition: The caller's.
        path: Its field in the request.
    """
    return list(_violations(definition, f"{path}."))


def name_violation(name: str) -> str:
    """Return what is wrong with a model's name; empty when nothing is."""
    return "" if _NAME.fullmatch(name) else _NAMED


def _violations(definition: ModelDefinition, path: str) -> Iterator[Violation]:
    if not _NAME.fullmatch(definition.name):
        yield f"{path}name", _NAMED
    if len(definition.description) > MAX_DESCRIPTION:
        yield f"{path}description", f"is longer than {MAX_DESCRIPTION:,} characters; shorten it"
    if not definition.rules:
        yield f"{path}rules", f"has no entries; give 1 to {MAX_RULES}"
    if len(definition.rules) > MAX_RULES:
        yield f"{path}rules", f"has {len(definition.rules)} entries; give at most {MAX_RULES}"
        return  # none of so many is looked at: they may be any number
    seen: set[str] = set()
    for index, rule in enumerate(definition.rules):
        yield from _rule(rule, f"{path}rules[{index}].", seen)
    yield from _levels(definition.levels, path)


def _rule(rule: ScoringRule, path: str, seen: set[str]) -> Iterator[Violation]:
    yield from _name(rule.name, path, seen)
    if rule.weight == 0:
        yield f"{path}weight", "is missing or 0; give the points of one event"
    else:
        yield from _points(rule.weight, f"{path}weight", -MAX_WEIGHT, MAX_WEIGHT)
    if rule.HasField("half_life"):
        yield from _half_life(rule.half_life, f"{path}half_life")
    for name, cap in (("day_cap", rule.day_cap), ("total_cap", rule.total_cap)):
        yield from _points(cap, f"{path}{name}", 0, _MAX_POINTS)
    yield from filter_violations(rule.on, f"{path}on")
    for index, type_ in enumerate(rule.on.types):
        if type_ in _UNCOUNTED:
            yield f"{path}on.types[{index}]", f"can't be counted: it {_UNCOUNTED[type_]}"
    yield from _condition(rule.condition, f"{path}condition")


def _name(name: str, path: str, seen: set[str]) -> Iterator[Violation]:
    if not _NAME.fullmatch(name):
        yield f"{path}name", _NAMED
    elif name in seen:
        yield f"{path}name", "is taken by another one before; give each a name of its own"
    seen.add(name)


def _points(value: float, path: str, least: float, most: float) -> Iterator[Violation]:
    if not math.isfinite(value):
        yield path, "is not a finite number"
    elif not least <= value <= most:
        yield path, f"must be from {least:,.0f} to {most:,.0f}"
    elif round(value * THOUSAND) / THOUSAND != value:
        yield path, "has more than three decimals; give whole thousandths"


def _half_life(half_life: Duration, path: str) -> Iterator[Violation]:
    nanoseconds = half_life.seconds * _NS + half_life.nanos
    if not -_NS < half_life.nanos < _NS:
        yield path, "is no duration: its nanos are out of range"
    elif nanoseconds <= 0:
        yield path, "must be more than 0; leave it empty for points that never fade"
    elif nanoseconds > _MAX_HALF_LIFE_NS:
        yield path, "must be at most 10 years; leave it empty for points that never fade"


def _condition(source: str, path: str) -> Iterator[Violation]:
    if len(source) > MAX_CONDITION:
        yield path, f"is longer than {MAX_CONDITION:,} characters; shorten it"
    elif source:
        try:
            compile_expression(source, NAMES)
        except ExpressionError as error:
            yield path, f"does not compile: {error}"


def _levels(levels: Sequence[ScoreLevel], path: str) -> Iterator[Violation]:
    if len(levels) > MAX_LEVELS:
        yield f"{path}levels", f"has {len(levels)} entries; give at most {MAX_LEVELS}"
        return
    seen: set[str] = set()
    below = 0.0
    for index, level in enumerate(levels):
        yield from _name(level.name, f"{path}levels[{index}].", seen)
        where = f"{path}levels[{index}].from_score"
        if not math.isfinite(level.from_score):
            yield where, "is not a finite number"
        elif level.from_score <= 0:
            yield where, "must be more than 0"
        elif level.from_score <= below:
            yield where, "must be more than the level's before: levels come by rising score"
        else:
            below = level.from_score
