"""Everything that runs on a laptop: the servers, and the services as supervised children."""

import contextlib
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from libs.cli.ports import ensure_free
from libs.cli.starting import Starting
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
    supervise_all,
    write_run_file,
)
from libs.embedded.home import is_held
from libs.embedded.process import OnLine
from libs.embedded.servers import DATABASE_URL, NATS_URL

CHECKOUT: Final = Path(__file__).resolve().parents[2]
HOME: Final = "TOUCHLINE_HOME"
_IDENTITY_SECRET: Final = "TOUCHLINE_IDENTITY_SECRET"  # noqa: S105 - its name, not its value
_MASTER_KEY: Final = "TOUCHLINE_MASTER_KEY"
_WEBHOOK_SECRET: Final = "TOUCHLINE_WEBHOOK_SECRET"  # noqa: S105 - its name, not its value
SMTP_URL: Final = "TOUCHLINE_SMTP_URL"
_START_SECONDS: Final = 30.0
# Above the 10 s that a service gives the calls under way.
_DRAIN_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Service:
    """A service as a laptop runs it.

    Attributes:
        name: Its name, and that of its package below `services`.
        database: Its own database.
        listen: host:port of gRPC, unless said otherwise.
        variable: The environment variable that says otherwise.
        alone: The variables that only it is told.
    """

    name: str
    database: str
    listen: str
    variable: str
    alone: frozenset[str] = frozenset()


SERVICES: Final = (
    Service(
        "ingestion",
        "touchline_store",
        "127.0.0.1:7410",
        "TOUCHLINE_INGESTION",
        frozenset({_MASTER_KEY}),
    ),
    Service("profile", "touchline_profile", "127.0.0.1:7420", "TOUCHLINE_PROFILE"),
    Service("engagement", "touchline_engagement", "127.0.0.1:7430", "TOUCHLINE_ENGAGEMENT"),
    Service(
        "notification",
        "touchline_notification",
        "127.0.0.1:7440",
        "TOUCHLINE_NOTIFICATION",
        frozenset({SMTP_URL, "TOUCHLINE_MAIL_FROM", _WEBHOOK_SECRET, "TOUCHLINE_WEBHOOK_PRIVATE"}),
    ),
)
"""All services. The first owns the store, which the others use: it stops last."""

DEFAULTS: Final = {service.name: service.listen for service in SERVICES}
"""The services' host:port, by name."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the running services answer.

    Attributes:
        services: host:port of gRPC, by the service's name.
        nats_url: Of the user that may follow the feed; holds a password.
    """

    services: Mapping[str, str]
    nats_url: str = field(default="", repr=False)


def home_of(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the installation: TOUCHLINE_HOME, or `.touchline` here."""
    return Path(environment.get(HOME) or ".touchline").absolute()


# Linux gives out those from 32768 on.
_OUR_PORTS: Final = range(20_000, 32_000)


def free_addresses() -> dict[str, str]:
    """Return a host:port of this machine for each service, by its name, on which nobody listens.

    The ports are none that the system gives out by itself, so that nobody gets them before they are
    used.
    """
    free = filter(_is_free, random.sample(_OUR_PORTS, len(_OUR_PORTS)))
    return {service.name: f"127.0.0.1:{next(free)}" for service in SERVICES}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def without_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment in which every setting of Touchline has its default."""
    ours = "TOUCHLINE_"
    return {name: value for name, value in environment.items() if not name.startswith(ours)}


@contextlib.asynccontextmanager
async def run_stack(
    home: Path,
    on_line: OnLine,
    listen: Mapping[str, str] = DEFAULTS,
    environment: Mapping[str, str] = os.environ,
    on_building: OnLine = lambda _, __: None,
) -> AsyncIterator[tuple[Addresses, Endpoints]]:
    """Run servers and services until the block ends; what crashes is started again.

    They end in the opposite order: the services drain while their servers still answer, those that
    use the store before the one that owns it.

    Args:
        home: Directory of the installation.
        on_line: Called with a name and each line that a server or service logs.
        listen: host:port for each service, by its name.
        environment: What the services inherit.
        on_building: Called with the name of a service that builds views before it answers, and how
            far these are; with an empty text once it answers.

    Raises:
        HomeBusy: Another process runs on the home.
        StartFailed: A server or service does not start; the message has its last lines.
    """
    if not is_held(home):  # otherwise it is no news that the ports are taken
        for service in SERVICES:
            ensure_free(listen[service.name], service.variable)
    async with contextlib.AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(run_servers(home, on_line, environment))
        secrets = load_secrets(home)
        for service in SERVICES:
            await create_database(endpoints.database_url, service.database)
        owner, *users = [
            partial(
                _start,
                service.variable,
                listen[service.name],
                Child(
                    name=service.name,
                    argv=(sys.executable, "-m", f"services.{service.name}"),
                    env=environment_of(
                        service, listen[service.name], endpoints, secrets, environment
                    ),
                    cwd=CHECKOUT,
                    grace=_DRAIN_SECONDS,
                    log=home / "log" / f"{service.name}.log",
                    on_line=on_line,
                ),
                on_building,
            )
            for service in SERVICES
        ]
        await stack.enter_async_context(supervise_all([owner], users))
        nats_url = endpoints.nats_service_url
        write_run_file(home, {**listen, "nats": nats_url})
        yield Addresses(listen, nats_url), endpoints


def environment_of(
    service: Service,
    listen: str,
    endpoints: Endpoints,
    secrets: Secrets,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """Return what a service is told: what it inherits, but not what another alone may know.

    Args:
        service: The service.
        listen: host:port of its gRPC.
        endpoints: The servers that it uses.
        secrets: Those of the home.
        inherited: What all would be told; what the home or the servers say goes before it.
    """
    others = frozenset[str]().union(*(one.alone for one in SERVICES if one is not service))
    owns_store = service is SERVICES[0]
    told = {
        **inherited,
        DATABASE_URL: database_url_for(endpoints.database_url, service.database),
        # Only the store's owner may write the feed.
        NATS_URL: endpoints.nats_url if owns_store else endpoints.nats_service_url,
        "TOUCHLINE_LISTEN": listen,
        _IDENTITY_SECRET: secrets.identity_secret,
        _MASTER_KEY: secrets.master_key,
        _WEBHOOK_SECRET: secrets.webhook_secret,
        "PYTHONPATH": str(CHECKOUT),
        "TOUCHLINE_LOG": "json",  # for the log files; a terminal gets each line made readable
        "GRPC_VERBOSITY": "NONE",
    }
    return {name: value for name, value in told.items() if name not in others}


async def _start(variable: str, listen: str, child: Child, on_building: OnLine) -> Process:
    # Again, since a crashed one may have lost its port meanwhile.
    ensure_free(listen, variable)
    starting = Starting(child.name, listen, on_building)
    return await start(child, starting.answers, _START_SECONDS, lambda: starting.prepares)
