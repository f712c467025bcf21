"""Scores: one with its levels, many in order, and one explained down to the event."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.bounded import Bounded
from libs.cli.rendering.degraded import degraded
from libs.cli.rendering.lines import Line
from touchline.engagement.v1 import engagement_pb2 as engagement

WIDEST = 120
_NARROW = 96
_BAR = 56
_SMALL_BAR = 20
# Floating-point sums in another order differ by less.
_SUM_TOLERANCE = 1e-9
# Shown as 0.00.
_NOTHING = 0.005


@dataclass(frozen=True, slots=True)
class Explained:
    """A score with everything that it is made of.

    Attributes:
        score: The score.
        rules: What each rule gives.
        contributions: What each event gives; all of them, those that are shown first.
        events: The customer's events in words, by id, as far as they are known.
    """

    score: engagement.Score
    rules: Sequence[engagement.RulePoints]
    contributions: Sequence[engagement.Contribution]
    events: Mapping[str, Line]


def score(
    one: engagement.Score, name: str, levels: Sequence[engagement.ScoreLevel], *, now: datetime
) -> RenderableType:
    """Lays out one score on the scale of its model's levels.

    Args:
        one: The score.
        name: What the customer is called.
        levels: The model's levels, by rising score.
        now: The present, in the reader's time zone.
    """
    parts = [_heading(one, name, now)]
    if levels:
        parts += [_scale(one.score, levels), _legend(one, levels)]
    return Padding(Group(Text(), *parts, Text()), (0, 1))


def scores(
    listed: Sequence[engagement.Score], names: Mapping[str, str], *, now: datetime
) -> RenderableType:
    """Lays out customers by score.

    Args:
        listed: The scores, in their order.
        names: What customers are called, by profile id.
        now: The present, in the reader's time zone.
    """
    if not listed:
        return Text("Nothing counts for anybody yet.", style=palette.QUIET)
    highest = max(abs(one.score) for one in listed)
    table = _table(("", 1), ("customer", 0), ("score", 1), ("level", 0), ("", 0))
    for place, one in enumerate(listed, start=1):
        table.add_row(
            Text(f"{place}", style=palette.QUIET),
            _customer(one, names),
            points(one.score),
            _level(one),
            _bar(one.score, highest, _SMALL_BAR),
        )
    parts: list[RenderableType] = [Padding(Group(table, _model(listed[0], now)), (0, 1))]
    if lacking := {name for one in listed for name in one.degraded_projections}:
        parts += [Text(), degraded(lacking, several=True)]
    return Group(*parts)


def explanation(
    explained: Explained, name: str, *, now: datetime, most: int, ids: bool = False
) -> RenderableType:
    """Lays out why a score is what it is: each rule's points, then each event's, and the sums.

    Args:
        explained: The score and what it is made of.
        name: What the customer is called.
        now: The present, in the reader's time zone.
        most: How many events to show one by one; the others are summed.
        ids: Name the events by their ids instead of in words.
    """
    return _Explanation(explained, name, now, most, ids)


def points(value: float) -> Text:
    """Returns points with two digits, negative ones in red."""
    shown = f"{value:,.2f}"
    return Text("0.00" if shown == "-0.00" else shown, style=palette.BAD if value < 0 else "")


@dataclass(frozen=True, slots=True)
class _Explanation:
    explained: Explained
    name: str
    now: datetime
    most: int
    ids: bool

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        body = Group(
            Text(),
            _heading(self.explained.score, self.name, self.now),
            self._rules(),
            self._events(min(options.max_width, WIDEST) - 2),
        )
        yield Bounded(body, WIDEST)

    def _rules(self) -> Table:
        rules = self.explained.rules
        highest = max((abs(one.points) for one in rules), default=0.0)
        events = sum(one.events for one in rules)
        total = math.fsum(one.points for one in rules)
        table = _table(("rule", 0), ("events", 1), ("points", 1), ("", 0))
        counting = [one for one in rules if one.events]
        for one in counting:
            capped = not math.isclose(one.points, one.uncapped_points, abs_tol=_SUM_TOLERANCE)
            remark = _bar(one.points, highest, _SMALL_BAR)
            if capped:
                remark.append(f"  capped, else {one.uncapped_points:,.2f}", palette.QUIET)
            rule = Text(words.plain(one.rule))
            table.add_row(rule, f"{one.events:,}", points(one.points), remark)
        if idle := len(rules) - len(counting):
            others = words.count(idle, "other")
            table.add_row(*(Text(said, palette.QUIET) for said in (others, "0", "0.00")))
        table.add_section()
        table.add_row(Text("sum", palette.STRONG), f"{events:,}", *self._sum(total))
        return table

    def _events(self, width: int) -> RenderableType:
        every = self.explained.contributions
        if not every:
            return Text("No event counts.", style=palette.QUIET)
        wide = width >= _NARROW
        heads = ("when", "event", "rule", "weight", "age", "decayed", "points")
        table = _table(*((head, index > 2) for index, head in enumerate(heads)))
        table.width = width
        table.columns[1].ratio = 1
        if not self.ids:
            table.columns[1].no_wrap = True
            table.columns[1].overflow = "ellipsis"
        for one in every[: self.most]:
            table.add_row(*self._event(one, wide=wide))
        if rest := every[self.most :]:
            given = points(math.fsum(one.points for one in rest))
            more = Text(f"and {len(rest):,} more", palette.QUIET)
            table.add_row("", more, "", "", "", "", given)
        table.add_section()
        total, verdict = self._sum(math.fsum(one.points for one in every))
        table.add_row(Text("sum", palette.STRONG), verdict, "", "", "", "", total)
        return table

    def _event(self, one: engagement.Contribution, *, wide: bool) -> Iterator[Text]:
        moment = words.local(one.occurred_at, self.now.tzinfo)
        when = words.when(moment, self.now) if wide else words.date(moment, self.now)
        yield Text(when, style=palette.QUIET)
        yield Text(one.event_id) if self.ids else self._words(one, wide=wide)
        yield Text(words.clip(words.plain(one.rule), 20), style=palette.QUIET)
        yield points(one.weight)
        yield Text(f"{one.age_days:,} d", style=palette.QUIET)
        yield points(one.decayed)
        yield points(one.points)

    def _words(self, one: engagement.Contribution, *, wide: bool) -> Text:
        line = self.explained.events.get(one.event_id)
        if line is None:
            return Text(words.human(terms.SORTS.get(one.type, "an event")))
        told = Text.assemble((f"{line.symbol} {line.label}  " if wide else line.symbol, line.style))
        return told.append("" if wide else " ").append(line.headline or line.text)

    def _sum(self, total: float) -> tuple[Text, Text]:
        is_score = math.isclose(total, self.explained.score.score, abs_tol=_SUM_TOLERANCE)
        if is_score:
            verdict = Text(f"{palette.KEPT} the score", style=palette.GOOD)
        else:
            off = total - self.explained.score.score
            verdict = Text(f"{palette.BROKEN} not the score: off by {off:g}", style=palette.BAD)
        shown = points(total)
        shown.stylize(palette.STRONG)
        return shown, verdict


def _heading(one: engagement.Score, name: str, now: datetime) -> Text:
    heading = Text.assemble((name or "Customer", palette.STRONG), "  ")
    heading.append_text(Text.assemble(points(one.score), style=f"bold {palette.CUSTOMER}"))
    heading.append("  ").append_text(_level(one))
    return heading.append("   ").append_text(_model(one, now))


def _model(one: engagement.Score, now: datetime) -> Text:
    as_of = words.when(words.local(one.as_of, now.tzinfo), now)
    model = f"model {words.plain(one.model)} v{one.model_version} · as of {as_of}"
    return Text(model, style=palette.QUIET)


def _customer(one: engagement.Score, names: Mapping[str, str]) -> Text:
    name = terms.customer(one.profile_id, names)
    if one.degraded_projections:
        name = name.copy().append(f" {palette.INCOMPLETE}", style=palette.ATTENTION)
    return name


def _level(one: engagement.Score) -> Text:
    if not one.level:
        return Text(palette.DASH, style=palette.QUIET)
    return Text(f"{palette.SAID_BY_CUSTOMER} {words.plain(one.level)}", style=palette.CUSTOMER)


def _scale(value: float, levels: Sequence[engagement.ScoreLevel]) -> Text:
    """Returns a bar up to the highest level, or to the score if that is more, with level marks."""
    end = max(value, *(level.from_score for level in levels))
    marks = {math.ceil(level.from_score / end * _BAR) - 1 for level in levels}
    filled = round(max(0.0, value) / end * _BAR)
    bar = Text()
    for cell in range(_BAR):
        line = "┿" if cell in marks else "━"
        rest = "┼" if cell in marks else "─"
        bar.append(*((line, palette.CUSTOMER) if cell < filled else (rest, palette.QUIET)))
    return bar


def _legend(one: engagement.Score, levels: Sequence[engagement.ScoreLevel]) -> Text:
    legend = Text(" · ", style=palette.QUIET).join(
        Text(
            f"{words.plain(level.name)} from {level.from_score:g}",
            style=palette.CUSTOMER if level.name == one.level else palette.QUIET,
        )
        for level in levels
    )
    ahead = [level for level in levels if level.from_score > one.score]
    if ahead:
        lacking = f"   {ahead[0].from_score - one.score:,.2f} to {words.plain(ahead[0].name)}"
        legend.append(lacking, palette.QUIET)
    return legend


def _bar(value: float, highest: float, width: int) -> Text:
    cells = round(abs(value) / highest * width) if highest > _NOTHING else 0
    return Text("━" * cells, style=palette.BAD if value < 0 else palette.CUSTOMER)


def _table(*columns: tuple[str, bool | int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style=palette.QUIET, pad_edge=False)
    for name, number in columns:
        table.add_column(name, justify="right" if number else "left", no_wrap=bool(number))
    return table
