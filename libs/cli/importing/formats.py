"""The `[file]` table of a mapping: how the file is written."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from libs.cli.importing.errors import Place, listed, suggestion

_KINDS = ("csv", "jsonl", "columns")
_KEYS = {
    "csv": ("format", "encoding", "columns", "delimiter", "quote"),
    "jsonl": ("format", "encoding"),
    "columns": ("format", "encoding", "columns"),
}


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a file is written.

    Attributes:
        kind: `csv`, `jsonl` or `columns`.
        encoding: The name of a text encoding that extends ASCII.
        columns: The names of the columns of a file without a header line; empty: it has one.
        delimiter: What stands between the cells of a CSV.
        quote: What may enclose them.
    """

    kind: str
    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    quote: str = '"'


def parse_format(table: Mapping[str, Any], place: Place) -> FileFormat:
    """Return the format that the `[file]` table describes.

    Raises:
        MappingError: A key is unknown, missing or has a value that can't be.
    """
    kind = table.get("format")
    if not isinstance(kind, str) or kind not in _KINDS:
        close = suggestion(kind, _KINDS) if isinstance(kind, str) else ""
        raise place.at("format").error(f"must be a file format.{close} {listed(_KINDS)}")
    place.check_keys(table, _KEYS[kind])
    return FileFormat(
        kind=kind,
        encoding=_encoding(table, place.at("encoding")),
        columns=_columns(table, place.at("columns")),
        delimiter=_character(table, "delimiter", ",", place),
        quote=_character(table, "quote", '"', place),
    )


def _encoding(table: Mapping[str, Any], place: Place) -> str:
    name = table.get("encoding", "utf-8")
    if not isinstance(name, str):
        raise place.error('must be the name of an encoding, such as "utf-8" or "cp1252"')
    try:
        found = codecs.lookup(name).name
        plain = "a\n".encode(found) == b"a\n"
    except (LookupError, UnicodeError):
        plain = False
    if not plain:
        raise place.error(
            'is no known encoding that extends ASCII; use "utf-8" (with or without byte order '
            'mark), "cp1252", "latin-1" …, or save the file as UTF-8'
        )
    return found


def _columns(table: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    names = table.get("columns", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise place.error('must be a list of names, such as ["id", "date"]')
    if "columns" in table and not names:
        raise place.error("names no column; leave it out when the file has a header line")
    return tuple(names)


def _character(table: Mapping[str, Any], key: str, default: str, place: Place) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or len(value) != 1 or value in "\r\n":
        raise place.at(key).error("must be one character")
    return value
