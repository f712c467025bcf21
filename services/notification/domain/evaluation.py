"""What a rule makes of an event. Pure: the same is known, the same comes out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from libs.expressions import EvaluationError, Expression, Scope, Template, shown
from services.notification.domain.rule_checks import is_reference
from services.notification.domain.rules import CompiledNotice, CompiledRule
from services.notification.domain.scopes import Scopes
from touchline.events.v1.decisions_pb2 import (
    NOTIFICATION_KIND_ALERT,
    NamedValue,
    NotificationKind,
    NotificationRecipient,
)
from touchline.notification.v1.notification_pb2 import (
    RULE_VERDICT_FAILED,
    RULE_VERDICT_MATCHED,
    RULE_VERDICT_NOT_MATCHED,
    RULE_VERDICT_STOPPED,
    RuleVerdict,
)

MAX_CHAIN: Final = 16
"""How many rules may lead to one decision."""

_MAX_TITLE: Final = 500
_MAX_TEXT: Final = 10_000
_MAX_REASON: Final = 2000
_MAX_PROMISE: Final = 1000
_MAX_VALUE: Final = 200

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Told:
    """A notice as a rule renders it.

    Attributes:
        notice: Which one, from 0.
        recipient: Who is told.
        kind: What it asks.
        title: The headline.
        text: The text.
        reason: Why it matters, in the words that the recipient may see.
        values: The named values that the recipient may see.
    """

    notice: int
    recipient: NotificationRecipient
    kind: NotificationKind.ValueType
    title: str
    text: str
    reason: str
    values: tuple[NamedValue, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out.

    Attributes:
        verdict: What the rule makes of the event.
        reason: Why: the rule's own reason, or what was false or failed.
        values: The named values that could be computed.
        told: Whom the rule tells; those of its notices that could be rendered.
        promise: What the customer may expect from now on; empty: nothing.
    """

    verdict: RuleVerdict.ValueType
    reason: str
    values: tuple[NamedValue, ...] = ()
    told: tuple[Told, ...] = ()
    promise: str = ""


class _Failed(Exception):
    """An expression failed; the text says which and why, and holds nothing of the event."""


@dataclass(slots=True)
class _Bound:
    """A rule's named values in a scope.

    Attributes:
        scope: Holds those that could be computed, and no other rule's.
        values: The same, as readers see them.
        failed: Why the others could not, by name.
    """

    scope: Scope
    values: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, code: Expression | Template, act: Callable[[Scope], Result], what: str) -> Result:
        """Do something with an expression.

        Raises:
            _Failed: it fails, or what it uses failed before.
        """
        try:
            return act(self.scope)
        except EvaluationError as error:
            told = next((self.failed[name] for name in self.failed if name in code.names), None)
            raise _Failed(told or f"{what}: {error}") from error

    def named(self) -> tuple[NamedValue, ...]:
        """Return the named values in their order."""
        return tuple(NamedValue(name=name, value=text) for name, text in self.values.items())


def can_match(rule: CompiledRule, event: Scope) -> bool:
    """Say whether a rule's condition can be true, by those of its parts that need the event alone.

    What else a rule wants to know is then not loaded for most events. A part that fails says
    nothing: the whole condition may be false all the same.

    Args:
        rule: The rule.
        event: A scope with the event.
    """
    for part in rule.quick:
        try:
            if not part.test(event):
                return False
        except EvaluationError:
            continue
    return True


def evaluate(rule: CompiledRule, scopes: Scopes, chain: Sequence[str] = ()) -> Evaluation:
    """Return what a rule makes of an event that its filter lets through and that is not too old.

    Args:
        rule: The rule.
        scopes: The event, and what is known.
        chain: The rules that led to the event.
    """
    if stopped := _stopped(rule, chain):
        return Evaluation(RULE_VERDICT_STOPPED, stopped)
    bound = _bind(rule, scopes)
    values = bound.named()
    try:
        if rule.condition and not bound.run(rule.condition, rule.condition.test, "condition"):
            return Evaluation(RULE_VERDICT_NOT_MATCHED, _what_is_false(rule, bound), values)
        reason = _text(bound, rule.reason, _MAX_REASON, "reason")
    except _Failed as failed:
        return Evaluation(RULE_VERDICT_FAILED, str(failed), values)
    told, failures = _tell(rule, bound, scopes, reason)
    promise = ""
    if rule.promise is not None:
        try:
            promise = _text(bound, rule.promise, _MAX_PROMISE, "expect.promise")
        except _Failed as failed:
            failures.append(str(failed))
    if failures:
        return Evaluation(RULE_VERDICT_FAILED, "; ".join(failures), values, told, promise)
    return Evaluation(RULE_VERDICT_MATCHED, reason, values, told, promise)


