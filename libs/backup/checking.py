"""Looks whether a backup can be restored here, before anything is changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from libs.backup.errors import BackupError
from libs.backup.files import check_file
from libs.backup.manifest import DumpedPart, KeysManifest, Manifest
from libs.backup.tables import Show
from libs.postgres.migrations import read_migrations

_CHECKED: Final = "checked"


def check_files(
    manifest: Manifest,
    directory: Path,
    keys: KeysManifest | None,
    keys_directory: Path | None,
    show: Show,
) -> None:
    """Make sure that every file of a backup is what was written.

    Args:
        manifest: What the backup says of itself.
        directory: Where it is.
        keys: Likewise of the data keys, unless they are to be left out.
        keys_directory: Where those are.
        show: Told how many of how many bytes are read.

    Raises:
        BackupError: a file is missing or damaged.
    """
    files = [(directory / table.file, table) for part in manifest.parts for table in part.tables]
    if keys is not None and keys_directory is not None:
        files += [(keys_directory / table.file, table) for table in keys.tables]
    done, total = 0, sum(table.size for _, table in files)

    def read(count: int) -> None:
        nonlocal done
        done += count
        show(_CHECKED, done, total)

    for path, table in files:
        check_file(path, table.size, table.sha256, read)


def check_keys(manifest: Manifest, keys: KeysManifest) -> None:
    """Make sure that data keys open the events of a backup.

    Newer ones do, without those of whoever was erased since. Older ones lack those of whoever was
    first seen in between.

    Raises:
        BackupError: they belong to another store, or are older than the events.
    """
    if keys.store_id != manifest.store.store_id:
        raise BackupError(
            f"The data keys are those of the store {keys.store_id.hex}, and the events those of "
            f"{manifest.store.store_id.hex}. Name the keys that belong to them. Nothing was "
            "changed."
        )
    if keys.position < manifest.store.position:
        raise BackupError(
            "The data keys are older than the events: they are those of the first "
            f"{keys.position:,} events of {manifest.store.position:,}. Name the keys of this "
            "backup or of a later one. Nothing was changed."
        )


def check_schema(manifest: Manifest, migrations: Mapping[str, Path]) -> None:
    """Make sure that this release knows the tables of a backup.

    Args:
        manifest: What the backup says of itself.
        migrations: The directories of the migrations, by component.

    Raises:
        BackupError: the backup was made by a newer release.
    """
    for part in manifest.parts:
        for component, number in _newest(part).items():
            directory = migrations.get(component)
            known = read_migrations(component, directory) if directory else []
            if number not in {one.number for one in known}:
                raise BackupError(
                    f"The backup's {part.name} part has migration {number} of {component}, which "
                    "this release does not know: it is newer than the code. Run the newer release. "
                    "Nothing was changed."
                )


def _newest(part: DumpedPart) -> dict[str, int]:
    return {schema.component: schema.number for schema in part.schema}
