"""A scoring model, ready to be applied to events."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from libs.expressions import (
    NOTHING,
    EvaluationError,
    Expression,
    Reads,
    Scope,
    compile_expression,
    event_value,
    together,
)
from services.engagement.domain.scoring import THOUSAND, DaySum, Scored, Terms, score
from touchline.engagement.v1.engagement_pb2 import ModelDefinition, ScoringRule
from touchline.events.v1.event_pb2 import Event
from touchline.filters import Filter, compile_filter
from touchline.store.v1.store_pb2 import RecordedEvent

NAMES = frozenset({"event"})
"""What conditions may name."""

_Kind = tuple[int, int, int, int]


class Candidates(NamedTuple):
    """The rules whose filters an event passes, by their places in the model.

    Attributes:
        certain: Those without a condition.
        conditional: Those whose condition the opened event must meet.
    """

    certain: tuple[int, ...]
    conditional: tuple[int, ...]


_NONE = Candidates((), ())


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its name, its numbers, and which events it counts."""

    name: str
    terms: Terms
    on: Filter
    condition: Expression | None


@dataclass(frozen=True, slots=True)
class Model:
    """A scoring model, ready to be applied.

    Attributes:
        name: Its name.
        rules: Its rules, in its order.
        levels: From which score on each level is reached, by rising score.
    """

    name: str
    rules: tuple[Rule, ...]
    levels: tuple[tuple[float, str], ...]
    # What conditions read: handing them the rest costs most of what evaluating costs.
    _reads: Reads = NOTHING
    # Envelopes are few sorts: a channel here, a direction there.
    _candidates: dict[_Kind, Candidates] = field(default_factory=dict, repr=False)
    # Made once: it knows the functions that conditions may call.
    _scope: Scope = field(default_factory=lambda: Scope({}), repr=False, compare=False)

    @property
    def terms(self) -> tuple[Terms, ...]:
        """The rules' numbers."""
        return tuple(rule.terms for rule in self.rules)

    def candidates(self, record: RecordedEvent) -> Candidates:
        """Return the rules that may count an event, by its envelope alone."""
        if record.retracts:  # it takes points away, and can't give any
            return _NONE
        kind = (record.type, record.channel, record.direction, record.visibility)
        known = self._candidates.get(kind)
        if known is None:
            passed = [n for n, rule in enumerate(self.rules) if rule.on.passes(record)]
            known = self._candidates[kind] = Candidates(
                tuple(n for n in passed if self.rules[n].condition is None),
                tuple(n for n in passed if self.rules[n].condition is not None),
            )
        return known

    def met(self, rules: Sequence[int], event: Event) -> tuple[int, ...]:
        """Return those of some rules whose condition an event meets; one that fails is not met."""
        self._scope.set("event", self._reads.of(event_value(event)))
        return tuple(number for number in rules if self._holds(number))

    def score(self, sums: Sequence[DaySum], today: int) -> Scored:
        """Return the score of what was counted, on a day since 1970."""
        return score(self.terms, sums, today)

    def level_of(self, points: float) -> str:
        """Return the level of a score; empty below every level."""
        reached = [name for from_score, name in self.levels if points >= from_score]
        return reached[-1] if reached else ""

    def _holds(self, number: int) -> bool:
        condition = self.rules[number].condition
        try:
            return condition is None or condition.test(self._scope)
        except EvaluationError:
            return False


def compile_model(definition: ModelDefinition) -> Model:
    """Return a definition, of which `violations` finds none, ready to be applied."""
    rules = tuple(_rule(rule) for rule in definition.rules)
    conditions = [rule.condition for rule in rules if rule.condition is not None]
    return Model(
        name=definition.name,
        rules=rules,
        levels=tuple((level.from_score, level.name) for level in definition.levels),
        _reads=together(one.followed.reads for one in conditions).get("event", NOTHING),
    )


def _rule(rule: ScoringRule) -> Rule:
    half_life = rule.half_life
    terms = Terms(
        weight=round(rule.weight * THOUSAND),
        half_life_ns=half_life.ToNanoseconds() if rule.HasField("half_life") else None,
        day_cap=round(rule.day_cap * THOUSAND) or None,
        total_cap=round(rule.total_cap * THOUSAND) or None,
    )
    condition = compile_expression(rule.condition, NAMES) if rule.condition else None
    return Rule(rule.name, terms, compile_filter(rule.on), condition)
