"""Promises to a customer: expectations and the dates of orders, and how each stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from libs.expectations import in_words, standing, telling_of
from services.profile.domain.orders import OrderSeen
from services.profile.domain.touches import Seen, of_type, timestamp
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.notification.v1 import notification_pb2
from touchline.profile.v1 import views_pb2

SHOWN_PROMISES = 10
"""How many promises a department's view shows."""

RECENT_US = 90 * 24 * 3600 * 1_000_000
"""For how long a promise that failed is more urgent than one that is still open. Failed promises
never leave a view by themselves; without an end the old ones would crowd out the open ones."""

_TOLD = (
    event_pb2.EVENT_TYPE_EXPECTATION_SET,
    event_pb2.EVENT_TYPE_EXPECTATION_RESOLVED,
)
_FAILED = (views_pb2.PROMISE_STATUS_OVERDUE, views_pb2.PROMISE_STATUS_BROKEN)
_ENDED = {
    notification_pb2.EXPECTATION_STATE_KEPT: views_pb2.PROMISE_STATUS_KEPT,
    notification_pb2.EXPECTATION_STATE_BROKEN: views_pb2.PROMISE_STATUS_BROKEN,
    notification_pb2.EXPECTATION_STATE_WITHDRAWN: views_pb2.PROMISE_STATUS_WITHDRAWN,
}


@dataclass(frozen=True, slots=True)
class PromiseSeen:
    """One promise as it stands at the time the view is asked for.

    Attributes:
        expectation_id: Its name; `order:` and the number for an order's date.
        promise: What the customer awaits.
        set_by: What set it.
        due_at_us: Until when, in microseconds since 1970.
        status: How it stands.
        reason: Why it ended so.
    """

    expectation_id: str
    promise: str
    set_by: Seen
    due_at_us: int
    status: views_pb2.PromiseStatus.ValueType
    reason: str = ""

    @property
    def pending(self) -> bool:
        """Whether somebody should still care: it is open, overdue or broken."""
        return self.status in (*_FAILED, views_pb2.PROMISE_STATUS_OPEN)


def promises(
    history: Sequence[Seen], ordered: Sequence[OrderSeen], now_us: int
) -> list[PromiseSeen]:
    """The promises in a history, the most urgent first.

    First what failed within the last 90 days, then what is open, both by due date; then what
    failed before that and at last what was kept or withdrawn, both the latest first.

    Args:
        history: What the view may see.
        ordered: The orders in it.
        now_us: The time at which the promises stand so, in microseconds since 1970.
    """
    told = _expectations(history, now_us)
    # Who promises an order's date by an expectation of that name knows more than the order does.
    named = {promise.expectation_id for promise in told}
    dated = [promise for order in ordered if (promise := _delivery(order, now_us))]
    told += [promise for promise in dated if promise.expectation_id not in named]
    return sorted(told, key=lambda promise: _urgency(promise, now_us))


def _expectations(history: Sequence[Seen], now_us: int) -> list[PromiseSeen]:
    """Folds expectations as every service does; an outcome without a promise waits for it.

    The id alone names an expectation: who decides how it ended is often another source than the
    one that set it.
    """
    told: dict[str, list[Seen]] = defaultdict(list)
    for seen in of_type(history, *_TOLD):
        event = seen.event
        name = event.expectation_set.expectation_id or event.expectation_resolved.expectation_id
        told[name].append(seen)
    found = (_expectation(name, about, now_us) for name, about in told.items())
    return [promise for promise in found if promise is not None]


def _expectation(name: str, told: Sequence[Seen], now_us: int) -> PromiseSeen | None:
    tellings = [telling_of(seen.event, seen.event_id, seen.at_us) for seen in told]
    now = standing(telling for telling in tellings if telling is not None)
    if now is None:
        return None
    seen = {one.event_id: one for one in told}
    content, reason = seen[now.content.event_id].event.expectation_set, ""
    status = _ENDED.get(now.state)
    if status is None:
        status = _while_open(now.due_at_us, now_us)
    elif now.said is not None:
        reason = seen[now.said.event_id].event.expectation_resolved.reason
    return PromiseSeen(
        expectation_id=name,
        promise=content.promise,
        set_by=seen[now.first.event_id],
        due_at_us=now.due_at_us,
        status=status,
        reason=in_words(now.remark, reason),
    )


def _delivery(order: OrderSeen, now_us: int) -> PromiseSeen | None:
    """The promise in an order's date, if it has one."""
    due, delivered = order.due_at_us, order.delivered_at_us
    if due is None or order.promised is None:
        return None
    if delivered is not None:
        kept = delivered <= due
        status = views_pb2.PROMISE_STATUS_KEPT if kept else views_pb2.PROMISE_STATUS_BROKEN
    elif order.status == facts_pb2.ORDER_STATUS_CANCELLED:
        status = views_pb2.PROMISE_STATUS_WITHDRAWN
    else:
        status = _while_open(due, now_us)
    promise = f"Order {order.order_id} arrives"
    return PromiseSeen(f"order:{order.order_id}", promise, order.promised, due, status)


def _while_open(due_at_us: int, now_us: int) -> views_pb2.PromiseStatus.ValueType:
    overdue = due_at_us < now_us
    return views_pb2.PROMISE_STATUS_OVERDUE if overdue else views_pb2.PROMISE_STATUS_OPEN


def _urgency(promise: PromiseSeen, now_us: int) -> tuple[int, int, str, bytes]:
    due, tie = promise.due_at_us, (promise.expectation_id, promise.set_by.event_id)
    if promise.status == views_pb2.PROMISE_STATUS_OPEN:
        return 1, due, *tie
    if promise.status not in _FAILED:
        return 3, -due, *tie
    return (0, due, *tie) if due >= now_us - RECENT_US else (2, -due, *tie)


def show_promise(promise: PromiseSeen) -> views_pb2.Promise:
    """A promise as a view shows it."""
    return views_pb2.Promise(
        expectation_id=promise.expectation_id,
        promise=promise.promise,
        promised_at=timestamp(promise.set_by.at_us),
        due_at=timestamp(promise.due_at_us),
        status=promise.status,
        reason=promise.reason,
        event_id=promise.set_by.event.event_id,
    )
