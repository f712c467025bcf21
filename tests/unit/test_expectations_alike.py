"""The notification service, the views and the command's timeline tell one story of a promise."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cli.rendering.lines import surroundings
from libs.expectations import Standing, in_words, standing, telling_of
from services.profile.domain import Touch, show
from tests.given import outcome, promise, retraction, touch, us
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Actor
from touchline.events.v1.facts_pb2 import (
    EXPECTATION_OUTCOME_BROKEN,
    EXPECTATION_OUTCOME_KEPT,
    EXPECTATION_OUTCOME_RENEGOTIATED,
    EXPECTATION_OUTCOME_WITHDRAWN,
    ExpectationResolved,
)
from touchline.notification.v1.notification_pb2 import (
    EXPECTATION_STATE_BROKEN,
    EXPECTATION_STATE_KEPT,
    EXPECTATION_STATE_OPEN,
    EXPECTATION_STATE_WITHDRAWN,
)
from touchline.profile.v1 import views_pb2
from touchline.profile.v1.profile_pb2 import TimelineEntry

NOW = "2024-05-08"
NAME = "p"
STATUSES = {
    EXPECTATION_STATE_OPEN: {views_pb2.PROMISE_STATUS_OPEN, views_pb2.PROMISE_STATUS_OVERDUE},
    EXPECTATION_STATE_KEPT: {views_pb2.PROMISE_STATUS_KEPT},
    EXPECTATION_STATE_BROKEN: {views_pb2.PROMISE_STATUS_BROKEN},
    EXPECTATION_STATE_WITHDRAWN: {views_pb2.PROMISE_STATUS_WITHDRAWN},
}
ENDS = {
    EXPECTATION_STATE_KEPT: EXPECTATION_OUTCOME_KEPT,
    EXPECTATION_STATE_BROKEN: EXPECTATION_OUTCOME_BROKEN,
    EXPECTATION_STATE_WITHDRAWN: EXPECTATION_OUTCOME_WITHDRAWN,
}
PENDING = (EXPECTATION_STATE_OPEN, EXPECTATION_STATE_BROKEN)
VIEWS = [views_pb2.VIEW_KIND_SALES, views_pb2.VIEW_KIND_SERVICE, views_pb2.VIEW_KIND_CUSTOMER]

DAYS = st.integers(1, 14).map(lambda day: f"2024-05-{day:02}")
REASONS = st.sampled_from(["", "a storm", "it fell"])


def passed(due: str) -> Touch:
    """What the notification service decides when a deadline passes."""
    fact = ExpectationResolved(
        expectation_id=NAME, outcome=EXPECTATION_OUTCOME_BROKEN, reason="the deadline passed"
    )
    decided_by = Actor(kind=ACTOR_KIND_SYSTEM, reference="notification")
    return touch(due, source="notification", actor=decided_by, expectation_resolved=fact)


TELLINGS = st.one_of(
    st.builds(promise, DAYS, st.just(NAME), DAYS, st.sampled_from(["One", "Two"])),
    st.builds(
        lambda at, how, reason: outcome(at, NAME, how, reason=reason),
        *(DAYS, st.sampled_from(["kept", "broken", "withdrawn"]), REASONS),
    ),
    st.builds(lambda at, due: outcome(at, NAME, "renegotiated", due=due), DAYS, DAYS),
    st.builds(passed, DAYS),
)


@st.composite
def arrivals(draw: st.DrawFn) -> list[Touch]:
    """What is told of one promise, in the order of arrival; some of it is retracted."""
    told = draw(st.lists(TELLINGS, max_size=7))
    gone = draw(st.lists(st.sampled_from(told), max_size=2, unique_by=id)) if told else []
    return draw(st.permutations([*told, *(retraction("2024-05-15", of=one) for one in gone)]))


def as_notified(arrived: Sequence[Touch]) -> tuple[Standing | None, dict[bytes, Touch]]:
    """How the promise stands by the whole events, and the events that count."""
    gone = {one.event.event_retracted.event_id for one in arrived}
    counted = {one.event_id: one for one in arrived if one.event.event_id not in gone}
    tellings = [
        telling_of(
            *(one.event, one.event_id, one.occurred_at_us), recorded_at_us=one.recorded_at_us
        )
        for one in counted.values()
    ]
    return standing(telling for telling in tellings if telling is not None), counted


@pytest.mark.parametrize("kind", VIEWS, ids=views_pb2.ViewKind.Name)
@given(arrived=arrivals())
def test_a_view_tells_what_the_notification_service_tells(
    kind: views_pb2.ViewKind.ValueType, arrived: list[Touch]
) -> None:
    now, counted = as_notified(arrived)
    view = show(kind, arrived, us(NOW))
    assert not isinstance(view, views_pb2.MarketingView)
    shown = {one.expectation_id: one for one in view.promises}
    customers = kind == views_pb2.VIEW_KIND_CUSTOMER
    if now is None or (not customers and now.state not in PENDING):
        assert not shown
        return
    one = shown[NAME]
    assert one.status in STATUSES[now.state]
    assert (one.status == views_pb2.PROMISE_STATUS_OVERDUE) == (
        now.state == EXPECTATION_STATE_OPEN and now.due_at_us < us(NOW)
    )
    assert one.due_at.ToMicroseconds() == now.due_at_us
    assert one.promise == counted[now.content.event_id].event.expectation_set.promise
    assert one.event_id == counted[now.first.event_id].event.event_id
    said = counted[now.said.event_id].event.expectation_resolved.reason if now.said else ""
    ended = now.state != EXPECTATION_STATE_OPEN
    assert one.reason == in_words(now.remark, said if ended and not customers else "")


@given(arrived=arrivals())
def test_the_timeline_tells_what_the_notification_service_tells(arrived: list[Touch]) -> None:
    now, _ = as_notified(arrived)
    newest_first = sorted(arrived, key=lambda one: (one.occurred_at_us, one.event_id), reverse=True)
    entries = [TimelineEntry(event=one.event) for one in newest_first]
    ends = surroundings(entries, now=datetime(2024, 5, 8, tzinfo=UTC), name="Ines").ends
    if now is None:
        assert ends == {}
    elif now.state == EXPECTATION_STATE_OPEN:
        assert ends == ({NAME: EXPECTATION_OUTCOME_RENEGOTIATED} if now.due.outcome else {})
    else:
        assert ends == {NAME: ENDS[now.state]}
