"""Numbered SQL files, each run once, in order, in a transaction of its own."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import structlog

from libs.postgres.ownership import OWNER, Contents, contents_of, refusal
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries

_LOCK: Final = 7_410_001  # any number, the same for every process that migrates
_LOCK_SECONDS: Final = 0.1
_TELL_SECONDS: Final = 5.0
# The server ends a process that is frozen between two migrations, and with it its lock.
_SESSION: Final = {
    "idle_session_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
}
# Waiting does not help against these.
_REFUSED: Final = (
    asyncpg.ClientConfigurationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("migrations")


class MigrationError(Exception):
    """The database can't be used, or does not fit the code; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file, such as `0001_events.sql`, of a component."""

    component: str
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of the file's text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(component: str, directory: Path) -> list[Migration]:
    """Returns the migrations of a directory in the order of their numbers."""
    return [
        Migration(component, int(file.name.split("_")[0]), file.stem, file.read_text())
        for file in sorted(directory.glob("[0-9]*.sql"))
    ]


async def migrate_service(
    url: str, service: str, components: Mapping[str, Path], *, patience: float = 30.0
) -> list[str]:
    """Brings a service's database up to date, one process at a time, and names what it ran.

    Whatever is wrong is found before anything is changed. A process that has nothing to run waits
    for nobody.

    Args:
        url: A postgresql:// URL with the database.
        service: Whose database it is, such as `profile`: an empty one becomes its own.
        components: The directories of migrations by component, in the order in which they run.
        patience: For how many seconds to wait for a server that is still starting.

    Raises:
        MigrationError: the database can't be used or is another's, a migration was edited after it
            ran, the schema is newer than this code, or a migration fails; it is then rolled back
            whole.
    """
    known = [one for name in components for one in read_migrations(name, components[name])]
    async with _connection(url, service, patience) as connection:

        async def pending() -> tuple[Contents, list[Migration]]:
            found = await contents_of(connection)
            if (why := refusal(found, service, components)) is not None:
                raise MigrationError(_not_ours(url, service, why))
            return found, _pending(found, known)

        found, left = await pending()
        if found.owner == service and not left:
            return []
        await _lock(connection, service)
        _, left = await pending()  # another process may have been at work
        await connection.execute(_SQL["make_migrations_table"])
        await connection.execute(_SQL["own"], OWNER, service)
        return [await _run(connection, migration) for migration in left]


async def migrate(
    url: str,
    component: str,
    directory: Path,
    *,
    patience: float = 30.0,
    up_to: int | None = None,
) -> list[str]:
    """Brings one component's tables up to date in whosever database, as `migrate_service` does.

    With `up_to` it runs no migration of a higher number: a backup is restored into the tables it
    was taken from.
    """
    known = read_migrations(component, directory)
    if up_to is not None:
        known = [one for one in known if one.number <= up_to]
    async with _connection(url, component, patience) as connection:
        await _lock(connection, component)
        await connection.execute(_SQL["make_migrations_table"])
        left = _pending(await contents_of(connection), known)
        return [await _run(connection, migration) for migration in left]


@asynccontextmanager
async def _connection(url: str, name: str, patience: float) -> AsyncIterator[asyncpg.Connection]:
    connection = await _connect(url, name, patience)
    try:
        yield connection
    finally:
        await connection.close()


async def _connect(url: str, name: str, patience: float) -> asyncpg.Connection:
    end = time.monotonic() + patience
    settings = {"application_name": f"{name} migrations", **_SESSION}
    while True:
        try:
            return await asyncpg.connect(url, server_settings=settings)
        except (*_REFUSED, *UNREACHABLE) as error:
            if isinstance(error, _REFUSED) or time.monotonic() > end:
                # Without the driver's text, which may repeat the user and the password.
                raise MigrationError(
                    f"the database of {name} on {_host(url)} can't be used "
                    f"({type(error).__name__}). Start it, or correct TOUCHLINE_DATABASE_URL."
                ) from error
        await asyncio.sleep(0.2)


async def _lock(connection: asyncpg.Connection, name: str) -> None:
    """Waits until no other process migrates this database, and says whom it waits for."""
    told = time.monotonic()
    while not await connection.fetchval(_SQL["try_lock"], _LOCK):
        if time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            for holder in await connection.fetch(_SQL["lock_holder"], _LOCK):
                _log.warning("waits for another process that migrates", of=name, **holder)
        await asyncio.sleep(_LOCK_SECONDS)


def _pending(found: Contents, known: list[Migration]) -> list[Migration]:
    applied = {(row["component"], row["number"]): row for row in found.applied}
    ours = {one.component for one in known}
    numbers = {(one.component, one.number) for one in known}
    newer = [one for one in sorted(applied) if one[0] in ours and one not in numbers]
    if newer:
        raise MigrationError(
            f"the schema of {newer[-1][0]} has migration {applied[newer[-1]]['name']}, which this "
            "code does not know: it is newer than the code. Run the newer release; nothing was "
            "changed."
        )
    for migration in known:
        row = applied.get((migration.component, migration.number))
        if row is not None and row["checksum"] != migration.checksum:
            raise MigrationError(
                f"migration {migration.name} of {migration.component} was edited after it ran. "
                "Restore the file, and put the change into a new migration; nothing was changed."
            )
    return [one for one in known if (one.component, one.number) not in applied]


async def _run(connection: asyncpg.Connection, migration: Migration) -> str:
    values = (migration.component, migration.number, migration.name, migration.checksum)
    told = ", ".join("'" + str(value).replace("'", "''") + "'" for value in values)
    note = f"INSERT INTO schema_migrations (component, number, name, checksum) VALUES ({told})"  # noqa: S608 - our own files
    try:
        # One message, which PostgreSQL runs as one transaction: a process that freezes keeps no
        # lock on a table that others write.
        await connection.execute(f"{migration.sql};\n{note}")
    except asyncpg.PostgresError as error:
        raise MigrationError(
            # Without the detail, which may quote a row.
            f"migration {migration.name} of {migration.component} failed and was rolled back: "
            f"{error.args[0]}"
        ) from error
    return migration.name


def _not_ours(url: str, service: str, why: str) -> str:
    database = urlsplit(url).path.lstrip("/") or "(none)"
    return (
        f"the database {database} on {_host(url)} is not one of the {service} service: {why}. "
        "Nothing was changed. Correct TOUCHLINE_DATABASE_URL, or give it an empty database: "
        f"CREATE DATABASE touchline_{'store' if service == 'ingestion' else service}"
    )


def _host(url: str) -> str:
    """Returns host:port of a URL, without the user and the password."""
    return urlsplit(url).netloc.rpartition("@")[2] or "(no host)"
