"""Access to a row's cells by column name, compiled once: a getter takes a row and returns text.

Text comes without surrounding white space; an empty cell, a missing key and a JSON null are "".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Final

from libs.cli.importing.errors import Place, RowError, listed, suggestion
from libs.cli.importing.readers import Row

GetText = Callable[[Row], str]
"""Returns the text of a row; raises RowError when the cell holds no single value."""

EVENT_ID: Final = "$event_id"
"""A column that every row has: the event's id, made from the row."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file, and how to reach them.

    Attributes:
        names: Their names; for JSON lines dotted paths.
        nested: Whether rows are JSON objects.
        prefix: The path below which the names are looked up: inside the elements of an array.
    """

    names: tuple[str, ...]
    nested: bool
    prefix: str = ""

    def within(self, path: str) -> "Columns":
        """Return the columns of the elements of the array at a path."""
        return Columns(self.names, self.nested, f"{self.prefix}{path}[].")

    def text(self, name: str, place: Place, *, optional: bool = False) -> GetText | None:
        """Return the getter of a column's text; None when it is optional and isn't there.

        Raises:
            MappingError: The file has no such column, or several.
        """
        if self.nested:
            raw = self.raw(name, place, optional=optional)
            return raw and (lambda row: _json_text(raw(row), name))
        if name == EVENT_ID:
            return lambda row: row[-1]
        if not self._has(name, place, optional=optional):
            return None
        index = self.names.index(name)
        return lambda row: row[index].strip()

    def raw(
        self, name: str, place: Place, *, optional: bool = False
    ) -> Callable[[Row], Any] | None:
        """Return the getter of a JSON value; None when it is optional and isn't there.

        Raises:
            MappingError: No row of the sample has it.
        """
        if not self._has(name, place, optional=optional):
            return None
        steps = name.split(".")
        if len(steps) == 1:
            return lambda row: row.get(name)
        return lambda row: row[name] if name in row else _at(row, steps)

    def _has(self, name: str, place: Place, *, optional: bool) -> bool:
        if name == EVENT_ID and not self.prefix:
            return True
        count = self.names.count(self.prefix + _pattern(name))
        if count > 1:
            raise place.error(f'the file has {count} columns "{name}"; rename all but one')
        if count == 0 and not optional:
            here = [n.removeprefix(self.prefix) for n in self.names if n.startswith(self.prefix)]
            where = "the file's first rows have no" if self.nested else "the file has no"
            raise place.error(
                f'{where} column "{name}".{suggestion(name, here)} '
                f"{listed(here, 'It has')} If it may be missing, say optional = true."
            )
        return count == 1


def template_text(
    template: str, columns: Columns, place: Place, *, optional: bool
) -> tuple[GetText, tuple[str, ...]]:
    """Return the getter of a template such as `{date} {time}` and the columns it names.

    The text is "" when all its columns are empty.

    Raises:
        MappingError: The template can't be read, names no column, or one that isn't there.
    """
    parts: list[tuple[str, GetText | None]] = []
    names: list[str] = []
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise place.error(f"{error}; write {{column}}, and {{{{ for a brace") from None
    for literal, name, spec, conversion in parsed:
        if name is None:
            parts.append((literal, None))
            continue
        if not name or spec or conversion:
            raise place.error("braces hold a column's name and nothing else; write {{ for a brace")
        names.append(name)
        parts.append((literal, columns.text(name, place, optional=optional)))
    if not names:
        raise place.error('names no column; write the text alone for a constant, or "{column}"')
    return _filled(parts), tuple(names)


def _filled(parts: Sequence[tuple[str, GetText | None]]) -> GetText:
    def text(row: Row) -> str:
        filled = False
        pieces = []
        for literal, get in parts:
            cell = get(row) if get else ""
            filled = filled or bool(cell)
            pieces.append(literal + cell)
        return "".join(pieces).strip() if filled else ""

    return text


def _json_text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise RowError("holds a list or an object, not a value", name)


def _at(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal():
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return None
    return value


def _pattern(name: str) -> str:
    """Return a path as the sample lists it: `items.0.sku` is found as `items[].sku`."""
    pattern = ""
    for step in name.split("."):
        pattern += "[]" if step.isdecimal() and pattern else f".{step}" if pattern else step
    return pattern
