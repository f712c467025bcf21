"""Reads the whole line over NATS, page by page, as a projection that starts anew does."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from tests.bench.cpu import CpuMeter
from tests.bench.figures import median_figure
from tests.bench.report import Report
from tests.bench.stage import Stage
from tests.bench.worker import Result, Spec, Tell, worker


async def measure(report: Report, stage: Stage, events: int) -> None:
    """Read the whole line, twice."""
    report.heading(f"History of {events:,} events over NATS")
    samples, notes = [], ""
    for _ in range(2):
        with report.progress("reading", events, "events") as advance:
            spec = {"nats": stage.servers.nats_service_url}
            async with worker("history", spec, advance) as reader:
                meter = CpuMeter()
                told = await reader.result()
                cores = meter.cores()
        samples.append(told["events"] / told["seconds"])
        size = told["bytes"] / told["pages"] / 1024
        notes = f"{told['pages']:,} pages of {size:.0f} KiB on average, one after the other"
    report.add(median_figure("history_read", samples, "events/s", notes, cores))


@asynccontextmanager
async def history(spec: Spec, tell: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Read every page, one after the other. Spec: nats."""
    async with connect_nats(spec["nats"], "bench") as nats:
        store = StoreClient(nats)
        head = (await store.head()).position

        async def work() -> Result:
            position = pages = bytes_read = 0
            began = time.perf_counter()
            while position < head:
                batch = (await store.history(position)).batch
                assert batch.first == position + 1
                position, pages = batch.last, pages + 1
                bytes_read += batch.ByteSize()
                if pages % 50 == 0:
                    tell(position)
            seconds = time.perf_counter() - began
            return {"seconds": seconds, "events": head, "pages": pages, "bytes": bytes_read}

        yield work
