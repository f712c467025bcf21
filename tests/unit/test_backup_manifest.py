"""What a backup says of itself, and the files that it speaks of."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from struct import pack
from typing import Any
from uuid import UUID

import pytest

from libs.backup import (
    BackupError,
    KeysManifest,
    Manifest,
    SecretsAtHand,
    check_files,
    check_keys,
    check_schema,
    check_secrets,
    read_keys_manifest,
    read_manifest,
)
from libs.backup.files import make_empty
from libs.backup.manifest import (
    DumpedPart,
    DumpedTable,
    FormerStore,
    Schema,
    StoreState,
    write_manifest,
)
from libs.backup.rows import LineProof, RowCounter

AT = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
EVENTS = DumpedTable("events", "store/events.copy", ("position", "record"), 3, 8, sha256().digest())
STATE = StoreState(
    store_id=UUID(int=7),
    position=3,
    chain=bytes(range(32)),
    recorded_at_us=1_700_000_000_000_000,
    key_check=b"k" * 16,
    identity_check=b"i" * 16,
    ancestors=(FormerStore(UUID(int=6), 2, bytes(32), AT),),
)
MANIFEST = Manifest(
    AT,
    STATE,
    (DumpedPart("store", (Schema("eventstore", 5, (4,)),), (EVENTS,), {"relay_lease": "why"}),),
)
KEYS = KeysManifest(AT, STATE.store_id, 3, b"k" * 16, replace(EVENTS, table="data_keys"))
COLUMNS = ("position", "content_hash", "chain", "stream_id")


def copied(count: int, **changed: tuple[int, bytes]) -> tuple[bytes, bytes]:
    """Rows as PostgreSQL copies them, and the chain of the last; `changed` sets fields of a row."""
    chain, rows = bytes(32), []
    for position in range(1, count + 1):
        content_hash = sha256(str(position).encode()).digest()
        chain = sha256(chain + content_hash).digest()
        fields = {"position": pack(">q", position), "content_hash": content_hash, "chain": chain}
        fields |= {name: value for name, (at, value) in changed.items() if at == position}
        written = b"".join(pack(">i", len(one)) + one for one in fields.values())
        rows.append(pack(">h", 4) + written + pack(">i", -1))
    header = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    return header + b"".join(rows) + pack(">h", -1), chain


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]
    (tmp_path / "keys").mkdir()
    write_manifest(tmp_path / "keys", KEYS)
    assert read_keys_manifest(tmp_path / "keys") == KEYS


def test_a_directory_without_a_manifest_is_incomplete_or_no_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="There is no backup in"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(BackupError, match=r"There is no dump of data keys in .* Say with --keys"):
        read_keys_manifest(tmp_path / "nowhere")
    (tmp_path / "store").mkdir()
    with pytest.raises(BackupError, match=r"is incomplete: it was interrupted.* Name another"):
        read_manifest(tmp_path)


def test_a_file_is_no_place_for_a_backup(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match="is no directory"):
        make_empty(tmp_path / "file")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["store"].update(position=4),
        lambda content: content["parts"][0]["tables"][0].update(file="elsewhere"),
        lambda content: content.pop("sha256"),
        lambda content: content.pop("store"),
    ],
    ids=["a number", "a name", "without its digest", "without a part"],
)
def test_a_changed_manifest_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BackupError, match="is damaged: it is not what was written"):
        read_manifest(tmp_path)
    path.write_text("[1")
    with pytest.raises(BackupError, match="is damaged"):
        read_manifest(tmp_path)


def test_a_newer_format_asks_for_the_newer_release(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(BackupError, match=r"has format 2, .* Run the newer release"):
        read_manifest(tmp_path)


def test_a_newer_schema_asks_for_the_newer_release(tmp_path: Path) -> None:
    (tmp_path / "0005_last.sql").touch()
    check_schema(MANIFEST, {"eventstore": tmp_path})
    newer = replace(MANIFEST.parts[0], schema=(Schema("eventstore", 6),))
    for parts, known in [((newer,), {"eventstore": tmp_path}), (MANIFEST.parts, {})]:
        with pytest.raises(BackupError, match=r"of eventstore, .* Run the newer release"):
            check_schema(replace(MANIFEST, parts=parts), known)


def test_secrets_of_another_store_are_refused() -> None:
    mine = SecretsAtHand("here", bytes(32), bytes(32))
    check_secrets(mine, mine.key_check, mine.identity_check)
    check_secrets(mine, b"", b"")
    other = SecretsAtHand("here", b"o" * 32, b"o" * 32)
    with pytest.raises(BackupError, match="The master key in here is not the one"):
        check_secrets(other, mine.key_check, b"")
    with pytest.raises(BackupError, match="The identity secret in here is not the one"):
        check_secrets(other, b"", mine.identity_check)
    assert "6f6f" not in repr(other)


def test_keys_of_another_store_and_older_keys_are_refused_and_newer_are_not() -> None:
    check_keys(MANIFEST, KEYS)
    check_keys(MANIFEST, replace(KEYS, position=4))
    with pytest.raises(BackupError, match=r"older than the events: .* first 2 events of 3"):
        check_keys(MANIFEST, replace(KEYS, position=2))
    with pytest.raises(BackupError, match="are those of the store"):
        check_keys(MANIFEST, replace(KEYS, store_id=UUID(int=8)))


def test_a_missing_a_cut_and_a_changed_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    file = tmp_path / EVENTS.file
    told = replace(EVENTS, sha256=sha256(b"8 bytes.").digest())
    manifest = replace(MANIFEST, parts=(replace(MANIFEST.parts[0], tables=(told,)),))

    def check() -> None:
        check_files(manifest, tmp_path, None, None, lambda *_: None)

    with pytest.raises(BackupError, match="can't be read"):
        check()
    file.write_bytes(b"7 bytes")
    with pytest.raises(BackupError, match="has 7 bytes, and 8 were written"):
        check()
    file.write_bytes(b"8 bytes!")
    with pytest.raises(BackupError, match="its SHA-256 is another"):
        check()
    file.write_bytes(b"8 bytes.")
    check()


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_rows_are_counted_and_proven_however_they_are_cut(size: int) -> None:
    content, chain = copied(50)
    proof, counter = LineProof(COLUMNS, 50, chain), RowCounter()
    for start in range(0, len(content), size):
        proof.feed(content[start : start + size])
        counter.feed(content[start : start + size])
    proof.check_end()
    assert (counter.rows, counter.ended) == (50, True)
    assert proof.ended


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"position": (7, pack(">q", 8))}, "Event 7 is missing"),
        ({"content_hash": (7, bytes(32))}, "broken at event 7"),
        ({"chain": (7, bytes(32))}, "broken at event 7"),
    ],
    ids=["position", "content hash", "chain"],
)
def test_rows_that_are_no_line_are_refused(
    changed: dict[str, tuple[int, bytes]], told: str
) -> None:
    content, chain = copied(10, **changed)
    with pytest.raises(BackupError, match=told):
        LineProof(COLUMNS, 10, chain).feed(content)


def test_a_line_that_ends_elsewhere_than_its_head_is_refused() -> None:
    content, chain = copied(10)
    for position, end, told in [
        (11, chain, "ends at event 10, and its head says 11"),
        (10, bytes(32), "chain is not that of event 10"),
    ]:
        proof = LineProof(COLUMNS, position, end)
        proof.feed(content)
        with pytest.raises(BackupError, match=told):
            proof.check_end()
