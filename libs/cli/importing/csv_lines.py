"""Lines for a CSV reader that can be given back, so that one stray quote costs one row."""

from collections import deque
from typing import BinaryIO

_MOST_LINES = 1000
_MOST_CHARACTERS = 1 << 20


class CsvLines:
    """An iterator of decoded lines that remembers which of them belong to the row being read.

    Attributes:
        row_line: The number of the row's first line in the file, from 1.
        undecodable: Whether bytes of the row aren't text in the encoding.
    """

    def __init__(self, file: BinaryIO, encoding: str, lines_before: int) -> None:
        self._file = file
        self._encoding = encoding
        self._returned: deque[tuple[str, bool]] = deque()
        self._row: list[tuple[str, bool]] = []
        self._characters = 0
        self.row_line = lines_before + 1
        self.undecodable = False

    def __iter__(self) -> "CsvLines":
        return self

    def __next__(self) -> str:
        # A quote that is never closed would otherwise swallow the rest of the file; to the reader
        # the row then ends where the file would.
        if len(self._row) >= _MOST_LINES or self._characters > _MOST_CHARACTERS:
            raise StopIteration
        text, broken = self._returned.popleft() if self._returned else self._read()
        self._row.append((text, broken))
        self._characters += len(text)
        if broken:
            self.undecodable = True
        return text

    def start_row(self) -> None:
        """Forget the lines of the row before; the next line starts a row."""
        self.row_line += len(self._row)
        self._row.clear()
        self._characters = 0
        self.undecodable = False

    def give_back(self) -> None:
        """Give all lines of the row but its first back, to be read again as rows of their own."""
        self._returned.extendleft(reversed(self._row[1:]))
        del self._row[1:]

    def _read(self) -> tuple[str, bool]:
        raw = self._file.readline()
        if not raw:
            raise StopIteration
        try:
            return raw.decode(self._encoding), False
        except UnicodeDecodeError:
            return raw.decode(self._encoding, "replace"), True
