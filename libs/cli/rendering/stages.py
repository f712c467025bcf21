"""A rebuild while it goes on: a bar for each stage, or a line at times where nobody watches."""

from collections.abc import Iterable
from time import monotonic
from types import TracebackType
from typing import Final, Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from libs.cli.rendering import palette, words
from touchline.projection.v1 import projection_service_pb2 as api

_SECONDS_BETWEEN_LINES: Final = 5.0
_NAMES: Final = {
    api.REBUILD_STAGE_FILLING: "filling",
    api.REBUILD_STAGE_INDEXING: "indexing",
    api.REBUILD_STAGE_CATCHING_UP: "catching up",
}
_EVENTS: Final = "events"
_PERCENT: Final = "%"


class Stages:
    """Shows the stages of a rebuild, and of the comparison after it, as they are told.

    On a terminal each has a bar with what is done of what, the rate and the time left. Elsewhere
    there is a line every few seconds, and one when a stage ends.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = _Bars(
            SpinnerColumn("line", finished_text=Text(palette.KEPT, palette.GOOD)),
            TextColumn("{task.description}"),
            BarColumn(
                bar_width=None,
                style=palette.QUIET,
                complete_style=palette.CUSTOMER,
                finished_style=palette.GOOD,
                pulse_style=palette.CUSTOMER,
            ),
            _Done(),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            refresh_per_second=4,
            expand=True,
            disable=not console.is_terminal,
        )
        self._stage: Task | None = None
        self._reached: int = api.REBUILD_STAGE_UNSPECIFIED
        self._folded_before = 0
        self._told = ""
        self._told_at = monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._end_stage()
        self.wait_for("")
        self._bars.stop()

    def show(self, told: api.RebuildProjectionResponse) -> None:
        """Show how far a rebuild is."""
        self.wait_for(told.waits_for)
        if told.stage < self._reached:
            return  # such as between two attempts to make the indexes
        if told.stage > self._reached:
            # Whole transactions are told: what the last one added is known after it.
            self._end_stage(told.folded_events - self._folded_before)
            self._reached = told.stage
            if told.stage != api.REBUILD_STAGE_FILLING:
                self._folded_before = told.folded_events
        name = _NAMES.get(told.stage, "")
        if told.stage == api.REBUILD_STAGE_INDEXING:
            self._go_on(name, _PERCENT, round(100 * told.indexed), 100)
        elif name:
            filling = told.stage == api.REBUILD_STAGE_FILLING
            done = told.folded_events - self._folded_before
            of = max(done, told.events - self._folded_before)
            shared = f" · {told.workers} workers" if filling and told.workers > 1 else ""
            self._go_on(name, _EVENTS, done, of, shared)

    def show_comparison(self, told: api.CompareGenerationsResponse) -> None:
        """Show how far a comparison is."""
        self._go_on("comparing", "tables", len(told.tables), told.table_count)

    def wait_for(self, what: str) -> None:
        """Say what it waits for; empty: nothing."""
        what = words.plain(what)
        if what and what != self._bars.waits_for:
            self._tell(f"waits: {what}")
        self._bars.waits_for = what

    def _go_on(self, name: str, unit: str, done: int, of: int, remark: str = "") -> None:
        if self._stage is None:
            number = self._bars.add_task(
                name, total=of or None, completed=done, stage=name, unit=unit, since=done
            )
            self._stage = next(task for task in self._bars.tasks if task.id == number)
        said = f"{name}{remark}"
        self._bars.update(self._stage.id, description=said, completed=done, total=of or None)
        line = _line(self._stage)
        if line != self._told and monotonic() - self._told_at >= _SECONDS_BETWEEN_LINES:
            self._tell(line)

    def _end_stage(self, folded: int = 0) -> None:
        """End a stage where it is: what is recorded later is another stage's."""
        if self._stage is None:
            return
        done = self._stage.completed
        if self._stage.fields["unit"] == _EVENTS:
            done = max(done, folded)
        elif self._stage.fields["unit"] == _PERCENT:
            done = 100
        self._bars.update(self._stage.id, completed=done, total=done)
        self._tell(_line(self._stage))
        self._stage = None

    def _tell(self, line: str) -> None:
        self._told_at = monotonic()
        if not self._console.is_terminal:
            self._told = line
            self._console.print(Text(line), soft_wrap=True)


class _Bars(Progress):
    """Bars with a line below while there is something that is waited for."""

    waits_for = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.waits_for:
            yield Text(f"  waits: {self.waits_for}", style=palette.ATTENTION)


class _Done(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_done(task), style="")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_rate(task), style=palette.QUIET)


def _done(task: Task) -> str:
    unit = task.fields["unit"]
    if unit == _PERCENT:
        return f"{task.completed:.0f} %"
    if task.finished or not task.total:
        return f"{task.completed:,.0f} {unit}"
    return f"{task.completed:,.0f}/{task.total:,.0f} {unit}"


def _rate(task: Task) -> str:
    """Says how fast it goes; of what is done, how fast it went as a whole."""
    if task.fields["unit"] != _EVENTS:
        return ""
    done = task.completed - task.fields["since"]
    rate = done / task.finished_time if task.finished_time else task.speed
    return f"{rate:,.0f}/s" if rate and done else ""


def _line(task: Task) -> str:
    said = [_done(task), _rate(task)]
    if task.finished:
        said.append(f"{task.finished_time or 0:,.1f} s")
    elif task.time_remaining:
        said.append(f"{task.time_remaining:,.0f} s left")
    return f"{task.description}: {', '.join(filter(None, said))}"
