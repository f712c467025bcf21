"""The properties of a custom event, a JSON object, from cells and constants."""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from libs.cli.importing.cells import Columns
from libs.cli.importing.errors import Place, RowError
from libs.cli.importing.leaves import Cell, Constant, compile_leaf
from libs.cli.importing.lists import Fill
from libs.cli.importing.readers import Row
from touchline.events.v1.facts_pb2 import CustomEvent

_TEXT: Final = CustomEvent.DESCRIPTOR.fields_by_name["name"]
_SOURCES: Final = ("column", "template", "value")
_is_number: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?").fullmatch
_TRUTH: Final = {"true": "true", "yes": "true", "1": "true"} | {
    "false": "false",
    "no": "false",
    "0": "false",
}

Encode = Callable[[str], str]
"""From the text of a cell, which isn't empty, to JSON; raises ValueError with the reason."""

Get = Callable[[Row], str]
"""Returns JSON; empty when a row has no such property."""


def compile_properties(table: Any, place: Place, columns: Columns) -> Fill:
    """Return the filler of a custom event's properties.

    Args:
        table: Name → value, or a table of such.
        place: Where the table stands.
        columns: The file's columns.

    Raises:
        MappingError: A value can't be used.
    """
    if not isinstance(table, dict):
        raise place.error('must be a table such as {minutes = {column = "minutes", as = "number"}}')
    get = _object(table, place, columns)

    def fill(target: Any, row: Row) -> bool:
        target.properties_json = get(row)
        return bool(target.properties_json)

    return fill


def _object(table: Mapping[str, Any], place: Place, columns: Columns) -> Get:
    getters = [(_text(name), _value(spec, place.at(name), columns)) for name, spec in table.items()]

    def get(row: Row) -> str:
        parts = [f"{name}: {value}" for name, read in getters if (value := read(row))]
        return "{" + ", ".join(parts) + "}" if parts else ""

    return get


def _value(spec: Any, place: Place, columns: Columns) -> Get:
    if isinstance(spec, dict) and not any(source in spec for source in _SOURCES):
        return _object(spec, place, columns)
    if not isinstance(spec, dict):
        return _always(_literal(spec, place))
    kind = spec.get("as", "text")
    encode = _ENCODERS.get(kind) if isinstance(kind, str) else None
    if encode is None:
        raise place.at("as").error(f"must be one of {', '.join(_ENCODERS)}")
    rest = {key: value for key, value in spec.items() if key != "as"}
    leaf = compile_leaf(_TEXT, rest, place, columns)
    if isinstance(leaf, Constant):
        try:
            return _always(encode(leaf.value))
        except ValueError as error:
            raise place.error(f"the value {error}") from None
    if leaf is None:
        return _always("")
    return _encoded(leaf, encode, str(spec.get("column", spec.get("template"))))


def _encoded(leaf: Cell, encode: Encode, label: str) -> Get:
    def get(row: Row) -> str:
        text = leaf.get(row)
        if not text:
            return ""
        try:
            return encode(text)
        except ValueError as error:
            raise RowError(str(error), label) from None

    return get


def _always(value: str) -> Get:
    return lambda _: value


def _literal(value: Any, place: Place) -> str:
    match value:
        case bool() | str() | int():
            return _text(value)
        case Decimal() if value.is_finite():
            return str(value)
        case list():
            return "[" + ", ".join(_literal(one, place) for one in value) + "]"
        case _:
            raise place.error("must be text, a number, true or false, or a list of such")


def _text(value: str | int) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(text: str) -> str:
    if not _is_number(text):
        raise ValueError("is no number in the form -1234.56")
    return text


def _truth(text: str) -> str:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise ValueError("is neither true nor false") from None


def _json(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    return text


_ENCODERS: Final[Mapping[str, Encode]] = {
    "text": _text,
    "number": _number,
    "truth": _truth,
    "json": _json,
}
