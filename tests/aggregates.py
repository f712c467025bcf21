"""Aggregates of the eventsourcing library on a real line: PostgreSQL, NATS and the store's API."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import asyncpg

from libs.eventstore import aggregates
from libs.eventstore import store as eventstore
from libs.eventstore.aggregates.lending import LINE, borrowed
from libs.eventstore.aggregates.lending import Line as LentLine
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.feed.relay import Relay
from libs.eventstore.server import serve_store
from libs.postgres.migrations import migrate
from libs.tasks import running
from tests.servers import OwnNats
from tests.store import DEFAULT, Line, build_store, open_line
from touchline.store.v1.store_pb2 import AppendRequest, AppendResponse


async def build_stores(url: str) -> None:
    """Makes the store's tables, and those of a service that tracks, in one database."""
    await build_store(url)
    await migrate(url, "aggregates", aggregates.MIGRATIONS)


@dataclass(slots=True)
class Lent:
    """A line that is lent to applications, and what serves it.

    Attributes:
        line: The store's side.
        client: The service's side.
        environment: For applications.
        lose_answers: How many of the next appends happen and are not answered.
    """

    line: Line
    client: StoreClient
    environment: dict[str, str]
    lose_answers: int = 0

    @property
    def borrowed(self) -> LentLine:
        """What recorders get."""
        return borrowed(self.environment[LINE])


@asynccontextmanager
async def lent_line(url: str, nats: OwnNats, *, patience: float = 10.0) -> AsyncIterator[Lent]:
    """Serves a database's line on NATS with its relay, and lends it as another service does."""
    async with (
        open_line(url) as line,
        connect_nats(nats.url, "store") as stores,
        connect_nats(nats.service_url, "service") as services,
        asyncpg.create_pool(url, min_size=1) as pool,
    ):
        relay = Relay(line.pool, line.store, stores, uuid4())
        client = StoreClient(services, timeout=patience)
        with aggregates.lend(client, DEFAULT.tenant, DEFAULT.identity_keys, pool) as environment:
            lent = Lent(line, client, environment)

            async def append(request: AppendRequest, traceparent: str) -> AppendResponse:
                if request.tenant != DEFAULT.tenant.name:
                    raise ValueError(f"there is no tenant {request.tenant}")
                answer = await line.recorder.append(DEFAULT, request, traceparent)
                if lent.lose_answers:
                    lent.lose_answers -= 1
                    await asyncio.sleep(2 * patience)
                return answer

            async with (
                running(relay.run()),
                eventstore.listen(url, relay.wake),
                serve_store(stores, line.store, line.keyring, append, line.erases),
            ):
                await stores.flush()  # so that the server knows the endpoints
                yield lent
        await relay.stop()
