"""The import of a file: read, join, build, record in batches with several on their way, count."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

from rich.console import Console

from libs.cli.importing.conditions import Condition
from libs.cli.importing.errors import EmptyError, RowError
from libs.cli.importing.joins import Joined, Joins, Missing, Shelf, check_lookup
from libs.cli.importing.mapping import Build, Mapping, load_mapping
from libs.cli.importing.merges import Decide, cannot_decide
from libs.cli.importing.progress import ImportProgress
from libs.cli.importing.readers import Row, RowFile
from libs.cli.importing.result import (
    BROKEN,
    CONFLICT,
    REJECTED,
    ImportResult,
    ImportStoppedError,
    Problems,
    Sums,
)
from libs.cli.importing.unresolved import Unresolved
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import Outcome, Verdict
from touchline.profile.v1.profile_service_pb2 import MergeProfilesRequest

Record = Callable[[Sequence[Event]], Awaitable[Sequence[Verdict]]]
"""Records events; answers one verdict per event, in the same order."""

Made = Event | MergeProfilesRequest
"""What a row becomes."""

BATCHES_IN_FLIGHT: Final = 4
"""Batches sent and not yet answered. The order in which they are recorded doesn't matter."""

LARGEST_EVENT: Final = 4 << 20
"""Bytes; a larger event would fail the whole call that carries it."""

_LARGE_CONTENT = 1 << 20
_CONFLICT_REASON = (
    "an event with this id and other content is recorded. Either two rows share an id, or the "
    "mapping was changed after an import: what is recorded stays"
)


@dataclass(frozen=True, slots=True)
class Into:
    """Where an import goes, and how.

    Attributes:
        record: Records events.
        console: Where progress and rows with a problem are shown.
        decide: Merges two profiles.
        live: Whether services may act on the events; otherwise they are marked historical.
        batch: Events per call of `record`.
        anonymised: The namespace in which an email without @ is an external id; empty: none.
        shelf: Lookup files that were read.
    """

    record: Record
    console: Console
    decide: Decide = cannot_decide
    live: bool = False
    batch: int = 1000
    anonymised: str = ""
    shelf: Shelf = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """A file and the mapping by which it is imported, checked against each other."""

    path: Path
    mapping: Mapping


def checked(path: Path, mapping_path: Path, into: Into) -> Step:
    """Check a file's columns, and those of the files it refers to, against a mapping.

    Raises:
        MappingError: The mapping can't be used.
        ImportFileError: A file can't be read.
    """
    mapping = load_mapping(mapping_path)
    with RowFile(path, mapping.file_format) as file:
        mapping.compile(file.columns, historical=not into.live, anonymised=into.anonymised)
        mapping.only(file.columns)
    for lookup in mapping.lookups:
        check_lookup(lookup, path.parent, mapping.file_format)
    return Step(path, mapping)


async def import_file(
    path: Path, mapping_path: Path, into: Into, unresolved: Unresolved | None = None
) -> ImportResult:
    """Import a file: each row becomes an event as the mapping says.

    Args:
        path: The file.
        mapping_path: The mapping; docs/importing.md describes it.
        into: Where to.
        unresolved: Where references that lead nowhere are listed; None: `NAME.unresolved.csv` in
            the working directory.

    Raises:
        MappingError: The mapping can't be used; nothing was sent.
        ImportFileError: The file can't be read; nothing was sent.
        ImportStoppedError: Recording failed; its cause says why.
    """
    step = checked(path, mapping_path, into)
    listed = unresolved or Unresolved(Path(f"{path.name}.unresolved.csv"))
    try:
        return await import_step(step, into, listed, path.name)
    finally:
        listed.close()


async def import_step(
    step: Step, into: Into, unresolved: Unresolved, name: str, *, one_of_many: bool = False
) -> ImportResult:
    """Import a file that was checked.

    Args:
        step: The file and its mapping.
        into: Where to.
        unresolved: Where references that lead nowhere are listed.
        name: What progress and the list of rows with a problem are called.
        one_of_many: Whether other files follow.

    Raises:
        MappingError: A column isn't there any more.
        ImportFileError: A file can't be read.
        ImportStoppedError: Recording failed; its cause says why.
    """
    mapping = step.mapping
    with RowFile(step.path, mapping.file_format) as file:
        build = mapping.compile(file.columns, historical=not into.live, anonymised=into.anonymised)
        joins = Joins(
            mapping.lookups, file.columns, step.path.parent, mapping.file_format, into.shelf
        )
        reading = _Reading(step.path.name, file, build, joins, mapping.only(file.columns))
        run = _Run(into, Problems(name, into.console), unresolved)
        bar = ImportProgress(into.console, name, file.size, transient=one_of_many)
        with bar as progress:
            try:
                await run.everything(reading, progress)
            except Exception as error:
                raise ImportStoppedError(run.result()) from _first(error)
            finally:
                run.problems.close()
        return run.result()


@dataclass(frozen=True, slots=True)
class _Reading:
    """One reading of one file."""

    name: str
    file: RowFile
    build: Build
    joins: Joins
    only: Condition | None


