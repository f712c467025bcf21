"""How fast generations are filled by worker processes, beside a bare COPY of the same rows."""

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.projection.generations import switching
from libs.projection.generations.generation import Generation
from libs.projection.projection import Projection
from services.engagement.__main__ import folds_of as engagement_folds
from services.engagement.config import read_config as read_engagement
from services.engagement.rebuilding import scores_named
from services.notification.__main__ import views_of as notification_folds
from services.notification.config import read_config as read_notification
from services.profile.__main__ import folds_of as profile_folds
from services.profile.config import read_config as read_profile
from tests.bench import million, steps
from tests.bench.bare import Copied, bare_copy
from tests.bench.cpu import OTHERS, CpuMeter
from tests.bench.figures import Figure
from tests.bench.report import CHECKOUT, Report
from tests.bench.stage import Stage

DEFINITION: Final = (
    "From the first range that a worker takes until the generation follows: history over NATS, the "
    "fold, rows, checkpoints, indexes. Nothing else runs but ingestion and the servers; the line "
    "is vacuumed, and what was written before is on disk. The COPY is of the rows that came of it, "
    "into an empty copy of the same tables, indexes made after."
)
_FOLDED: Final = (
    *(("profile", "timeline"), ("profile", "identity_graph"), ("profile", "consents")),
    *(("profile", "attributes"), ("notification", "notifications")),
    *(("engagement", "models"), ("engagement", "scores")),
)
"""Each fold once: the same one takes as long in another service."""

_LOOK_SECONDS: Final = 0.005
_SAMPLE_SECONDS: Final = 0.2
_LONG: Final = 1_000_000
_AT_ONCE: Final = 1000
_BEGUN: Final = (
    "SELECT clock_timestamp() FROM projection_checkpoints WHERE generation = $1 AND epoch > 0"
)
_PLACE: Final = (
    "SELECT clock_timestamp() AS at, min(position) AS position FROM projection_checkpoints "
    "WHERE generation = $1"
)
_ENDED: Final = "SELECT state, followed_at, failure FROM projection_generations WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Filled:
    """A generation that was filled.

    Attributes:
        generation: It.
        seconds: In how long.
        elapsed: The same with the start and the end of the workers.
        peak_mib: How much memory the worker that took most had at most.
        cores: How busy each kind of process was in all that time.
        ending: How many of the seconds went by after all but a hundredth of the line was folded.
        late: The time that an event took in the fifth before that, beside the first fifth.
    """

    generation: Generation
    seconds: float
    elapsed: float
    peak_mib: float
    cores: dict[str, float]
    ending: float
    late: float


async def measure(report: Report, stage: Stage, sizes: Sequence[int]) -> None:
    """Rebuild every projection on a line that grows to each of the sizes.

    Args:
        report: Takes the figures.
        stage: Whose databases are empty.
        sizes: How many events, the fewest first.
    """
    async with stage.run("ingestion"):
        await _prepare(stage)
        seconds: dict[tuple[str, str], tuple[int, float]] = {}
        for number, size in enumerate(sizes):
            head = await _grow(report, stage, size, number)
            await _at_rest(stage.database("ingestion"), "VACUUM (ANALYZE)")
            report.heading(f"Rebuilds of {head:,} events", DEFINITION)
            for service, name in _FOLDED:
                bench = _Bench(report, stage, service, name, head, _label(size))
                last = await bench.run()
                if before := seconds.get((service, name)):
                    bench.report_growth(last, *before)
                seconds[service, name] = head, last
        await steps.measure(report, stage)


async def _prepare(stage: Stage) -> None:
    """Have the services make their tables, their first generations and the shipped model."""
    for service in ("profile", "engagement", "notification"):
        async with stage.run(service):
            # The model is folded a moment after it is published.
            await asyncio.sleep(3)


