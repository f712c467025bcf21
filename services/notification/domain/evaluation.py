"""What a rule makes of an event. Pure: the same is known, the same comes out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from libs.expressions import EvaluationError, Scope, Template
from services.notification.domain.binding import Bound, Failed, Stopwatch, TooLong, bind
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

MAX_SECONDS: Final = 0.25
"""How long one rule may take on one event, in seconds of this thread's work."""

_MAX_TITLE: Final = 500
_MAX_TEXT: Final = 10_000
_MAX_REASON: Final = 2000
_MAX_PROMISE: Final = 1000
_TOO_LONG: Final = (
    f"took longer than {MAX_SECONDS * 1000:.0f} ms: a shorter window, exists in place of filter, "
    "or fewer macros within macros are faster"
)


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
        promise: What the customer may expect from now on, in words that they may see; empty:
            nothing.
    """

    verdict: RuleVerdict.ValueType
    reason: str
    values: tuple[NamedValue, ...] = ()
    told: tuple[Told, ...] = ()
    promise: str = ""


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


def evaluate(
    rule: CompiledRule,
    scopes: Scopes,
    chain: Sequence[str] = (),
    clock: Callable[[], float] = time.thread_time,
) -> Evaluation:
    """Return what a rule makes of an event that its filter lets through and that is not too old.

    Args:
        rule: The rule.
        scopes: The event, and what is known.
        chain: The rules that led to the event.
        clock: Tells how long it takes. Default: what this thread works, so that a rule does not
            fail because others keep the machine busy.
    """
    if stopped := _stopped(rule, chain):
        return Evaluation(RULE_VERDICT_STOPPED, stopped)
    try:
        return _evaluated(rule, scopes, Stopwatch(clock, clock() + MAX_SECONDS))
    except TooLong:
        return Evaluation(RULE_VERDICT_FAILED, _TOO_LONG)


def _evaluated(rule: CompiledRule, scopes: Scopes, stopwatch: Stopwatch) -> Evaluation:
    bound = bind(rule, scopes, stopwatch)
    values = bound.named()
    try:
        if rule.condition and not bound.run(rule.condition, rule.condition.test, "condition"):
            return Evaluation(RULE_VERDICT_NOT_MATCHED, _what_is_false(rule, bound), values)
        reason = bound.text(rule.reason, _MAX_REASON, "reason")
    except Failed as failed:
        return Evaluation(RULE_VERDICT_FAILED, str(failed), values)
    # What customers may see is bound when something is for them; most is not.
    for_customer = cache(
        lambda: (
            bound
            if scopes.shows_customers_all(rule)
            else bind(rule, scopes.for_customer(), stopwatch)
        )
    )
    told, failures = _tell(rule, bound, for_customer, reason)
    promise = ""
    if rule.promise is not None:
        try:
            promise = _some(for_customer(), rule.promise, _MAX_PROMISE, "expect.promise")
        except Failed as failed:
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


def _what_is_false(rule: CompiledRule, bound: Bound) -> str:
    for source, expression in rule.conjuncts:
        try:
            if bound.run(expression, expression.test, source):
                continue
        except Failed:
            continue
        used = [name for name in bound.values if name in expression.names]
        values = ", ".join(f"{name} is {bound.values[name]}" for name in used)
        return f"{source} is false" + (f": {values}" if values else "")
    return "the condition is false"


def _tell(
    rule: CompiledRule, bound: Bound, for_customer: Callable[[], Bound], reason: str
) -> tuple[tuple[Told, ...], list[str]]:
    """Return the notices that could be rendered, and why others could not."""
    told, failures = list[Told](), list[str]()
    for index, notice in enumerate(rule.notices):
        at = f"notices[{index}]"
        try:
            if notice.definition.customer:
                told.append(_told_to_customer(rule, for_customer(), notice, index))
            elif reference := _reference(bound, notice, at):
                recipient = NotificationRecipient(reference=reference)
                told.append(_told(bound, notice, index, recipient, reason))
        except Failed as failed:
            failures.append(str(failed))
    return tuple(told), failures


def _reference(bound: Bound, notice: CompiledNotice, at: str) -> str:
    if notice.recipient is None:
        return notice.definition.reference
    reference = bound.run(notice.recipient, notice.recipient.evaluate, f"{at}.expression")
    if reference == "":
        return ""
    if not isinstance(reference, str) or not is_reference(reference):
        raise Failed(f"{at}.expression: gives no reference to an employee or a team")
    return reference


def _told_to_customer(rule: CompiledRule, bound: Bound, notice: CompiledNotice, index: int) -> Told:
    try:
        reason = bound.text(rule.reason, _MAX_REASON, "reason")
    except Failed:
        if notice.text is None:
            raise
        reason = ""  # it tells what customers may not see
    return _told(bound, notice, index, NotificationRecipient(customer=True), reason)


def _told(
    bound: Bound,
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
        title=_some(bound, notice.title, _MAX_TITLE, f"{at}.title"),
        text=bound.text(notice.text, _MAX_TEXT, f"{at}.text") if notice.text else reason,
        reason=reason,
        values=bound.named(),
    )


def _some(bound: Bound, template: Template, most: int, what: str) -> str:
    """Return a template's text, of which there must be some.

    Raises:
        Failed: it fails, or there is none.
    """
    text = bound.text(template, most, what)
    if not text.strip():
        raise Failed(f"{what}: is empty on this event")
    return text