def _stopped(rule: CompiledRule, chain: Sequence[str]) -> str:
    if rule.name in chain:
        return f"the event came of this rule ({' → '.join(chain)}): it would trigger itself"
    if len(chain) >= MAX_CHAIN:
        return f"{len(chain)} rules led to the event, and no more than {MAX_CHAIN} may"
    return ""


def _bind(rule: CompiledRule, scopes: Scopes) -> _Bound:
    bound, given = _Bound(scopes.shared(rule)), list[tuple[str, object]]()
    for name, expression in rule.lets:
        try:
            value = bound.run(expression, expression.evaluate, f"let {name}")
        except _Failed as failed:
            if not bound.failed:
                # The shared scope may hold another rule's value of this name.
                bound.scope = scopes.fresh(rule)
                for known in given:
                    bound.scope.set(*known)
            bound.failed[name] = str(failed)
            continue
        bound.scope.set(name, value)
        given.append((name, value))
        bound.values[name] = _shown(value)
    return bound


def _what_is_false(rule: CompiledRule, bound: _Bound) -> str:
    for source, expression in rule.conjuncts:
        try:
            if expression.test(bound.scope):
                continue
        except EvaluationError:
            continue
        used = [name for name in bound.values if name in expression.names]
        values = ", ".join(f"{name} is {bound.values[name]}" for name in used)
        return f"{source} is false" + (f": {values}" if values else "")
    return "the condition is false"


def _tell(
    rule: CompiledRule, bound: _Bound, scopes: Scopes, reason: str
) -> tuple[tuple[Told, ...], list[str]]:
    """Return the notices that could be rendered, and why others could not."""
    told, failures = list[Told](), list[str]()
    customers: _Bound | None = None
    for index, notice in enumerate(rule.notices):
        at = f"notices[{index}]"
        try:
            if notice.definition.customer:
                customers = customers or _bind(rule, scopes.for_customer())
                told.append(_told_to_customer(rule, customers, notice, index))
            elif reference := _reference(bound, notice, at):
                recipient = NotificationRecipient(reference=reference)
                told.append(_told(bound, notice, index, recipient, reason))
        except _Failed as failed:
            failures.append(str(failed))
    return tuple(told), failures


def _reference(bound: _Bound, notice: CompiledNotice, at: str) -> str:
    if notice.recipient is None:
        return notice.definition.reference
    reference = bound.run(notice.recipient, notice.recipient.evaluate, f"{at}.expression")
    if reference == "":
        return ""
    if not isinstance(reference, str) or not is_reference(reference):
        raise _Failed(f"{at}.expression: gives no reference to an employee or a team")
    return reference


def _told_to_customer(
    rule: CompiledRule, bound: _Bound, notice: CompiledNotice, index: int
) -> Told:
    try:
        reason = _text(bound, rule.reason, _MAX_REASON, "reason")
    except _Failed:
        if notice.text is None:
            raise
        reason = ""  # it tells what customers may not see
    return _told(bound, notice, index, NotificationRecipient(customer=True), reason)


def _told(
    bound: _Bound,
    notice: CompiledNotice,
    index: int,
    recipient: NotificationRecipient,
    reason: str,
) -> Told:
    at = f"notices[{index}]"
    return Told(
        notice=index,
        recipient=recipient,
        kind=notice.definition.kind or NOTIFICATION_KIND_ALERT,
        title=_text(bound, notice.title, _MAX_TITLE, f"{at}.title"),
        text=_text(bound, notice.text, _MAX_TEXT, f"{at}.text") if notice.text else reason,
        reason=reason,
        values=bound.named(),
    )


def _text(bound: _Bound, template: Template, most: int, what: str) -> str:
    return _cut(bound.run(template, template.render, what), most)


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
        return _cut(_event(value), _MAX_VALUE) if "type" in value and "at" in value else "a map"
    return f"{len(value)} of them" if isinstance(value, Collection) else "a value"


def _event(value: Mapping[str, Any]) -> str:
    place = value.get("location", {}).get("name", "")
    return f"{value['type']} {shown(value['at'])}" + (f" in {place}" if place else "")
