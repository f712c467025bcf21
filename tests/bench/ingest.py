"""Events/s in batches over gRPC, beside what a bare COPY makes of the same stored rows."""

from collections.abc import Sequence
from typing import Final

from tests.bench.copying import copied
from tests.bench.cpu import CpuMeter
from tests.bench.events import DESCRIPTION, YEAR_SECONDS
from tests.bench.figures import median_figure
from tests.bench.projections import folded_position
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.stage import Stage
from tests.bench.worker import worker

IN_FLIGHT: Final = 4
SIZES: Final = (500, 1000)


async def measure(report: Report, stage: Stage, ingestion: str, scale: Scale) -> None:
    """Send batches of both sizes and copy what they stored, in turn, round after round."""
    report.heading("Ingest in batches, the profile service at rest", f"Events: {DESCRIPTION}.")
    speeds: dict[int, list[float]] = {size: [] for size in SIZES}
    copies: dict[int, list[float]] = {size: [] for size in SIZES}
    streamed: list[float] = []
    cores: dict[int, dict[str, float]] = {}
    stream_cores: dict[str, float] = {}
    head, _, _ = await send(ingestion, scale, 1000, seed=0, after=0)  # warms up, makes data keys
    database = stage.database("ingestion")
    await copied(database, "events", 0, head)
    with report.progress("rounds", scale.rounds * len(SIZES)) as advance:
        for number in range(scale.rounds):
            for place, size in enumerate(SIZES):
                seed = 1 + number * len(SIZES) + place
                last, speed, cores[size] = await send(ingestion, scale, size, seed, head)
                speeds[size].append(speed)
                # All at once is what the issue asks; a thousand a time is what batches could reach.
                rows = {} if size == 1000 else {"batch": 1000}
                copies[size].append((await copied(database, "events", head, last, **rows)).speed)
                head = last
                advance(seed)
            seed = 3000 + number
            head, speed, stream_cores = await send(
                ingestion, scale, 1000, seed, head, kind="streams"
            )
            streamed.append(speed)
    count = f"{scale.batch_events:,} events, {IN_FLIGHT} calls in flight"
    for size in SIZES:
        name = f"ingest_batches_of_{size}"
        report.add(median_figure(name, speeds[size], "events/s", count, cores[size]))
    note = f"{scale.batch_events:,} events, batches of 1000 on one stream"
    report.add(median_figure("ingest_stream", streamed, "events/s", note, stream_cores))
    note = "one COPY, the same rows, indexes and disk"
    report.add(median_figure("copy_of_stored_rows", copies[1000], "rows/s", note))
    note = "a COPY and a commit for each 1,000 rows"
    report.add(median_figure("copy_of_stored_rows_by_1000", copies[500], "rows/s", note))
    # Each against the COPY of its own rows, which ran right after it.
    ratios = [fast / copy for fast, copy in zip(speeds[1000], copies[1000], strict=True)]
    report.add(median_figure("ingest_vs_copy", ratios, "ratio", "batches of 1000 / one COPY"))


async def measure_with_profile(
    report: Report, stage: Stage, ingestion: str, scale: Scale, head: int
) -> None:
    """Send batches of 1000 while the profile service folds what arrives."""
    report.heading("Ingest in batches of 1000 while the profile service folds them")
    speeds, cores = [], dict[str, float]()
    for number in range(scale.rounds):
        head, speed, cores = await send(ingestion, scale, 1000, 1000 + number, head)
        speeds.append(speed)
    behind = head - await folded_position(stage)
    note = f"its projections are {behind:,} events behind after {scale.rounds} rounds"
    report.add(median_figure("ingest_while_folding", speeds, "events/s", note, cores))


async def measure_with_another(
    report: Report, stage: Stage, ingestion: str, scale: Scale, head: int
) -> None:
    """Send batches of 1000 to two ingestion processes, which append to one line."""
    report.heading("Ingest in batches of 1000 through two ingestion processes")
    speeds, cores = [], dict[str, float]()
    async with stage.run("ingestion") as other:
        # Either process learns the customers first.
        head, _, _ = await send(ingestion, scale, 1000, 2000, head, [other])
        for number in range(scale.rounds):
            head, speed, cores = await send(ingestion, scale, 1000, 2001 + number, head, [other])
            speeds.append(speed)
    note = "one relays, both append"
    report.add(median_figure("ingest_two_processes", speeds, "events/s", note, cores))


async def send(
    ingestion: str,
    scale: Scale,
    size: int,
    seed: int,
    after: int,
    others: Sequence[str] = (),
    *,
    kind: str = "batches",
    events: int = 0,
    span_seconds: int = YEAR_SECONDS,
) -> tuple[int, float, dict[str, float]]:
    """Send batches; return the head after them, events/s, and how busy the cores were.

    Args:
        ingestion: Where to.
        scale: How much.
        size: Events of a batch.
        seed: Says which events.
        after: The head before them; nobody else may record.
        others: Further targets.
        kind: The worker that sends them: `batches` or `streams`.
        events: How many instead of the scale's.
        span_seconds: Within how long before now they occurred.
    """
    count = events or scale.batch_events
    spec = {
        "targets": [ingestion, *others],
        "batch": size,
        "events": count,
        "customers": scale.customers,
        "seed": seed,
        "in_flight": IN_FLIGHT,
        "span_seconds": span_seconds,
    }
    async with worker(kind, spec) as sender:
        meter = CpuMeter()
        told = await sender.result()
        cores = meter.cores()
    if told["last"] - after != count:
        raise AssertionError(f"{told['last'] - after} positions for {count} events")
    return told["last"], count / told["seconds"], cores
