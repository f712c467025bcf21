"""What a run shows: a line per fault, a live line, and at the end what was found."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette
from tests.faults.checking import MAX_PROBLEMS, Claim
from tests.faults.history import DUPLICATE, RECORDED, History


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run was, beside its history.

    Attributes:
        seed: What made it.
        seconds: How long the storm lasted.
        faults: How many there were, by kind.
        head: Events on the line.
        decisions: How many of them our services decided.
        silence: The longest time without an acknowledgement, and the longest while a way to append
            was open.
        skipped: What could not be done here, and why.
    """

    seed: int
    seconds: float
    faults: Counter[str]
    head: int
    decisions: int
    silence: tuple[float, float]
    skipped: Sequence[str] = ()


@dataclass(slots=True)
class Screen:
    """Where a run tells what happens.

    Attributes:
        console: Where to.
    """

    console: Console
    began: float = field(default_factory=time.monotonic)
    _bars: Progress | None = None
    _task: TaskID | None = None

    def line(self, text: str, style: str = "") -> None:
        """Print a line with the time since the run began."""
        at = timedelta(seconds=int(time.monotonic() - self.began))
        told = Text.assemble((f"  {at}  ", palette.QUIET), (text, style))
        self.console.print(told, soft_wrap=True, highlight=False)

    def fault(self, kind: str, target: str) -> None:
        """Tell of a fault."""
        self.line(f"{palette.SIGNAL} {kind:<32}{target}", palette.ATTENTION)

    @contextmanager
    def live(self, seconds: float) -> Iterator[None]:
        """Show a live line while the block runs; nothing where there is no terminal."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24, complete_style=palette.CUSTOMER),
            TextColumn("{task.fields[told]}"),
        )
        with Progress(*columns, console=self.console, transient=True, refresh_per_second=4) as bars:
            self._bars, self._task = bars, bars.add_task("storm", total=seconds, told="")
            try:
                yield
            finally:
                self._bars = None

    def progress(
        self, gone: float, left: float, history: History, rate: float, faults: int
    ) -> None:
        """Renew the live line."""
        if self._bars is not None and self._task is not None:
            told = (
                f"{history.acknowledged:,} acknowledged · {rate:,.0f}/s · {faults} faults · "
                f"{left:.0f} s left"
            )
            self._bars.update(self._task, completed=gone, told=told)


def result(claims: Sequence[Claim], history: History, figures: Figures) -> RenderableType:
    """Lay out what was done, what was told, and which claims hold."""
    failed = sum(not claim.holds for claim in claims)
    verdict = (
        Text(f"{failed} of {len(claims)} claims do not hold", style=f"bold {palette.BAD}")
        if failed
        else Text("Everything holds", style=f"bold {palette.GOOD}")
    )
    again = f"again: make test-long FAULTS='--seed {figures.seed} --seconds {figures.seconds:.0f}'"
    parts: list[RenderableType] = [
        Text(),
        Text.assemble(verdict, (f"   seed {figures.seed}", palette.STRONG)),
        Text(again, style=palette.QUIET),
        Text(),
        _numbers(history, figures),
        _faults(figures.faults),
        *(Text(f"{palette.OPEN} {why}", style=palette.ATTENTION) for why in figures.skipped),
        Text(),
        _claims(claims),
    ]
    return Group(*parts)


def _numbers(history: History, figures: Figures) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    whole, open_ = figures.silence
    cells = [
        ("the storm lasted", f"{figures.seconds:.0f} s"),
        ("faults", f"{sum(figures.faults.values()):,}"),
        ("ids sent", f"{len(history.contents):,}"),
        ("calls", f"{history.attempts:,}, {history.retries:,} of them retries"),
        ("calls nobody answered", _counted(history.failures)),
        ("acknowledged", f"{history.acknowledged:,}"),
        ("verdicts", _counted(history.outcomes)),
        ("events on the line", f"{figures.head:,}, {figures.decisions:,} of them decisions"),
        ("longest silence", f"{whole:.1f} s; {open_:.1f} s while a way to append was open"),
    ]
    for name, told in cells:
        grid.add_row(Text(name, style=palette.QUIET), Text(told))
    return grid


def _faults(counts: Counter[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style=palette.QUIET, pad_edge=False)
    table.add_column("times", justify="right")
    table.add_column("fault")
    for kind, count in sorted(counts.items()):
        table.add_row(f"{count:,}", kind)
    return table


def _claims(claims: Sequence[Claim]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for claim in claims:
        style = palette.GOOD if claim.holds else palette.BAD
        symbol = palette.KEPT if claim.holds else palette.BROKEN
        grid.add_row(
            Text(symbol, style=f"bold {style}"),
            Text(claim.text, style=palette.STRONG),
            Text(claim.of, style=palette.QUIET),
        )
        for problem in claim.problems[:MAX_PROBLEMS]:
            grid.add_row("", Text(problem, style=palette.BAD), "")
        if len(claim.problems) > MAX_PROBLEMS:
            more = f"and {len(claim.problems) - MAX_PROBLEMS:,} more"
            grid.add_row("", Text(more, style=palette.BAD), "")
    return grid


def _counted(counts: Counter[str]) -> str:
    told = [f"{name} {count:,}" for name, count in counts.most_common()]
    return " · ".join(told) or "none"


def acknowledged_at(history: History) -> list[float]:
    """Return when each acknowledgement came."""
    return [one.ended for one in history.answers if one.outcome in (RECORDED, DUPLICATE)]
