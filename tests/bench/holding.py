"""Holds a rate while probes see how soon what they record has its effect."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.cpu import CpuMeter
from tests.bench.events import YEAR_SECONDS
from tests.bench.figures import Figure, quantile
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.worker import Spec, worker

_LEAD_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """How many events a second, in calls of how many, of within how long before now."""

    events: int
    batch: int
    span_seconds: int = YEAR_SECONDS


async def probed(
    report: Report, scale: Scale, rate: Rate, figure: str, kind: str, probing: Spec
) -> dict[str, Any]:
    """Hold a rate of events while a worker probes; report the rate, and return what it was told.

    Args:
        report: Takes the figure.
        scale: For how long, and among how many customers.
        rate: Of the events that are recorded beside the probes.
        figure: The figure's name.
        kind: The worker that probes.
        probing: Its spec: `ingestion`, and what else it needs but `seconds`.
    """
    seconds = scale.freshness_seconds
    spec = {
        "target": probing["ingestion"],
        "rate": rate.events,
        "batch": rate.batch,
        "seconds": seconds + 2 * _LEAD_SECONDS,
        "customers": scale.customers,
        "seed": 500 + rate.batch,
        "span_seconds": rate.span_seconds,
    }
    with report.progress("holding the rate", seconds) as advance:
        # First who probes: until it is ready, services may have to catch up.
        async with (
            worker(kind, {**probing, "seconds": seconds}, advance) as prober,
            worker("steady", spec) as sender,
        ):
            sender.go()
            await asyncio.sleep(_LEAD_SECONDS)
            meter = CpuMeter()
            told: dict[str, Any] = await prober.result()
            cores = meter.cores()
            sent = await sender.until("result")
    note = f"{quantile(sent['millis'], 0.99):.1f} ms p99 from when an event was due to its answer"
    if sent["refused"]:
        note += f"; refused calls: {sent['refused']}"
    if told["failed"]:
        note += f"; failed probes: {told['failed']}"
    report.add(Figure(figure, sent["rate"], "events/s", note, (), cores))
    return told
