"""Everything that runs: servers, two ingestion processes, the other services, and their routes.

Each is a process of its own and started again when it is dead, as a laptop's or a cluster's
supervisor does. Callers reach ingestion through TCP proxies; one replica and one service reach
their servers through proxies too.
"""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.cli.stack import without_settings
from libs.embedded import (
    Child,
    Process,
    Supervised,
    create_database,
    database_url_for,
    nats_server,
    start,
    supervise,
)
from libs.embedded import postgres_server as postgres
from libs.embedded.nats_server import NatsServer
from libs.embedded.orphans import processes_of
from libs.embedded.postgres_server import PostgresServer
from libs.embedded.supervise import Start
from tests.faults.disk import Disk
from tests.ports import free_address
from tests.proxy import TcpProxy
from touchline.ingestion.v1.ingestion_service_pb2 import GetStoreStatusRequest
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub

CHECKOUT: Final = Path(__file__).resolve().parents[2]
POSTGRES: Final = "postgres"
NATS: Final = "nats-server"
INGESTION: Final = ("ingestion-a", "ingestion-b")
PROJECTING: Final = ("profile", "engagement", "notification")
SERVERS: Final = (POSTGRES, NATS)
MEMBERS: Final = (*SERVERS, *INGESTION, *PROJECTING)
"""The names of all processes."""

_BEHIND_PROXIES: Final = ("ingestion-b", "profile")
_STARTS_WITHIN: Final = 60.0
_SETTINGS: Final = {
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "min_wal_size": "32MB",
}


