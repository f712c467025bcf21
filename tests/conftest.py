"""Real servers for every test that wants them.

One PostgreSQL per pytest process serves all tests, each in a database of its own; a nats-server
starts so fast that every test gets its own. `own_postgres` is for tests that break PostgreSQL.
All their files are in memory where there is room for them.
"""

import asyncio
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from xdist.scheduler import LoadFileScheduling

from libs.embedded import create_database, database_url_for, drop_database
from libs.embedded import postgres_server as postgres_servers
from libs.embedded.postgres_server import PostgresServer
from tests.servers import (
    MakeDatabase,
    OwnNats,
    OwnPostgres,
    SchemaBuilder,
    SharedPostgres,
    start_nats,
)
from tests.services import Touchline, new_stores, touchline_on

_MEMORY = Path("/dev/shm")
_ROOM = 4 * 2**30
_START_THEIR_OWN = {
    f"tests/e2e/test_{name}.py" for name in ("demo", "real_input", "telemetry", "up")
}


def pytest_configure() -> None:
    """Puts the directories of tests into memory: a disk is the slowest part of a small database."""
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


class _BySharing(LoadFileScheduling):  # type: ignore[misc] # it ships no types
    """Gives files to processes, and all that share the running installation to one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        shares = file.startswith("tests/e2e/") and file not in _START_THEIR_OWN
        return "tests/e2e" if shares else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Divides the tests among processes by what they share, which is mostly their file."""
    return _BySharing(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SharedPostgres]:
    """The PostgreSQL of this pytest process."""
    # Nobody cuts the power of a test.
    quick = {
        "fsync": "off",
        "full_page_writes": "off",
        "shared_buffers": "64MB",
        "max_wal_size": "128MB",
    }
    server = _postgres_in(tmp_path_factory.mktemp("postgres"), quick)
    server, process = await postgres_servers.start_on_free_port(server)
    yield SharedPostgres(server.url)
    await process.stop()
    shutil.rmtree(server.data)


@pytest.fixture
async def database_from_template(servers: SharedPostgres) -> AsyncIterator[MakeDatabase]:
    """Makes a database from an async function that fills one: `url = await …(builder)`.

    The function runs once per pytest process; each call copies what it built (40 ms), and the
    copies go when the test ends.
    """
    made: list[str] = []

    async def make(builder: SchemaBuilder) -> str:
        name = f"test_{secrets.token_hex(6)}"
        await create_database(servers.url, name, await servers.template(builder))
        made.append(name)
        return database_url_for(servers.url, name)

    yield make
    for name in made:
        await drop_database(servers.url, name)


@pytest.fixture
async def postgres_url(database_from_template: MakeDatabase) -> str:
    """The URL of an empty database, for the superuser."""
    return await database_from_template(_leave_empty)


@pytest.fixture(scope="session")
async def made_postgres(tmp_path_factory: pytest.TempPathFactory) -> PostgresServer:
    """Files of an empty PostgreSQL to copy: to make them takes longer than to start on them."""
    server = _postgres_in(tmp_path_factory.mktemp("made_postgres"), {})
    server, process = await postgres_servers.start_on_free_port(server)
    await process.stop()
    return server


@pytest.fixture
async def own_postgres(tmp_path: Path, made_postgres: PostgresServer) -> AsyncIterator[OwnPostgres]:
    """A PostgreSQL that the test may kill."""
    server = replace(_postgres_in(tmp_path, {}), password=made_postgres.password)
    copy = ("cp", "--archive", made_postgres.data, server.data)  # also whom they belong to
    await asyncio.to_thread(subprocess.run, copy, check=True)
    own = OwnPostgres(*await postgres_servers.start_on_free_port(server))
    yield own
    await own.stop()
    shutil.rmtree(own.server.data, ignore_errors=True)  # back ends of a killed one may still end


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[OwnNats]:
    """A nats-server with JetStream that the test may kill, and lose the data of."""
    own = await start_nats(tmp_path)
    yield own
    await own.stop()


@pytest.fixture
async def touchline(servers: SharedPostgres, nats: OwnNats) -> AsyncIterator[Touchline]:
    """Both services with a connected client, empty, for tests that stop or break any of it."""
    stores = await new_stores(servers)
    async with touchline_on(stores, nats) as running:
        yield running
    for url in (stores.events, stores.views):
        await drop_database(servers.url, urlsplit(url).path.lstrip("/"))


async def _leave_empty(_: str) -> None:
    """Builds nothing."""


def _postgres_in(directory: Path, settings: dict[str, str]) -> PostgresServer:
    return PostgresServer(
        data=directory / "postgres",
        password=secrets.token_hex(8),
        log=directory / "postgres.log",
        settings=settings,
    )
