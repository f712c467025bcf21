"""Check-ins and payments, which tell where a customer was, in words."""

from libs.cli.rendering import palette, words
from libs.cli.rendering.lines import Line, Surroundings, quiet
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts


def checked_in(event: ev.Event, _: Surroundings) -> Line:
    """Says where a customer arrived."""
    place = words.plain(event.checked_in.place)
    location = words.plain(event.context.location.name)
    return Line(
        palette.PLACE,
        palette.CUSTOMER,
        "check-in",
        headline=f"Checked in at {place or location}" if place or location else "Checked in",
        headline_style="",
        details=quiet(location if place else ""),
    )


def payment(event: ev.Event, _: Surroundings) -> Line:
    """Says how much was paid, where, and whether it went through."""
    fact = event.payment_attempted
    declined = fact.status == facts.PAYMENT_STATUS_DECLINED
    amount = f" of {words.money(fact.amount)}" if fact.HasField("amount") else ""
    return Line(
        palette.PAYMENT,
        palette.ATTENTION if declined else palette.CUSTOMER,
        "payment",
        whom=words.plain(event.source),
        headline=f"Payment{amount} {_PAYMENTS.get(fact.status, 'tried')}",
        headline_style=f"{palette.STRONG} {palette.ATTENTION}" if declined else palette.STRONG,
        details=quiet(
            words.plain(fact.method),
            f"by {by}" if (by := words.CHANNELS.get(fact.channel, "")) else "",
            words.plain(event.context.location.name),
            words.plain(fact.payment_id),
        ),
    )


_PAYMENTS = {
    facts.PAYMENT_STATUS_APPROVED: "approved",
    facts.PAYMENT_STATUS_DECLINED: "declined",
}