@dataclass(slots=True)
class Cluster:
    """The running processes.

    Attributes:
        home: Holds data and logs.
        postgres: The server's place.
        nats: The server's place.
        disk: The small disk under PostgreSQL's data, or None.
        addresses: Each service's own host:port.
        routes: The proxies, by `from→to`.
        members: The processes.
    """

    home: Path
    postgres: PostgresServer
    nats: NatsServer
    disk: Disk | None
    environment: dict[str, dict[str, str]]
    addresses: dict[str, str] = field(default_factory=dict)
    routes: dict[str, TcpProxy] = field(default_factory=dict)
    members: dict[str, Supervised] = field(default_factory=dict)
    loses_streams: bool = False

    def database(self, member: str) -> str:
        """Return the URL of a service's database, past all proxies; both replicas have one."""
        return database_url_for(self.postgres.url, _database(member))

    async def kill(self, member: str) -> None:
        """End a process with SIGKILL; it is started again by itself."""
        for pid in self.pids(member):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pids(self, member: str) -> list[int]:
        """Return the numbers of a member's processes: PostgreSQL has many."""
        pid = self.members[member].process.pid
        if member != POSTGRES:
            return [pid]
        return [pid, *(one for one in processes_of("postgres", self._mark()) if one != pid)]

    def signal(self, member: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a member."""
        for pid in self.pids(member):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def lose_streams(self) -> None:
        """End nats-server, remove its streams, and let it start without them."""
        self.loses_streams = True
        await self.kill(NATS)

    async def leader(self) -> str | None:
        """Return the ingestion process that relays; None when none says so."""
        for member in INGESTION:
            async with grpc.aio.insecure_channel(self.addresses[member]) as channel:
                stub: Any = IngestionServiceStub(channel)
                with suppress(grpc.aio.AioRpcError):
                    told = await stub.GetStoreStatus(GetStoreStatusRequest(), timeout=2)
                    if told.status.relay_leader:
                        return member
        return None

    async def until_serving(self, within: float = 180.0) -> None:
        """Return once every service answers that it serves."""
        for member, address in self.addresses.items():
            async with asyncio.timeout(within):
                while self.members[member].process.ended or not await serves(address):  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(0.25)

    def _mark(self) -> str:
        return postgres._cluster_name(self.postgres.data)


@asynccontextmanager
async def open_cluster(
    home: Path, disk: Disk | None, services: Sequence[str] = (*INGESTION, *PROJECTING)
) -> AsyncIterator[Cluster]:
    """Start everything on an empty home, and end it with the block.

    Args:
        home: Holds data and logs.
        disk: The small disk under PostgreSQL's data, or None.
        services: The processes, each a service's name; with `-` and a letter where it has several.
    """
    database, messaging = await _start_servers(home, disk)
    cluster = Cluster(home, database[0], messaging[0], disk, {})
    async with AsyncExitStack() as stack:
        watched = supervise(database[1], partial(postgres.start_server, cluster.postgres))
        cluster.members[POSTGRES] = await stack.enter_async_context(watched)
        watched = supervise(messaging[1], partial(_start_nats, cluster))
        cluster.members[NATS] = await stack.enter_async_context(watched)
        stack.callback(_let_all_go_on, cluster)
        for name in ("ingestion", *PROJECTING):
            await create_database(cluster.postgres.url, _database(name))
        told = _secrets()
        for member in services:
            child = await _child(cluster, member, told, stack)
            begin = _starting(child, cluster.addresses[member])
            cluster.members[member] = await stack.enter_async_context(
                supervise(await begin(), begin)
            )
        for member in set(INGESTION) & set(services):
            await _route(cluster, f"clients→{member}", cluster.addresses[member], stack)
        yield cluster


async def serves(address: str) -> bool:
    """Tell whether a service says that it serves."""
    async with grpc.aio.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        try:
            told = await health.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.aio.AioRpcError:
            return False
        return bool(told.status == health_pb2.HealthCheckResponse.SERVING)


async def _start_servers(
    home: Path, disk: Disk | None
) -> tuple[tuple[PostgresServer, Process], tuple[NatsServer, Process]]:
    database = PostgresServer(
        data=(disk.place if disk else home) / "postgres",
        password=secrets.token_hex(8),
        log=home / "log" / "postgres.log",
        settings=dict(_SETTINGS),
    )
    messaging = NatsServer(
        directory=home / "nats",
        store_password=secrets.token_hex(8),
        service_password=secrets.token_hex(8),
        log=home / "log" / "nats.log",
    )
    started = await postgres.start_on_free_port(database)
    return started, await nats_server.start_on_free_port(messaging)


async def _start_nats(cluster: Cluster) -> Process:
    if cluster.loses_streams:
        nats_server.remove_streams(cluster.nats)
        cluster.loses_streams = False
    return await nats_server.start_server(cluster.nats)


async def _child(
    cluster: Cluster, member: str, told: Mapping[str, str], stack: AsyncExitStack
) -> Child:
    service = member.partition("-")[0]
    nats_url = cluster.nats.url if service == "ingestion" else cluster.nats.service_url
    urls = {"postgres": cluster.database(member), "nats": nats_url}
    if member in _BEHIND_PROXIES:
        for server, url in urls.items():
            proxy = await _route(cluster, f"{member}→{server}", urlsplit(url).netloc, stack)
            urls[server] = _through(url, proxy)
    cluster.addresses[member] = free_address()
    environment = {
        **without_settings(),
        **told,
        "TOUCHLINE_DATABASE_URL": urls["postgres"],
        "TOUCHLINE_NATS_URL": urls["nats"],
        "TOUCHLINE_LISTEN": cluster.addresses[member],
        "TOUCHLINE_LOG": "json",
        "PYTHONPATH": str(CHECKOUT),
        "GRPC_VERBOSITY": "NONE",
    }
    cluster.environment[member] = environment
    return Child(
        name=member,
        argv=(sys.executable, "-m", f"services.{service}"),
        env=environment,
        cwd=CHECKOUT,
        grace=15.0,
        log=cluster.home / "log" / f"{member}.log",
    )


async def _route(cluster: Cluster, name: str, target: str, stack: AsyncExitStack) -> TcpProxy:
    host, _, port = target.rpartition("@")[2].rpartition(":")
    proxy = await stack.enter_async_context(TcpProxy(host, int(port)))
    cluster.routes[name] = proxy
    return proxy


def _through(url: str, proxy: TcpProxy) -> str:
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@{proxy.address}").geturl()


def _starting(child: Child, address: str) -> Start:
    async def begin() -> Process:
        return await start(child, partial(serves, address), within=_STARTS_WITHIN)

    return begin


def _let_all_go_on(cluster: Cluster) -> None:
    """Wake whatever a fault left frozen: it could not end."""
    for member in MEMBERS:
        if member in cluster.members:
            cluster.signal(member, signal.SIGCONT)
    if cluster.disk:
        cluster.disk.free()


def _secrets() -> dict[str, str]:
    names = ("TOUCHLINE_MASTER_KEY", "TOUCHLINE_IDENTITY_SECRET", "TOUCHLINE_WEBHOOK_SECRET")
    return {name: secrets.token_hex(32) for name in names}


def _database(member: str) -> str:
    return f"touchline_{member.partition('-')[0]}"
