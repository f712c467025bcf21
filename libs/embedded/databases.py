"""Databases of a PostgreSQL server: their URLs, and making them."""

import contextlib
from urllib.parse import quote, urlsplit

import asyncpg


def database_url_for(admin_url: str, name: str) -> str:
    """Returns the URL of another database of the same server, with the same user."""
    return urlsplit(admin_url)._replace(path="/" + quote(name, safe="")).geturl()


async def create_database(admin_url: str, name: str, template: str | None = None) -> None:
    """Creates a database if there is none of that name.

    Args:
        admin_url: URL of any database of the server, for a user who may create others.
        name: Any text of up to 63 bytes.
        template: The database to copy, which nobody may use meanwhile; None: an empty one.
    """
    connection = await asyncpg.connect(admin_url)
    try:
        exists = "SELECT 1 FROM pg_database WHERE datname = $1"
        if await connection.fetchval(exists, name) is None:
            # To copy the files takes a tenth of writing each page of the copy to the log.
            source = f" TEMPLATE {_quoted(template)} STRATEGY FILE_COPY" if template else ""
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute(f"CREATE DATABASE {_quoted(name)}{source}")
    finally:
        await connection.close()


async def drop_database(admin_url: str, name: str) -> None:
    """Drops a database if it exists, and disconnects whoever uses it."""
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")
    finally:
        await connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
