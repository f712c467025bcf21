"""Connections to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

_ANSWER_SECONDS: Final = 60.0
# The server is not there, or went away in the middle: worth trying again.
UNREACHABLE: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection was lost just before it went back to its pool
    asyncpg.TooManyConnectionsError,
)


@asynccontextmanager
async def open_pool(
    url: str,
    *,
    application: str,
    role: str | None = None,
    size: int = 10,
    patience: float = 30.0,
    settings: Mapping[str, str] | None = None,
    setup: Callable[[asyncpg.pool.PoolConnectionProxy], Coroutine[Any, Any, None]] | None = None,
) -> AsyncIterator[asyncpg.Pool]:
    """Opens a pool whose connections act as `role`, and closes it at the end.

    Args:
        url: A postgresql:// URL with the database.
        application: Shown in pg_stat_activity.
        role: The role whose rights the connections have. Default: the login's.
        size: How many connections at most.
        patience: For how many seconds to wait for a server that is still starting.
        settings: Further settings of each session, such as synchronous_commit.
        setup: Called with a connection each time before it is used.

    Raises:
        OSError, asyncpg.PostgresError: the server can't be reached in that time.
    """
    server_settings = {"application_name": application, **(settings or {})}
    if role is not None:
        server_settings["role"] = role
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=size,
                server_settings=server_settings,
                # A server that is frozen answers as little as one that is gone.
                command_timeout=_ANSWER_SECONDS,
                setup=setup,
                # Nothing of ours leaves anything in a session, and to reset it all the same costs
                # a round trip each time a connection is used.
                reset=_leave_as_it_is,
            )
            break
        except UNREACHABLE:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except (TimeoutError, *UNREACHABLE):
            pool.terminate()


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """Reset nothing."""
