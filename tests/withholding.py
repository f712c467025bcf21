"""A way to PostgreSQL on which a client seems to freeze between a statement and its end.

A statement's lock is kept until the client's Sync message arrives. A client that is stopped, or cut
off, after PostgreSQL got the statement and before it got these last five bytes keeps its locks.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

_BIND, _SYNC = b"B", b"S"
_PROTOCOL_3: Final = 196608
_LARGE: Final = 1024


@dataclass(slots=True)
class Withholding:
    """The way, as a test rules it.

    Attributes:
        url: The database's URL by this way.
        active: Whether the end of the next statement with large arguments is kept back.
        withheld: Set when one was.
    """

    url: str
    active: bool = False
    withheld: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def withholding(url: str) -> AsyncIterator[Withholding]:
    """Listens in front of a database until the block ends."""
    parts = urlsplit(url)
    target = (parts.hostname or "", parts.port or 0)
    ways: set[asyncio.Task[None]] = set()
    way = Withholding(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, mine = await asyncio.open_connection(*target)
        for task in (
            asyncio.create_task(_forward(reader, mine, way)),
            asyncio.create_task(_backward(theirs, writer)),
        ):
            ways.add(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    login = parts.netloc.rpartition("@")[0]
    port = server.sockets[0].getsockname()[1]
    way.url = parts._replace(netloc=f"{login}@127.0.0.1:{port}").geturl()
    try:
        yield way
    finally:
        server.close()
        for task in ways:
            task.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Withholding
) -> None:
    """Hand on a client's messages, one by one, until one is withheld."""
    started = False
    large = False
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            kind = await reader.readexactly(1) if started else b""
            size = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(size, "big") - 4)
            if not started:
                started = int.from_bytes(body[:4], "big") == _PROTOCOL_3
            large = len(body) > _LARGE if kind == _BIND else large
            if kind == _SYNC and large and way.active:
                way.active = False
                way.withheld.set()
                await asyncio.Event().wait()
            writer.write(kind + size + body)
            await writer.drain()
    writer.close()


async def _backward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
