"""Which contact answers a question."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from uuid import UUID

import pytest

from services.notification.domain.answers import Contact, Question, first_answer

MINUTE = 60_000_000

_ids = count(1)

QUESTION = UUID(int=7).bytes


def asked(conversation: str = "", *, asked_at: int = 10, since: int = 0, due: int = 70) -> Question:
    times = (asked_at * MINUTE, since * MINUTE, due * MINUTE)
    return Question(QUESTION, conversation, *times, known_at=5)


def contact(at: int, reply: bytes = b"", conversation: str = "", *, position: int = 9) -> Contact:
    event_id = UUID(int=next(_ids)).bytes
    return Contact(event_id, position, at * MINUTE, at * MINUTE, reply, conversation)


@pytest.mark.parametrize(
    ("question", "answer", "answers"),
    [
        (asked(), contact(20, QUESTION), True),
        (asked(), contact(70, QUESTION), True),
        (asked(), contact(71, QUESTION), False),  # too late
        (asked(), contact(20, UUID(int=8).bytes), False),
        (asked(), contact(20), False),
        (asked(), contact(20, conversation=""), False),  # no conversation is none in common
        (asked("thread"), contact(20, conversation="thread"), True),
        (asked("thread"), contact(9, conversation="thread"), False),  # it came before
        (asked("thread"), contact(20, conversation="other"), False),
        (asked("thread"), contact(20, QUESTION), True),
        (asked(since=30), contact(20, QUESTION), False),  # renegotiated all the same
        (asked(since=30), contact(30, QUESTION), True),
    ],
)
def test_a_reply_or_what_follows_in_the_conversation_is_an_answer(
    question: Question, answer: Contact, answers: bool
) -> None:
    assert first_answer(question, [answer]) == (answer if answers else None)


def test_of_answers_that_are_there_when_one_is_found_the_earliest_counts() -> None:
    early, late = contact(20, QUESTION, position=9), contact(30, QUESTION, position=6)
    assert first_answer(asked(), [early, late]) == late  # it was recorded first
    known = replace(asked(), known_at=9)
    assert first_answer(known, [early, late]) == early
    assert first_answer(known, [late, early]) == early