async def _grow(report: Report, stage: Stage, size: int, seed: int) -> int:
    connection = await asyncpg.connect(stage.database("ingestion"))
    try:
        head: int = await connection.fetchval("SELECT position FROM store_head")
    finally:
        await connection.close()
    # As many events of each customer, and as many of the largest, however long the line.
    line = {"stored": size - head, "largest": 0, "customers": size // 50}
    return await million.append(
        report, stage, {**line, "varied": True, "seed": seed}, at_once=_AT_ONCE
    )


async def _at_rest(url: str, *statements: str) -> None:
    """Have what a long append leaves to do be done now, and not beside what is measured."""
    connection = await asyncpg.connect(url)
    try:
        for statement in (*statements, "CHECKPOINT"):
            await connection.execute(statement)
    finally:
        await connection.close()


def _label(size: int) -> str:
    return f"{size // 1_000_000}m" if size >= 1_000_000 else f"{size // 1000}k"


class _Bench:
    """Measures one projection at one size."""

    def __init__(
        self, report: Report, stage: Stage, service: str, name: str, head: int, label: str
    ) -> None:
        self._report, self._stage = report, stage
        self._service, self._name = service, name
        self._head, self._label = head, label

    async def run(self) -> float:
        """Rebuild with one worker, copy, and rebuild with two; return how long one took."""
        projection = await self._projection()
        url = self._stage.database(self._service)
        async with asyncpg.create_pool(url, min_size=1, max_size=3) as pool:
            alone = await self._filled(pool, projection, 1)
            copied = await bare_copy(url, alone.generation, projection.tables)
            await switching.drop(pool, alone.generation, projection.tables)
            self._report_alone(alone, copied)
            if projection.divisible:
                shared = await self._filled(pool, projection, 2)
                await switching.drop(pool, shared.generation, projection.tables)
                self._report_shared(shared)
        return alone.seconds

    async def _projection(self) -> Projection:
        settings = self._stage.settings(self._service)
        async with connect_nats(self._stage.servers.nats_service_url, "bench") as nats:
            store = StoreClient(nats)
            folds: Sequence[Projection] = {
                "profile": lambda: profile_folds(read_profile(settings), store),
                "notification": lambda: notification_folds(read_notification(settings), store),
                "engagement": lambda: engagement_folds(read_engagement(settings), store),
            }[self._service]()
            if self._name == "scores":
                url = self._stage.database(self._service)
                connection = await asyncpg.connect(url)
                name = await connection.fetchval(
                    "SELECT min(projection) FROM projection_generations "
                    "WHERE projection LIKE 'scores:%'"
                )
                await connection.close()
                scores = await scores_named(url, store, name)
                assert scores is not None
                return scores
            return next(one for one in folds if one.name == self._name)

    async def _filled(self, pool: asyncpg.Pool, projection: Projection, workers: int) -> Filled:
        await _at_rest(self._stage.database(self._service))
        generation = await switching.begin(pool, projection, workers, self._head)
        meter, started = CpuMeter(), time.monotonic()
        processes = [self._start(generation) for _ in range(workers)]
        try:
            ended = asyncio.gather(*[asyncio.to_thread(_usage, one) for one in processes])
            began = await _first_claim(pool, generation, ended)
            places = await _places(pool, generation, ended)
            usages = await ended
            cores, elapsed = meter.cores(), time.monotonic() - started
        finally:
            for one in processes:
                with suppress(ProcessLookupError):
                    one.kill()
        row: Any = await pool.fetchrow(_ENDED, generation.id)
        if row["state"] != "following":
            raise AssertionError(f"{self._name} was not filled: {row['state']} {row['failure']}")
        seconds = (row["followed_at"] - began).total_seconds()
        cpu = sum(one.ru_utime + one.ru_stime for one in usages)
        # They have ended, so the meter does not know that they were ours.
        cores["worker"] = round(cpu / elapsed, 3)
        cores[OTHERS] = round(max(cores.get(OTHERS, 0.0) - cores["worker"], 0.0), 3)
        peak = max(one.ru_maxrss for one in usages) / 1024
        # The last events are folded after the indexes are made.
        early, before, folded = (
            _seconds_at(places, began, self._head * percent // 100) for percent in (20, 79, 99)
        )
        late = (folded - before) / early
        return Filled(generation, seconds, elapsed, peak, cores, seconds - folded, late)

    def _start(self, generation: Generation) -> "subprocess.Popen[bytes]":
        log = self._stage.home / "log" / f"rebuild-{self._name}.log"
        with log.open("ab") as file:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", f"services.{self._service}"),
                    *("--rebuild", str(generation.id)),
                ],
                env=self._stage.settings(self._service),
                cwd=CHECKOUT,
                stdout=file,
                stderr=file,
            )

    def _report_alone(self, filled: Filled, copied: Copied) -> None:
        note = f"{filled.seconds:.1f} s; {_cost(filled, self._head)}"
        self._add("", self._head / filled.seconds, "events/s", note, filled.cores)
        if self._head >= _LONG:
            note = (
                "time for an event in the last fifth of the line, beside the first; "
                f"indexes and the rest: {filled.ending:.1f} s"
            )
            self._add("late_", filled.late, "ratio", note)
        if copied.rows:
            ratio = copied.seconds / filled.seconds
            note = f"COPY of {copied.rows:,} rows and their indexes: {copied.seconds:.1f} s"
            self._add("vs_copy_", ratio, "ratio", note)
        self._add("rss_", filled.peak_mib, "MiB", "of the worker, at most")

    def _report_shared(self, filled: Filled) -> None:
        note = f"{filled.seconds:.1f} s; at most {filled.peak_mib:.0f} MiB each"
        self._add("by_two_", self._head / filled.seconds, "events/s", note, filled.cores)

    def report_growth(self, seconds: float, head_before: int, before: float) -> None:
        """Add how much longer an event takes than on a shorter line."""
        ratio = (seconds / self._head) / (before / head_before)
        note = f"time for an event, beside {head_before:,} events"
        self._add("growth_", ratio, "ratio", note)

    def _add(
        self,
        what: str,
        value: float,
        unit: str,
        note: str,
        cores: dict[str, float] | None = None,
    ) -> None:
        name = f"rebuild_{what}{self._name}_{self._label}"
        self._report.add(Figure(name, value, unit, note, (), cores or {}))


