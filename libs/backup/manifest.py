"""What a backup says of itself: written last, so that without it a backup is incomplete."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from libs.backup.errors import BackupError
from libs.backup.files import write_whole

FORMAT: Final = 1
MANIFEST_FILE: Final = "manifest.json"
KEYS_DIRECTORY: Final = "keys"
_NOTES: Final = (
    "The master key and the identity secret are not in here. Without both this can't be used.",
    "The data keys lie apart, with a manifest of their own: whoever was erased is in old keys, and "
    "in no newer ones. Newer keys of the same store open older events. So destroy old keys: see "
    "docs/runbook.md, Backups and erasure.",
    "Projections and the feed are not in here: they are folded and filled again.",
)


@dataclass(frozen=True, slots=True)
class DumpedTable:
    """One table in one file, in PostgreSQL's binary COPY format.

    Attributes:
        table: Its name.
        file: Where it is, seen from the manifest.
        columns: Those in the file, in that order.
        rows: How many rows.
        size: The file's, in bytes.
        sha256: Of the file.
    """

    table: str
    file: str
    columns: tuple[str, ...]
    rows: int
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Schema:
    """How far a component's tables were migrated.

    Attributes:
        component: Such as `eventstore`.
        number: The highest of its migrations that had run.
        after: The numbers of those that run after their release's code, and had run.
    """

    component: str
    number: int
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DumpedPart:
    """What is in a backup of one service's database, and what is not.

    Attributes:
        name: Of the part.
        schema: The components' migrations, in the order in which they began.
        tables: What was dumped.
        left_out: Every other table, with the reason.
    """

    name: str
    schema: tuple[Schema, ...]
    tables: tuple[DumpedTable, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FormerStore:
    """A row of `store_ancestors`."""

    store_id: UUID
    position: int
    chain: bytes
    restored_at: datetime


@dataclass(frozen=True, slots=True)
class StoreState:
    """Where the store stood.

    Attributes:
        store_id: Its name.
        position: Its head.
        chain: That of the head.
        recorded_at_us: When the last event was recorded.
        key_check: What tells its master key from another; empty: nothing was ever sealed.
        identity_check: What tells its identity secret from another; empty: likewise.
        ancestors: The stores it was restored from, the oldest first.
    """

    store_id: UUID
    position: int
    chain: bytes
    recorded_at_us: int
    key_check: bytes
    identity_check: bytes
    ancestors: tuple[FormerStore, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a backup."""

    created_at: datetime
    store: StoreState
    parts: tuple[DumpedPart, ...]

    def part(self, name: str) -> DumpedPart | None:
        """Return one service's part; None: its database was not there."""
        return next((part for part in self.parts if part.name == name), None)


@dataclass(frozen=True, slots=True)
class KeysManifest:
    """What is in a dump of data keys, and of the keys that are kept of single events.

    Attributes:
        created_at: When it was made.
        store_id: Whose keys they are.
        position: Up to which event there are the keys of all identities that were not erased.
        key_check: What tells the master key that wraps them from another.
        table: The file of the data keys.
        event_keys: That of the keys of single events; None: the release that wrote it kept none.
    """

    created_at: datetime
    store_id: UUID
    position: int
    key_check: bytes
    table: DumpedTable
    event_keys: DumpedTable | None = None

    @property
    def tables(self) -> tuple[DumpedTable, ...]:
        """Everything that is in it."""
        return (self.table,) if self.event_keys is None else (self.table, self.event_keys)


def write_manifest(directory: Path, manifest: Manifest | KeysManifest) -> None:
    """Write a manifest so that a reader, or a crash, meets all of it or nothing."""
    notes = _NOTES if isinstance(manifest, Manifest) else _NOTES[:2]
    content = json.loads(json.dumps(asdict(manifest), default=_text))
    content = {"format": FORMAT, "notes": list(notes), **content}
    text = json.dumps({**content, "sha256": _digest(content)}, indent=2, ensure_ascii=False)
    write_whole(directory / MANIFEST_FILE, text.encode() + b"\n")


def read_manifest(directory: Path) -> Manifest:
    """Read what is in a backup.

    Raises:
        BackupError: there is none, it is incomplete, damaged or of a newer release.
    """
    content = _content(directory, "backup", "Name another directory.")
    try:
        return Manifest(
            created_at=datetime.fromisoformat(content["created_at"]),
            store=_store(content["store"]),
            parts=tuple(_part(one) for one in content["parts"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(directory) from error


def read_keys_manifest(directory: Path) -> KeysManifest:
    """Read what is in a dump of data keys.

    Raises:
        BackupError: there is none, it is incomplete, damaged or of a newer release.
    """
    content = _content(directory, "dump of data keys", "Say with --keys where they are.")
    try:
        return KeysManifest(
            created_at=datetime.fromisoformat(content["created_at"]),
            store_id=UUID(content["store_id"]),
            position=int(content["position"]),
            key_check=bytes.fromhex(content["key_check"]),
            table=_table(content["table"]),
            event_keys=_table(told) if (told := content.get("event_keys")) else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(directory) from error


def _content(directory: Path, what: str, way_out: str) -> dict[str, Any]:
    path = directory / MANIFEST_FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        if directory.is_dir() and any(directory.iterdir()):
            told = f"The {what} in {directory} is incomplete: it was interrupted, or is no {what}"
        else:
            told = f"There is no {what} in {directory}"
        raise BackupError(f"{told} ({MANIFEST_FILE} is missing). {way_out}") from None
    except (OSError, ValueError) as error:
        raise _damaged(directory) from error
    if not isinstance(content, dict):
        raise _damaged(directory)
    if isinstance(content.get("format"), int) and content["format"] > FORMAT:
        raise BackupError(
            f"The {what} in {directory} has format {content['format']}, and this release reads "
            f"{FORMAT} at most: it is newer than the code. Run the newer release."
        )
    told_digest = content.pop("sha256", None)
    if told_digest != _digest(content):
        raise _damaged(directory)
    return content


def _damaged(directory: Path) -> BackupError:
    return BackupError(
        f"{directory / MANIFEST_FILE} is damaged: it is not what was written. Take another backup."
    )


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _store(content: Mapping[str, Any]) -> StoreState:
    return StoreState(
        store_id=UUID(content["store_id"]),
        position=int(content["position"]),
        chain=bytes.fromhex(content["chain"]),
        recorded_at_us=int(content["recorded_at_us"]),
        key_check=bytes.fromhex(content["key_check"]),
        identity_check=bytes.fromhex(content["identity_check"]),
        ancestors=tuple(
            FormerStore(
                UUID(one["store_id"]),
                int(one["position"]),
                bytes.fromhex(one["chain"]),
                datetime.fromisoformat(one["restored_at"]),
            )
            for one in content["ancestors"]
        ),
    )


def _part(content: Mapping[str, Any]) -> DumpedPart:
    return DumpedPart(
        name=content["name"],
        schema=tuple(_schema(one) for one in content["schema"]),
        tables=tuple(_table(one) for one in content["tables"]),
        left_out=dict(content["left_out"]),
    )


def _schema(content: Mapping[str, Any]) -> Schema:
    # Former releases had no migrations after the code.
    after = tuple(int(number) for number in content.get("after", ()))
    return Schema(content["component"], int(content["number"]), after)


def _table(content: Mapping[str, Any]) -> DumpedTable:
    return DumpedTable(
        table=content["table"],
        file=content["file"],
        columns=tuple(content["columns"]),
        rows=int(content["rows"]),
        size=int(content["size"]),
        sha256=bytes.fromhex(content["sha256"]),
    )
