"""How fast the profile service's projections fold, beside a bare COPY of the same rows."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from tests.bench.cpu import CpuMeter
from tests.bench.figures import Figure, median_figure
from tests.bench.folding import PROJECTING
from tests.bench.report import Advance, Report
from tests.bench.scale import Scale
from tests.bench.stage import FOLDED, PROFILE, Stage
from tests.bench.worker import worker

_LOOK_SECONDS: Final = 0.05


async def measure(report: Report, stage: Stage, scale: Scale, head: int) -> None:
    """Fold the timeline, copy its rows, and fold the identity graph, round after round."""
    report.heading(f"Projections, each alone, from position 0 to {head:,}")
    speeds: dict[str, list[float]] = {"timeline": [], "identity_graph": []}
    cores: dict[str, dict[str, float]] = {}
    copies: list[float] = []
    with report.progress("rounds", scale.rounds) as advance:
        for number in range(scale.rounds):
            speed, cores["timeline"] = await _folded(stage, "timeline")
            speeds["timeline"].append(speed)
            copies.append(await _copied(stage, head))
            speed, cores["identity_graph"] = await _folded(stage, "identity_graph")
            speeds["identity_graph"].append(speed)
            advance(number + 1)
    for name, samples in speeds.items():
        note = "history over NATS from ingestion, fold, COPY, checkpoint"
        if name == "identity_graph":
            note = "history over NATS from ingestion, fold of edges into profiles"
        report.add(median_figure(f"projection_{name}", samples, "events/s", note, cores[name]))
    note = "one COPY, the same rows, indexes and settings"
    report.add(median_figure("copy_of_timeline_rows", copies, "rows/s", note))
    ratios = [fold / copy for fold, copy in zip(speeds["timeline"], copies, strict=True)]
    report.add(median_figure("projection_vs_copy", ratios, "ratio", "timeline / COPY"))


@asynccontextmanager
async def rebuild(report: Report, stage: Stage, head: int) -> AsyncIterator[str]:
    """Start the profile service on empty tables, wait until it caught up, and keep it running."""
    report.heading(f"Rebuild of {head:,} events that were appended one at a time")
    pool = await asyncpg.create_pool(stage.database(PROFILE), min_size=1, max_size=1)
    async with pool:
        with report.progress("folding", head) as advance:
            began = asyncio.create_task(_first_claim(pool))
            async with stage.profile() as address:
                start, meter = await began
                await _reached(pool, head, advance)
                seconds = time.monotonic() - start
                cores = meter.cores()
                note = f"identity graph and timeline at once, {seconds:.1f} s"
                speed = head / seconds
                report.add(Figure("rebuild", speed, "events/s", note, (), cores))
                yield address


@asynccontextmanager
async def caught_up(stage: Stage, head: int) -> AsyncIterator[str]:
    """Run the profile service, and give its address once it is at the head."""
    async with stage.profile() as address:
        pool = await asyncpg.create_pool(stage.database(PROFILE), min_size=1, max_size=1)
        async with pool:
            await _reached(pool, head, lambda _: None)
        yield address


async def folded_position(stage: Stage) -> int:
    """Return the position that both of the profile service's projections have reached."""
    connection = await asyncpg.connect(stage.database(PROFILE))
    try:
        position: int = await connection.fetchval(
            "SELECT min(position) FROM projection_checkpoints"
        )
    finally:
        await connection.close()
    return position


async def _folded(stage: Stage, projection: str) -> tuple[float, dict[str, float]]:
    spec = {
        "database": stage.database(FOLDED),
        "nats": stage.servers.nats_service_url,
        "projection": projection,
    }
    async with worker("fold", spec) as folder:
        meter = CpuMeter()
        told = await folder.result()
        cores = meter.cores()
    return told["events"] / told["seconds"], cores


async def _copied(stage: Stage, head: int) -> float:
    spec = {
        "database": stage.database(FOLDED),
        "table": "timeline",
        "after": 0,
        "up_to": head,
        "empty": True,
        "settings": PROJECTING,
    }
    async with worker("copy", spec) as copier:
        told = await copier.result()
    if told["rows"] != head:
        raise AssertionError(f"the timeline has {told['rows']} of {head} events")
    return float(told["rows"] / told["seconds"])


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
        if projections == 2:
            advance(position)
            if position >= head:
                return
        await asyncio.sleep(_LOOK_SECONDS)
