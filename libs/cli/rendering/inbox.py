"""An inbox: what somebody was told, and what they have read."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.bounded import Bounded
from touchline.events.v1 import decisions_pb2 as decisions
from touchline.notification.v1 import notification_pb2 as notification

WIDEST = 110


def inbox(
    owner: str,
    items: Sequence[notification.InboxItem],
    names: Mapping[str, str],
    *,
    unread: int,
    now: datetime,
) -> RenderableType:
    """Lays out an inbox.

    Args:
        owner: Whose it is.
        items: Its lines, newest first.
        names: What customers are called, by profile id.
        unread: How many are unread in all.
        now: The present, in the reader's time zone.
    """
    count = f"{unread:,} unread" if unread else "all read" if items else "nothing yet"
    head = Text.assemble((words.plain(owner), palette.STRONG), (f"  {count}", palette.QUIET))
    parts: list[RenderableType] = [Text(), Padding(head, (0, 1))]
    parts += [Group(Text(), item(one, names, now=now)) for one in items]
    return Group(*parts, Text())


def item(one: notification.InboxItem, names: Mapping[str, str], *, now: datetime) -> RenderableType:
    """Lays out one line of an inbox.

    Args:
        one: The line.
        names: What customers are called, by profile id.
        now: The present, in the reader's time zone.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    told = one.notification
    read = one.HasField("read_at")
    symbol, word = kind(told.kind)
    style = palette.QUIET if read else palette.ATTENTION
    grid.add_row(
        Text(words.when(words.local(one.decided_at, now.tzinfo), now), style=palette.QUIET),
        Text(f"{symbol} {word}", style=style),
        Group(*_body(one, names, now)),
    )
    return Bounded(grid, WIDEST)


def kind(which: decisions.NotificationKind.ValueType) -> tuple[str, str]:
    """Returns the symbol and the word for what a notification asks of its reader."""
    is_task = which == decisions.NOTIFICATION_KIND_TASK
    return (palette.OPEN, "task") if is_task else (palette.SIGNAL, "alert")


def _body(one: notification.InboxItem, names: Mapping[str, str], now: datetime) -> Iterator[Text]:
    told = one.notification
    read = one.HasField("read_at")
    if not told.title:
        yield Text("Erased at the customer's wish", style=palette.QUIET)
    else:
        yield Text(words.plain(told.title), style=palette.QUIET if read else palette.STRONG)
    for line in dict.fromkeys(words.plain(text) for text in (told.text, told.reason) if text):
        yield Text(line)
    remark = Text(style=palette.QUIET)
    remark.append_text(terms.customer(one.profile_id, names))
    remark.append(f" · rule {words.plain(told.rule)} v{told.rule_version}")
    if read:
        remark.append(f" · read {words.when(words.local(one.read_at, now.tzinfo), now)}")
    yield remark
    yield Text(one.notification_id, style=palette.QUIET)
