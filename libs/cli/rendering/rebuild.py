"""What became of a rebuild, and of generations that are switched, dropped or paused."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from libs.cli.rendering.differences import differing_rows
from touchline.projection.v1 import projection_pb2 as projection
from touchline.projection.v1 import projection_service_pb2 as api


def begun(projection: str, generation: int) -> Text:
    """Says what is being built."""
    return Text.assemble((projection, palette.STRONG), f" as generation {generation}")


def compared(last: api.CompareGenerationsResponse) -> RenderableType:
    """Says whether two generations are equal, and which rows are not.

    Args:
        last: The last message of a comparison.
    """
    at = f"at position {last.position:,}"
    if not (differing := differing_in(last)):
        rows = words.count(sum(table.live_rows for table in last.tables), "row")
        tables = words.count(len(last.tables), "table")
        said = f"generation {last.generation} is equal to {last.serving}: {rows} in {tables}, {at}"
        return Text(f"{palette.KEPT} {said}", style=palette.GOOD)
    said = f"generation {last.generation} is not equal to {last.serving}, which answers"
    differ = f"{words.count(differing, 'row')} {'differs' if differing == 1 else 'differ'}"
    told = Text(f"{palette.BROKEN} {said}: {differ}, {at}", style=palette.BAD)
    return Group(told, _tables(last), *_rows(last.tables))


def differing_in(last: api.CompareGenerationsResponse) -> int:
    """Returns in how many rows two generations differ."""
    return sum(table.differing_rows for table in last.tables)


def following(generation: int) -> Text:
    """Says that a generation is filled."""
    return _done(f"generation {generation} follows the line, beside the one that answers")


def switched(
    done: api.SwitchProjectionResponse, roll_back: str, *, now: datetime
) -> RenderableType:
    """Says what answers from now on, and how that is taken back.

    Args:
        done: What the service answered.
        roll_back: The command that takes it back.
        now: The present, in the reader's time zone.
    """
    until = words.local(done.roll_back_until, now.tzinfo)
    kept = f"{done.previous} folds on until {until:%H:%M}, to go back to:"
    return Group(
        _done(f"generation {done.generation} answers, from position {done.position:,} on"),
        Text(f"  {kept}", style=palette.QUIET),
        Text(f"  {roll_back}"),
    )


def rolled_back(done: api.RollBackProjectionResponse) -> Text:
    """Says what answers again."""
    return _done(
        f"generation {done.generation} answers again, from position {done.position:,} on; "
        f"{done.previous} folds on for ten minutes"
    )


def dropped(generation: int) -> Text:
    """Says that a generation is gone."""
    return _done(f"generation {generation} is dropped")


def paused(done: api.PauseProjectionResponse, resume: str) -> RenderableType:
    """Says where a projection stands, what that means and how it goes on.

    Args:
        done: What the service answered.
        resume: The command that lets it go on.
    """
    return Group(
        _done(f"paused at position {done.position:,}"),
        Text(
            "  Reads answer as of there; one that asks for more is told so. It goes on with:",
            palette.QUIET,
        ),
        Text(f"  {resume}"),
    )


def resumed() -> Text:
    """Says that a projection folds on."""
    return _done("it folds on")


def next_step(what: str, command: str) -> Text:
    """Says what can be done next, and by which command."""
    return Text.assemble((f"  {what}:  ", palette.QUIET), command)


def _done(said: str) -> Text:
    return Text(f"{palette.KEPT} {said}", style=palette.GOOD)


def _tables(last: api.CompareGenerationsResponse) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, header_style=palette.QUIET, pad_edge=False)
    grid.add_column("table", overflow="fold")
    for name in (f"rows in {last.serving}", f"rows in {last.generation}", "differ"):
        grid.add_column(name, justify="right")
    for table in last.tables:
        differ = table.differing_rows
        style = palette.BAD if differ else palette.GOOD
        grid.add_row(
            words.plain(table.table),
            f"{table.live_rows:,}",
            f"{table.copied_rows:,}",
            Text(f"{differ:,}" if differ else palette.KEPT, style=style),
        )
    return grid


def _rows(tables: Sequence[projection.TableComparison]) -> Iterator[RenderableType]:
    for table in tables:
        if table.differences:
            yield Text(words.plain(table.table), style=palette.STRONG)
            yield from differing_rows(table, "new")
            yield Text()
