"""One recorded event on one line."""

from datetime import UTC, datetime, timedelta, tzinfo

from rich.text import Text

from libs.cli.rendering import palette, words
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.store.v1 import store_pb2 as store


def tail_line(position: int, packed: store.PackedEvent, *, zone: tzinfo | None = None) -> Text:
    """Tells one recorded event on one line, from its envelope alone.

    Args:
        position: Its place in the store.
        packed: The event as the feed carries it.
        zone: The reader's time zone; left out: this machine's.
    """
    record = store.RecordedEvent.FromString(packed.record)
    recorded = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=packed.recorded_at_us)
    name = words.named(ev.EventType.DESCRIPTOR, packed.type, "EVENT_TYPE_")
    direction = words.named(facts.Direction.DESCRIPTOR, record.direction, "DIRECTION_")
    symbol, style = _DIRECTIONS.get(record.direction, (" ", palette.COMPANY))
    public = "public" if record.visibility == facts.VISIBILITY_PUBLIC else ""
    flags = ("pub past" if public else "past") if record.historical else public
    return Text.assemble(
        (f"{position:>7,} ", palette.STRONG),
        (f"{recorded.astimezone(zone):%H:%M:%S.%f}"[:-3], palette.QUIET),
        (f" {symbol} ", style),
        f"{name:<21}",
        (f"{words.CHANNELS.get(record.channel, ''):<10}", style),
        (f"{direction:<9}", palette.QUIET),
        (f"{flags:<9}", palette.STRONG),
        (record.owner_key.hex()[:8], palette.QUIET),
    )


_DIRECTIONS = {
    facts.DIRECTION_INBOUND: (palette.SAID_BY_CUSTOMER, palette.CUSTOMER),
    facts.DIRECTION_OUTBOUND: (palette.SAID_BY_COMPANY, palette.COMPANY),
    facts.DIRECTION_INTERNAL: (palette.WITHIN_COMPANY, palette.QUIET),
    facts.DIRECTION_PEER: (palette.BETWEEN_CUSTOMERS, palette.CUSTOMER),
}
