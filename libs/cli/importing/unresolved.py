"""References that lead nowhere, one by one, in a file."""

import csv
from pathlib import Path
from typing import Final, TextIO

HEADING: Final = ("file", "line", "column", "value", "refers_to", "recorded")


class Unresolved:
    """Lists every reference that leads nowhere; the file is written when there is one.

    It holds ids of the source system and nothing else of any row: file, line, column, the id that
    was looked up, the file and column it refers to, and whether the row is recorded all the same.

    Args:
        path: The file, CSV.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.unwritable = ""
        self._file: TextIO | None = None
        # What an earlier import left would read as this one's.
        path.unlink(missing_ok=True)

    def add(
        self, file: str, line: int, column: str, value: str, refers_to: str, *, recorded: bool
    ) -> None:
        """List one reference."""
        self.count += 1
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8", newline="")
                self._write(HEADING)
            told = "yes" if recorded else "no"
            self._write((file, str(line), column, value, refers_to, told))
        except OSError as error:
            # The rows that can be recorded matter more than the list of those that can't.
            self.unwritable = f"{self.path} can't be written: {error.strerror}."

    def close(self) -> None:
        """Finish the list."""
        if self._file is not None:
            self._file.close()

    def _write(self, cells: tuple[str, ...]) -> None:
        if self._file is not None:
            csv.writer(self._file, lineterminator="\n").writerow(cells)
