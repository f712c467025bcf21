"""How an expectation stands: a fold of what set, changed and ended it.

The order of arrival never matters: what is told of an expectation is taken in the order of
(occurred_at, event_id), and the last word counts. So:

- The content is the last telling's that set it; the deadline, too, until it is renegotiated.
- Broken by a deadline holds for exactly that deadline, and only if the expectation was open then:
  what was kept in time is kept, though the proof came later.
- Kept after a deadline that broke it stays broken, and it is said that it was kept late.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import reduce
from operator import attrgetter
from typing import Final

from libs.expectations.tellings import SET, Telling
from touchline.events.v1.facts_pb2 import ExpectationOutcome
from touchline.notification.v1.notification_pb2 import (
    EXPECTATION_STATE_BROKEN,
    EXPECTATION_STATE_KEPT,
    EXPECTATION_STATE_OPEN,
    EXPECTATION_STATE_WITHDRAWN,
    ExpectationState,
)

PAST_US: Final = 86_400_000_000
"""What was due longer than this before it was recorded is of the past: nothing is decided of it."""

_in_order: Final = attrgetter("occurred_at_us", "event_id")


class Remark(IntEnum):
    """What is to be said of a state besides the reason that was told."""

    NONE = 0
    KEPT_LATE = 1
    PROOF_CAME_LATE = 2


_REMARKS: Final = {
    Remark.KEPT_LATE: "kept after the deadline",
    Remark.PROOF_CAME_LATE: "kept in time, which was known only after it had been called broken",
}


def in_words(remark: Remark, reason: str) -> str:
    """Return why an expectation stands so: the remark, and the reason that was told, if any."""
    return ": ".join(part for part in (_REMARKS.get(remark, ""), reason) if part)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an expectation stands.

    Attributes:
        first: The telling that set it first.
        content: The telling that says what is awaited.
        due: The telling that set the deadline.
        state: How it stands.
        ended: The telling that ended it; None while it is open.
        said: The telling whose reason counts; None when none does.
        remark: What is to be said besides.
        open_at_due: Whether nothing had ended it when the deadline passed, or has by now.
    """

    first: Telling
    content: Telling
    due: Telling
    state: ExpectationState.ValueType = EXPECTATION_STATE_OPEN
    ended: Telling | None = None
    said: Telling | None = None
    remark: Remark = Remark.NONE
    open_at_due: bool = True

    @property
    def due_at_us(self) -> int:
        """Until when, after the last renegotiation, in microseconds since 1970."""
        return self.due.due_at_us

    @property
    def acts(self) -> bool:
        """Whether anything may be decided of it: nothing is of the past.

        It depends on when the store accepted it and on no clock of ours: a deadline that passes
        while this service is down is still called broken, however long that takes.
        """
        told_late = self.due.recorded_at_us - self.due_at_us > PAST_US
        return not (self.content.historical or self.due.historical or told_late)

    @property
    def breakable(self) -> bool:
        """Whether it is to be called broken when its deadline passes.

        It is also when it was kept late: who wins that race must not decide what it is called.
        """
        undecided = self.state in (EXPECTATION_STATE_OPEN, EXPECTATION_STATE_KEPT)
        return self.acts and self.open_at_due and undecided

    @property
    def answerable(self) -> bool:
        """Whether an answer in time would keep it, even one that is told late."""
        return self.acts and self.state in (EXPECTATION_STATE_OPEN, EXPECTATION_STATE_BROKEN)

    @property
    def since_us(self) -> int:
        """Since when an answer counts: what came before a renegotiation had not kept it."""
        return 0 if self.due.outcome == SET else self.due.occurred_at_us


def standing(tellings: Iterable[Telling]) -> Standing | None:
    """Return how an expectation stands by all that was told of it; None when it was never set."""
    in_order = sorted(tellings, key=_in_order)
    sets = [one for one in in_order if one.outcome == SET]
    if not sets:
        return None
    ends = [one for one in in_order if one.outcome != SET and not one.by_deadline]
    start = Standing(first=sets[0], content=sets[-1], due=sets[-1])
    now = reduce(_after, ends, start)
    by_then = reduce(_after, [one for one in ends if one.occurred_at_us <= now.due_at_us], start)
    now = replace(now, open_at_due=by_then.state == EXPECTATION_STATE_OPEN)
    broken = [one for one in in_order if one.by_deadline and one.occurred_at_us == now.due_at_us]
    return _broken(now, broken[0]) if broken else now


def _after(now: Standing, told: Telling) -> Standing:
    plain = replace(now, said=told, remark=Remark.NONE)
    match told.outcome:
        case ExpectationOutcome.EXPECTATION_OUTCOME_RENEGOTIATED:
            return replace(plain, due=told, state=EXPECTATION_STATE_OPEN, ended=None)
        case ExpectationOutcome.EXPECTATION_OUTCOME_WITHDRAWN:
            return replace(plain, state=EXPECTATION_STATE_WITHDRAWN, ended=told)
        case ExpectationOutcome.EXPECTATION_OUTCOME_BROKEN:
            return replace(plain, state=EXPECTATION_STATE_BROKEN, ended=told)
        case ExpectationOutcome.EXPECTATION_OUTCOME_KEPT:
            return _kept(now, told)
    return now  # an outcome of a later release


def _kept(now: Standing, told: Telling) -> Standing:
    if now.state == EXPECTATION_STATE_KEPT:
        return now  # it was kept before
    if now.state == EXPECTATION_STATE_BROKEN and told.occurred_at_us > now.due_at_us:
        return replace(now, said=told, remark=Remark.KEPT_LATE)
    return replace(now, state=EXPECTATION_STATE_KEPT, ended=told, said=told, remark=Remark.NONE)


def _broken(now: Standing, told: Telling) -> Standing:
    """Take in that the deadline has passed."""
    kept = now.state == EXPECTATION_STATE_KEPT
    if not now.open_at_due:
        return replace(now, remark=Remark.PROOF_CAME_LATE) if kept else now
    if now.state not in (EXPECTATION_STATE_OPEN, EXPECTATION_STATE_KEPT):
        return now
    broken = replace(now, state=EXPECTATION_STATE_BROKEN, ended=told)
    return replace(broken, remark=Remark.KEPT_LATE) if kept else replace(broken, said=told)
