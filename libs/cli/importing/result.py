"""What came of an import: counts, sums of money, and the rows that were not recorded."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from google.protobuf.descriptor import FieldDescriptor
from rich.console import Console
from rich.markup import escape

from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import Money

BROKEN, CONFLICT, REJECTED = "broken", "conflict", "rejected"

MOST_PRINTED = 20
"""Rows with a problem that are printed; the report has them all."""

Totals = Mapping[tuple[str, str], int]
"""(field such as `order_changed.amount`, ISO 4217 code) → sum in micros."""

References = Mapping[tuple[str, str, str], int]
"""(file, column, what it refers to) → how often that is not there."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What came of an import.

    Every row read is in exactly one of the counts after it, or, when it became an event for each of
    several it refers to, once for each.

    Attributes:
        rows: Rows read, without header and blank lines.
        recorded: Rows that are events now.
        duplicates: Rows that were events already.
        conflicts: Rows whose id another event has.
        rejected: Rows whose event breaks a rule of the service.
        broken: Rows that could not become an event.
        left_out: Rows that the mapping does not mean.
        unresolved: Rows that could not become an event since they refer to what is not there.
        references: What was referred to and is not there, also by rows that were recorded:
            (file, column, what it refers to) → how often.
        seconds: How long it took.
        totals: Sums of the fact's money over recorded and duplicate rows.
        report: The file that lists the rows that were not recorded; None when there are none.
    """

    rows: int
    recorded: int
    duplicates: int
    conflicts: int
    rejected: int
    broken: int
    left_out: int
    unresolved: int
    references: References
    seconds: float
    totals: Totals
    report: Path | None

    @property
    def complete(self) -> bool:
        """Whether every row that is meant is recorded."""
        return not (self.conflicts or self.rejected or self.broken or self.unresolved)


class ImportStoppedError(Exception):
    """Recording failed in the middle; its cause says why.

    Attributes:
        result: What was done until then; rows on their way count as read only.
    """

    def __init__(self, result: ImportResult) -> None:
        super().__init__("Recording stopped. Repeat the import: nothing is recorded twice.")
        self.result = result


@dataclass(slots=True)
class Sums:
    """Adds up the money in the facts of events, exactly."""

    micros: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, event: Event) -> None:
        """Add one event's amounts."""
        fact_name = event.WhichOneof("fact") or ""
        fact = getattr(event, fact_name)
        for name in _MONEY_FIELDS.get(fact_name, ()):
            if fact.HasField(name):
                amount = getattr(fact, name)
                self.micros[(f"{fact_name}.{name}", amount.currency_code)] += amount.micros


class Problems:
    """Rows that were not recorded: the first are printed, all are listed in a CSV file.

    The list has line numbers and reasons, and no cell of any row. It is written in the working
    directory as `NAME.rejected.csv`, and only when there is something to list.
    """

    def __init__(self, name: str, console: Console) -> None:
        self.path = Path(f"{name}.rejected.csv")
        self.count = 0
        self._console = console
        self._file: TextIO | None = None
        self._unwritable = ""
        # What an earlier import of this file left would read as this one's.
        self.path.unlink(missing_ok=True)

    def add(self, line: int, outcome: str, reason: str) -> None:
        """Report one row.

        Args:
            line: Its first line in the file, from 1.
            outcome: BROKEN, CONFLICT or REJECTED.
            reason: Why, without its values.
        """
        self.count += 1
        if self.count <= MOST_PRINTED:
            self._console.print(f"[red]line {line}[/] {outcome}: {escape(reason)}", soft_wrap=True)
        elif self.count == MOST_PRINTED + 1:
            self._console.print(f"… more in {escape(str(self.path))}", soft_wrap=True)
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8", newline="")
                self._write("line", "outcome", "reason")
            self._write(str(line), outcome, reason)
        except OSError as error:
            # The rows that can be recorded matter more than the list of those that can't.
            self._unwritable = f"{self.path} can't be written: {error.strerror}."

    def close(self) -> Path | None:
        """Finish the list and return its path; None when there is none."""
        if self._unwritable:
            self._console.print(f"[yellow]{escape(self._unwritable)}[/]", soft_wrap=True)
        if self._file is None:
            return None
        self._file.close()
        return self.path

    def _write(self, *cells: str) -> None:
        if self._file:
            csv.writer(self._file, lineterminator="\n").writerow(cells)


def _money_fields(fields: Iterable[FieldDescriptor]) -> dict[str, tuple[str, ...]]:
    found = {}
    for fact in fields:
        message = fact.message_type
        if message:
            names = tuple(
                inner.name
                for inner in message.fields
                if inner.message_type
                and inner.message_type.full_name == Money.DESCRIPTOR.full_name
                and not inner.is_repeated
            )
            if names:
                found[fact.name] = names
    return found


_MONEY_FIELDS = _money_fields(Event.DESCRIPTOR.oneofs_by_name["fact"].fields)
