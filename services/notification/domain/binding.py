"""A rule's named values in a scope, and what else is computed with them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from libs.expressions import EvaluationError, Expression, Scope, Template, shown
from services.notification.domain.rules import CompiledRule
from services.notification.domain.scopes import Scopes
from touchline.events.v1.decisions_pb2 import NamedValue

_MAX_VALUE: Final = 200

Result = TypeVar("Result")


class Failed(Exception):
    """An expression failed; the text says which and why, and holds nothing of the event."""


class TooLong(Exception):
    """A rule takes too long on an event."""


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Stops a rule that takes too long, between its expressions: one alone can't be stopped.

    Attributes:
        clock: Gives a time in seconds.
        until: When it is too late by that clock.
    """

    clock: Callable[[], float]
    until: float

    def look(self) -> None:
        """Go on, if it is not too late.

        Raises:
            TooLong: it is.
        """
        if self.clock() > self.until:
            raise TooLong


@dataclass(slots=True)
class Bound:
    """A rule's named values in a scope.

    Attributes:
        scope: Holds what the rule needs.
        stopwatch: Looked at after each expression.
        waiting: Named values that are not in the scope yet. To add one is dear when much is in it,
            so those that nothing uses never are.
        values: Those that could be computed, as readers see them.
        failed: Why the others could not, by name.
    """

    scope: Scope
    stopwatch: Stopwatch
    waiting: dict[str, object] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, code: Expression | Template, act: Callable[[Scope], Result], what: str) -> Result:
        """Do something with an expression.

        Args:
            code: The expression or template.
            act: What to do in the scope.
            what: Names the expression in what is said when it fails.

        Raises:
            Failed: it fails, or what it uses failed before.
            TooLong: it is too late now.
        """
        for name in self.waiting.keys() & code.names:
            self.scope.set(name, self.waiting.pop(name))
        try:
            return act(self.scope)
        except EvaluationError as error:
            told = next((self.failed[name] for name in self.failed if name in code.names), None)
            raise Failed(told or f"{what}: {error}") from error
        finally:
            self.stopwatch.look()

    def text(self, template: Template, most: int, what: str) -> str:
        """Return a template's text, cut to so many characters.

        Raises:
            Failed: it fails, or what it uses failed before.
        """
        return _cut(self.run(template, template.render, what), most)

    def named(self) -> tuple[NamedValue, ...]:
        """Return the named values in their order."""
        return tuple(NamedValue(name=name, value=text) for name, text in self.values.items())


def bind(rule: CompiledRule, scopes: Scopes, stopwatch: Stopwatch) -> Bound:
    """Return a rule's named values, computed in their order.

    Raises:
        TooLong: it takes too long.
    """
    bound, given = Bound(scopes.shared(rule), stopwatch), dict[str, object]()
    for name, expression in rule.lets:
        try:
            value = bound.run(expression, expression.evaluate, f"let {name}")
        except Failed as failed:
            if not bound.failed:
                # The shared scope may hold another rule's value of this name.
                bound.scope, bound.waiting = scopes.fresh(rule), dict(given)
            bound.failed[name] = str(failed)
        else:
            given[name] = bound.waiting[name] = value
            bound.values[name] = _shown(value)
    return bound


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _shown(value: object) -> str:
    """Return a named value as a reader sees it."""
    if value in ("", None) or value == []:
        return "nothing"
    try:
        return _cut(shown(value), _MAX_VALUE)
    except EvaluationError:
        pass
    if isinstance(value, Mapping):
        return _cut(_map(value), _MAX_VALUE)
    return f"{len(value)} of them" if isinstance(value, Collection) else "a value"


def _map(value: Mapping[str, Any]) -> str:
    """Return what is told of an event, or of a map of the rule's own."""
    kind, at, location = value.get("type"), value.get("at"), value.get("location")
    if not isinstance(kind, str) or not isinstance(at, datetime):
        return "a map"
    place = location.get("name") if isinstance(location, Mapping) else None
    return f"{kind} {shown(at)}" + (f" in {place}" if isinstance(place, str) and place else "")
