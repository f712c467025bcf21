"""One event a call: calls/s and how long each takes, at 1, 64 and 256 callers."""

from typing import Final

from tests.bench.cpu import CpuMeter
from tests.bench.figures import Figure, percentiles
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.worker import worker

CALLERS: Final = (1, 64, 256)


async def measure(report: Report, ingestion: str, scale: Scale) -> None:
    """Call with ever more callers, each waiting for its answer before it calls again."""
    report.heading("RecordEvent, one event a call, the profile service at rest")
    for callers in CALLERS:
        spec = {
            "targets": [ingestion],
            "callers": callers,
            "seconds": scale.unary_seconds,
            "events": scale.unary_events,
            "customers": scale.customers,
            "seed": 100 + callers,
        }
        async with worker("unary", spec) as caller:
            meter = CpuMeter()
            told = await caller.result()
            cores = meter.cores()
        name = f"unary_{callers}_callers"
        rate = len(told["millis"]) / told["seconds"]
        note = "each answer waits for the disk" if callers == 1 else ""
        report.add(
            Figure(name, rate, "calls/s", note, (), cores), *percentiles(name, told["millis"])
        )
