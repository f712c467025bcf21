"""Which contact from the company answers a question, and keeps the expectation that it sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

_in_order: Final = attrgetter("occurred_at_us", "event_id")


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
        since_us: Since when any answer counts; see `libs.expectations.Standing`.
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
