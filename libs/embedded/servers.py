"""Both servers, supervised, on the data of one home."""

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import nats
import nats.errors

from libs.embedded import home as homes
from libs.embedded import nats_server
from libs.embedded import postgres_server as postgres
from libs.embedded.errors import StartFailed, step
from libs.embedded.nats_server import NatsServer
from libs.embedded.postgres_server import PostgresServer
from libs.embedded.process import OnLine
from libs.embedded.supervise import supervise

DATABASE_URL: Final = "TOUCHLINE_DATABASE_URL"
NATS_URL: Final = "TOUCHLINE_NATS_URL"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the servers answer; each URL holds a password.

    Attributes:
        database_url: PostgreSQL's database `postgres`, for a user who may create databases.
        nats_url: NATS for the event store, which may do everything.
        nats_service_url: NATS for the other services, which can't change streams or publish to
            the feed. With an external NATS it is the same as `nats_url`.
    """

    database_url: str = field(repr=False)
    nats_url: str = field(repr=False)
    nats_service_url: str = field(repr=False)


@contextlib.asynccontextmanager
async def run_servers(
    home: Path, on_line: OnLine | None = None, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[Endpoints]:
    """Runs PostgreSQL and nats-server on the data of a home until the context is left.

    What crashes is started again on the same port. Logs go to `log/` in the home.

    Args:
        home: Directory of the installation; made if absent.
        on_line: Called with the server's name and each line of its log.
        environment: `TOUCHLINE_DATABASE_URL` and `TOUCHLINE_NATS_URL` in it name external servers,
            which are then used instead.

    Raises:
        HomeBusy: Another process runs on the home.
        StartFailed: A step failed; nothing is left running.
    """
    with homes.hold(home) as home:
        secrets = homes.load_secrets(home)
        async with contextlib.AsyncExitStack() as stack:
            database = _database(home, secrets, on_line, environment)
            database_url = await stack.enter_async_context(database)
            if nats_url := environment.get(NATS_URL):
                await _check_nats(nats_url)
                yield Endpoints(database_url, nats_url, nats_url)
            else:
                urls = await stack.enter_async_context(_supervised_nats(home, secrets, on_line))
                yield Endpoints(database_url, *urls)


@contextlib.asynccontextmanager
async def run_database(
    home: Path, on_line: OnLine | None = None, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[str]:
    """Runs PostgreSQL alone on the data of a home until the context is left.

    Meanwhile nothing else runs on the home.

    Args:
        home: Directory of the installation, with its secrets.
        on_line: Called with each line of its log.
        environment: As for `run_servers`.

    Yields:
        The URL of its database `postgres`, for a user who may create databases.

    Raises:
        HomeBusy: Another process runs on the home.
        StartFailed: A step failed; nothing is left running.
    """
    with homes.hold(home) as home:
        secrets = homes.load_secrets(home)
        async with _database(home, secrets, on_line, environment) as url:
            yield url


def database_beside(home: Path) -> str | None:
    """Returns the URL of the PostgreSQL that another process runs on a home now, as `run_database`.

    None: it has none there, as when it uses a server of its own, or has not started it yet.

    Raises:
        StartFailed: The secrets can't be read.
    """
    port = postgres.running_port(home / "postgres")
    if port is None:
        return None
    password = homes.load_secrets(home).postgres_password
    return PostgresServer(home / "postgres", password, home / "log" / "postgres.log", port=port).url


def forget_feed(home: Path) -> None:
    """Removes the streams of a home on which no nats-server runs: they are filled again."""
    nats_server.remove_streams_in(home / "nats")


@contextlib.asynccontextmanager
async def _database(
    home: Path, secrets: homes.Secrets, on_line: OnLine | None, environment: Mapping[str, str]
) -> AsyncIterator[str]:
    if url := environment.get(DATABASE_URL):
        await _check_database(url)
        yield url
        return
    async with _supervised_postgres(home, secrets, on_line) as url:
        yield url


@contextlib.asynccontextmanager
async def _supervised_postgres(
    home: Path, secrets: homes.Secrets, on_line: OnLine | None
) -> AsyncIterator[str]:
    server = PostgresServer(
        data=home / "postgres",
        password=secrets.postgres_password,
        log=home / "log" / "postgres.log",
        on_line=on_line,
    )
    with step("start PostgreSQL"):
        server, process = await postgres.start_on_free_port(server)
    start_again = functools.partial(postgres.start_server, server)
    async with supervise(process, start_again):
        yield server.url


@contextlib.asynccontextmanager
async def _supervised_nats(
    home: Path, secrets: homes.Secrets, on_line: OnLine | None
) -> AsyncIterator[tuple[str, str]]:
    server = NatsServer(
        directory=home / "nats",
        store_password=secrets.nats_store_password,
        service_password=secrets.nats_service_password,
        log=home / "log" / "nats.log",
        on_line=on_line,
    )
    with step("start nats-server"):
        server, process = await nats_server.start_on_free_port(server)
    start_again = functools.partial(nats_server.start_server, server)
    async with supervise(process, start_again):
        yield server.url, server.service_url


async def _check_database(url: str) -> None:
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (
        OSError,
        TimeoutError,
        ValueError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        raise _unreachable(DATABASE_URL, url, error) from error
    await connection.close()


async def _check_nats(url: str) -> None:
    try:
        async with asyncio.timeout(10):
            connection = await nats.connect(
                url.split(","),
                allow_reconnect=False,
                max_reconnect_attempts=1,  # it retries the first connection all the same
                reconnect_time_wait=0,
                error_cb=_ignore,
            )
    except (OSError, TimeoutError, ValueError, nats.errors.Error) as error:
        raise _unreachable(NATS_URL, url, error) from error
    await connection.close()


async def _ignore(_: Exception) -> None:
    """Keeps the client from logging what is raised as well."""


def _unreachable(variable: str, url: str, error: Exception) -> StartFailed:
    # Without the user, the password and the message of the error, which may repeat them.
    where = urlsplit(url).netloc.rpartition("@")[2] or "(no host)"
    return StartFailed(
        f"reach the server of {variable} at {where}",
        f"{type(error).__name__}. Start that server, correct {variable}, or unset it to use ours.",
    )
