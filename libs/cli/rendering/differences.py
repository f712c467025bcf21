"""How tables of a projection differ from others that were folded from the same events."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from touchline.projection.v1 import projection_pb2 as projection

# What is shown of two versions of a row: so many characters of the key, and from so many before
# where they differ.
_KEY: Final = 24
_BEFORE_DIFFERENCE: Final = 12
_MOST_COLUMNS: Final = 6


def differing_rows(table: projection.TableComparison, other: str) -> Iterator[RenderableType]:
    """Lays out the rows that differ between a table that is read and another.

    Each row is that of one side. Above it, or above both versions of it, stand the position and id
    of the event that it comes from, and the columns that differ, where known.

    Args:
        table: How the two compare.
        other: What the rows of the other are called, beside `live`, such as `new`.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, min_width=len("  only live"))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    rows, before = [words.plain(one.row) for one in table.differences], Text()
    for index, (one, row) in enumerate(zip(table.differences, rows, strict=True)):
        side = _side(one, other)
        known = _known(one)
        if known and known != before:
            grid.add_row(Text(), known)
        grid.add_row(side, Text(_from_difference(row, _alike(index, rows)), palette.QUIET))
        before = known
    yield grid
    if more := table.differing_rows - len(table.differences):
        yield Text(f"  and {more:,} more", style=palette.QUIET)


def _side(one: projection.RowDifference, other: str) -> Text:
    has_other_version = bool(one.columns)
    side = "live" if one.is_live else other
    said = f"  {'' if has_other_version else 'only '}{side}"
    return Text(said, style=palette.ATTENTION if one.is_live else "")


def _known(one: projection.RowDifference) -> Text:
    """Says which event a row comes from and in which columns it differs, as far as is known."""
    parts = []
    if one.position:
        parts.append(f"position {one.position:,}")
    if one.event_id:
        parts.append(f"event {words.plain(one.event_id)}")
    text = Text(", ".join(parts), no_wrap=False, overflow="fold")
    if one.columns:
        columns = [words.plain(column) for column in one.columns]
        named = ", ".join(columns[:_MOST_COLUMNS])
        more = f" and {len(columns) - _MOST_COLUMNS} more" if columns[_MOST_COLUMNS:] else ""
        text.append(": " if parts else "").append(f"{named}{more}", palette.BAD)
    return text


def _alike(index: int, rows: Sequence[str]) -> int:
    """Says in how many characters a row begins like one beside it: two versions stand together."""
    beside = [rows[at] for at in (index - 1, index + 1) if 0 <= at < len(rows)]
    return max((_shared(rows[index], each) for each in beside), default=0)


def _shared(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _from_difference(row: str, alike: int) -> str:
    """Leaves out what a row has in common with its neighbour, but for the key in front."""
    start = alike - _BEFORE_DIFFERENCE
    return row if start <= 2 * _KEY else f"{row[:_KEY]}…{row[start:]}"
