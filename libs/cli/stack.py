"""Everything that runs on a laptop: the servers, and the services as supervised children."""

import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.cli.ports import ensure_free
from libs.embedded import (
    Child,
    Endpoints,
    Process,
    Secrets,
    create_database,
    database_url_for,
    load_secrets,
    run_servers,
    start,
    supervise,
    write_run_file,
)
from libs.embedded.home import is_held
from libs.embedded.process import OnLine
from libs.embedded.servers import DATABASE_URL, NATS_URL

CHECKOUT: Final = Path(__file__).resolve().parents[2]
HOME: Final = "TOUCHLINE_HOME"
INGESTION: Final = "127.0.0.1:7410"
INGESTION_VARIABLE: Final = "TOUCHLINE_INGESTION"
PROFILE: Final = "127.0.0.1:7420"
PROFILE_VARIABLE: Final = "TOUCHLINE_PROFILE"
_IDENTITY_SECRET: Final = "TOUCHLINE_IDENTITY_SECRET"  # noqa: S105 - its name, not its value
_MASTER_KEY: Final = "TOUCHLINE_MASTER_KEY"
_START_SECONDS: Final = 30.0
# Above the 10 s that a service gives the calls under way.
_DRAIN_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the running services answer.

    Attributes:
        ingestion: host:port of gRPC.
        profile: host:port of gRPC.
        nats_url: Of the user that may follow the feed; holds a password.
    """

    ingestion: str = INGESTION
    profile: str = PROFILE
    nats_url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class _Service:
    """A service to run: its name, its database, where it listens, and what only it is told."""

    name: str
    database: str
    listen: str
    listen_variable: str
    variables: Mapping[str, str] = field(repr=False)


def home_of(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the installation: TOUCHLINE_HOME, or `.touchline` here."""
    return Path(environment.get(HOME) or ".touchline").absolute()


def free_address() -> str:
    """Return a host:port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def without_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which every setting of Touchline has its default."""
    ours = "TOUCHLINE_"
    return {name: value for name, value in environment.items() if not name.startswith(ours)}


@contextlib.asynccontextmanager
async def run_stack(
    home: Path,
    on_line: OnLine,
    *,
    ingestion: str = INGESTION,
    profile: str = PROFILE,
    environment: Mapping[str, str] = os.environ,
) -> AsyncIterator[tuple[Addresses, Endpoints]]:
    """Run servers and services until the block ends; what crashes is started again.

    They end in the opposite order: the services drain while their servers still answer.

    Args:
        home: Directory of the installation.
        on_line: Called with a name and each line that a server or service logs.
        ingestion: host:port for the ingestion service.
        profile: host:port for the profile service.
        environment: What the services inherit.

    Raises:
        HomeBusy: Another process runs on the home.
        StartFailed: A server or service does not start; the message has its last lines.
    """
    if not is_held(home):  # otherwise it is no news that the ports are taken
        ensure_free(ingestion, INGESTION_VARIABLE)
        ensure_free(profile, PROFILE_VARIABLE)
    async with contextlib.AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(run_servers(home, on_line, environment))
        secrets = load_secrets(home)
        common = _common(environment, secrets)
        for service in _services(endpoints, secrets, ingestion, profile):
            database_url = database_url_for(endpoints.database_url, service.database)
            await create_database(endpoints.database_url, service.database)
            own = {DATABASE_URL: database_url, "TOUCHLINE_LISTEN": service.listen}
            child = Child(
                name=service.name,
                argv=(sys.executable, "-m", f"services.{service.name}"),
                env={**common, **own, **service.variables},
                cwd=CHECKOUT,
                grace=_DRAIN_SECONDS,
                log=home / "log" / f"{service.name}.log",
                on_line=on_line,
            )
            start_it = partial(_start, child, service)
            await stack.enter_async_context(supervise(await start_it(), start_it))
        nats_url = endpoints.nats_service_url
        write_run_file(home, {"ingestion": ingestion, "profile": profile, "nats": nats_url})
        yield Addresses(ingestion, profile, nats_url), endpoints


def _services(
    endpoints: Endpoints, secrets: Secrets, ingestion: str, profile: str
) -> tuple[_Service, ...]:
    # Only ingestion holds the master key and may write the feed.
    owner = {NATS_URL: endpoints.nats_url, _MASTER_KEY: secrets.master_key}
    reader = {NATS_URL: endpoints.nats_service_url}
    return (
        _Service("ingestion", "touchline_store", ingestion, INGESTION_VARIABLE, owner),
        _Service("profile", "touchline_profile", profile, PROFILE_VARIABLE, reader),
    )


def _common(environment: Mapping[str, str], secrets: Secrets) -> dict[str, str]:
    inherited = {name: value for name, value in environment.items() if name != _MASTER_KEY}
    return inherited | {
        _IDENTITY_SECRET: secrets.identity_secret,
        "PYTHONPATH": str(CHECKOUT),
        "TOUCHLINE_LOG": "json",  # for the log files; a terminal gets each line made readable
        "GRPC_VERBOSITY": "NONE",
    }


async def _start(child: Child, service: _Service) -> Process:
    # Again, since a crashed one may have lost its port meanwhile.
    ensure_free(service.listen, service.listen_variable)

    async def answers() -> bool:
        async with grpc.aio.insecure_channel(service.listen) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            try:
                told = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                return False
            return bool(told.status == health_pb2.HealthCheckResponse.SERVING)

    return await start(child, answers, within=_START_SECONDS)
