"""The import of a file: read, build, record in batches with several on their way, count."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from rich.console import Console

from libs.cli.importing.errors import RowError
from libs.cli.importing.mapping import Build, load_mapping
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
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import Outcome, Verdict

Record = Callable[[Sequence[Event]], Awaitable[Sequence[Verdict]]]
"""Records events; answers one verdict per event, in the same order."""

BATCHES_IN_FLIGHT: Final = 4
"""Batches sent and not yet answered. The order in which they are recorded doesn't matter."""

LARGEST_EVENT: Final = 4 << 20
"""Bytes; a larger event would fail the whole call that carries it."""

_LARGE_CONTENT = 1 << 20
_CONFLICT_REASON = (
    "an event with this id and other content is recorded. Either two rows share an id, or the "
    "mapping was changed after an import: what is recorded stays"
)


async def import_file(
    path: Path,
    mapping_path: Path,
    record: Record,
    *,
    live: bool = False,
    batch: int = 1000,
    console: Console,
) -> ImportResult:
    """Import a file: each row becomes an event as the mapping says.

    Args:
        path: The file.
        mapping_path: The mapping; docs/importing.md describes it.
        record: Records events.
        live: Whether services may act on the events; otherwise they are marked historical.
        batch: Events per call of `record`.
        console: Where progress and rows with a problem are shown.

    Raises:
        MappingError: The mapping can't be used; nothing was sent.
        ImportFileError: The file can't be read; nothing was sent.
        ImportStoppedError: `record` raised; its cause says why.
    """
    mapping = load_mapping(mapping_path)
    with RowFile(path, mapping.file_format) as file:
        build = mapping.compile(file.columns, historical=not live)
        run = _Run(record, Problems(path, console))
        with ImportProgress(console, path.name, file.size) as progress:
            try:
                await run.everything(file, build, batch, progress)
            except Exception as error:
                raise ImportStoppedError(run.result()) from _first(error)
            finally:
                run.problems.close()
        return run.result()


class _Run:
    """One import under way."""

    def __init__(self, record: Record, problems: Problems) -> None:
        self.problems = problems
        self._record = record
        self._rows = 0
        self._counts: Counter[str] = Counter()
        self._sums = Sums()
        self._began = monotonic()
        self._in_flight = asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def everything(
        self, file: RowFile, build: Build, batch: int, progress: ImportProgress
    ) -> None:
        """Read all rows and record them."""
        lines: list[int] = []
        events: list[Event] = []
        async with asyncio.TaskGroup() as group:
            for line, row, content in file.rows():
                self._rows += 1
                event = self._built(build, line, row, content)
                if event is not None:
                    lines.append(line)
                    events.append(event)
                if len(events) == batch or (event is None and self._rows % batch == 0):
                    await self._send(group, lines, events)
                    lines, events = [], []
                    progress.show(self._rows, file.bytes_read)
            await self._send(group, lines, events)
        progress.show(self._rows, file.bytes_read)

    def result(self) -> ImportResult:
        """Return what came of it so far."""
        return ImportResult(
            rows=self._rows,
            recorded=self._counts["recorded"],
            duplicates=self._counts["duplicate"],
            conflicts=self._counts[CONFLICT],
            rejected=self._counts[REJECTED],
            broken=self._counts[BROKEN],
            seconds=monotonic() - self._began,
            totals=dict(self._sums.micros),
            report=self.problems.path if self.problems.count else None,
        )

    def _built(self, build: Build, line: int, row: Row, content: bytes) -> Event | None:
        reason = row.reason if isinstance(row, RowError) else ""
        if not reason:
            try:
                event = build(row, content)
            except RowError as error:
                reason = error.reason
            else:
                if len(content) < _LARGE_CONTENT or event.ByteSize() <= LARGEST_EVENT:
                    return event
                reason = "makes an event larger than 4 MiB"
        self._problem(line, BROKEN, reason)
        return None

    async def _send(self, group: asyncio.TaskGroup, lines: list[int], events: list[Event]) -> None:
        if events:
            await self._in_flight.acquire()
            group.create_task(self._record_batch(lines, events))
        # Reading never waits for anything else, so this is where answers come in.
        await asyncio.sleep(0)

    async def _record_batch(self, lines: list[int], events: list[Event]) -> None:
        try:
            verdicts = await self._record(events)
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
