"""Backups of installations whose databases lie on the shared server."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import Final

import asyncpg

from libs.backup import (
    KeysManifest,
    Manifest,
    Restored,
    SecretsAtHand,
    Target,
    check_files,
    check_keys,
    dump,
    keys_within,
    look_at,
    read_keys_manifest,
    read_manifest,
    restore,
)
from libs.backup.contents import PARTS
from libs.cli.installation import migrations
from libs.embedded import create_database, database_url_for, drop_database
from services.engagement.__main__ import migrate_engagement
from services.ingestion.__main__ import migrate_ingestion
from services.notification.__main__ import migrate_notification
from tests.servers import SharedPostgres
from tests.store import IDENTITY_SECRET, MASTER_KEY, email, open_line, records_of, said

SECRETS: Final = SecretsAtHand("here", MASTER_KEY.secret, IDENTITY_SECRET)
MIGRATE: Final[Mapping[str, Callable[[str], Awaitable[None]]]] = {
    "engagement": migrate_engagement,
    "notification": migrate_notification,
    "store": migrate_ingestion,
}
EVENTS: Final = 40
"""How many events a filled installation has."""

_WAITING: Final = (
    "INSERT INTO outbox (reactor, tenant, event_id, sealed, traceparent, state, detail) VALUES"
    " ('r', 'default', gen_random_uuid(), '\\x01', '', 'waiting', ''),"
    " ('r', 'default', gen_random_uuid(), '\\x02', 'trace', 'dead', 'its text is too long')"
)
_FILLED: Final = {
    "engagement": (_WAITING, "INSERT INTO level_sweeps VALUES (1, 'default', 20000)"),
    "notification": (
        _WAITING,
        "INSERT INTO recipients VALUES (1, 'team:service', 'team@example.org', '')",
    ),
}


@dataclass(slots=True)
class Installation:
    """Databases under names of their own on the shared server.

    Attributes:
        admin_url: Of the server.
        prefix: How the names begin.
    """

    admin_url: str
    prefix: str = field(default_factory=lambda: f"test_{secrets.token_hex(4)}_")

    @property
    def names(self) -> dict[str, str]:
        """The databases' names, by part."""
        return {part.name: self.prefix + part.name for part in PARTS}

    @property
    def urls(self) -> dict[str, str]:
        """Their URLs, by part."""
        return {part: database_url_for(self.admin_url, name) for part, name in self.names.items()}

    def target(self, known: Mapping[str, Path] | None = None) -> Target:
        """Where a backup is restored."""
        return Target(self.admin_url, self.names, known or migrations())

    async def databases(self) -> set[str]:
        """The names of all its databases, former ones too, without the prefix."""
        found = await fetch(
            self.admin_url,
            "SELECT datname FROM pg_database WHERE starts_with(datname, $1)",
            self.prefix,
        )
        return {row["datname"].removeprefix(self.prefix) for row in found}

    async def rows(self, part: str, table: str) -> list[str]:
        """A table as ordered text."""
        found = await fetch(self.urls[part], f"SELECT t::text FROM {table} t ORDER BY 1")
        return [row[0] for row in found]


@dataclass(slots=True)
class Backup:
    """A backup in a directory."""

    directory: Path

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""
        return read_manifest(self.directory)

    @property
    def keys(self) -> KeysManifest:
        """Likewise of the data keys in it."""
        return read_keys_manifest(self.directory / "keys")

    async def restore(
        self,
        to: Installation,
        known: Mapping[str, Path] | None = None,
        switching: Callable[[], None] = lambda: None,
        keys: Path | None = None,
    ) -> Restored:
        """Does what the command does, without asking."""
        kept = keys or self.directory / "keys"
        manifest, found = self.manifest, read_keys_manifest(kept)
        check_keys(manifest, found)
        check_files(manifest, self.directory, found, kept, ignore)
        await look_at(to.target(known), manifest.store)
        return await restore(
            manifest,
            self.directory,
            found,
            kept,
            to.target(known),
            switching=switching,
            show=ignore,
        )


def ignore(*_: object) -> None:
    """Shows nothing."""


async def fetch(url: str, sql: str, *arguments: object) -> list[asyncpg.Record]:
    """Runs a statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


async def back_up(
    source: Installation,
    directory: Path,
    *,
    keys_directory: Path | EllipsisType | None = ...,
    secrets: SecretsAtHand | None = SECRETS,
) -> Backup:
    """Backs an installation up; the data keys lie within unless a place is named, or None."""
    keys = keys_within(directory) if keys_directory is ... else keys_directory
    await dump(source.urls, directory, keys_directory=keys, secrets=secrets, show=ignore)
    return Backup(directory)


@asynccontextmanager
async def installation(servers: SharedPostgres) -> AsyncIterator[Installation]:
    """An installation without databases; all it has in the end are removed."""
    one = Installation(servers.url)
    try:
        yield one
    finally:
        for name in await one.databases():
            await drop_database(one.admin_url, one.prefix + name)


async def make(one: Installation, servers: SharedPostgres, *parts: str) -> None:
    """Makes the databases of some parts, with a store id of its own."""
    for part in parts:
        name = one.names[part]
        await create_database(servers.url, name, await servers.template(MIGRATE[part]))
    await fetch(one.urls["store"], "UPDATE store_head SET store_id = gen_random_uuid()")


@asynccontextmanager
async def filled(servers: SharedPostgres) -> AsyncIterator[Installation]:
    """An installation that has something in each table that is backed up."""
    async with installation(servers) as one:
        await make(one, servers, *MIGRATE)
        async with open_line(one.urls["store"]) as line:
            people = [email(f"a{number % 7}@example.org") for number in range(EVENTS - 3)]
            await line.record(*[said("hello", who=[person]) for person in people])
            then = [said("then", who=[people[1]], at_seconds=at) for at in (100, 200)]
            await line.record(*then)
            await line.erase((await records_of(line.store))[1].owner_key, since=150, before=300)
            await line.record(said("no id", event_id="none"))
        for part, statements in _FILLED.items():
            for statement in statements:
                await fetch(one.urls[part], statement)
        yield one
