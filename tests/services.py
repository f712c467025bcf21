"""Both services as they run in production, in this process, on real servers.

async with touchline_on(stores, nats) as touchline:
    (verdict,) = await touchline.client.record([event])
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.embedded import create_database, database_url_for
from libs.eventstore import store as eventstore
from libs.postgres.migrations import migrate
from libs.rpc.server import ListenError
from services.engagement import config as engagement_config
from services.engagement.__main__ import migrate_engagement, serve_engagement
from services.ingestion import config as ingestion_config
from services.ingestion import quarantine
from services.ingestion.__main__ import serve_ingestion
from services.notification import config as notification_config
from services.notification.__main__ import migrate_notification, serve_notification
from services.profile import config as profile_config
from services.profile.__main__ import migrate_profile, serve_profile
from tests.ports import free_address
from tests.servers import OwnNats, SharedPostgres
from touchline.client import Client

TENANTS = ("default", "acme")
"""The tenants that both services know."""

_STARTS_WITHIN = 30.0
_SECRETS = {
    "TOUCHLINE_TENANTS": ",".join(TENANTS),
    "TOUCHLINE_IDENTITY_SECRET": "1d" * 32,
    "TOUCHLINE_MASTER_KEY": "a5" * 32,
}

Serve = Callable[[Mapping[str, str], asyncio.Event], Awaitable[None]]
"""Serves with an environment until the event is set."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The URLs of the two services' databases."""

    events: str
    views: str


@dataclass(slots=True)
class Service:
    """A service in this process, which a test may stop and start again on its port.

    Attributes:
        serve: Runs it.
        environment: Its settings.
        listen: Its host:port; another one after a start that found it taken.
    """

    serve: Serve
    environment: Mapping[str, str]
    listen: str = ""
    _stop: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = field(init=False, default=None)

    async def start(self) -> None:
        """Returns once its health is SERVING."""
        while True:
            self.listen = self.listen or free_address()
            self._stop = asyncio.Event()
            serving = self.serve({**self.environment, "TOUCHLINE_LISTEN": self.listen}, self._stop)
            self._task = asyncio.ensure_future(serving)
            try:
                await self._until_serving(self._task)
            except ListenError:
                self.listen = ""  # somebody took the port in between
            else:
                return

    async def stop(self) -> None:
        """Drains it, as SIGTERM does; raises what it failed with."""
        self._stop.set()
        if self._task is not None:
            task, self._task = self._task, None
            await task

    async def ended(self) -> None:
        """Returns once it has ended by itself; raises what it failed with."""
        if self._task is not None:
            task, self._task = self._task, None
            await asyncio.wait_for(task, 30)

    async def crash(self) -> None:
        """Ends it where it stands, without a drain of what it has in hand."""
        if self._task is not None:
            task, self._task = self._task, None
            while not task.done():  # what cleans up may swallow a cancellation
                task.cancel()
                await asyncio.wait({task}, timeout=5)
            if not task.cancelled():
                task.exception()  # it is of no interest

    async def restart(self) -> None:
        """Drains it and starts it again."""
        await self.stop()
        await self.start()

    async def _until_serving(self, task: "asyncio.Task[None]") -> None:
        # It does not listen yet: gRPC would wait a second before it looks again.
        soon = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
        async with grpc.aio.insecure_channel(self.listen, options=soon) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            asked = asyncio.ensure_future(_until_healthy(health))
            await asyncio.wait({asked, task}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                asked.cancel()
                await task
                raise AssertionError("the service ended before it served")
            await asked


_RECORDED = ("timeline", "timeline_retractions")


@dataclass(slots=True)
class Touchline:
    """A whole Touchline: two services, their databases, NATS and a connected client.

    Attributes:
        client: Calls as the tenant `default`.
        ingestion: The service that records.
        profile: The service that answers.
        stores: The databases, as the superuser reaches them.
        nats: Connects the two.
    """

    client: Client
    ingestion: Service
    profile: Service
    stores: Stores
    nats: OwnNats

    @asynccontextmanager
    async def client_of(self, tenant: str) -> AsyncIterator[Client]:
        """Gives a client that calls as another tenant."""
        async with Client.connect(self.ingestion.listen, self.profile.listen, tenant) as client:
            yield client

    async def execute(self, url: str, statement: str, *arguments: object) -> str:
        """Runs a statement in one of the databases, as the superuser."""
        connection = await asyncpg.connect(url)
        try:
            return str(await connection.execute(statement, *arguments))
        finally:
            await connection.close()

    @asynccontextmanager
    async def past(self) -> AsyncIterator[None]:
        """Lets the block say when events of the views were recorded, and puts it right afterwards.

        A new store has no past; and who shares this Touchline compares its views with copies.
        """
        for table in _RECORDED:
            kept = f"CREATE TABLE kept_{table} AS SELECT event_id, recorded_at_us FROM {table}"
            await self.execute(self.stores.views, kept)
        try:
            yield
        finally:
            for table in _RECORDED:
                put_back = (
                    f"UPDATE {table} t SET recorded_at_us = k.recorded_at_us "
                    f"FROM kept_{table} k WHERE k.event_id = t.event_id; DROP TABLE kept_{table}"
                )
                await self.execute(self.stores.views, put_back)


@asynccontextmanager
async def touchline_on(
    stores: Stores, nats: OwnNats, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Touchline]:
    """Runs both services until the block ends, then drains them.

    Args:
        stores: Their databases; what is missing in them is made.
        nats: Connects them.
        environment: Settings that differ from the usual ones of tests.
    """
    shared = {**_SECRETS, **(environment or {})}
    events = {"TOUCHLINE_DATABASE_URL": stores.events, "TOUCHLINE_NATS_URL": nats.url}
    views = {"TOUCHLINE_DATABASE_URL": stores.views, "TOUCHLINE_NATS_URL": nats.service_url}
    ingestion = Service(_serve_ingestion, shared | events)
    profile = Service(_serve_profile, shared | views)
    async with AsyncExitStack() as stack:
        for service in (ingestion, profile):
            await service.start()
            stack.push_async_callback(service.stop)
        client = await stack.enter_async_context(
            Client.connect(ingestion.listen, profile.listen, "default")
        )
        yield Touchline(client, ingestion, profile, stores, nats)


@asynccontextmanager
async def engagement_on(touchline: Touchline, url: str) -> AsyncIterator[tuple[Service, Client]]:
    """Runs the engagement service beside the two others until the block ends, then drains it.

    Args:
        touchline: The two others.
        url: Its database; what is missing in it is made.

    Yields:
        The service, and a client that calls it too, as the tenant `default`.
    """
    own = {"TOUCHLINE_DATABASE_URL": url, "TOUCHLINE_NATS_URL": touchline.nats.service_url}
    service = Service(_serve_engagement, _SECRETS | own)
    await service.start()
    try:
        async with Client.connect(
            *(touchline.ingestion.listen, touchline.profile.listen), engagement=service.listen
        ) as client:
            yield service, client
    finally:
        await service.stop()


@asynccontextmanager
async def notification_on(
    touchline: Touchline, url: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Service, Client]]:
    """Runs the notification service beside the two others until the block ends, then drains it.

    Args:
        touchline: The two others.
        url: Its database; what is missing in it is made.
        environment: Settings that differ from the usual ones of tests, such as a mail server.

    Yields:
        The service, and a client that calls it too, as the tenant `default`.
    """
    service = Service(_serve_notification, notification_environment(touchline, url, environment))
    await service.start()
    try:
        async with Client.connect(
            *(touchline.ingestion.listen, touchline.profile.listen), notification=service.listen
        ) as client:
            yield service, client
    finally:
        await service.stop()


