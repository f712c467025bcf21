from services.profile.domain import Touch, show
from tests.given import order, outcome, promise, touch, us
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.profile.v1 import views_pb2

NOW = us("2024-06-01")


def promised(*touches: Touch, now: int = NOW) -> list[tuple[str, str, str]]:
    """Id, status and due day of every promise, as the customer sees them."""
    view = show(views_pb2.VIEW_KIND_CUSTOMER, touches, now)
    assert isinstance(view, views_pb2.CustomerView)
    return [
        (
            one.expectation_id,
            views_pb2.PromiseStatus.Name(one.status).removeprefix("PROMISE_STATUS_"),
            one.due_at.ToJsonString()[:10],
        )
        for one in view.promises
    ]


def wanted(*touches: Touch) -> list[str]:
    """Ids of the promises that service cares about."""
    view = show(views_pb2.VIEW_KIND_SERVICE, touches, NOW)
    assert isinstance(view, views_pb2.ServiceView)
    return [one.expectation_id for one in view.promises]


def reasons(kind: views_pb2.ViewKind.ValueType, *touches: Touch) -> list[str]:
    """Why promises ended, as a view shows it."""
    view = show(kind, touches, NOW)
    assert not isinstance(view, views_pb2.MarketingView)
    return [one.reason for one in view.promises]


def passed(due: str, expectation_id: str) -> Touch:
    """What the notification service decides when a deadline passes."""
    fact = facts_pb2.ExpectationResolved(
        expectation_id=expectation_id,
        outcome=facts_pb2.EXPECTATION_OUTCOME_BROKEN,
        reason="the deadline passed",
    )
    decided_by = event_pb2.Actor(kind=event_pb2.ACTOR_KIND_SYSTEM, reference="notification")
    return touch(due, source="notification", actor=decided_by, expectation_resolved=fact)


def test_a_promise_is_open_until_its_time_and_overdue_after_it() -> None:
    made = promise("2024-05-01", "p", due="2024-05-10")
    assert promised(made, now=us("2024-05-10")) == [("p", "OPEN", "2024-05-10")]
    assert promised(made, now=us("2024-05-10 00:01")) == [("p", "OVERDUE", "2024-05-10")]


def test_a_promise_ends_as_the_last_outcome_says() -> None:
    made = promise("2024-05-01", "p", due="2024-05-10")
    kept = outcome("2024-05-09", "p", "kept")
    broken = outcome("2024-05-11", "p", "broken")
    assert promised(broken, made, kept) == [("p", "BROKEN", "2024-05-10")]
    assert promised(made, kept) == [("p", "KEPT", "2024-05-10")]


def test_a_renegotiated_promise_is_open_again_with_its_new_time() -> None:
    made = promise("2024-05-01", "p", due="2024-05-10")
    broken = outcome("2024-05-11", "p", "broken")
    moved = outcome("2024-05-12", "p", "renegotiated", due="2024-06-15")
    assert promised(made, broken, moved) == [("p", "OPEN", "2024-06-15")]
    assert promised(made, broken, moved, now=us("2024-06-16")) == [("p", "OVERDUE", "2024-06-15")]


def test_a_promise_is_broken_by_its_own_deadline_and_no_other() -> None:
    made = promise("2024-05-01", "p", due="2024-05-10")
    moved = outcome("2024-05-08", "p", "renegotiated", due="2024-06-15")
    assert promised(made, passed("2024-05-10", "p")) == [("p", "BROKEN", "2024-05-10")]
    assert promised(made, moved, passed("2024-05-10", "p")) == [("p", "OPEN", "2024-06-15")]


def test_a_promise_that_was_kept_in_time_is_kept_though_the_proof_came_later() -> None:
    made = promise("2024-05-01", "p", due="2024-05-10")
    touches = [made, passed("2024-05-10", "p"), outcome("2024-05-09", "p", "kept", reason="done")]
    told = "kept in time, which was known only after it had been called broken"
    assert promised(*touches) == [("p", "KEPT", "2024-05-10")]
    assert wanted(*touches) == []
    assert reasons(views_pb2.VIEW_KIND_CUSTOMER, *touches) == [told]


def test_a_promise_that_was_kept_late_stays_broken_and_says_so() -> None:
    made = promise("2024-05-01", "p", due="2024-05-10")
    touches = [made, passed("2024-05-10", "p"), outcome("2024-05-12", "p", "kept", reason="done")]
    assert promised(*touches) == [("p", "BROKEN", "2024-05-10")]
    for kind in (views_pb2.VIEW_KIND_SALES, views_pb2.VIEW_KIND_SERVICE):
        assert reasons(kind, *touches) == ["kept after the deadline: done"]
    assert reasons(views_pb2.VIEW_KIND_CUSTOMER, *touches) == ["kept after the deadline"]


def test_an_outcome_shows_nothing_until_its_promise_arrives() -> None:
    kept = outcome("2024-05-09", "p", "kept")
    assert promised(kept) == []
    assert promised(kept, promise("2024-05-01", "p", due="2024-05-10")) == [
        ("p", "KEPT", "2024-05-10")
    ]


def test_an_outcome_counts_whichever_source_decided_it() -> None:
    made = promise("2024-05-01", "p", due="2024-05-10")
    broken = outcome("2024-05-10", "p", "broken")
    assert made.event.source != broken.event.source
    assert promised(made, broken) == [("p", "BROKEN", "2024-05-10")]