def _usage(process: "subprocess.Popen[bytes]") -> resource.struct_rusage:
    """Wait for a process, and return what it took."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


async def _first_claim(
    pool: asyncpg.Pool, generation: Generation, ended: "asyncio.Future[Any]"
) -> Any:
    """Return when, by the database's clock, a worker takes a range: it has started by then."""
    while not ended.done():
        if (began := await pool.fetchval(_BEGUN, generation.id)) is not None:
            return began
        await asyncio.sleep(_LOOK_SECONDS)
    raise AssertionError(f"the workers of {generation.projection} ended before they had begun")


async def _places(
    pool: asyncpg.Pool, generation: Generation, ended: "asyncio.Future[Any]"
) -> list[tuple[datetime, int]]:
    """Return how far the line was folded at which time, until the workers have ended."""
    places = list[tuple[datetime, int]]()
    while not ended.done():
        row: Any = await pool.fetchrow(_PLACE, generation.id)
        places.append((row["at"], row["position"]))
        await asyncio.sleep(_SAMPLE_SECONDS)
    return places


def _seconds_at(places: Sequence[tuple[datetime, int]], began: datetime, position: int) -> float:
    """Return after how many seconds a position was folded, between two samples in proportion."""
    before_at, before = began, 0
    for at, reached in places:
        if reached >= position:
            share = (position - before) / max(reached - before, 1)
            return (before_at - began + (at - before_at) * share).total_seconds()
        before_at, before = at, reached
    return (before_at - began).total_seconds()


def _cost(filled: Filled, events: int) -> str:
    parts = [
        f"{role} {busy * filled.elapsed / events * 1e6:.1f}"
        for role, busy in sorted(filled.cores.items(), key=lambda item: -item[1])
        if role in ("worker", "ingestion", "PostgreSQL", "NATS")
    ]
    return f"µs of CPU for an event, with the worker's start: {', '.join(parts)}"
