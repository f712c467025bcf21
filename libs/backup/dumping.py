"""Writes a backup while everything runs: one snapshot of the store, proven to be a line."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg

from libs.backup.contents import (
    DATA_KEYS_TABLE,
    EVENT_KEYS_TABLE,
    EVENTS_TABLE,
    PARTS,
    STORE,
    Part,
)
from libs.backup.databases import PATIENT, head_of, reading
from libs.backup.errors import BackupError
from libs.backup.files import make_empty, sync_directory, writing
from libs.backup.manifest import (
    KEYS_DIRECTORY,
    DumpedPart,
    FormerStore,
    KeysManifest,
    Manifest,
    Schema,
    StoreState,
    write_manifest,
)
from libs.backup.rows import LineProof
from libs.backup.secrets import SecretsAtHand, check_secrets
from libs.backup.tables import SQL, Show, columns_of, dump_table

_FOLDED: Final = "folded again"
_SETTINGS: Final = {**PATIENT, "application_name": "touchline backup"}


@dataclass(frozen=True, slots=True)
class Dumped:
    """What was written.

    Attributes:
        manifest: What it says of itself.
        keys: What was said of the data keys; None: they were left out.
        seconds: How long the store's tables took.
    """

    manifest: Manifest
    keys: KeysManifest | None
    seconds: float


async def dump(
    databases: Mapping[str, str],
    directory: Path,
    *,
    keys_directory: Path | None,
    secrets: SecretsAtHand | None,
    show: Show,
) -> Dumped:
    """Write a backup, which is one once its manifest is there.

    It takes no lock that an append waits for, and holds a few megabytes in memory.

    The reactors' outboxes are read before the store's snapshot is taken. So whatever a kept
    decision follows from is in the store's part, since it was recorded before it was decided upon.
    A decision that comes onto the line in between is in both parts; appended again it is a
    DUPLICATE. One that is made in between may be in neither, but its cause is on the line: the
    restored reactor, which folds anew, makes it again. Read the other way round, an outbox could
    hold what follows from events that the backup lacks, and the restored store would take it.

    Args:
        databases: The URLs of the databases that there are, by their part's name; the store's must
            be among them.
        directory: Made if absent; must be empty.
        keys_directory: Where the data keys go; None: they are left out.
        secrets: Those of this installation, if they are at hand: they are not written, but must
            be those of the store.
        show: Told how far it is, in rows.

    Raises:
        BackupError: it can't be made; nothing in the directory is a backup.
    """
    if STORE.name not in databases:
        raise BackupError("There is no event store on this server: nothing can be backed up.")
    make_empty(directory)
    if keys_directory is not None:
        make_empty(keys_directory)
    with reading():
        parts = []
        for part in PARTS:
            if part is not STORE and part.name in databases:
                async with _snapshot(databases[part.name]) as connection:
                    parts.append(await _dump_part(connection, part, directory, show))
        async with _snapshot(databases[STORE.name]) as connection:
            began = asyncio.get_running_loop().time()
            state = await _store_state(connection, secrets)
            parts.append(await _dump_part(connection, STORE, directory, show, state))
            seconds = asyncio.get_running_loop().time() - began
            keys = keys_directory and await _dump_keys(connection, keys_directory, state, show)
    manifest = Manifest(datetime.now(UTC), state, tuple(parts))
    with writing(directory):
        sync_directory(directory)
        write_manifest(directory, manifest)
        sync_directory(directory.parent)
    return Dumped(manifest, keys or None, seconds)


@asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection that sees the database as it is now, whatever is written meanwhile."""
    connection = await asyncpg.connect(url, server_settings=_SETTINGS)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    finally:
        connection.terminate()


async def _kept_tables(connection: asyncpg.Connection, part: Part) -> tuple[str, ...]:
    present = await _tables(connection)
    kept = part.kept or tuple(name for name in present if name not in part.left_out)
    if absent := sorted({*kept, *part.left_out} - {*present}):
        raise BackupError(
            f"The {part.name} database has no table {absent[0]}: its schema is older than this "
            "release, or it is another database. Start its service once."
        )
    return kept


async def _tables(connection: asyncpg.Connection) -> list[str]:
    return [row["name"] for row in await connection.fetch(SQL["tables"])]


async def _dump_part(
    connection: asyncpg.Connection,
    part: Part,
    directory: Path,
    show: Show,
    line: StoreState | None = None,
) -> DumpedPart:
    kept, own, tables = await _kept_tables(connection, part), directory / part.name, []
    with writing(directory):
        own.mkdir(mode=0o700)
    for table in kept:
        proof = None
        if line is not None and table == EVENTS_TABLE:
            columns = await columns_of(connection, table)
            proof = LineProof(columns, line.position, line.chain)
        dumped = await dump_table(connection, table, own / f"{table}.copy", show, proof)
        tables.append(replace(dumped, file=f"{part.name}/{dumped.file}"))
    with writing(own):
        sync_directory(own)
    return DumpedPart(
        part.name,
        tuple(
            Schema(row["component"], row["number"], tuple(row["after"]))
            for row in await connection.fetch(SQL["schema"])
        ),
        tuple(tables),
        {
            name: part.left_out.get(name, _FOLDED)
            for name in await _tables(connection)
            if name not in kept
        },
    )


async def _store_state(connection: asyncpg.Connection, secrets: SecretsAtHand | None) -> StoreState:
    await _kept_tables(connection, STORE)
    head = await head_of(connection)
    if secrets is not None:
        check_secrets(secrets, head["key_check"], head["identity_check"])
    ancestors = [FormerStore(*row) for row in await connection.fetch(SQL["ancestors"])]
    return StoreState(
        store_id=head["store_id"],
        position=head["position"],
        chain=head["chain"],
        recorded_at_us=head["recorded_at_us"],
        key_check=head["key_check"],
        identity_check=head["identity_check"],
        ancestors=tuple(ancestors),
    )


async def _dump_keys(
    connection: asyncpg.Connection, directory: Path, state: StoreState, show: Show
) -> KeysManifest:
    """Write the keys as they were when the events were read: none of their keys is missing."""
    data_keys, event_keys = [
        await dump_table(connection, name, directory / f"{name}.copy", show)
        for name in (DATA_KEYS_TABLE, EVENT_KEYS_TABLE)
    ]
    told = (datetime.now(UTC), state.store_id, state.position, state.key_check)
    keys = KeysManifest(*told, data_keys, event_keys)
    with writing(directory):
        write_manifest(directory, keys)
    return keys


def keys_within(directory: Path) -> Path:
    """Return where the data keys of a backup lie unless they have a place of their own."""
    return directory / KEYS_DIRECTORY
