"""Real servers for every test that wants them.

One PostgreSQL per pytest process serves all tests, each in a database of its own; a nats-server
starts so fast that every test gets its own. `own_postgres` is for tests that break PostgreSQL.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from libs.embedded import create_database, database_url_for, drop_database
from libs.embedded import nats_server as nats_
from libs.embedded import postgres_server as postgres_
from libs.embedded.nats_server import NatsServer
from libs.embedded.postgres_server import PostgresServer
from libs.embedded.process import Process

SchemaBuilder = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class OwnPostgres:
    """A PostgreSQL that one test has for itself, with the durable settings of a real one."""

    server: PostgresServer
    process: Process

    @property
    def url(self) -> str:
        """The URL of its database `postgres`, the same after each start."""
        return self.server.url

    async def kill(self) -> None:
        """Ends it with SIGKILL, without a warning to anybody."""
        await self.process.kill()

    async def stop(self) -> None:
        """Ends it in order."""
        await self.process.stop()

    async def start(self) -> None:
        """Starts it again on its data and port, and returns once it answers."""
        self.process = await postgres_.start_server(self.server)


@dataclass(slots=True)
class OwnNats:
    """A nats-server that one test has for itself."""

    server: NatsServer
    process: Process

    @property
    def url(self) -> str:
        """The URL for the user `store`, the same after each start."""
        return self.server.url

    @property
    def service_url(self) -> str:
        """The URL for the user `service`, the same after each start."""
        return self.server.service_url

    async def kill(self) -> None:
        """Ends it with SIGKILL, without a warning to anybody."""
        await self.process.kill()

    async def stop(self) -> None:
        """Ends it in order."""
        await self.process.stop()

    async def start(self) -> None:
        """Starts it again on its data and port, and returns once it answers."""
        self.process = await nats_.start_server(self.server)

    async def restart(self) -> None:
        """Ends it in order and starts it again on its data and port."""
        await self.stop()
        await self.start()

    async def wipe(self) -> None:
        """Ends it, loses all its streams, and starts it again on its port."""
        await self.stop()
        nats_.remove_streams(self.server)
        await self.start()


@dataclass(slots=True)
class SharedPostgres:
    """The PostgreSQL that the tests of one pytest process share."""

    url: str
    templates: dict[SchemaBuilder, str] = field(default_factory=dict)

    async def template(self, builder: SchemaBuilder) -> str:
        """Returns the name of a database that the builder filled, once per pytest process."""
        if builder not in self.templates:
            name = f"template_{secrets.token_hex(6)}"
            await create_database(self.url, name)
            await builder(database_url_for(self.url, name))
            self.templates[builder] = name
        return self.templates[builder]


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SharedPostgres]:
    directory = tmp_path_factory.mktemp("postgres")
    # Nobody cuts the power of a test: without fsync the many small databases cost a third.
    quick = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
    server, process = await postgres_.start_on_free_port(_postgres_in(directory, quick))
    try:
        yield SharedPostgres(server.url)
    finally:
        await process.stop()


@pytest.fixture
async def database_from_template(
    servers: SharedPostgres,
) -> AsyncIterator[Callable[[SchemaBuilder], Awaitable[str]]]:
    """Makes databases from a builder, an async function of a URL: `await …(builder)` -> URL.

    The builder runs once per pytest process and must leave no connection open; each call copies
    what it built (40 ms), and the copies go when the test ends.
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
async def postgres_url(
    database_from_template: Callable[[SchemaBuilder], Awaitable[str]],
) -> str:
    """The URL of an empty database, for the superuser."""
    return await database_from_template(_leave_empty)


@pytest.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[OwnPostgres]:
    """A PostgreSQL that the test may kill."""
    own = OwnPostgres(*await postgres_.start_on_free_port(_postgres_in(tmp_path, {})))
    yield own
    await own.stop()


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[OwnNats]:
    """A nats-server with JetStream that the test may kill, and lose the data of."""
    server = NatsServer(
        directory=tmp_path / "nats",
        store_password=secrets.token_hex(8),
        service_password=secrets.token_hex(8),
        log=tmp_path / "nats.log",
    )
    own = OwnNats(*await nats_.start_on_free_port(server))
    yield own
    await own.stop()


async def _leave_empty(_: str) -> None:
    """Builds nothing."""


def _postgres_in(directory: Path, settings: dict[str, str]) -> PostgresServer:
    return PostgresServer(
        data=directory / "postgres",
        password=secrets.token_hex(8),
        log=directory / "postgres.log",
        settings=settings,
    )
