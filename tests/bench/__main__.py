"""The command: `python -m tests.bench [--quick] [--only NAME …] | --profile-ingest`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final

import asyncpg
from rich.console import Console

from tests.bench import (
    disk,
    freshness,
    graph,
    history,
    identities,
    inbox,
    ingest,
    judging,
    million,
    pages,
    profile_ingest,
    projections,
    rebuild,
    rebuild_load,
    replicas,
    scoring,
    tracing,
    unary,
)
from tests.bench.report import WRITTEN, Report
from tests.bench.scale import FULL, QUICK, Scale
from tests.bench.stage import Stage, open_stage

FAMILIES: Final = (
    *("ingest", "unary", "replicas", "projection", "freshness", "telemetry", "graph"),
    *("scores", "rules", "inbox", "identities"),
    *("rebuild", "rebuild_load", "history", "first_fold", "pages"),
)
_DERIVED: Final = {"scores", "rules", "inbox"}
_LARGE: Final = {"history", "first_fold", "pages"}
_OWN_STORE: Final = {"identities", "rebuild", "rebuild_load"}
_NO_STORE: Final = {"graph"}


async def measure(
    report: Report,
    scale: Scale,
    wanted: set[str],
    rebuilt: Sequence[int] | None = None,
    *,
    profiled: bool,
) -> None:
    """Measure the wanted families: on a fresh store, on one with all services, on a large one."""
    disk.measure(report, WRITTEN.parent)
    if "graph" in wanted:
        await graph.measure(report, scale)
    if wanted - _LARGE - _DERIVED - _OWN_STORE - _NO_STORE:
        async with open_stage(profiled=profiled) as stage:
            await _on_a_fresh_store(report, stage, scale, wanted)
    if wanted & _DERIVED:
        async with open_stage(profiled=profiled) as stage:
            await _with_all_services(report, stage, scale, wanted)
    if "identities" in wanted:
        async with open_stage(profiled=profiled) as stage:
            await identities.measure(report, stage, scale)
    if "rebuild" in wanted:
        async with open_stage(profiled=profiled) as stage:
            await rebuild.measure(report, stage, rebuilt or scale.rebuilt)
    if "rebuild_load" in wanted:
        await rebuild_load.measure(report, partial(open_stage, profiled=profiled), scale)
    if wanted & _LARGE:
        async with open_stage(profiled=profiled) as stage:
            await _on_a_large_store(report, stage, scale, wanted)


async def _on_a_fresh_store(report: Report, stage: Stage, scale: Scale, wanted: set[str]) -> None:
    async with stage.run("ingestion") as ingestion:
        if "ingest" in wanted:
            await ingest.measure(report, stage, ingestion, scale)
            head = await _head(stage)
            await ingest.measure_with_another(report, stage, ingestion, scale, head)
        else:  # something to fold, and customers whose data keys are made
            for seed in range(scale.rounds + 1):
                await ingest.send(ingestion, scale, 1000, seed, seed * scale.batch_events)
        if "projection" in wanted:
            await projections.measure(report, stage, scale, await _head(stage))
        if "unary" in wanted:
            await unary.measure(report, ingestion, scale)
        if "replicas" in wanted:
            await replicas.measure(report, stage, ingestion, scale)
        if wanted & {"freshness", "ingest"}:
            async with projections.caught_up(stage, await _head(stage)) as profile:
                if "freshness" in wanted:
                    await freshness.measure(report, ingestion, profile, scale)
                if "ingest" in wanted:
                    head = await _head(stage)
                    await ingest.measure_with_profile(report, stage, ingestion, scale, head)
    if "telemetry" in wanted:
        await tracing.measure(report, stage, scale, await _head(stage))


async def _with_all_services(report: Report, stage: Stage, scale: Scale, wanted: set[str]) -> None:
    async with stage.run("ingestion") as ingestion:
        head = 0
        for seed in range(2):  # something to score, and customers whose data keys are made
            head, _, _ = await ingest.send(ingestion, scale, 1000, seed, head)
        if "scores" in wanted:
            await scoring.measure(report, stage, scale, head)
        if "rules" in wanted:
            await judging.measure(report, stage, ingestion, scale, head)
        if "inbox" in wanted:
            await inbox.measure(report, stage, ingestion, scale)


async def _on_a_large_store(report: Report, stage: Stage, scale: Scale, wanted: set[str]) -> None:
    await million.fill(report, stage, scale)
    async with stage.run("ingestion"):
        if "history" in wanted:
            await history.measure(report, stage, scale.stored)
        if wanted & {"first_fold", "pages"}:
            async with projections.first_fold(report, stage, scale.stored) as profile:
                if "pages" in wanted:
                    await pages.measure(report, profile, scale)


async def _head(stage: Stage) -> int:
    connection = await asyncpg.connect(stage.database("ingestion"))
    try:
        head: int = await connection.fetchval("SELECT position FROM store_head")
    finally:
        await connection.close()
    return head


def main() -> None:
    """Read the arguments and do what they ask."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure less, within a few minutes")
    parser.add_argument(
        "--only", nargs="+", choices=FAMILIES, metavar="NAME", help="of " + ", ".join(FAMILIES)
    )
    parser.add_argument(
        "--rebuilt",
        nargs="+",
        type=int,
        metavar="EVENTS",
        help="rebuild lines of so many events, the shortest first, such as 100000 1000000 5000000",
    )
    parser.add_argument(
        "--profile-ingest", action="store_true", help="say where ingestion's time goes, by step"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="run services and folds under cProfile, write build/bench-NAME.prof; figures suffer",
    )
    arguments = parser.parse_args()
    if arguments.profile_ingest:
        profile_ingest.main()
        return
    console = Console()
    report = Report(console, quick=arguments.quick)
    failure = ""
    try:
        scale = QUICK if arguments.quick else FULL
        wanted = set(arguments.only or FAMILIES)
        asyncio.run(measure(report, scale, wanted, arguments.rebuilt, profiled=arguments.profile))
    except KeyboardInterrupt:
        failure = "stopped before the end"
    except Exception as error:
        console.print_exception()
        failure = f"{type(error).__name__}: {error}"
    report.finish(failure)
    sys.exit(1 if failure else 0)


if __name__ == "__main__":
    main()
