"""How expectations stand: given what was told, then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from libs.expectations import PAST_US, SET, Remark, Standing, Telling, standing
from touchline.events.v1.facts_pb2 import (
    EXPECTATION_OUTCOME_BROKEN,
    EXPECTATION_OUTCOME_KEPT,
    EXPECTATION_OUTCOME_RENEGOTIATED,
    EXPECTATION_OUTCOME_WITHDRAWN,
)
from touchline.notification.v1.notification_pb2 import (
    EXPECTATION_STATE_BROKEN,
    EXPECTATION_STATE_KEPT,
    EXPECTATION_STATE_OPEN,
    EXPECTATION_STATE_WITHDRAWN,
)

OPEN, KEPT = EXPECTATION_STATE_OPEN, EXPECTATION_STATE_KEPT
BROKEN, WITHDRAWN = EXPECTATION_STATE_BROKEN, EXPECTATION_STATE_WITHDRAWN
MINUTE = 60_000_000

_ids = count(1)


def was_set(at: int, due: int, **told: Any) -> Telling:
    """An expectation that was set; times are in minutes."""
    return _telling(at, SET, due, **told)


def was_kept(at: int, **told: Any) -> Telling:
    return _telling(at, EXPECTATION_OUTCOME_KEPT, **told)


def was_withdrawn(at: int) -> Telling:
    return _telling(at, EXPECTATION_OUTCOME_WITHDRAWN)


def was_called_broken(at: int) -> Telling:
    """By a person or another system."""
    return _telling(at, EXPECTATION_OUTCOME_BROKEN)


def was_moved(at: int, due: int) -> Telling:
    return _telling(at, EXPECTATION_OUTCOME_RENEGOTIATED, due)


def passed(due: int) -> Telling:
    """What the deadline says."""
    return _telling(due, EXPECTATION_OUTCOME_BROKEN, by_deadline=True)


def _telling(at: int, outcome: int, due: int = 0, **told: Any) -> Telling:
    return Telling(
        event_id=UUID(int=next(_ids)).bytes,
        occurred_at_us=at * MINUTE,
        recorded_at_us=at * MINUTE,
        outcome=outcome,  # type: ignore[arg-type]
        due_at_us=due * MINUTE,
        **told,
    )


def after(*tellings: Telling) -> Standing:
    now = standing(tellings)
    assert now is not None
    return now


def test_what_was_never_set_does_not_stand() -> None:
    assert standing([]) is None
    assert standing([was_kept(3), passed(5)]) is None


def test_what_was_set_is_open_until_something_ends_it() -> None:
    now = after(told := was_set(1, due=10))
    assert (now.state, now.due_at_us, now.ended) == (OPEN, 10 * MINUTE, None)
    assert now.first == now.content == now.due == told
    assert now.breakable
    assert now.answerable


def test_kept_in_time_is_kept() -> None:
    now = after(was_set(1, due=10), kept := was_kept(10))
    assert (now.state, now.ended, now.said, now.breakable) == (KEPT, kept, kept, False)


def test_not_kept_in_time_is_broken_at_the_deadline() -> None:
    now = after(was_set(1, due=10), broken := passed(10))
    assert (now.state, now.ended, now.said) == (BROKEN, broken, broken)
    assert not now.breakable
    assert now.answerable


def test_kept_in_time_beats_a_deadline_that_was_decided_before_the_proof_came() -> None:
    now = after(was_set(1, due=10), passed(10), kept := was_kept(9))
    assert (now.state, now.ended, now.remark) == (KEPT, kept, Remark.PROOF_CAME_LATE)
    assert not now.answerable


def test_kept_after_the_deadline_stays_broken_and_says_that_it_was_kept_late() -> None:
    now = after(was_set(1, due=10), broken := passed(10), kept := was_kept(12))
    assert (now.state, now.ended, now.said) == (BROKEN, broken, kept)
    assert now.remark == Remark.KEPT_LATE


def test_kept_late_is_called_broken_when_nobody_has_said_so_yet() -> None:
    late = [was_set(1, due=10), was_kept(11)]
    now = after(*late)
    assert (now.state, now.breakable) == (KEPT, True)
    assert after(*late, passed(10)).state == BROKEN


def test_kept_once_more_later_changes_nothing() -> None:
    now = after(was_set(1, due=10), first := was_kept(5), was_kept(12))
    assert (now.state, now.ended, now.breakable) == (KEPT, first, False)


def test_renegotiated_is_open_until_the_new_time() -> None:
    now = after(was_set(1, due=10), passed(10), moved := was_moved(12, due=20))
    assert (now.state, now.due_at_us, now.ended, now.said) == (OPEN, 20 * MINUTE, None, moved)
    assert now.breakable
    assert now.since_us == 12 * MINUTE
    assert after(was_set(1, due=10), passed(10), moved, passed(20)).state == BROKEN


def test_a_deadline_that_had_been_moved_breaks_nothing() -> None:
    now = after(was_set(1, due=10), passed(10), was_moved(8, due=20))
    assert (now.state, now.breakable) == (OPEN, True)
    sooner = after(was_set(1, due=10), passed(10), was_moved(2, due=5))
    assert (sooner.state, sooner.breakable, sooner.due_at_us) == (OPEN, True, 5 * MINUTE)


def test_withdrawn_is_not_broken_by_its_deadline() -> None:
    assert after(was_set(1, due=10), was_withdrawn(5)).breakable is False
    assert after(was_set(1, due=10), passed(10), was_withdrawn(5)).state == WITHDRAWN
    assert after(was_set(1, due=10), passed(10), was_withdrawn(12)).state == WITHDRAWN


def test_the_last_word_of_people_counts() -> None:
    assert after(was_set(1, due=10), was_kept(3), was_called_broken(4)).state == BROKEN
    assert after(was_set(1, due=10), was_called_broken(4), was_kept(5)).state == KEPT
    assert after(was_set(1, due=10), was_called_broken(4), was_kept(12)).state == BROKEN
    assert after(was_set(1, due=10), was_withdrawn(4), was_kept(5)).state == KEPT


def test_what_is_awaited_is_what_was_said_last() -> None:
    first, last = was_set(1, due=10), was_set(2, due=15)
    now = after(last, first)
    assert (now.first, now.content, now.due_at_us) == (first, last, 15 * MINUTE)


def test_nothing_is_decided_of_the_past() -> None:
    told = was_set(1, due=10)
    assert not after(replace(told, historical=True)).acts
    assert not after(replace(told, recorded_at_us=10 * MINUTE + PAST_US + 1)).acts
    late = after(replace(told, recorded_at_us=10 * MINUTE + PAST_US))
    assert late.acts
    assert late.breakable


TELLINGS = st.one_of(
    st.builds(was_set, st.integers(0, 12), st.integers(1, 12)),
    st.builds(was_kept, st.integers(0, 14)),
    st.builds(was_moved, st.integers(0, 14), st.integers(1, 14)),
    st.builds(was_withdrawn, st.integers(0, 14)),
    st.builds(was_called_broken, st.integers(0, 14)),
)


@given(st.data(), st.lists(TELLINGS, max_size=6))
def test_how_it_stands_does_not_depend_on_the_order_of_arrival(
    data: st.DataObject, told: list[Telling]
) -> None:
    assert standing(data.draw(st.permutations(told))) == standing(told)


@given(st.data(), st.lists(TELLINGS, max_size=5), st.integers(1, 12))
def test_when_deadlines_are_looked_at_does_not_matter(
    data: st.DataObject, told: list[Telling], due: int
) -> None:
    told = [was_set(0, due), *told]
    at_the_end = _watched(told, [])
    looks = data.draw(st.lists(st.integers(0, len(told)), max_size=4))
    now = _watched(data.draw(st.permutations(told)), looks)
    assert (now.state, now.due_at_us) == (at_the_end.state, at_the_end.due_at_us)
    assert not now.breakable  # every deadline has passed, and was decided once


def _watched(told: Sequence[Telling], looks: Sequence[int]) -> Standing:
    """How it stands after deadlines were looked at when so much had arrived, and at the end."""
    arrived: list[Telling] = []
    for number, one in enumerate([*told, None]):
        if number in looks or one is None:
            _look(arrived)
        if one is not None:
            arrived.append(one)
    _look(arrived)
    return after(*arrived)


def _look(arrived: list[Telling]) -> None:
    now = standing(arrived)
    decided = [one.occurred_at_us for one in arrived if one.by_deadline]
    if now is not None and now.breakable and now.due_at_us not in decided:
        arrived.append(passed(now.due_at_us // MINUTE))
