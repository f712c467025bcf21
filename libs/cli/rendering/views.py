"""A customer as departments see them: four views side by side, or one in full."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from libs.cli.rendering.sections import View, sheet
from libs.cli.rendering.sheets import Item, Section, Sheet
from touchline.profile.v1 import views_pb2 as views

FOUR_COLUMNS_FROM = 160
TWO_COLUMNS_FROM = 72
WIDEST_VIEW = 110
SHORT_HEAD = 80
SHORT_TEXT = 100


@dataclass(frozen=True, slots=True)
class _SideBySide:
    sheets: Sequence[Sheet]
    width: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(self.width or options.max_width, options.max_width)
        columns = 4 if width >= FOUR_COLUMNS_FROM else 2 if width >= TWO_COLUMNS_FROM else 1
        each = width // columns
        grid = Table.grid()
        for _ in range(columns):
            grid.add_column(width=each)
        for first in range(0, len(self.sheets), columns):
            row = self.sheets[first : first + columns]
            inner = options.update(width=each)
            heights = [len(console.render_lines(_panel(one), inner)) for one in row]
            grid.add_row(*(_panel(one, height=max(heights)) for one in row))
        yield grid


@dataclass(frozen=True, slots=True)
class _Whole:
    sheet: Sheet
    truncated: bool

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        parts: list[RenderableType] = [_body(self.sheet, short=False)]
        if self.truncated:
            parts += [Text(), Text("Older events were left out.", style=palette.ATTENTION)]
        width = min(options.max_width, WIDEST_VIEW)
        yield _framed(self.sheet, Group(*parts), width=width)


@dataclass(frozen=True, slots=True)
class _Entry:
    item: Item
    short: bool

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        item = self.item
        head = Text(words.clip(item.head, SHORT_HEAD) if self.short else item.head)
        remark = Text.assemble((item.state, item.style))
        if item.remark:
            remark.append(" · " if remark else "", style=palette.QUIET)
            remark.append(item.remark, style=palette.QUIET)
        if remark and head.cell_len + 2 + remark.cell_len <= options.max_width:
            yield head.append("  ").append_text(remark)
        else:
            yield from (part for part in (head, remark) if part)
        if item.text:
            text = words.clip(item.text, SHORT_TEXT) if self.short else item.text
            yield Text(text, style=palette.QUIET)


def four_views(
    sales: views.SalesView,
    service: views.ServiceView,
    marketing: views.MarketingView,
    customer: views.CustomerView,
    *,
    now: datetime,
    width: int | None = None,
) -> RenderableType:
    """Lays out the four views: four columns from 160 on, two by two from 72 on, else below another.

    Args:
        sales: What sales sees.
        service: What service sees.
        marketing: What marketing sees.
        customer: What the customer sees.
        now: The present, in the reader's time zone.
        width: The columns to use; left out: all there are.
    """
    each: tuple[View, ...] = (sales, service, marketing, customer)
    return _SideBySide([sheet(view, now) for view in each], width)


def one_view(view: View, *, now: datetime, truncated: bool = False) -> RenderableType:
    """Lays out one view in full.

    Args:
        view: The view.
        now: The present, in the reader's time zone.
        truncated: Whether the view says that older events were left out.
    """
    return _Whole(sheet(view, now), truncated)


def _panel(one: Sheet, *, height: int | None = None) -> Panel:
    return _framed(one, _body(one, short=True), height=height)


def _framed(
    one: Sheet, body: RenderableType, *, width: int | None = None, height: int | None = None
) -> Panel:
    title = Text(f" {one.title} ", style="bold not dim")
    return Panel(
        Group(Text(one.phrase, style="dim italic"), body),
        title=title,
        title_align="left",
        border_style=palette.QUIET,
        box=box.ROUNDED,
        padding=(0, 1),
        width=width,
        height=height,
    )


def _body(one: Sheet, *, short: bool) -> Group:
    return Group(*(part for section in one.sections for part in _section(section, short=short)))


def _section(section: Section, *, short: bool) -> Iterator[RenderableType]:
    heading = Text(section.title, style=palette.STRONG)
    heading.append(f"  {section.remark}" if section.remark else "", style="not bold dim")
    yield Text()
    yield heading
    if not section.items:
        yield Text(section.empty, style=palette.QUIET)
        return
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=1)
    grid.add_column(ratio=1)
    shown = section.items[: section.most] if short else section.items
    for item in shown:
        grid.add_row(Text(item.symbol, style=item.style), _Entry(item, short))
    if rest := len(section.items) - len(shown):
        grid.add_row("", Text(f"and {rest} more", style=palette.QUIET))
    yield grid
