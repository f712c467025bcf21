"""Makes the databases of a backup beside those that are there, and puts them in their place."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from libs.backup.contents import EVENT_KEYS_TABLE, EVENTS_TABLE, STORE
from libs.backup.databases import PATIENT, connected, head_of, reading, refuse_users, there
from libs.backup.errors import BackupError
from libs.backup.manifest import DumpedPart, FormerStore, KeysManifest, Manifest, StoreState
from libs.backup.rows import LineProof
from libs.backup.tables import SQL, Show, load_table, quoted
from libs.embedded.databases import create_database, database_url_for, drop_database
from libs.eventstore.chain import GENESIS
from libs.postgres.migrations import MigrationError, migrate
from libs.postgres.pool import UNREACHABLE

_LOCK: Final = 7_410_002  # any number, the same for every process that restores
_SETTINGS: Final = {
    **PATIENT,
    "application_name": "touchline restore",
    # Indexes are made once, over all rows.
    "maintenance_work_mem": "256MB",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backup is restored.

    Attributes:
        url: Of any other database of the server, for a user who may make databases.
        names: The databases' names, by part.
        migrations: The directories of all components' migrations.
    """

    url: str = field(repr=False)
    names: Mapping[str, str]
    migrations: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Present:
    """The store that is there and would be replaced.

    Attributes:
        store_id: Its name.
        position: Its head.
        continues: Whether its first events are those of the backup.
    """

    store_id: UUID
    position: int
    continues: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a restore.

    Attributes:
        store_id: The restored store's new name.
        kept: What the databases that were replaced are called now, by their former names.
    """

    store_id: UUID
    kept: Mapping[str, str]


async def look_at(target: Target, state: StoreState) -> Present | None:
    """Return the store that would be replaced; None: there is none, or nothing is recorded in it.

    Raises:
        BackupError: somebody uses one of the databases, or one is no store.
    """
    with reading():
        async with connected(target.url) as server:
            names = list(target.names.values())
            await refuse_users(server, names)
            if not await there(server, [target.names[STORE.name]]):
                return None
        async with connected(_url(target, STORE.name)) as connection:
            if not await connection.fetchval("SELECT to_regclass('store_head')"):
                if not await connection.fetch(SQL["tables"]):
                    return None
                raise BackupError(
                    f"The database {target.names[STORE.name]} has tables and is no event store. "
                    "Rename it, or restore elsewhere. Nothing was changed."
                )
            head = await head_of(connection)
            if not head["position"]:
                return None
            chain = await connection.fetchval(SQL["chain_at"], state.position)
            continues = state.position == 0 or chain == state.chain
            return Present(head["store_id"], head["position"], continues)


async def restore(
    manifest: Manifest,
    directory: Path,
    keys: KeysManifest | None,
    keys_directory: Path | None,
    target: Target,
    *,
    switching: Callable[[], None],
    show: Show,
) -> Restored:
    """Restore a backup that was checked; what is replaced is kept under another name.

    The databases are made under names of their own, and all of them change names in one
    transaction at the end: until then nothing has changed, and after it everything has. Their
    schema is the one that was backed up; the services bring it up to date when they start.

    The databases of a reactor are made anew too, with what is on no line. Their projections fold
    from position 1, and nothing is sent before they have reached the head.

    Args:
        manifest: What the backup says of itself.
        directory: Where it is.
        keys: Likewise of the data keys; None: none are restored, and nothing will open.
        keys_directory: Where those are.
        target: Where to.
        switching: Called just before the names change.
        show: Told how far it is, in rows.

    Raises:
        BackupError: it can't be restored; nothing was changed.
    """
    with reading():
        async with connected(target.url) as server:
            if not await server.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                raise BackupError("Another restore runs on this server. Nothing was changed.")
            fresh = {part.name: f"{target.names[part.name]}_restoring" for part in manifest.parts}
            try:
                store_id = await _build(
                    manifest, directory, keys, keys_directory, target, fresh, show
                )
                names = [target.names[part] for part in fresh]
                await refuse_users(server, names)
                switching()
                kept = await _switch(server, {target.names[p]: fresh[p] for p in fresh})
            except BaseException:
                with suppress(asyncpg.PostgresError, *UNREACHABLE):
                    for name in fresh.values():
                        await drop_database(target.url, name)
                raise
    return Restored(store_id, kept)


async def _build(
    manifest: Manifest,
    directory: Path,
    keys: KeysManifest | None,
    keys_directory: Path | None,
    target: Target,
    fresh: Mapping[str, str],
    show: Show,
) -> UUID:
    store_id = None
    for part in manifest.parts:
        url = await _empty_database(part, target, fresh[part.name])
        async with connected(url, _SETTINGS) as connection:
            async with connection.transaction():
                for table in part.tables:
                    line = None
                    if part.name == STORE.name and table.table == EVENTS_TABLE:
                        state = manifest.store
                        line = LineProof(table.columns, state.position, state.chain)
                    await load_table(connection, table, directory / table.file, show, line)
                if part.name == STORE.name:
                    if keys is not None and keys_directory is not None:
                        await _load_keys(connection, keys, keys_directory, show)
                    replaced = await _replaced(target, connection)
                    store_id = await _become(connection, manifest.store, replaced)
            await connection.execute("ANALYZE")
    if store_id is None:
        raise BackupError("The backup has no event store. Nothing was changed.")
    return store_id


async def _load_keys(
    connection: asyncpg.Connection, keys: KeysManifest, directory: Path, show: Show
) -> None:
    """Load the data keys, and of the events' own keys those whose events are in the backup.

    Newer keys may go with older events. A backup of before there were such keys has no events that
    have one.
    """
    for table in keys.tables:
        if await connection.fetchval("SELECT to_regclass($1)", quoted(table.table)):
            await load_table(connection, table, directory / table.file, show)
    if await connection.fetchval("SELECT to_regclass($1)", EVENT_KEYS_TABLE):
        await connection.execute(SQL["drop_event_keys_of_nothing"])


async def _empty_database(part: DumpedPart, target: Target, name: str) -> str:
    """Make a database with the tables as they were when they were dumped, and return its URL."""
    await drop_database(target.url, name)  # what an interrupted restore left behind
    await create_database(target.url, name)
    url = database_url_for(target.url, name)
    try:
        for schema in part.schema:
            directory = target.migrations[schema.component]
            await migrate(url, schema.component, directory, up_to=schema.number, after=schema.after)
    except MigrationError as error:
        raise BackupError(f"The tables can't be made: {error} Nothing was changed.") from error
    return url


async def _become(
    connection: asyncpg.Connection, state: StoreState, replaced: Sequence[FormerStore]
) -> UUID:
    """Make what was loaded a store of its own, and return its name."""
    head = await head_of(connection)
    told = (state.store_id, state.position, state.chain)
    if (head["store_id"], head["position"], head["chain"]) != told:
        raise BackupError("The head is not the one the manifest tells of. Nothing was changed.")
    for one in replaced:
        if one.store_id != state.store_id:
            former = (one.store_id, one.position, one.chain, one.restored_at)
            await connection.execute(SQL["add_ancestor"], *former)
    store_id: UUID = await connection.fetchval(SQL["become_another_store"])
    return store_id


async def _replaced(target: Target, restored: asyncpg.Connection) -> list[FormerStore]:
    """Return the store that is replaced, and its ancestors, as ancestors of the restored one.

    Who restores a backup for the second time replaces the store that the first restore made. The
    projections stand on that one. It is no ancestor in the backup, but what both have in common is
    known here, so that the projections can tell what happened and fold anew.
    """
    async with connected(target.url) as server:
        if not await there(server, [target.names[STORE.name]]):
            return []
    async with connected(_url(target, STORE.name)) as connection:
        if not await connection.fetchval("SELECT to_regclass('store_ancestors')"):
            return []
        head = await head_of(connection)
        position, chain = await _common(connection, restored, head["position"])
        former = [FormerStore(*row) for row in await connection.fetch(SQL["ancestors"])]
        now = datetime.now(UTC)
        last = FormerStore(head["store_id"], position, chain, now)
        return [
            one if one.position <= position else FormerStore(one.store_id, position, chain, now)
            for one in (*former, last)
        ]


async def _common(
    one: asyncpg.Connection, other: asyncpg.Connection, end: int
) -> tuple[int, bytes]:
    """Return the last position up to which two lines are the same, and its chain.

    Equal chains at a position are equal events up to there, so halving finds it.
    """
    same, chain, differs = 0, GENESIS, end + 1
    while differs - same > 1:
        middle = (same + differs) // 2
        mine = await one.fetchval(SQL["chain_at"], middle)
        if mine is not None and mine == await other.fetchval(SQL["chain_at"], middle):
            same, chain = middle, mine
        else:
            differs = middle
    return same, chain


async def _switch(server: asyncpg.Connection, fresh: Mapping[str, str]) -> dict[str, str]:
    """Give the fresh databases their names, all at once, and return what the former have now."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    kept = {name: f"{name}_before_{stamp}" for name in await there(server, list(fresh))}
    async with server.transaction():
        for old, new in (*kept.items(), *((new, old) for old, new in fresh.items())):
            await server.execute(f"ALTER DATABASE {quoted(old)} RENAME TO {quoted(new)}")
    return kept


def _url(target: Target, part: str) -> str:
    return database_url_for(target.url, target.names[part])