def test_departments_see_why_a_promise_ended_and_the_customer_does_not() -> None:
    touches = [
        promise("2024-05-01", "p", due="2024-05-10"),
        outcome("2024-05-11", "p", "broken", reason="we forgot"),
    ]
    for kind in (views_pb2.VIEW_KIND_SALES, views_pb2.VIEW_KIND_SERVICE):
        assert reasons(kind, *touches) == ["we forgot"]
    assert reasons(views_pb2.VIEW_KIND_CUSTOMER, *touches) == [""]


def test_an_order_that_has_not_come_in_time_is_an_overdue_promise() -> None:
    placed = order("2024-05-01", "1234", "placed", promised="2024-05-10")
    shipped = order("2024-05-09", "1234", "shipped")
    assert promised(placed, shipped, now=us("2024-05-09")) == [("order:1234", "OPEN", "2024-05-10")]
    assert promised(placed, shipped) == [("order:1234", "OVERDUE", "2024-05-10")]


def test_an_order_keeps_or_breaks_its_promise_when_it_is_delivered() -> None:
    placed = order("2024-05-01", "1234", "placed", promised="2024-05-10")
    in_time = order("2024-05-10", "1234", "delivered")
    late = order("2024-05-11", "1234", "delivered")
    assert promised(placed, in_time) == [("order:1234", "KEPT", "2024-05-10")]
    assert promised(placed, late) == [("order:1234", "BROKEN", "2024-05-10")]
    returned = order("2024-05-20", "1234", "returned")
    assert promised(placed, in_time, returned) == [("order:1234", "KEPT", "2024-05-10")]


def test_a_delivery_that_was_announced_too_early_did_not_happen() -> None:
    placed = order("2024-05-01", "1234", "placed", promised="2024-05-10")
    announced = order("2024-05-09", "1234", "delivered")
    corrected = order("2024-05-09 12:00", "1234", "shipped")
    arrived = order("2024-05-12", "1234", "delivered")
    assert promised(placed, announced, corrected) == [("order:1234", "OVERDUE", "2024-05-10")]
    assert promised(placed, announced, corrected, arrived) == [
        ("order:1234", "BROKEN", "2024-05-10")
    ]


def test_nobody_awaits_a_cancelled_order() -> None:
    placed = order("2024-05-01", "1234", "placed", promised="2024-05-10")
    cancelled = order("2024-05-02", "1234", "cancelled")
    assert promised(placed, cancelled) == [("order:1234", "WITHDRAWN", "2024-05-10")]
    assert wanted(placed, cancelled) == []


def test_the_last_date_told_for_an_order_is_the_one_that_counts() -> None:
    placed = order("2024-05-01", "1234", "placed", promised="2024-05-10")
    moved = order("2024-05-09", "1234", promised="2024-06-20")
    assert promised(moved, placed) == [("order:1234", "OPEN", "2024-06-20")]


def test_an_order_s_date_was_promised_when_it_was_first_told() -> None:
    told = order("2024-05-02", "1234", promised="2024-05-10")
    moved = order("2024-05-09", "1234", promised="2024-06-20")
    view = show(views_pb2.VIEW_KIND_SERVICE, [order("2024-05-01", "1234"), moved, told], NOW)
    assert isinstance(view, views_pb2.ServiceView)
    (shown,) = view.promises
    assert (shown.event_id, shown.promise) == (told.event.event_id, "Order 1234 arrives")
    assert shown.promised_at.ToMicroseconds() == us("2024-05-02")


def test_an_order_without_a_date_promises_nothing() -> None:
    assert promised(order("2024-05-01", "1234", "placed")) == []


def test_an_expectation_about_an_order_stands_for_the_order_s_own_date() -> None:
    placed = order("2024-05-01", "1234", "placed", promised="2024-05-10")
    told = promise("2024-05-01", "order:1234", due="2024-05-10", text="The bike arrives")
    withdrawn = outcome("2024-05-02", "order:1234", "withdrawn")
    assert promised(placed, told, withdrawn) == [("order:1234", "WITHDRAWN", "2024-05-10")]


def test_what_failed_lately_is_urgent_then_what_is_open_then_what_failed_long_ago() -> None:
    touches = [
        promise("2020-01-01", "failed long ago", due="2020-01-10"),
        promise("2020-01-01", "kept", due="2020-01-05"),
        outcome("2020-01-04", "kept", "kept"),
        promise("2024-05-01", "open soon", due="2024-06-02"),
        promise("2024-05-01", "open later", due="2024-07-02"),
        promise("2024-05-01", "overdue", due="2024-05-20"),
        promise("2024-05-01", "broken", due="2024-05-10"),
        outcome("2024-05-11", "broken", "broken"),
    ]
    urgent = ["broken", "overdue", "open soon", "open later", "failed long ago"]
    assert wanted(*touches) == urgent
    assert [name for name, _, _ in promised(*touches)] == [*urgent, "kept"]


def test_old_failures_do_not_crowd_out_an_open_promise() -> None:
    old = [promise("2020-01-01", f"old {n}", due="2020-02-01") for n in range(20)]
    assert wanted(*old, promise("2024-05-30", "new", due="2024-06-02"))[0] == "new"
    assert len(wanted(*old)) == 10


def test_a_promise_shows_what_when_and_which_event_set_it() -> None:
    made = promise("2024-05-01", "p", due="2024-05-10", text="We call you back")
    view = show(views_pb2.VIEW_KIND_SALES, [made], NOW)
    assert isinstance(view, views_pb2.SalesView)
    (shown,) = view.promises
    assert shown.promise == "We call you back"
    assert shown.promised_at.ToMicroseconds() == us("2024-05-01")
    assert shown.event_id == made.event.event_id
