"""What is known when an event is judged, and the scopes in which rules look at it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from libs.expressions import EVENTS, Reads, Scope
from services.notification.domain.customers import seen_by_customer, without_fact
from services.notification.domain.rules import CompiledRule

Value = Mapping[str, Any]
"""An event as expressions see it."""

EVERYTHING: Final[Mapping[str, Reads]] = dict.fromkeys(EVENTS, Reads(None, None))
"""That every field of every event is read."""

_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when an event is judged: what was recorded up to it, and nothing later.

    Attributes:
        event: The event.
        occurred_at_us: When it happened, in microseconds since 1970.
        now: When it was recorded.
        recent: Earlier events of its customer, the newest first, each with when it happened.
        attributes: What is known of the customer, by name.
        consents: What the customer allows: by purpose, by channel or `every`, granted or withdrawn.
        scores: The levels that the customer's scores crossed last: by model, `value` and `level`.
    """

    event: Value
    occurred_at_us: int
    now: datetime
    recent: Sequence[tuple[int, Value]] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    consents: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def recent_within(self, window_us: int) -> list[Value]:
        """Return the recent events of a window before the event, the newest first."""
        since_us = self.occurred_at_us - window_us
        return [value for at_us, value in self.recent if at_us >= since_us]

    def for_customer(self) -> "Known":
        """Return what the customer may see of it."""
        seen = [(at_us, seen_by_customer(value)) for at_us, value in self.recent]
        return Known(
            seen_by_customer(self.event) or without_fact(self.event),
            self.occurred_at_us,
            self.now,
            [(at_us, value) for at_us, value in seen if value is not None],
            self.attributes,
            self.consents,
            _NOTHING,
        )


class Scopes:
    """The scopes of one event, which rules share: to convert an event costs more than to judge it.

    Args:
        known: What is known.
        reads: What the rules read of events, by the names that hold them: the rest of these is not
            converted. Default: everything.
    """

    def __init__(self, known: Known, reads: Mapping[str, Reads] = EVERYTHING) -> None:
        self._known = known
        self._reads = reads
        self._shared: dict[int, tuple[Scope, set[str]]] = {}
        self._customers: Scopes | None = None

    def shared(self, rule: CompiledRule) -> Scope:
        """Return a scope with what a rule needs, and maybe with named values of other rules."""
        window = rule.window_us if "recent" in rule.needs else 0
        scope, given = self._shared.setdefault(window, (Scope({}), set()))
        for name in sorted(rule.needs - given):
            scope.set(name, self._value(name, rule))
            given.add(name)
        return scope

    def fresh(self, rule: CompiledRule) -> Scope:
        """Return a scope with what a rule needs, and nothing else."""
        return Scope({name: self._value(name, rule) for name in rule.needs})

    def for_customer(self) -> "Scopes":
        """Return the scopes of what the customer may see."""
        if self._customers is None:
            self._customers = Scopes(self._known.for_customer(), self._reads)
        return self._customers

    def shows_customers_all(self, rule: CompiledRule) -> bool:
        """Say whether the customer may see everything that a rule looks at."""
        customers = self.for_customer()
        return all(self._value(name, rule) == customers._value(name, rule) for name in rule.needs)

    def _value(self, name: str, rule: CompiledRule) -> object:
        if name == "recent":
            recent = self._known.recent_within(rule.window_us)
            return [self._reads[name].of(value) for value in recent]
        if name == "event":
            return self._reads[name].of(self._known.event)
        return getattr(self._known, name)
