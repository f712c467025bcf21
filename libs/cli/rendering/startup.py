"""What `up` says when everything runs, and the lines of `tail`."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo

from google.protobuf.descriptor import EnumDescriptor
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.store.v1 import store_pb2 as store

NEXT = (
    ("touchline demo", "tell one customer's story"),
    ("touchline status", "head, lag, queue, rejected"),
    ("touchline tail", "watch events arrive"),
    ("touchline verify", "prove that nothing is missing"),
)


def started(endpoints: Mapping[str, str], home: str) -> RenderableType:
    """Lays out where everything is, how to stop it and what to try next.

    Args:
        endpoints: The addresses of services and servers by name, without passwords.
        home: Where the data is kept.
    """
    addresses = _pairs(endpoints, palette.STRONG)
    addresses.add_row("data", Text(home, overflow="fold"))
    body = Group(
        addresses,
        Text(),
        Text("Ctrl-C drains and stops everything.", style=palette.QUIET),
        Text(),
        Text("In another terminal", style=palette.STRONG),
        _pairs(dict(NEXT), palette.CUSTOMER),
    )
    title = Text.assemble((f" {palette.KEPT} Touchline is up ", f"bold {palette.GOOD}"))
    return Panel(
        body,
        title=title,
        title_align="left",
        box=box.ROUNDED,
        border_style=palette.QUIET,
        padding=(1, 2),
        expand=False,
    )


def tail_line(position: int, packed: store.PackedEvent, *, zone: tzinfo | None = None) -> Text:
    """Tells one recorded event on one line, from its envelope alone.

    Args:
        position: Its place in the store.
        packed: The event as the feed carries it.
        zone: The reader's time zone; left out: this machine's.
    """
    record = store.RecordedEvent.FromString(packed.record)
    recorded = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=packed.recorded_at_us)
    name = _name(ev.EventType.DESCRIPTOR, packed.type, "EVENT_TYPE_")
    direction = _name(facts.Direction.DESCRIPTOR, record.direction, "DIRECTION_")
    symbol, style = _DIRECTIONS.get(record.direction, (" ", palette.COMPANY))
    public = "public" if record.visibility == facts.VISIBILITY_PUBLIC else ""
    return Text.assemble(
        (f"{position:>9,}  ", palette.STRONG),
        (f"{recorded.astimezone(zone):%H:%M:%S.%f}"[:-3], palette.QUIET),
        (f"  {symbol} ", style),
        f"{name:<22}",
        (f"{words.CHANNELS.get(record.channel, ''):<11}", style),
        (f"{direction:<10}", palette.QUIET),
        (f"{public:<8}", palette.STRONG),
        (record.owner_key.hex()[:12], palette.QUIET),
        ("  historical" if record.historical else "", palette.QUIET),
    )


def _pairs(pairs: Mapping[str, str], style: str) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    for name, said in pairs.items():
        grid.add_row(Text(name, style=style), Text(said, overflow="fold"))
    return grid


def _name(values: EnumDescriptor, number: int, prefix: str) -> str:
    """Returns an enum's value in words; an unknown one by its number."""
    value = values.values_by_number.get(number)
    if value is None:
        return str(number)
    return value.name.removeprefix(prefix).lower().replace("_", " ") if number else ""


_DIRECTIONS = {
    facts.DIRECTION_INBOUND: (palette.SAID_BY_CUSTOMER, palette.CUSTOMER),
    facts.DIRECTION_OUTBOUND: (palette.SAID_BY_COMPANY, palette.COMPANY),
    facts.DIRECTION_INTERNAL: (palette.WITHIN_COMPANY, palette.QUIET),
    facts.DIRECTION_PEER: (palette.BETWEEN_CUSTOMERS, palette.CUSTOMER),
}
