"""A timeline as a person wants to read it: by day, newest first."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from string import ascii_uppercase

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.facts import describe
from libs.cli.rendering.lines import Line, Surroundings, surroundings
from touchline.profile.v1 import profile_pb2 as profiles

WIDEST = 120
# From here on who and whom have a column of their own.
WIDE = 108
SHORT_TEXT = 320
_TIME, _LABEL, _PEOPLE, _GAP = 5, 13, 20, 2


@dataclass(frozen=True, slots=True)
class _Row:
    moment: datetime
    thread: str
    line: Line


@dataclass(frozen=True, slots=True)
class _Timeline:
    heading: Sequence[Text]
    days: Sequence[tuple[str, str, Sequence[_Row]]]
    foot: Text

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, WIDEST)
        parts: list[RenderableType] = [*self.heading]
        for title, distance, rows in self.days:
            parts += [Text(), _day(title, distance, width), Text()]
            parts += [_grid(rows, width)]
        parts += [Text(), self.foot] if self.foot else []
        yield Padding(Group(*parts), (0, 1), expand=False)


def timeline(
    profile_id: str,
    entries: Sequence[profiles.TimelineEntry],
    *,
    now: datetime,
    profile: profiles.Profile | None = None,
    full: bool = False,
) -> RenderableType:
    """Lays out a customer's timeline for a terminal of 60 columns or more.

    Successive uses of one product become one line, conversations with more than one entry get a
    letter, and promises show how they ended.

    Args:
        profile_id: The profile's id.
        entries: What happened, newest first, as ListTimelineEvents answers.
        now: The present, in the reader's time zone.
        profile: Who the customer is, for the heading and the name in the lines.
        full: Show texts whole instead of their first 320 characters.
    """
    name = terms.profile_name(profile) if profile else ""
    around = surroundings(entries, now=now, name=name.split()[0] if name else "customer")
    rows = list(_rows(entries, around, full=full))
    days = [
        (words.day(moments[0].moment), words.distance(moments[0].moment, now), moments)
        for _, group in groupby(rows, key=lambda row: row.moment.date())
        if (moments := list(group))
    ]
    lettered = sorted({row.thread for row in rows if row.thread})
    heading = list(_heading(profile_id, name, entries, profile, now))
    return _Timeline(heading, days, _foot(lettered) if entries else Text())


def _heading(
    profile_id: str,
    name: str,
    entries: Sequence[profiles.TimelineEntry],
    profile: profiles.Profile | None,
    now: datetime,
) -> Iterator[Text]:
    parts = [words.count(len(entries), "event")] if entries else ["nothing has happened yet"]
    if entries:
        first = words.local(entries[-1].event.occurred_at, now.tzinfo)
        last = words.local(entries[0].event.occurred_at, now.tzinfo)
        parts.append(words.span(first, last, now))
    title = Text(name or "Customer", style=palette.STRONG)
    title.append(f"  {' · '.join(parts)}", style="not bold dim")
    yield Text()
    yield title
    known = [terms.identity(one.identity) for one in profile.identities] if profile else []
    if known:
        yield Text(" · ".join(known), style=palette.QUIET)
    yield Text(f"profile {profile_id}", style=palette.QUIET)


def _rows(
    entries: Sequence[profiles.TimelineEntry], around: Surroundings, *, full: bool
) -> Iterator[_Row]:
    letters = _letters(entries)
    zone = around.now.tzinfo
    for product, run in groupby(entries, key=_product):
        together = list(run)
        if product and len(together) > 1:
            moment = words.local(together[0].event.occurred_at, zone)
            yield _Row(moment, "", _uses(product, together, around))
            continue
        for entry in together:
            line = describe(entry, around)
            text = line.text if full else words.clip(line.text, SHORT_TEXT)
            moment = words.local(entry.event.occurred_at, zone)
            thread = letters.get(entry.event.conversation_id, "")
            yield _Row(moment, thread, replace(line, text=text))


def _letters(entries: Sequence[profiles.TimelineEntry]) -> dict[str, str]:
    """Names the conversations with several entries A, B, C …, the oldest first."""
    threads = Counter(
        entry.event.conversation_id for entry in reversed(entries) if entry.event.conversation_id
    )
    several = [thread for thread, entries_of_it in threads.items() if entries_of_it > 1]
    return dict(zip(several, ascii_uppercase, strict=False))


def _product(entry: profiles.TimelineEntry) -> str:
    return entry.event.product_used.product if not entry.erased else ""


def _uses(product: str, entries: Sequence[profiles.TimelineEntry], around: Surroundings) -> Line:
    """Tells successive uses of one product as one line."""
    facts = [entry.event.product_used for entry in entries]
    first = words.local(entries[-1].event.occurred_at, around.now.tzinfo)
    last = words.local(entries[0].event.occurred_at, around.now.tzinfo)
    features = Counter(words.plain(fact.feature) for fact in facts if fact.feature)
    seconds = sum(fact.duration_seconds for fact in facts)
    details = [
        f"{len(facts):,} times",
        words.duration(seconds) if seconds else "",
        words.span(first, last, around.now) if first.date() != last.date() else "",
    ]
    return Line(
        palette.USE,
        palette.CUSTOMER,
        "use",
        who=around.name,
        headline=f"Used {words.plain(product)}",
        headline_style="",
        details=tuple((detail, palette.QUIET) for detail in details if detail),
        text=words.clip(", ".join(features), SHORT_TEXT),
    )


def _day(title: str, distance: str, width: int) -> Text:
    heading = Text(f"{title} ", style=palette.STRONG)
    heading.append(f"· {distance} ", style="not bold dim")
    heading.append("─" * max(0, width - 2 - heading.cell_len), style="not bold dim")
    return heading


def _grid(rows: Sequence[_Row], width: int) -> Table:
    wide = width >= WIDE
    body = width - _TIME - _LABEL - (_PEOPLE + _GAP if wide else 0) - 3 * _GAP - 2
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for fixed in (_TIME, _LABEL, *((_PEOPLE,) if wide else ()), body):
        grid.add_column(width=fixed)
    airy = True
    for index, row in enumerate(rows):
        if index and (airy or row.line.text or not wide):
            grid.add_row()
        grid.add_row(*_cells(row, body, wide=wide))
        airy = bool(row.line.text)
    return grid


def _cells(row: _Row, width: int, *, wide: bool) -> Iterator[RenderableType]:
    line = row.line
    label = Text(f"{row.thread or ' '} ", style=palette.QUIET, no_wrap=True, overflow="ellipsis")
    label.append(f"{line.symbol} {line.label}", style=f"not dim {line.style}")
    people = f"{line.who} → {line.whom}" if line.whom else line.who
    yield Text(f"{row.moment:%H:%M}", style=palette.QUIET)
    yield label
    if wide:
        yield Text(people, style=palette.QUIET, no_wrap=True, overflow="ellipsis")
    yield Group(*_body(line, width, people="" if wide else people))


def _body(line: Line, width: int, *, people: str) -> Iterator[Text]:
    """Yields headline, remarks and text; remarks stand beside the headline when they fit."""
    remarks = Text()
    for remark, style in (((people, palette.QUIET),) if people else ()) + line.details:
        remarks.append(" · " if remarks else "", style=palette.QUIET)
        remarks.append(remark, style=style)
    head = Text.assemble((line.headline, line.headline_style) if line.headline else line.text)
    if remarks and line.headline and head.cell_len + 2 + remarks.cell_len <= width:
        yield head.append("  ").append_text(remarks)
    else:
        yield from (part for part in (head, remarks) if part)
    if line.headline and line.text:
        yield Text(line.text, style=palette.QUIET)


def _foot(lettered: Sequence[str]) -> Text:
    legend = [
        f"{palette.SAID_BY_CUSTOMER} the customer",
        f"{palette.SAID_BY_COMPANY} the company",
        f"{palette.OPEN} promised",
        f"{palette.KEPT} kept",
        f"{palette.BROKEN} broken",
    ]
    if lettered:
        letters = lettered[0] if len(lettered) == 1 else f"{lettered[0]}-{lettered[-1]}"
        legend.append(f"{letters} same conversation")
    return Text("   ".join(legend), style=palette.QUIET)
