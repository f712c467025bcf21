"""What telemetry costs: ingestion without it, at 10 % and at 100 % of traces, in one run."""

from collections.abc import Mapping
from statistics import median
from typing import Final

from tests.bench import ingest
from tests.bench.figures import median_figure
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.stage import Stage
from tests.bench.worker import worker
from tests.otlp import receiving

CALLERS: Final = 64
_SAMPLED: Final = {"off": "", "10_percent": "0.1", "100_percent": "1.0"}


async def measure(report: Report, stage: Stage, scale: Scale, head: int) -> None:
    """Start ingestion anew for each share of traces, round after round; metrics go out with any."""
    report.heading("Ingest with telemetry exported over OTLP", "The receiver runs on these cores.")
    unary: dict[str, list[float]] = {name: [] for name in _SAMPLED}
    batches: dict[str, list[float]] = {name: [] for name in _SAMPLED}
    seed = 5000
    async with receiving() as receiver:
        with report.progress("rounds", scale.rounds * len(_SAMPLED)) as advance:
            for done in range(scale.rounds * len(_SAMPLED)):
                name = list(_SAMPLED)[done % len(_SAMPLED)]
                settings = _settings(receiver.endpoint, _SAMPLED[name])
                async with stage.run("ingestion", settings) as ingestion:
                    seed += 3
                    head, _, _ = await ingest.send(ingestion, scale, 1000, seed, head)
                    head, speed, _ = await ingest.send(ingestion, scale, 1000, seed + 1, head)
                    calls, rate = await _call(ingestion, scale, seed + 2)
                batches[name].append(speed)
                unary[name].append(rate)
                head += calls
                advance(done + 1)
                receiver.resource_spans.clear()
    for kind, unit, measured in (("batches", "events/s", batches), ("unary", "calls/s", unary)):
        without = median(measured["off"])
        for name, speeds in measured.items():
            note = f"{median(speeds) / without:.2f} of that without telemetry"
            report.add(median_figure(f"telemetry_{kind}_{name}", speeds, unit, note))


def _settings(endpoint: str, sampled: str) -> Mapping[str, str]:
    if not sampled:
        return {}
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": sampled,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }


async def _call(ingestion: str, scale: Scale, seed: int) -> tuple[int, float]:
    """Call with one event each; return how many calls were made, and calls/s."""
    spec = {
        "targets": [ingestion],
        "callers": CALLERS,
        "seconds": scale.unary_seconds,
        "events": scale.unary_events,
        "customers": scale.customers,
        "seed": seed,
    }
    async with worker("unary", spec) as caller:
        told = await caller.result()
    return len(told["millis"]), len(told["millis"]) / told["seconds"]
