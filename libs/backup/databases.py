"""Connections to the databases of an installation, and what is there."""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Final

import asyncpg

from libs.backup.errors import BackupError
from libs.backup.tables import SQL
from libs.embedded.databases import database_url_for
from libs.postgres.pool import UNREACHABLE

# A table of millions of rows is read or written in one statement, and a slow disk may hold it up.
PATIENT: Final = MappingProxyType(
    {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
)


@asynccontextmanager
async def connected(
    url: str, settings: Mapping[str, str] = PATIENT
) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection for as long as the block runs."""
    connection = await asyncpg.connect(url, server_settings=dict(settings))
    try:
        yield connection
    finally:
        # In order, since whoever is still connected to a database keeps it from being renamed.
        await connection.close(timeout=5)


@contextmanager
def reading() -> Iterator[None]:
    """Turn what the database driver raises into what it means for a backup.

    Raises:
        BackupError: the database can't be reached, or refuses.
    """
    try:
        yield
    except (TimeoutError, *UNREACHABLE) as error:
        raise BackupError(
            f"The database can't be reached ({type(error).__name__}). Nothing was changed there."
        ) from error
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        raise BackupError(
            "A database lacks a table or column: its schema is older than this release, or it is "
            "another's. Start the services of this release once. Nothing was changed there."
        ) from error
    except asyncpg.PostgresError as error:
        # Without the server's text, which may quote a value.
        raise BackupError(
            f"The database refuses it ({type(error).__name__}): PostgreSQL's log says why. Nothing "
            "was changed there."
        ) from error


async def there(server: asyncpg.Connection, names: Collection[str]) -> list[str]:
    """Return those of some databases that a server has."""
    return [row["datname"] for row in await server.fetch(SQL["databases"], list(names))]


async def present_databases(url: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return the URLs of those of some databases that a server has.

    Args:
        url: Of any database of the server.
        names: The databases' names, by part.

    Raises:
        BackupError: the server can't be reached, or refuses.
    """
    with reading():
        async with connected(url) as server:
            found = await there(server, names.values())
    return {part: database_url_for(url, name) for part, name in names.items() if name in found}


async def refuse_users(server: asyncpg.Connection, names: Collection[str]) -> None:
    """Make sure that nobody is connected to databases.

    Raises:
        BackupError: somebody is.
    """
    if users := await server.fetch(SQL["users_of_databases"], list(names)):
        told = ", ".join(f"{row['name']} uses {row['database']}" for row in users)
        raise BackupError(
            f"The databases are in use: {told}. Stop the services first, all of them: ingestion "
            "would seal events under keys that the restored store lacks. Nothing was changed."
        )


async def head_of(connection: asyncpg.Connection) -> asyncpg.Record:
    """Return where a store stands.

    Raises:
        BackupError: it does not say.
    """
    head = await connection.fetchrow(SQL["head"])
    if head is None:
        raise BackupError("The event store has no head: it is damaged. Run `touchline verify`.")
    return head
