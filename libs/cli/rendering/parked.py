"""What projections have parked, and what became of folding it again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from touchline.projection.v1 import projection_pb2 as projection
from touchline.projection.v1 import projection_service_pb2 as api

# So many hexadecimal digits of a key name it among those that are parked.
_SHORT: Final = 12


def parked_table(
    parked: Sequence[tuple[str, projection.ParkedKey]],
    *,
    now: datetime,
    silent: Sequence[str] = (),
    more: bool = False,
) -> RenderableType:
    """Lays out parked customers, by service and projection.

    Args:
        parked: Each with the name of its service.
        now: The present, in the reader's time zone.
        silent: Services that do not answer.
        more: Whether there are more than these.
    """
    notes = [
        Text(f"{palette.BROKEN} {service} does not answer", style=palette.BAD) for service in silent
    ]
    if more:
        notes.append(Text("and more: refold these first", style=palette.QUIET))
    if not parked:
        nothing = Text(f"{palette.KEPT} nothing is parked", style=palette.GOOD)
        return Group(*notes) if silent else nothing
    table = Table(box=box.SIMPLE_HEAD, header_style=palette.QUIET, pad_edge=False)
    for name in ("projection", "customer key", "since", "waiting", "error"):
        table.add_column(name, justify="right" if name == "waiting" else "left", overflow="fold")
    for service, one in parked:
        since = words.when(words.local(one.parked_at, now.tzinfo), now)
        table.add_row(
            f"{service}/{words.plain(one.projection)}",
            Text(one.owner_key.hex()[:_SHORT], style=palette.STRONG),
            Text.assemble(since, (f"\nposition {one.position:,}", palette.QUIET)),
            Text(f"{one.waiting_events:,}", style=palette.ATTENTION),
            Text(words.plain(one.error), style=palette.BAD),
        )
    return Group(Text(), table, *notes, _way_out())


def one_parked(service: str, one: projection.ParkedKey, *, now: datetime) -> RenderableType:
    """Lays out everything that is known of a parked customer.

    Args:
        service: Whose projection it is.
        one: The customer's key and why it is parked.
        now: The present, in the reader's time zone.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    since = words.local(one.parked_at, now.tzinfo)
    told = {
        "projection": f"{service}/{words.plain(one.projection)}",
        "tenant": words.plain(one.tenant),
        "customer key": one.owner_key.hex(),
        "failed at": f"position {one.position:,}, event {words.plain(one.event_id)}",
        "since": f"{words.when(since, now)} ({words.age(since, now)})",
        "waiting": words.count(one.waiting_events, "event"),
    }
    for name, value in told.items():
        grid.add_row(Text(name, style=palette.QUIET), value)
    grid.add_row(Text("error", style=palette.QUIET), Text(words.plain(one.error), palette.BAD))
    return Group(Text(), grid, Text())


def refolded(response: api.RefoldParkedKeysResponse, service: str) -> RenderableType:
    """Says what became of folding parked customers again.

    Args:
        response: What the service answered.
        service: The service.
    """
    done, left = response.refolded_keys, response.still_parked
    lines = []
    if done or not left:
        counted = words.count(done, "customer") if done else "nothing"
        verb = "is" if done <= 1 else "are"
        text = f"{counted} {verb} folded again" if done else "nothing was parked"
        lines.append(Text(f"{palette.KEPT} {text}", style=palette.GOOD))
    if left:
        counted = words.count(len(left), "customer")
        lines.append(Text(f"{palette.BROKEN} {counted} failed again:", style=palette.BAD))
    for one in left:
        key = one.owner_key.hex()[:_SHORT]
        where = f"  {service}/{words.plain(one.projection)} {key}, position {one.position:,}: "
        lines.append(Text.assemble((where, palette.QUIET), words.plain(one.error)))
    return Group(*lines)


def _way_out() -> Text:
    return Text(
        "Their other views and everybody else's go on. Once the fold is corrected:\n"
        "touchline parked refold SERVICE PROJECTION",
        style=palette.QUIET,
    )
