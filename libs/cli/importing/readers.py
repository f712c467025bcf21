"""Rows of a file: CSV, JSON lines and columns parted by white space.

A row comes as `(line, row, content)`: the number of its first line in the file from 1; its cells
(a list of text, or a JSON object), or the RowError that says why there are none; and its content
as bytes, which names it (see `ids`). Blank lines are skipped. A row is broken when its bytes aren't
text, it has another number of cells than the header, or it isn't JSON; the rows after it are read
on, also after a quote that nothing closes.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from libs.cli.importing.csv_lines import CsvLines
from libs.cli.importing.errors import ImportFileError, RowError
from libs.cli.importing.formats import FileFormat

Row = Any
"""A list of cells, or for JSON lines an object."""

NumberedRow = tuple[int, Row, bytes]
"""(line, row or RowError, content)."""

CELL_SEPARATOR = "\x1f"
"""Stands between cells in a row's content. Cells that hold it make rows look identical at worst,
which the ordinal tells apart."""

_UTF8_BOM = b"\xef\xbb\xbf"
_WRONG_STARTS = {
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
    b"\x1f\x8b": "is compressed; unpack it first",
    b"PK": "is a zip archive or a spreadsheet; unpack it, or save it as CSV",
}
_SAMPLE_ROWS = 200
_SAMPLE_BYTES = 1 << 20


class RowFile:
    """A file open for reading; a context manager that closes it.

    Attributes:
        size: Its bytes.
        columns: The names of its columns; for JSON lines the dotted paths in its first 200 rows,
            with `[]` after the name of an array.

    Raises:
        ImportFileError: It can't be read, is empty or starts like something else.
    """

    def __init__(self, path: Path, file_format: FileFormat) -> None:
        self._path = path
        self._format = file_format
        self._lines_before = 0
        try:
            self.size = path.stat().st_size
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise ImportFileError(f"{path} can't be read: {error.strerror}.") from None
        try:
            self._skip_mark()
            self.columns = self._find_columns()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def bytes_read(self) -> int:
        """Bytes read so far."""
        return self._file.tell()

    def rows(self) -> Iterator[NumberedRow]:
        """Read the rows after the header, once."""
        if self._format.kind == "csv":
            return self._csv_rows()
        if self._format.kind == "jsonl":
            return self._json_rows()
        return self._split_rows()

    def _skip_mark(self) -> None:
        start = self._file.read(4)
        for wrong, reason in _WRONG_STARTS.items():
            if start.startswith(wrong):
                raise ImportFileError(f"{self._path} {reason}.")
        self._start = len(_UTF8_BOM) if start.startswith(_UTF8_BOM) else 0
        self._file.seek(self._start)

    def _find_columns(self) -> tuple[str, ...]:
        if self._format.columns:
            return self._format.columns
        if self._format.kind == "jsonl":
            return self._sampled_paths()
        for raw in iter(self._file.readline, b""):
            self._lines_before += 1
            cells = self._header_cells(raw)
            if cells:
                return cells
        raise ImportFileError(f"{self._path} is empty: it has not even a header line.")

    def _header_cells(self, raw: bytes) -> tuple[str, ...]:
        try:
            text = raw.decode(self._format.encoding)
            if self._format.kind == "columns":
                return tuple(text.split())
            return tuple(cell.strip() for cell in next(self._csv_reader([text]), []))
        except (UnicodeDecodeError, csv.Error) as error:
            reason = str(error) if isinstance(error, csv.Error) else self._not_text()
            raise ImportFileError(
                f"{self._path}: the header line can't be read: {reason}."
            ) from None

    def _sampled_paths(self) -> tuple[str, ...]:
        paths: dict[str, None] = {}
        for count, (_, row, _) in enumerate(self._json_rows(), 1):
            if not isinstance(row, RowError):
                paths.update(dict.fromkeys(_paths(row)))
            if count == _SAMPLE_ROWS or self._file.tell() > _SAMPLE_BYTES:
                break
        self._file.seek(self._start)
        return tuple(paths)

    def _csv_reader(self, lines: Any) -> Any:
        return csv.reader(
            lines, delimiter=self._format.delimiter, quotechar=self._format.quote, strict=True
        )

    def _csv_rows(self) -> Iterator[NumberedRow]:
        width = len(self.columns)
        lines = CsvLines(self._file, self._format.encoding, self._lines_before)
        reader = self._csv_reader(lines)
        while True:
            lines.start_row()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield lines.row_line, RowError(f"can't be read as CSV: {error}"), b""
                lines.give_back()
                continue
            if lines.undecodable:
                yield lines.row_line, RowError(self._not_text()), b""
            elif len(cells) == width:
                yield lines.row_line, cells, CELL_SEPARATOR.join(cells).encode()
            elif cells:
                yield lines.row_line, _wrong_width(cells, width), b""

    def _split_rows(self) -> Iterator[NumberedRow]:
        width = len(self.columns)
        encoding = self._format.encoding
        for line, raw in enumerate(iter(self._file.readline, b""), self._lines_before + 1):
            try:
                cells = raw.decode(encoding).split()
            except UnicodeDecodeError:
                yield line, RowError(self._not_text()), b""
                continue
            if len(cells) == width:
                yield line, cells, CELL_SEPARATOR.join(cells).encode()
            elif cells:
                yield line, _wrong_width(cells, width), b""

    def _json_rows(self) -> Iterator[NumberedRow]:
        # Numbers with a fraction stay text: a float would not hold an amount exactly.
        decode = json.JSONDecoder(parse_float=str, parse_constant=_no_number).decode
        encoding = self._format.encoding
        for line, raw in enumerate(iter(self._file.readline, b""), 1):
            content = raw.strip()
            if not content:
                continue
            row: Row
            try:
                row = decode(content.decode(encoding))
                if not isinstance(row, dict):
                    row = RowError("is JSON but not an object")
            except UnicodeDecodeError:
                row = RowError(self._not_text())
            except json.JSONDecodeError as error:
                row = RowError(f"is not JSON: {error.msg} at character {error.colno}")
            except (ValueError, RecursionError):
                row = RowError("is not JSON: a number or a nesting is out of bounds")
            yield line, row, content

    def _not_text(self) -> str:
        return f"has bytes that are not {self._format.encoding}"


def _wrong_width(cells: Sequence[str], width: int) -> RowError:
    return RowError(f"has {len(cells)} cells where {width} columns are expected")


def _no_number(name: str) -> None:
    raise ValueError(name)


def _paths(value: Any, prefix: str = "") -> Iterator[str]:
    for name, inner in value.items():
        path = f"{prefix}{name}"
        yield path
        if isinstance(inner, dict):
            yield from _paths(inner, f"{path}.")
        elif isinstance(inner, list):
            for element in inner:
                if isinstance(element, dict):
                    yield from _paths(element, f"{path}[].")
