"""How long an append takes through one ingestion process and through two, which share one line."""

from typing import Any, Final

from tests.bench.cpu import CpuMeter
from tests.bench.figures import Figure, percentiles, quantile
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.stage import Stage
from tests.bench.worker import worker

CALLERS: Final = 64


async def measure(report: Report, stage: Stage, ingestion: str, scale: Scale) -> None:
    """Record one event a call through one process and through two, in turn, round after round."""
    report.heading(f"RecordEvent from {CALLERS} callers, through one ingestion process and two")
    async with stage.run("ingestion") as other:
        ways = {"one": [ingestion], "two": [ingestion, other]}
        millis: dict[str, list[float]] = {name: [] for name in ways}
        rates: dict[str, float] = {}
        cores: dict[str, dict[str, float]] = {}
        # Either process learns the customers first.
        await _called([other], scale, seed=3000)
        for number in range(scale.rounds):
            for place, (name, targets) in enumerate(ways.items()):
                meter = CpuMeter()
                told = await _called(targets, scale, seed=3001 + number * len(ways) + place)
                cores[name] = meter.cores()
                millis[name] += told["millis"]
                rates[name] = len(told["millis"]) / told["seconds"]
    for name, taken in millis.items():
        figure = f"append_through_{name}"
        report.add(
            Figure(figure, rates[name], "calls/s", "", (), cores[name]),
            *percentiles(figure, taken),
        )
    ratio = quantile(millis["two"], 0.99) / quantile(millis["one"], 0.99)
    report.add(Figure("append_p99_two_vs_one", ratio, "ratio", "below 1: two are faster"))


async def _called(targets: list[str], scale: Scale, seed: int) -> Any:
    spec = {
        "targets": targets,
        "callers": CALLERS,
        "seconds": scale.unary_seconds,
        "events": scale.unary_events,
        "customers": scale.customers,
        "seed": seed,
    }
    async with worker("unary", spec) as caller:
        return await caller.result()
