"""Numbered SQL files, each run once, in order, in a transaction of its own.

`0009_x.sql` runs before its release's code, which the release before may outlive: it only adds.
`0010_y.after.sql` takes away what that one needed, and runs once no process of it is left. A
component has one numbering for both. What runs before must not rely on what runs after having run,
nor on its not having run: whoever skips releases has it later.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import asyncpg
import structlog

from libs.postgres.ownership import OWNER, Contents, contents_of, refusal
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries

Phase = Literal["before", "after"]
"""When a migration runs, as seen from its release's code."""

_AFTER: Final = ".after"
_LOCK: Final = 7_410_001  # any number, the same for every process that migrates
_LOCK_SECONDS: Final = 0.1
_TELL_SECONDS: Final = 5.0
# The server ends a process that is frozen between two migrations, and with it its lock.
_SESSION: Final = {
    "idle_session_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    # Behind a migration that waits for a table, everybody waits who only wants to read it.
    "lock_timeout": "1s",
}
_IN_USE: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
_IN_USE_SECONDS: Final = 300.0
_AGAIN_SECONDS: Final = 0.5
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

    @property
    def phase(self) -> Phase:
        """When it runs."""
        return _phase(self.name)


def read_migrations(component: str, directory: Path) -> list[Migration]:
    """Returns the migrations of a directory in the order of their numbers.

    Raises:
        ValueError: two have the same number.
    """
    found = [
        Migration(component, int(file.name.split("_")[0]), file.stem, file.read_text())
        for file in directory.glob("[0-9]*.sql")
    ]
    if len({one.number for one in found}) != len(found):
        raise ValueError(f"{directory}: two migrations have the same number")
    return sorted(found, key=lambda one: one.number)


async def migrate_service(
    url: str,
    service: str,
    components: Mapping[str, Path],
    *,
    phase: Phase = "before",
    patience: float = 30.0,
) -> list[str]:
    """Brings a service's database up to date, one process at a time, and names what it ran.

    Whatever is wrong is found before anything is changed. A process that has nothing to run waits
    for nobody. On a schema of a later release that only added to it, it says so and goes on: that
    release is being rolled out, or was rolled back.

    Args:
        url: A postgresql:// URL with the database.
        service: Whose database it is, such as `profile`: an empty one becomes its own.
        components: The directories of migrations by component, in the order in which they run.
        phase: Which migrations to run.
        patience: For how many seconds to wait for a server that is still starting.

    Raises:
        MigrationError: the database can't be used or is another's, a migration was edited after it
            ran, a later release took something away, those before the code have not run before
            those after it, or a migration fails; it is then rolled back whole.
    """
    known = [one for name in components for one in read_migrations(name, components[name])]
    async with _connection(url, service, patience) as connection:

        async def pending() -> tuple[Contents, list[Migration]]:
            found = await contents_of(connection)
            if (why := refusal(found, service, components)) is not None:
                raise MigrationError(_not_ours(url, service, why))
            return found, _pending(found, known, phase)

        found, left = await pending()
        if newer := _unknown(found, known):
            names = [f"{row['component']}/{row['name']}" for row in newer]
            _log.warning(
                "the schema is newer than this release, which runs all the same", migrations=names
            )
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
    after: Collection[int] = (),
) -> list[str]:
    """Brings one component's tables up to date in whosever database, as `migrate_service` does.

    A backup is restored into the tables it was taken from: with `up_to` it runs no migration of a
    higher number, and of those that run after the code only the ones named.

    Args:
        url: A postgresql:// URL with the database.
        component: Whose tables.
        directory: Of its migrations.
        patience: For how many seconds to wait for a server that is still starting.
        up_to: The highest number. Default None: all.
        after: The numbers of those after the code that are to run as well.

    Raises:
        MigrationError: as `migrate_service`.
    """
    known = read_migrations(component, directory)
    if up_to is not None:
        known = [one for one in known if one.number <= up_to]
    async with _connection(url, component, patience) as connection:
        await _lock(connection, component)
        await connection.execute(_SQL["make_migrations_table"])
        left = _left(await contents_of(connection), known)
        wanted = [one for one in left if one.phase == "before" or one.number in after]
        return [await _run(connection, migration) for migration in wanted]


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


def _pending(found: Contents, known: list[Migration], phase: Phase) -> list[Migration]:
    """Returns what a phase has left to run, in order."""
    left = _left(found, known)
    before = [one for one in left if one.phase == "before"]
    if phase == "before":
        return before
    if before:
        raise MigrationError(
            f"migration {before[0].name} of {before[0].component} runs before the code, and has "
            "not run. Start the release, or run --migrate-only without --after first; nothing was "
            "changed."
        )
    return left


def _left(found: Contents, known: list[Migration]) -> list[Migration]:
    """Returns what has not run, if the code fits what has."""
    for row in _unknown(found, known):
        highest = max(one.number for one in known if one.component == row["component"])
        if row["number"] > highest and _phase(row["name"]) == "before":
            continue
        why = "newer than the code. Run the newer release"
        if row["number"] < highest:
            why = "of another release than the code. Run that one"
        raise MigrationError(
            f"the schema of {row['component']} has migration {row['name']}, which this code does "
            f"not know: it is {why}; nothing was changed."
        )
    applied = {(row["component"], row["number"]): row for row in found.applied}
    for migration in known:
        ran = applied.get((migration.component, migration.number))
        if ran is not None and ran["checksum"] != migration.checksum:
            raise MigrationError(
                f"migration {migration.name} of {migration.component} was edited after it ran. "
                "Restore the file, and put the change into a new migration; nothing was changed."
            )
    return [one for one in known if (one.component, one.number) not in applied]


def _unknown(found: Contents, known: list[Migration]) -> list[asyncpg.Record]:
    """Returns what has run of our components and is not of this code."""
    ours = {one.component for one in known}
    numbers = {(one.component, one.number) for one in known}
    return [
        row
        for row in found.applied
        if row["component"] in ours and (row["component"], row["number"]) not in numbers
    ]


def _phase(name: str) -> Phase:
    return "after" if name.endswith(_AFTER) else "before"


async def _run(connection: asyncpg.Connection, migration: Migration) -> str:
    values = (migration.component, migration.number, migration.name, migration.checksum)
    told = ", ".join("'" + str(value).replace("'", "''") + "'" for value in values)
    note = f"INSERT INTO schema_migrations (component, number, name, checksum) VALUES ({told})"  # noqa: S608 - our own files
    end = time.monotonic() + _IN_USE_SECONDS
    while True:
        try:
            # One message, which PostgreSQL runs as one transaction: a process that freezes keeps no
            # lock on a table that others write.
            await connection.execute(f"{migration.sql};\n{note}")
        except asyncpg.PostgresError as error:
            if not isinstance(error, _IN_USE) or time.monotonic() > end:
                raise MigrationError(
                    # Without the detail, which may quote a row.
                    f"migration {migration.name} of {migration.component} failed and was rolled "
                    f"back: {error.args[0]}"
                ) from error
            _log.warning("waits for a table that is in use", migration=migration.name)
        else:
            return migration.name
        # Those who came meanwhile go first.
        await asyncio.sleep(_AGAIN_SECONDS)


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
