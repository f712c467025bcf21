"""The servers that fixtures hand to tests, and what tests may do to them."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from libs.embedded import create_database, database_url_for, nats_server, postgres_server
from libs.embedded.nats_server import NatsServer
from libs.embedded.postgres_server import PostgresServer
from libs.embedded.process import Process

SchemaBuilder = Callable[[str], Awaitable[None]]
"""Fills the empty database of a URL, and leaves no connection open."""

MakeDatabase = Callable[[SchemaBuilder], Awaitable[str]]
"""Makes a database that holds what the builder builds, and returns its URL."""


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
        self.process = await postgres_server.start_server(self.server)


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
        self.process = await nats_server.start_server(self.server)

    async def restart(self) -> None:
        """Ends it in order and starts it again on its data and port."""
        await self.stop()
        await self.start()

    async def wipe(self) -> None:
        """Ends it, loses all its streams, and starts it again on its port."""
        await self.stop()
        nats_server.remove_streams(self.server)
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


async def start_nats(directory: Path) -> OwnNats:
    """Starts a nats-server with JetStream whose data are in a directory."""
    server = NatsServer(
        directory=directory / "nats",
        store_password=secrets.token_hex(8),
        service_password=secrets.token_hex(8),
        log=directory / "nats.log",
    )
    return OwnNats(*await nats_server.start_on_free_port(server))
