"""A TCP proxy that a test rules: it cuts, swallows, freezes and refuses connections.

async with TcpProxy("127.0.0.1", port) as proxy:
    ... connect to proxy.address ...
    proxy.cut()

async with proxied(postgres_url) as (proxy, url):
    ... connect to url ...
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

_READ_BYTES: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: close() sends RST, and what was not sent yet is lost."""


class TcpProxy:
    """Passes bytes between its clients and one server until it is told otherwise.

    What it is told holds for all connections together, also for those that come later. Bytes are
    counted from when it is told: HTTP/2 and NATS also send pings and the like, so a number of bytes
    is a place within a request only when the request is large.

    Args:
        target_host: Where the server listens.
        target_port: Where the server listens.

    Attributes:
        host: Where it listens itself.
        port: Where it listens itself, a free port.
        cuts: How often connections were cut.
        swallowed: Bytes of the server that no client got since `swallow`.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.cuts = 0
        self.swallowed = 0
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._was_cut = asyncio.Event()
        self._refuses = False
        self._swallows = False
        self._left: dict[bool, int | None] = {True: None, False: None}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._close_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many clients are connected through it now."""
        return len(self._writers) // 2

    def cut(self) -> int:
        """Resets all connections at once, on both sides, and returns how many there were.

        Ends what `swallow` and `cut_after` began; clients that connect again pass.
        """
        cut = self.connections
        self.cuts += 1
        self._swallows = False
        self._left = {True: None, False: None}
        self._close_all()
        self._was_cut.set()
        return cut

    def cut_after(self, *, sent: int | None = None, received: int | None = None) -> None:
        """Cuts all connections once so many more bytes have passed; the last of them still pass.

        Args:
            sent: Bytes from clients to the server. Default: any number.
            received: Bytes from the server to clients. Default: any number.
        """
        self._was_cut.clear()
        self._left = {True: sent, False: received}

    async def until_cut(self) -> None:
        """Returns once the cut that `cut_after` asked for has happened."""
        await self._was_cut.wait()

    def swallow(self) -> None:
        """Lets nothing of the server's through from now on, while clients' requests still pass.

        `cut` ends it: the server has done its work then, and no client ever heard.
        """
        self.swallowed = 0
        self._swallows = True

    def freeze(self) -> None:
        """Lets nothing through in either direction until `resume`; connections stay."""
        self._flows.clear()

    def resume(self) -> None:
        """Lets everything through again, what waited too."""
        self._flows.set()

    def refuse(self) -> None:
        """Resets new connections from now on; those that are there stay."""
        self._refuses = True

    def accept(self) -> None:
        """Takes new connections again."""
        self._refuses = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._refuses:
            _reset(writer)
            return
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        pair = {writer, there_writer}
        self._writers |= pair
        try:
            await asyncio.gather(
                self._pump(reader, there_writer, upstream=True),
                self._pump(there_reader, writer, upstream=False),
            )
        except (OSError, asyncio.CancelledError):
            pass  # one side reset, or the proxy ends: the other one is reset too
        finally:
            self._writers -= pair
            for each in pair:
                _reset(each)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upstream: bool
    ) -> None:
        while data := await reader.read(_READ_BYTES):
            await self._flows.wait()
            if self._swallows and not upstream:
                self.swallowed += len(data)
                continue
            left = self._left[upstream]
            if left is not None:
                data = data[:left]
                self._left[upstream] = left - len(data)
            writer.write(data)
            await writer.drain()
            if left is not None and len(data) == left:
                self.cut()
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    def _close_all(self) -> None:
        for writer in self._writers:
            _reset(writer)


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[TcpProxy, str]]:
    """Gives a proxy in front of a server, such as PostgreSQL or NATS, and the URL through it."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError("the URL names no host and port")
    async with TcpProxy(parts.hostname, parts.port) as proxy:
        login, at, _ = parts.netloc.rpartition("@")
        yield proxy, urlunsplit(parts._replace(netloc=f"{login}{at}{proxy.address}"))


def _reset(writer: asyncio.StreamWriter) -> None:
    taken = writer.get_extra_info("socket")
    if taken is not None and not writer.is_closing():
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
