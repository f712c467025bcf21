"""Where the time of a rebuild goes, for an event of the timeline, step by step and one at a time.

In a rebuild they overlap: the store's service and PostgreSQL pack and write beside the worker.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from libs.eventstore.chain import GENESIS, Head
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.projection.batches import Batch
from libs.projection.generations import switching, tables
from libs.projection.generations.filling import SETTINGS
from libs.projection.projection import Recorded, decode
from libs.projection.timeline import Timeline
from tests.bench.figures import Figure
from tests.bench.report import Report
from tests.bench.stage import Stage
from touchline.store.v1.store_pb2 import EventBatch, GetHistoryResponse

DEFINITION: Final = (
    "The same events, one step after another, each alone: in a rebuild they overlap. Own is what "
    "this process's CPU does of it; the rest it waits for others, which work meanwhile."
)
_EVENTS: Final = 100_000
_AT_ONCE: Final = 20_000
_GARBAGE_THRESHOLDS: Final = (100_000, 50, 100)  # as services have


class _Steps:
    """Times steps, in microseconds for an event."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.events = 0

    @contextmanager
    def of(self, name: str, does: str) -> Iterator[None]:
        """Time a step; how many events there were is known at its end."""
        began, cpu = time.perf_counter(), time.process_time()
        yield
        micros = 1e6 / self.events
        own = (time.process_time() - cpu) * micros
        note = f"{does}; own {own:.2f}"
        wall = (time.perf_counter() - began) * micros
        self._report.add(Figure(f"rebuild_step_{name}", wall, "µs/event", note))


async def measure(report: Report, stage: Stage) -> None:
    """Read, decode, write and index the beginning of the line."""
    report.heading("Where the time of a rebuild of the timeline goes", DEFINITION)
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    steps = _Steps(report)
    pages = await _read(stage, steps)
    sent = [GetHistoryResponse(batch=page).SerializeToString() for page in pages]
    with steps.of("parse", "pages become messages"):
        pages = [GetHistoryResponse.FromString(one).batch for one in sent]
    with steps.of("chain", "each page continues the one before: a SHA-256 for an event"):
        _check(pages)
    with steps.of("decode", "records become messages"):
        events = [event for page in pages for event in decode(page.first, page.events)]
    await _write(stage, steps, events)


async def _read(stage: Stage, steps: _Steps) -> list[EventBatch]:
    async with connect_nats(stage.servers.nats_service_url, "bench") as nats:
        store, pages = StoreClient(nats), list[EventBatch]()
        does = "a page after the other: PostgreSQL reads, ingestion packs, NATS carries"
        with steps.of("read", does):
            while (
                steps.events < _EVENTS
                and (page := (await store.history(steps.events)).batch).events
            ):
                pages.append(page)
                steps.events = page.last
    return pages


def _check(pages: list[EventBatch]) -> None:
    at = Head(b"", 0, GENESIS)
    for page in pages:
        batch = Batch(page)
        batch.known_at(at)
        at = batch.end


async def _write(stage: Stage, steps: _Steps, events: list[Recorded]) -> None:
    url, fold = stage.database("profile"), Timeline()
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        generation = await switching.begin(pool, fold)
        settings = {**SETTINGS, "search_path": generation.search_path}
        connection = await asyncpg.connect(url, server_settings=settings)
        try:
            with steps.of("write", f"rows, COPY, and a commit for {_AT_ONCE:,} events"):
                for start in range(0, len(events), _AT_ONCE):
                    async with connection.transaction():
                        await fold.apply(connection, events[start : start + _AT_ONCE])
            with steps.of("index", "the primary key and the index of positions"):
                async with connection.transaction():
                    await tables.index(connection, generation, fold.tables)
        finally:
            await connection.close()
        await switching.drop(pool, generation, fold.tables)
