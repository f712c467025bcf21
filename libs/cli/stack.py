"""Everything that runs on a laptop: the servers, and the services as supervised children."""

import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

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
from libs.embedded.process import OnLine

CHECKOUT: Final = Path(__file__).resolve().parents[2]
HOME: Final = "TOUCHLINE_HOME"
INGESTION: Final = "127.0.0.1:7410"
PROFILE: Final = "127.0.0.1:7420"
_START_SECONDS: Final = 30.0
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


def home_of(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the installation: TOUCHLINE_HOME, or `.touchline` here."""
    return Path(environment.get(HOME) or ".touchline").absolute()


def free_address() -> str:
    """Return a host:port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


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
    async with contextlib.AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(run_servers(home, on_line, environment))
        secrets = load_secrets(home)
        common = {**environment, "TOUCHLINE_IDENTITY_SECRET": secrets.identity_secret}
        common |= {"PYTHONPATH": str(CHECKOUT), "TOUCHLINE_LOG": "json", "GRPC_VERBOSITY": "NONE"}
        for name, listen, variables in (
            ("ingestion", ingestion, _of_the_store(endpoints, secrets)),
            ("profile", profile, {"TOUCHLINE_NATS_URL": endpoints.nats_service_url}),
        ):
            url = await _database(endpoints, "store" if name == "ingestion" else name)
            variables |= {"TOUCHLINE_DATABASE_URL": url, "TOUCHLINE_LISTEN": listen}
            child = Child(
                name=name,
                argv=(sys.executable, "-m", f"services.{name}"),
                env=common | variables,
                cwd=CHECKOUT,
                grace=_DRAIN_SECONDS,
                log=home / "log" / f"{name}.log",
                on_line=on_line,
            )
            process = await _start(child, listen)
            await stack.enter_async_context(
                supervise(process, lambda c=child, a=listen: _start(c, a))
            )
        addresses = Addresses(ingestion, profile, endpoints.nats_service_url)
        write_run_file(
            home, {"ingestion": ingestion, "profile": profile, "nats": addresses.nats_url}
        )
        yield addresses, endpoints


def _of_the_store(endpoints: Endpoints, secrets: Secrets) -> dict[str, str]:
    # Only ingestion holds the master key and may write the feed.
    return {"TOUCHLINE_NATS_URL": endpoints.nats_url, "TOUCHLINE_MASTER_KEY": secrets.master_key}


async def _database(endpoints: Endpoints, name: str) -> str:
    database = f"touchline_{name}"
    await create_database(endpoints.database_url, database)
    return database_url_for(endpoints.database_url, database)


async def _start(child: Child, address: str) -> Process:
    async def answers() -> bool:
        async with grpc.aio.insecure_channel(address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            try:
                told = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                return False
            return bool(told.status == health_pb2.HealthCheckResponse.SERVING)

    return await start(child, answers, within=_START_SECONDS)
