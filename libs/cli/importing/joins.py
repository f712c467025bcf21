"""Joins what a row refers to: the files of `[lookups.…]`, held in memory by their keys.

The file that is imported streams. A reference that leads nowhere leaves the joined columns empty
and is told: nothing is dropped in silence.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from libs.cli.importing.cells import Columns, GetText
from libs.cli.importing.conditions import Condition, compile_condition
from libs.cli.importing.errors import ImportFileError, Place, RowError
from libs.cli.importing.formats import FileFormat
from libs.cli.importing.lookups import Lookup
from libs.cli.importing.readers import CELL_SEPARATOR, Row, RowFile

MOST_ROWS: Final = 2_000_000
"""Rows of one lookup file that are held in memory."""

Cells = tuple[str, ...]


class Missing(NamedTuple):
    """A reference that leads nowhere: the lookup, and the key that is not there."""

    lookup: Lookup
    value: str


class Joined(NamedTuple):
    """A row with what it refers to.

    Attributes:
        row: Its cells, then those of each lookup.
        told_apart: What tells it from the other rows that the same row became.
        missing: The references that lead nowhere.
    """

    row: Row
    told_apart: bytes
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a lookup file.

    Attributes:
        matches: Key → the joined cells of each row with it; of the first only, unless `each`.
        lines: Key → the lines of its rows; empty unless `report_unused`.
    """

    matches: Mapping[str, list[Cells]]
    lines: Mapping[str, list[int]]


Shelf = dict[tuple[object, ...], Found]
"""Lookup files that were read, so that the mappings of one folder read each of them once."""


def check_lookup(lookup: Lookup, folder: Path, file_format: FileFormat) -> None:
    """Check that a lookup's file is there and has the columns.

    Raises:
        ImportFileError: It can't be read.
        MappingError: It lacks a column.
    """
    path = folder / lookup.file
    if path.exists():
        with RowFile(path, _format(file_format)) as file:
            _readers(lookup, Columns(file.columns, nested=file_format.kind == "jsonl"))
    elif not lookup.optional:
        raise ImportFileError(
            f"{lookup.place.mapping} joins {lookup.file}, which is not in {folder}. Put it there; "
            f"or if it may be missing, say optional = true in [lookups.{lookup.name}]."
        )


class Joins:
    """The lookups of one reading of one file.

    Args:
        lookups: What to join, in order.
        names: The file's columns.
        folder: Where the lookup files are.
        file_format: How all of them are written.
        shelf: Lookup files that were read before.

    Raises:
        ImportFileError: A lookup file can't be read, or has more than 2,000,000 rows.
        MappingError: A column isn't there.
    """

    def __init__(
        self,
        lookups: Sequence[Lookup],
        names: Sequence[str],
        folder: Path,
        file_format: FileFormat,
        shelf: Shelf,
    ) -> None:
        self._nested = file_format.kind == "jsonl"
        self._joins: list[_Join] = []
        known = tuple(names)
        for lookup in lookups:
            columns = Columns(known, self._nested)
            found = _read(lookup, folder, file_format, shelf)
            asked = {lookup.by, *(lookup.when or ())}
            by_itself = lookup.report_unused and asked.issubset(names)
            self._joins.append(_Join(lookup, found, *_asking(lookup, columns), set(), by_itself))
            known += lookup.joined

    def of(self, row: Row) -> Sequence[Joined]:
        """Return a row with what it refers to; several where a lookup says `each`."""
        rows = [Joined(row, b"", ())]
        for join in self._joins:
            rows = [one for before in rows for one in self._joined(join, before)]
        return rows

    def left_out(self, row: Row) -> None:
        """Take note of what a row refers to that is not imported: that is referred to, too."""
        for join in self._joins:
            if join.by_itself and join.is_meant(row):
                join.used.update(join.keys(row))

    def unused(self) -> Iterator[tuple[Lookup, int, str]]:
        """Return (lookup, line, key) of rows that nothing referred to, where that is told."""
        for join in self._joins:
            for key, lines in join.found.lines.items():
                if key not in join.used:
                    yield from ((join.lookup, line, key) for line in lines)

    def _joined(self, join: "_Join", before: Joined) -> Iterator[Joined]:
        lookup = join.lookup
        keys = join.keys(before.row) if join.is_meant(before.row) else ()
        reached = False
        missing = before.missing
        for key in keys:
            matches = join.found.matches.get(key)
            if matches is None:
                if not lookup.optional:
                    missing = (*missing, Missing(lookup, key))
                continue
            if lookup.report_unused:
                join.used.add(key)
            for cells in matches:
                reached = True
                apart = before.told_apart
                if lookup.each:
                    apart += CELL_SEPARATOR.join((key, *cells)).encode()
                yield Joined(self._row(lookup, before.row, cells), apart, before.missing)
        # What leads nowhere is a row of its own, told once, beside those that lead somewhere.
        if missing != before.missing or not reached:
            empty = ("",) * len(lookup.columns)
            row = self._row(lookup, before.row, empty)
            yield Joined(row, before.told_apart, missing)

    def _row(self, lookup: Lookup, row: Row, cells: Cells) -> Row:
        if self._nested:
            return {**row, lookup.name: _nested(lookup.columns, cells)}
        return [*row, *cells]