class _Run:
    """One import under way."""

    def __init__(self, into: Into, problems: Problems, unresolved: Unresolved) -> None:
        self.problems = problems
        self._into = into
        self._unresolved = unresolved
        self._rows = 0
        self._counts: Counter[str] = Counter()
        self._references: Counter[tuple[str, str, str]] = Counter()
        self._sums = Sums()
        self._began = monotonic()
        self._in_flight = asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def everything(self, reading: _Reading, progress: ImportProgress) -> None:
        """Read all rows and record them."""
        batch = self._into.batch
        lines: list[int] = []
        events: list[Event] = []
        async with asyncio.TaskGroup() as group:
            for line, row, content in reading.file.rows():
                self._rows += 1
                for made in self._made(reading, line, row, content):
                    if isinstance(made, Event):
                        lines.append(line)
                        events.append(made)
                    else:
                        await self._decide(line, made)
                    if len(events) == batch:
                        await self._send(group, lines, events)
                        lines, events = [], []
                if self._rows % batch == 0:
                    # Reading waits for nothing else, so this is where answers come in.
                    await asyncio.sleep(0)
                    progress.show(self._rows, reading.file.bytes_read)
            await self._send(group, lines, events)
        for lookup, line, key in reading.joins.unused():
            target = f"{reading.name} {lookup.by}"
            self._tell(lookup.file, line, lookup.key, key, target, recorded=False)
        progress.show(self._rows, reading.file.bytes_read)

    def result(self) -> ImportResult:
        """Return what came of it so far."""
        return ImportResult(
            rows=self._rows,
            recorded=self._counts["recorded"],
            duplicates=self._counts["duplicate"],
            conflicts=self._counts[CONFLICT],
            rejected=self._counts[REJECTED],
            broken=self._counts[BROKEN],
            left_out=self._counts["left out"],
            unresolved=self._counts["unresolved"],
            references=dict(self._references),
            seconds=monotonic() - self._began,
            totals=dict(self._sums.micros),
            report=self.problems.path if self.problems.count else None,
        )

    def _made(self, reading: _Reading, line: int, row: Row, content: bytes) -> Iterator[Made]:
        """Return what a row becomes, and count and tell what it does not become."""
        if isinstance(row, RowError):
            self._problem(line, BROKEN, row.reason)
            return
        try:
            if reading.only is not None and not reading.only(row):
                self._counts["left out"] += 1
                reading.joins.left_out(row)
                return
            every = reading.joins.of(row)
        except RowError as error:
            self._problem(line, BROKEN, error.reason)
            return
        told: dict[Missing, bool] = {}
        for joined in every:
            made = self._built(reading.build, line, joined, content)
            for missing in joined.missing:
                told[missing] = told.get(missing, False) or made is not None
            if made is not None:
                yield made
        for missing, recorded in told.items():
            lookup, value = missing
            self._tell(reading.name, line, lookup.by, value, lookup.target, recorded=recorded)

    def _built(self, build: Build, line: int, joined: Joined, content: bytes) -> Made | None:
        named = content + joined.told_apart if joined.told_apart else content
        try:
            made = build(joined.row, named)
        except EmptyError as error:
            if joined.missing:
                self._counts["unresolved"] += 1
            else:
                self._problem(line, BROKEN, error.reason)
            return None
        except RowError as error:
            self._problem(line, BROKEN, error.reason)
            return None
        if len(named) < _LARGE_CONTENT or made.ByteSize() <= LARGEST_EVENT:
            return made
        self._problem(line, BROKEN, "makes an event larger than 4 MiB")
        return None

    async def _decide(self, line: int, request: MergeProfilesRequest) -> None:
        # One after the other: a merge may concern the profile that the one before it made.
        decided = await self._into.decide(request)
        if decided.problem:
            self._problem(line, REJECTED, decided.problem)
        else:
            self._counts["recorded" if decided.new else "duplicate"] += 1

    async def _send(self, group: asyncio.TaskGroup, lines: list[int], events: list[Event]) -> None:
        if events:
            await self._in_flight.acquire()
            group.create_task(self._record_batch(lines, events))
        # Reading never waits for anything else, so this is where answers come in.
        await asyncio.sleep(0)

    async def _record_batch(self, lines: list[int], events: list[Event]) -> None:
        try:
            verdicts = await self._into.record(events)
        finally:
            self._in_flight.release()
        for line, event, verdict in zip(lines, events, verdicts, strict=True):
            if verdict.outcome == Outcome.OUTCOME_RECORDED:
                self._counts["recorded"] += 1
                self._sums.add(event)
            elif verdict.outcome == Outcome.OUTCOME_DUPLICATE:
                self._counts["duplicate"] += 1
                self._sums.add(event)
            elif verdict.outcome == Outcome.OUTCOME_CONFLICT:
                self._problem(line, CONFLICT, _CONFLICT_REASON)
            else:
                self._problem(line, REJECTED, _violations(verdict))

    def _tell(
        self, file: str, line: int, column: str, value: str, refers_to: str, *, recorded: bool
    ) -> None:
        self._references[(file, column, refers_to)] += 1
        self._unresolved.add(file, line, column, value, refers_to, recorded=recorded)

    def _problem(self, line: int, outcome: str, reason: str) -> None:
        self._counts[outcome] += 1
        self.problems.add(line, outcome, reason)


def _violations(verdict: Verdict) -> str:
    told = [f"{violation.field}: {violation.description}" for violation in verdict.violations]
    return "; ".join(told) or "the service gave no reason"


def _first(error: BaseException) -> BaseException:
    """Return the first exception in a group of them, which several batches may raise together."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
