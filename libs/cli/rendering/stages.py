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
        self._caught_up_from = 0
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
        if told.stage not in _NAMES:
            self._end_stage()
        elif told.stage == api.REBUILD_STAGE_INDEXING:
            self._go_on(_NAMES[told.stage], _PERCENT, round(100 * told.indexed), 100)
        else:
            shared = f" · {told.workers} workers" if told.workers > 1 else ""
            name, of = f"{_NAMES[told.stage]}{shared}", max(told.events, told.folded_events)
            if told.stage == api.REBUILD_STAGE_CATCHING_UP:
                self._caught_up_from = self._caught_up_from or told.folded_events
            since = self._caught_up_from
            self._go_on(name, "events", told.folded_events - since, of - since)

    def show_comparison(self, told: api.CompareGenerationsResponse) -> None:
        """Show how far a comparison is."""
        self._go_on("comparing", "tables", len(told.tables), told.table_count)

    def wait_for(self, what: str) -> None:
        """Say what it waits for; empty: nothing."""
        what = words.plain(what)
        if what and what != self._bars.waits_for:
            self._tell(f"waits for {what}")
        self._bars.waits_for = what

    def _go_on(self, name: str, unit: str, done: int, of: int) -> None:
        stage = name.partition(" · ")[0]
        if self._stage is None or self._stage.fields["stage"] != stage:
            self._end_stage()
            number = self._bars.add_task(
                name, total=of or None, completed=done, stage=stage, unit=unit, since=done
            )
            self._stage = next(task for task in self._bars.tasks if task.id == number)
        self._bars.update(self._stage.id, description=name, completed=done, total=of or None)
        if monotonic() - self._told_at >= _SECONDS_BETWEEN_LINES:
            self._tell(_line(self._stage))

    def _end_stage(self) -> None:
        if self._stage is None:
            return
        # Where it ended is all there was to do: what is recorded later is another stage's.
        done = (
            self._stage.total if self._stage.fields["unit"] == _PERCENT else self._stage.completed
        )
        self._bars.update(self._stage.id, completed=done or 1, total=done or 1)
        self._tell(_line(self._stage))
        self._stage = None

    def _tell(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(Text(line), soft_wrap=True)
            self._told_at = monotonic()


class _Bars(Progress):
    """Bars with a line below while there is something that is waited for."""

    waits_for = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.waits_for:
            yield Text(f"  waits for {self.waits_for}", style=palette.ATTENTION)


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
    if task.fields["unit"] != "events":
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
