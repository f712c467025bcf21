"""One projection of the profile service, alone in a process, catching up from position 0."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import asyncpg

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.migrations import migrate
from libs.postgres.pool import open_pool
from libs.projection import checkpoints, timeline
from libs.projection.identity_graph import IdentityGraph
from libs.projection.projection import Projection
from libs.projection.runner import Runner
from libs.projection.timeline import Timeline
from libs.tasks import running
from tests.bench.worker import Result, Spec, Tell

PROJECTING: Final = {"synchronous_commit": "off"}  # as the profile service does
_PROJECTIONS: Final[dict[str, Callable[[], Projection]]] = {
    "timeline": Timeline,
    "identity_graph": IdentityGraph,
}
_TABLES: Final = (
    *("timeline", "timeline_retractions"),
    *("identities", "identity_edges", "identity_retractions"),
    "projection_checkpoints",
)
_LOOK_SECONDS: Final = 0.002


async def prepare(database: str) -> None:
    """Make the tables, or empty them."""
    await migrate(database, "projection", checkpoints.MIGRATIONS)
    await migrate(database, "timeline", timeline.MIGRATIONS)
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(f"TRUNCATE {', '.join(_TABLES)}")
    finally:
        await connection.close()


@asynccontextmanager
async def fold(spec: Spec, tell: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Fold the line up to its head. Spec: database, nats, projection."""
    await prepare(spec["database"])
    async with (
        open_pool(spec["database"], application="bench", settings=PROJECTING) as pool,
        connect_nats(spec["nats"], "bench") as nats,
    ):
        store = StoreClient(nats)
        head = (await store.head()).position
        one = Runner(_PROJECTIONS[spec["projection"]](), pool, store, uuid4())

        async def work() -> Result:
            began = time.perf_counter()
            async with running(one.run()):
                while one.checkpoint.position < head:  # noqa: ASYNC110 - a runner has no event
                    await asyncio.sleep(_LOOK_SECONDS)
                seconds = time.perf_counter() - began
            tell(head)
            return {"seconds": seconds, "events": head}

        yield work
