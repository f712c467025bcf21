"""A connection to NATS that outlives the server's restarts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import nats
import nats.errors
import structlog
from nats.aio.client import Client as NatsClient

_RECONNECT_SECONDS: Final = 0.5
_PENDING_BYTES: Final = 8 * 1024 * 1024
_log = structlog.get_logger("nats")


@asynccontextmanager
async def connect_nats(url: str, name: str) -> AsyncIterator[NatsClient]:
    """Connect to NATS, wait for a server that is still starting, and drain at the end.

    Args:
        url: nats://user:password@host:port, several separated by commas.
        name: Names the connection in the server's monitoring.
    """
    closing = False

    async def disconnected() -> None:
        if not closing:
            _log.warning("NATS is gone; trying again until it is back")

    async def reconnected() -> None:
        _log.info("NATS is back")

    waiting = False

    async def failed(error: Exception) -> None:
        nonlocal waiting
        if not waiting:
            waiting = True
            _log.warning("NATS can't be reached; trying until it is", error=type(error).__name__)
        else:
            _log.debug("NATS client error", error=type(error).__name__)

    connection = await nats.connect(
        servers=url.split(","),
        name=name,
        max_reconnect_attempts=-1,
        reconnect_time_wait=_RECONNECT_SECONDS,
        ping_interval=5,
        max_outstanding_pings=2,
        pending_size=_PENDING_BYTES,
        disconnected_cb=disconnected,
        reconnected_cb=reconnected,
        error_cb=failed,
    )
    waiting = True  # from now on a loss is told by `disconnected`
    try:
        yield connection
    finally:
        closing = True
        with suppress(nats.errors.Error, OSError, TimeoutError):
            if connection.is_connected:
                await connection.drain()
            else:
                await connection.close()
