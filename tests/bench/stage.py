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

from libs.cli.stack import free_address
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

STORE: Final = "touchline_store"
PROFILE: Final = "touchline_profile"
FOLDED: Final = "touchline_folded"
_LINES_KEPT: Final = 40


@dataclass(frozen=True, slots=True)
class Stage:
    """Running servers, fsync on, with the databases of both services and one more to fold into.

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

    def database(self, name: str) -> str:
        """Return the URL of one of its databases."""
        return database_url_for(self.servers.database_url, name)

    @asynccontextmanager
    async def ingestion(self, more: Mapping[str, str] | None = None) -> AsyncIterator[str]:
        """Run the ingestion service, perhaps with more settings, and tell its address."""
        settings = {
            "TOUCHLINE_MASTER_KEY": self.secrets.master_key,
            "TOUCHLINE_NATS_URL": self.servers.nats_url,
            "TOUCHLINE_DATABASE_URL": self.database(STORE),
            **(more or {}),
        }
        async with self._service("ingestion", settings) as address:
            yield address

    @asynccontextmanager
    async def profile(self) -> AsyncIterator[str]:
        """Run the profile service, and tell its address."""
        settings = {
            "TOUCHLINE_NATS_URL": self.servers.nats_service_url,
            "TOUCHLINE_DATABASE_URL": self.database(PROFILE),
        }
        async with self._service("profile", settings) as address:
            yield address

    @asynccontextmanager
    async def _service(self, name: str, settings: dict[str, str]) -> AsyncIterator[str]:
        address = free_address()
        common = {
            "PYTHONPATH": str(CHECKOUT),
            "TOUCHLINE_IDENTITY_SECRET": self.secrets.identity_secret,
            "TOUCHLINE_LISTEN": address,
            "TOUCHLINE_LOG": "json",
        }
        child = Child(
            name=name,
            argv=(sys.executable, *self._profiler(name), "-m", f"services.{name}"),
            env=common | settings,
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


def profile_of(service: str) -> Path:
    """Return the file into which a service's profile is written when it ends."""
    return CHECKOUT / "build" / f"bench-{service}.prof"


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
            for name in (STORE, PROFILE, FOLDED):
                await create_database(servers.database_url, name)
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