def _nested(columns: Sequence[str], cells: Cells) -> dict[str, Any]:
    """Return cells as the JSON object in which their dotted columns find them."""
    found: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        *path, name = column.split(".")
        at = found
        for step in path:
            at = at.setdefault(step, {})
        at[name] = cell
    return found


class _Join(NamedTuple):
    lookup: Lookup
    found: Found
    keys: Callable[[Row], Sequence[str]]
    is_meant: Condition
    used: set[str]
    by_itself: bool  # its keys are told, and need no other lookup


def _asking(lookup: Lookup, columns: Columns) -> tuple[Callable[[Row], Sequence[str]], Condition]:
    """Return what gives a row's keys, and which rows ask at all."""
    get = _text(lookup.by, lookup.place.at("by"), columns)
    separator = lookup.separator

    def keys(row: Row) -> Sequence[str]:
        text = get(row)
        if not separator:
            return (text,) if text else ()
        return tuple(dict.fromkeys(part for one in text.split(separator) if (part := one.strip())))

    if lookup.when is None:
        return keys, lambda _: True
    return keys, compile_condition(lookup.when, lookup.place.at("when"), columns)


def _read(lookup: Lookup, folder: Path, file_format: FileFormat, shelf: Shelf) -> Found:
    path = folder / lookup.file
    if not path.exists():
        return Found({}, {})
    asked = (lookup.key, lookup.columns, lookup.each, str(lookup.only), lookup.report_unused)
    place = (path, file_format.kind, file_format.encoding, *asked)
    if place not in shelf:
        shelf[place] = _read_file(lookup, path, file_format)
    return shelf[place]


def _read_file(lookup: Lookup, path: Path, file_format: FileFormat) -> Found:
    matches: dict[str, list[Cells]] = {}
    lines: dict[str, list[int]] = {}
    with RowFile(path, _format(file_format)) as file:
        columns = Columns(file.columns, nested=file_format.kind == "jsonl")
        key_of, getters, counts = _readers(lookup, columns)
        rows = 0
        for line, row, _ in file.rows():
            # A broken row of a lookup file holds no key: what refers to it is told as unresolved.
            if isinstance(row, RowError) or not counts(row) or not (key := key_of(row)):
                continue
            rows += 1
            if rows > MOST_ROWS:
                raise ImportFileError(
                    f"{path} has more than {MOST_ROWS:,} rows, too many to hold in memory. "
                    "Import the export in parts."
                )
            if lookup.report_unused:
                lines.setdefault(key, []).append(line)
            known = matches.setdefault(key, [])
            if lookup.each or not known:
                known.append(tuple(get(row) for get in getters))
    return Found(matches, lines)


def _readers(lookup: Lookup, columns: Columns) -> tuple[GetText, list[GetText], Condition]:
    """Return what reads a lookup file's row: its key, its cells, and whether it counts."""
    place = lookup.place
    getters = [_text(name, place.at("columns"), columns) for name in lookup.columns]
    counts: Condition = lambda _: True  # noqa: E731 (a default, as short as it gets)
    if lookup.only is not None:
        counts = compile_condition(lookup.only, place.at("only"), columns)
    return _text(lookup.key, place.at("key"), columns), getters, counts


def _text(name: str, place: Place, columns: Columns) -> GetText:
    get = columns.text(name, place)
    if get is None:
        raise place.error("can't be optional here")
    return get


def _format(file_format: FileFormat) -> FileFormat:
    """Return the format of a lookup file: that of the imported one, with a header line."""
    return FileFormat(
        kind=file_format.kind,
        encoding=file_format.encoding,
        delimiter=file_format.delimiter,
        quote=file_format.quote,
    )
