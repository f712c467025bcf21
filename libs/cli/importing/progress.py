"""Progress and summary of an import, for a terminal and for a log."""

from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from libs.cli.importing.result import ImportResult

_SECONDS_BETWEEN_LINES = 5.0


class ImportProgress:
    """Shows rows, share of the file, rate and time left: a bar, or off a terminal a line at times.

    Args:
        console: Where to.
        name: The file's name.
        size: Its bytes.
        transient: Whether the bar goes away in the end, as where one file follows the other.
    """

    def __init__(self, console: Console, name: str, size: int, *, transient: bool = False) -> None:
        self._console = console
        self._name = name
        self._size = max(size, 1)
        self._began = self._told = monotonic()
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rows]:,} rows"),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            transient=transient,
        )

    def __enter__(self) -> "ImportProgress":
        if self._console.is_terminal:
            self._task = self._bar.add_task(self._name, total=self._size, rows=0, rate=0.0)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._bar.stop()

    def show(self, rows: int, bytes_read: int) -> None:
        """Show how far the import is, in rows and bytes read."""
        now = monotonic()
        elapsed = max(now - self._began, 0.001)
        if self._task is not None:
            self._bar.update(self._task, completed=bytes_read, rows=rows, rate=rows / elapsed)
        elif now - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = now
            left = elapsed * (self._size - bytes_read) / max(bytes_read, 1)
            self._console.print(
                f"{self._name}: {100 * bytes_read / self._size:.0f} %, {rows:,} rows, "
                f"{rows / elapsed:,.0f}/s, {left:,.0f} s left",
                highlight=False,
                soft_wrap=True,
            )


def print_summary(result: ImportResult, console: Console) -> None:
    """Print what came of an import as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("rows read", f"{result.rows:,}")
    table.add_row("recorded", f"[green]{result.recorded:,}[/]")
    table.add_row("duplicates", f"{result.duplicates:,}")
    for name in ("conflicts", "rejected", "broken"):
        count = getattr(result, name)
        table.add_row(name, f"[red]{count:,}[/]" if count else "0")
    for (field, currency), micros in sorted(result.totals.items()):
        table.add_row(f"sum of {field}", f"{amount_text(micros)} {currency}")
    for name in ("left_out", "unresolved"):
        if count := getattr(result, name):
            table.add_row(name.replace("_", " "), f"{count:,}")
    table.add_row("seconds", f"{result.seconds:,.1f}")
    table.add_row("rows/s", f"{result.rows / max(result.seconds, 0.001):,.0f}")
    console.print(table)
    if result.report:
        console.print(f"Rows that were not recorded: {result.report}", soft_wrap=True)


def amount_text(micros: int) -> str:
    """Return an amount with thousands separated and at least two decimals, exactly."""
    whole, rest = divmod(abs(micros), 1_000_000)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole:,}.{decimals}"
