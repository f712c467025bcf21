"""What a customer awaits, and how it stands: a fold of what set, changed and ended it.

The order of arrival never matters: what is told of an expectation is taken in the order of
(occurred_at, event_id), and the last word counts. So:

- The content is the last telling's that set it; the deadline, too, until it is renegotiated.
- Broken by a deadline holds for exactly that deadline, and only if the expectation was open then:
  what was kept in time is kept, though the proof came later.
- Kept after a deadline that broke it stays broken, and it is said that it was kept late.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import reduce
from operator import attrgetter
from typing import Final

from touchline.events.v1.facts_pb2 import (
    EXPECTATION_OUTCOME_UNSPECIFIED,
    ExpectationOutcome,
)
from touchline.notification.v1.notification_pb2 import (
    EXPECTATION_STATE_BROKEN,
    EXPECTATION_STATE_KEPT,
    EXPECTATION_STATE_OPEN,
    EXPECTATION_STATE_WITHDRAWN,
    ExpectationState,
)

SET: Final = EXPECTATION_OUTCOME_UNSPECIFIED
"""Stands for "it was set" where others have an outcome."""

PAST_US: Final = 86_400_000_000
"""What was due longer than this before it was recorded is of the past: nothing is decided of it."""

_in_order: Final = attrgetter("occurred_at_us", "event_id")


@dataclass(frozen=True, slots=True)
class Telling:
    """An event that set, changed or ended an expectation.

    Attributes:
        event_id: Its UUID, 16 bytes.
        occurred_at_us: When it happened, in microseconds since 1970.
        recorded_at_us: When the store accepted it.
        outcome: How it ended or changed; SET when it was set.
        due_at_us: The deadline it set; 0 when it set none.
        by_deadline: Whether a deadline decided it, rather than a person or another system.
        historical: Whether it is of the past, told late.
    """

    event_id: bytes
    occurred_at_us: int
    recorded_at_us: int
    outcome: ExpectationOutcome.ValueType = SET
    due_at_us: int = 0
    by_deadline: bool = False
    historical: bool = False


class Remark(IntEnum):
    """What is to be said of a state besides the reason that was told."""

    NONE = 0
    KEPT_LATE = 1
    PROOF_CAME_LATE = 2


REMARKS: Final = {
    Remark.NONE: "",
    Remark.KEPT_LATE: "kept after the deadline",
    Remark.PROOF_CAME_LATE: "kept in time, which was known only after it had been called broken",
}
"""The remarks in words."""


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


@dataclass(frozen=True, slots=True)
class Contact:
    """An interaction from the company, which may be an answer.

    Attributes:
        event_id: Its UUID, 16 bytes.
        position: Its place on the line.
        occurred_at_us: When it happened, in microseconds since 1970.
        recorded_at_us: When the store accepted it.
        in_reply_to: The UUID, 16 bytes, of what it says that it answers; or empty.
        conversation_id: Its conversation, or empty.
        historical: Whether it is of the past, told late.
    """

    event_id: bytes
    position: int
    occurred_at_us: int
    recorded_at_us: int
    in_reply_to: bytes = b""
    conversation_id: str = ""
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be answered.

    Attributes:
        answers: The UUID, 16 bytes, of the event that is to be answered.
        conversation_id: Its conversation, or empty: then only a reply to it answers it.
        asked_at_us: When it was asked, in microseconds since 1970: what came before in its
            conversation does not follow it.
        since_us: Since when any answer counts; see `Standing.since_us`.
        due_at_us: Until when.
        known_at: The position from which on it is known that an answer is awaited.
    """

    answers: bytes
    conversation_id: str
    asked_at_us: int
    since_us: int
    due_at_us: int
    known_at: int


def first_answer(question: Question, contacts: Sequence[Contact]) -> Contact | None:
    """Return the contact that answers a question in time; None when there is none.

    A contact does that replies to it, or follows it in its conversation. Of several the earliest
    counts among those that are recorded when the first is: later ones are not waited for, so it is
    the same however the line is cut into batches.
    """
    found = [one for one in contacts if _answers(question, one)]
    if not found:
        return None
    decided_at = max(question.known_at, min(one.position for one in found))
    return min((one for one in found if one.position <= decided_at), key=_in_order)


def _answers(question: Question, contact: Contact) -> bool:
    if not question.since_us <= contact.occurred_at_us <= question.due_at_us:
        return False
    if contact.in_reply_to == question.answers:
        return True
    follows = contact.occurred_at_us >= question.asked_at_us
    return follows and contact.conversation_id == question.conversation_id != ""