def notification_environment(
    touchline: Touchline, url: str, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The settings of a notification service on a database, impatient as tests are."""
    return {
        **_SECRETS,
        "TOUCHLINE_DATABASE_URL": url,
        "TOUCHLINE_NATS_URL": touchline.nats.service_url,
        "TOUCHLINE_WEBHOOK_SECRET": "c0" * 32,
        "TOUCHLINE_WEBHOOK_PRIVATE": "allow",
        "TOUCHLINE_DELIVERY_RETRY_SECONDS": "0.0004",
        "TOUCHLINE_DELIVERY_TIMEOUT_SECONDS": "1.5",
        **(environment or {}),
    }


async def new_notifications(servers: SharedPostgres) -> str:
    """Makes a database of the notification service, migrated, and returns its URL."""
    return await _copy(servers, "notifications", migrate_notification)


async def new_scores(servers: SharedPostgres) -> str:
    """Makes a database of the engagement service, migrated, and returns its URL."""
    return await _copy(servers, "scores", migrate_engagement)


async def new_stores(servers: SharedPostgres) -> Stores:
    """Makes both databases, migrated, the store one of its own."""
    stores = Stores(
        await _copy(servers, "events", build_event_store),
        await _copy(servers, "views", build_views),
    )
    await mint_store(stores.events)
    return stores


async def new_views(servers: SharedPostgres) -> str:
    """Makes a database of the profile service, migrated, and returns its URL."""
    return await _copy(servers, "views", build_views)


async def build_event_store(url: str) -> None:
    """Fills the database of the ingestion service."""
    await migrate(url, "eventstore", eventstore.MIGRATIONS)
    await migrate(url, "ingestion", quarantine.MIGRATIONS)


async def build_views(url: str) -> None:
    """Fills the database of the profile service."""
    await migrate_profile(url)


async def mint_store(url: str) -> None:
    """Gives a copied event store an id of its own: copies of a template share one."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("UPDATE store_head SET store_id = gen_random_uuid()")
    finally:
        await connection.close()


async def _copy(
    servers: SharedPostgres, what: str, builder: Callable[[str], Awaitable[None]]
) -> str:
    name = f"{what}_{secrets.token_hex(6)}"
    await create_database(servers.url, name, await servers.template(builder))
    return database_url_for(servers.url, name)


async def _until_healthy(health: Any) -> None:
    """Returns once a server says that it serves: it may build views first."""
    serving = health_pb2.HealthCheckResponse.SERVING
    async with asyncio.timeout(_STARTS_WITHIN):
        while True:
            request = health_pb2.HealthCheckRequest()
            told = await health.Check(request, wait_for_ready=True, timeout=_STARTS_WITHIN)
            if told.status == serving:
                return
            await asyncio.sleep(0.02)


async def _serve_ingestion(environment: Mapping[str, str], stop: asyncio.Event) -> None:
    await serve_ingestion(ingestion_config.read_config(environment), stop)


async def _serve_engagement(environment: Mapping[str, str], stop: asyncio.Event) -> None:
    await serve_engagement(engagement_config.read_config(environment), stop)


async def _serve_notification(environment: Mapping[str, str], stop: asyncio.Event) -> None:
    await serve_notification(notification_config.read_config(environment), stop)


async def _serve_profile(environment: Mapping[str, str], stop: asyncio.Event) -> None:
    await serve_profile(profile_config.read_config(environment), stop)
