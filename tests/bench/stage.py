"""Servers and services as `touchline up` runs them, each startable on its own."""

import shutil
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.cli.stack import SERVICES, environment_of
from libs.embedded import (
    Child,
    Endpoints,
    Secrets,
    create_database,
    database_url_for,
    load_secrets,
    run_servers,
    start,
)
from tests.bench.report import CHECKOUT
from tests.ports import free_address

_SERVICES: Final = {service.name: service for service in SERVICES}
DATABASES: Final = {service.name: service.database for service in SERVICES}
"""The services' databases, by the service's name."""

_LINES_KEPT: Final = 40


@dataclass(frozen=True, slots=True)
class Stage:
    """Running servers, fsync on, with two databases of each service: its own, and one to fold into.

    Attributes:
        home: Where everything is kept.
        servers: Where they answer.
        secrets: Those of the services.
        told: The last lines of the services that say more than info.
        profiled: Whether services run under cProfile, which makes them slower.
    """

    home: Path
    servers: Endpoints
    secrets: Secrets
    told: deque[str]
    profiled: bool = False

    def database(self, service: str) -> str:
        """Return the URL of a service's database."""
        return database_url_for(self.servers.database_url, DATABASES[service])

    def folded(self, service: str) -> str:
        """Return the URL of a database to fold a service's projections into."""
        return database_url_for(self.servers.database_url, _folded(service))

    def settings(
        self, service: str, listen: str = "", more: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the environment of a service as `touchline up` gives it, perhaps with more."""
        return environment_of(_SERVICES[service], listen, self.servers, self.secrets, more or {})

    @asynccontextmanager
    async def run(
        self, service: str, more: Mapping[str, str] | None = None, roles: str = ""
    ) -> AsyncIterator[str]:
        """Run a service and tell its address.

        Args:
            service: Its name.
            more: Further settings.
            roles: What the process does of what the service does, parted by commas. Default: all.
        """
        address = free_address()
        name = "-".join([service, *roles.split(",")]) if roles else service
        own = {"TOUCHLINE_WORKER_LISTEN": address, **(more or {})}
        child = Child(
            name=name,
            argv=(
                *(sys.executable, *self._profiler(service), "-m", f"services.{service}"),
                *(("--roles", roles) if roles else ()),
            ),
            env=self.settings(service, address, own),
            cwd=CHECKOUT,
            log=self.home / "log" / f"{name}.log",
            on_line=self._heard,
        )
        process = await start(child, lambda: _serves(address))
        try:
            yield address
        finally:
            await process.stop()

    def _heard(self, name: str, line: str) -> None:
        if '"level":"info"' not in line.replace(" ", ""):
            self.told.append(f"{name}: {line}")

    def _profiler(self, name: str) -> tuple[str, ...]:
        return ("-m", "cProfile", "-o", str(profile_of(name))) if self.profiled else ()


def profile_of(name: str) -> Path:
    """Return the file into which the profile of a service or a fold is written when it ends."""
    return CHECKOUT / "build" / f"bench-{name}.prof"


def _folded(service: str) -> str:
    return f"{DATABASES[service]}_folded"


@asynccontextmanager
async def open_stage(*, profiled: bool = False) -> AsyncIterator[Stage]:
    """Run servers on an empty home on the disk of the checkout, and remove it afterwards.

    When the block fails, what the services said last goes to stderr.
    """
    build = CHECKOUT / "build"
    build.mkdir(exist_ok=True)
    told: deque[str] = deque(maxlen=_LINES_KEPT)
    home = Path(tempfile.mkdtemp(prefix="bench-", dir=build))
    try:
        async with run_servers(home, environment={}) as servers:
            for service, name in DATABASES.items():
                await create_database(servers.database_url, name)
                await create_database(servers.database_url, _folded(service))
            yield Stage(home, servers, load_secrets(home), told, profiled)
    except BaseException:
        sys.stderr.writelines(f"{line}\n" for line in told)
        raise
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _serves(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        try:
            told = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.aio.AioRpcError:
            return False
        return bool(told.status == health_pb2.HealthCheckResponse.SERVING)
