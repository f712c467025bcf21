"""What customers may expect, and how it stands."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.bounded import Bounded
from touchline.notification.v1 import notification_pb2 as notification

WIDEST = 110


def expectations(
    listed: Sequence[notification.Expectation], names: Mapping[str, str], *, now: datetime
) -> RenderableType:
    """Lays out expectations: each with its deadline, who is to keep it, and its end.

    Args:
        listed: The expectations, in their order.
        names: What customers are called, by profile id.
        now: The present, in the reader's time zone.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    for one in listed:
        due = words.local(one.due_at, now.tzinfo)
        symbol, style, state = _state(one, due < now)
        is_open = one.state == notification.EXPECTATION_STATE_OPEN
        far = [Text(words.ahead(due, now), style=palette.QUIET)] if is_open else []
        grid.add_row(
            Group(Text(words.when(due, now)), *far),
            Text(f"{symbol} {state}", style=style),
            Group(*_body(one, names)),
        )
        grid.add_row()
    return Bounded(Group(Text(), grid), WIDEST)


def _state(one: notification.Expectation, past: bool) -> tuple[str, str, str]:
    if past and one.state == notification.EXPECTATION_STATE_OPEN:
        return palette.OPEN, palette.ATTENTION, "overdue"
    return _STATES[one.state]


def _body(one: notification.Expectation, names: Mapping[str, str]) -> Iterator[Text]:
    yield Text(words.plain(one.promise) or "Erased at the customer's wish", style=palette.STRONG)
    if one.reason:
        yield Text(words.plain(one.reason))
    remark = Text(style=palette.QUIET).append_text(terms.customer(one.profile_id, names))
    for part in dict.fromkeys((one.team, one.promised_by, one.rule and f"rule {one.rule}")):
        remark.append(f" · {words.plain(part)}" if part else "")
    yield remark
    yield Text(words.plain(one.expectation_id), style=palette.QUIET)


_STATES = {
    notification.EXPECTATION_STATE_UNSPECIFIED: ("?", palette.QUIET, "unknown"),
    notification.EXPECTATION_STATE_OPEN: (palette.OPEN, palette.COMPANY, "open"),
    notification.EXPECTATION_STATE_KEPT: (palette.KEPT, palette.GOOD, "kept"),
    notification.EXPECTATION_STATE_BROKEN: (palette.BROKEN, palette.BAD, "broken"),
    notification.EXPECTATION_STATE_WITHDRAWN: (palette.WITHDRAWN, palette.QUIET, "withdrawn"),
}
