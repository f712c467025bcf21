"""How fast the profile service's projections fold, beside a bare COPY of the same rows."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from tests.bench.beside import BesideCopy
from tests.bench.cpu import CpuMeter
from tests.bench.figures import Figure, median_figure
from tests.bench.folding import Folded, folded
from tests.bench.report import Advance, Report
from tests.bench.scale import Scale
from tests.bench.stage import Stage

_LOOK_SECONDS: Final = 0.05
_PROJECTIONS: Final = 4  # that the profile service runs


async def measure(report: Report, stage: Stage, scale: Scale, head: int) -> None:
    """Fold the timeline, copy its rows, and fold the identity graph, round after round."""
    report.heading(f"Projections, each alone, from position 0 to {head:,}")
    timeline = BesideCopy(stage, "profile", "timeline", "timeline")
    graphs: list[Folded] = []
    with report.progress("rounds", scale.rounds) as advance:
        for number in range(scale.rounds):
            await timeline.run()
            graphs.append(await folded(stage, "profile", "identity_graph"))
            advance(number + 1)
    note = "history over NATS from ingestion, fold, COPY, checkpoint"
    timeline.report(report, "projection_vs_copy", note)
    note = f"history over NATS from ingestion, fold of edges into profiles; {graphs[-1].cost}"
    speeds = [graph.speed for graph in graphs]
    name = "projection_identity_graph"
    report.add(median_figure(name, speeds, "events/s", note, graphs[-1].cores))


@asynccontextmanager
async def first_fold(report: Report, stage: Stage, head: int) -> AsyncIterator[str]:
    """Start the profile service on empty tables, wait until it caught up, and keep it running."""
    report.heading(f"A new database folds {head:,} events that were appended one at a time")
    pool = await asyncpg.create_pool(stage.database("profile"), min_size=1, max_size=1)
    async with pool:
        with report.progress("folding", head, "events") as advance:
            began = asyncio.create_task(_first_claim(pool))
            async with stage.run("profile") as address:
                start, meter = await began
                await _reached(pool, head, advance)
                seconds = time.monotonic() - start
                cores = meter.cores()
                note = f"all {_PROJECTIONS} projections at once, {seconds:.1f} s"
                speed = head / seconds
                report.add(Figure("first_fold", speed, "events/s", note, (), cores))
                yield address


@asynccontextmanager
async def caught_up(stage: Stage, head: int) -> AsyncIterator[str]:
    """Run the profile service, and give its address once it is at the head."""
    async with stage.run("profile") as address:
        pool = await asyncpg.create_pool(stage.database("profile"), min_size=1, max_size=1)
        async with pool:
            await _reached(pool, head, lambda _: None)
        yield address


async def folded_position(stage: Stage) -> int:
    """Return the position that all of the profile service's projections have reached."""
    connection = await asyncpg.connect(stage.database("profile"))
    try:
        position: int = await connection.fetchval(
            "SELECT min(position) FROM projection_checkpoints"
        )
    finally:
        await connection.close()
    return position


async def _first_claim(pool: asyncpg.Pool) -> tuple[float, CpuMeter]:
    """Return the moment at which a projection starts: its process has started by then."""
    while True:
        try:
            if await pool.fetchval("SELECT max(epoch) FROM projection_checkpoints"):
                return time.monotonic(), CpuMeter()
        except asyncpg.UndefinedTableError:
            pass
        await asyncio.sleep(0.01)


async def _reached(pool: asyncpg.Pool, head: int, advance: Advance) -> None:
    query = "SELECT min(position), count(*) FROM projection_checkpoints"
    while True:
        row: Any = await pool.fetchrow(query)
        position, projections = row
        if projections == _PROJECTIONS:
            advance(position)
            if position >= head:
                return
        await asyncio.sleep(_LOOK_SECONDS)
