"""Orders of a customer: each folded from its changes, and what they come to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.profile.domain.touches import Seen, of_type, timestamp
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.profile.v1 import views_pb2

SHOWN_ORDERS = 10
"""How many orders a view shows."""

_HERE = (facts_pb2.ORDER_STATUS_DELIVERED, facts_pb2.ORDER_STATUS_RETURNED)
_UNDONE = (facts_pb2.ORDER_STATUS_CANCELLED, facts_pb2.ORDER_STATUS_RETURNED)
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class OrderSeen:
    """One order as it stands.

    Attributes:
        source: The system it is in.
        order_id: Its number there.
        placed_at_us: When it was first heard of, in microseconds since 1970.
        status: Its state.
        amount: Its total, if anybody said.
        items: What was ordered.
        due_at_us: When it should arrive, in microseconds since 1970, if anybody said.
        promised: What first said when it should arrive.
        delivered_at_us: When the customer got it, if they did and that still holds.
    """

    source: str
    order_id: str
    placed_at_us: int
    status: facts_pb2.OrderStatus.ValueType
    amount: facts_pb2.Money | None
    items: Sequence[facts_pb2.OrderItem]
    due_at_us: int | None
    promised: Seen | None
    delivered_at_us: int | None


def orders(history: Sequence[Seen]) -> list[OrderSeen]:
    """The orders in a history, newest first."""
    changes: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for seen in of_type(history, event_pb2.EVENT_TYPE_ORDER_CHANGED):
        changes[seen.event.source, seen.event.order_changed.order_id].append(seen)
    folded = [_order(source, number, told) for (source, number), told in changes.items()]
    return sorted(folded, key=lambda one: (-one.placed_at_us, one.source, one.order_id))


def _order(source: str, order_id: str, changes: Sequence[Seen]) -> OrderSeen:
    status = facts_pb2.ORDER_STATUS_PLACED
    amount: facts_pb2.Money | None = None
    items: Sequence[facts_pb2.OrderItem] = ()
    due: int | None = None
    promised: Seen | None = None
    delivered: int | None = None
    for seen in changes:
        change = seen.event.order_changed
        if change.status:
            status = change.status
            if status in _HERE:
                delivered = seen.at_us if delivered is None else delivered
            elif status != facts_pb2.ORDER_STATUS_CANCELLED:
                delivered = None  # "delivered" was said too early
        if change.HasField("amount"):
            amount = change.amount
        if change.items:
            items = change.items
        if change.HasField("promised_at"):
            due, promised = change.promised_at.ToMicroseconds(), promised or seen
    placed = changes[0].at_us
    return OrderSeen(
        source, order_id, placed, status, amount, items, due, promised, delivered_at_us=delivered
    )


def show_order(order: OrderSeen) -> views_pb2.Order:
    """An order as a view shows it."""
    return views_pb2.Order(
        order_id=order.order_id,
        source=order.source,
        placed_at=timestamp(order.placed_at_us),
        status=order.status,
        amount=order.amount,
        items=order.items,
        promised_at=None if order.due_at_us is None else timestamp(order.due_at_us),
    )


def order_totals(every: Iterable[OrderSeen]) -> list[facts_pb2.Money]:
    """The sum of the orders that were not cancelled or returned, one per currency, by its code."""
    sums: Counter[str] = Counter()
    for order in every:
        if order.amount is not None and order.status not in _UNDONE:
            sums[order.amount.currency_code] += order.amount.micros
    return [
        # A sum that no field holds comes from amounts nobody paid; it must not hide the rest.
        facts_pb2.Money(currency_code=code, micros=max(-_INT64_MAX, min(total, _INT64_MAX)))
        for code, total in sorted(sums.items())
    ]
