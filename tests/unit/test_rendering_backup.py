"""What `touchline backup` and `touchline restore` say."""

from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from rich.console import Console, RenderableType

from libs.backup import Dumped, KeysManifest, Manifest, Present, Restored
from libs.backup.manifest import DumpedPart, DumpedTable, StoreState
from libs.cli.rendering.backup import about_to_restore, backed_up, loss, restored

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
STATE = StoreState(UUID(int=1), 1000, bytes(32), 0, b"", b"")
MANIFEST = Manifest(
    NOW,
    STATE,
    (
        DumpedPart("notification", (), (DumpedTable("recipients", "", (), 2, 10, b""),), {}),
        DumpedPart("store", (), (DumpedTable("events", "", (), 1000, 4_000_000, b""),), {}),
    ),
)
KEYS = KeysManifest(NOW, STATE.store_id, 1000, b"", DumpedTable("data_keys", "", (), 300, 1, b""))
HERE = Present(UUID(int=1), 1250, continues=True)


def shown(renderable: RenderableType) -> str:
    console = Console(file=StringIO(), width=110)
    console.print(renderable)
    assert isinstance(console.file, StringIO)
    return " ".join(console.file.getvalue().split())


@pytest.mark.parametrize(
    ("present", "told"),
    [
        (HERE, "250 events, recorded since the backup"),
        (replace(HERE, position=1001), "1 event, recorded since the backup"),
        (replace(HERE, position=1000), "nothing: no event was recorded since the backup"),
        (
            replace(HERE, position=900, continues=False),
            "nothing, if this is the same line: it ends before the backup does",
        ),
        (
            replace(HERE, position=900, store_id=UUID(int=2), continues=False),
            "900 events: this is another line than the backup's",
        ),
        (
            replace(HERE, position=5000, continues=False),
            "5,000 events: this is another line than the backup's",
        ),
    ],
    ids=["more", "one more", "the same", "shorter", "another", "another, of the same name"],
)
def test_what_a_restore_loses_is_said_in_events(present: Present, told: str) -> None:
    assert loss(MANIFEST, present) == told


def test_a_backup_says_what_is_in_it_and_what_it_needs_besides() -> None:
    where = Path("/backups/new")
    text = shown(backed_up(Dumped(MANIFEST, KEYS, 2.0), where, where / "keys", secrets="/s.json"))
    assert "Backed up 1,000 events" in text
    assert "2.0 s, 4.0 MB, 500 events/s" in text
    assert "recipients 2" in text
    assert "300, apart in /backups/new/keys" in text
    assert "The secrets are not in it." in text
    assert "They are in /s.json. Keep a copy, and keep it apart from the backup" in text


def test_a_backup_without_keys_or_secrets_at_hand_says_so() -> None:
    text = shown(backed_up(Dumped(MANIFEST, None, 0.1), Path("/new"), None, secrets=None))
    assert "left out: nothing opens without them" in text
    assert "They are not in this home" in text
    assert "events/s" not in text  # so short a time tells no rate


def test_before_a_restore_it_is_said_what_is_replaced_and_what_stays() -> None:
    names = {"store": "touchline_store", "notification": "touchline_notification"}
    text = shown(about_to_restore(MANIFEST, HERE, names, now=NOW))
    assert "1,000 events, today 18:00" in text
    assert f"1,250 events of the store {HERE.store_id.hex}" in text
    assert "loses 250 events" in text
    assert "under other names: store, notification" in text
    assert "no event is recorded here" in shown(about_to_restore(MANIFEST, None, {}, now=NOW))


def test_after_a_restore_it_is_said_what_to_do() -> None:
    result = Restored(UUID(int=9), {"touchline_store": "touchline_store_before_X"})
    text = shown(restored(result, MANIFEST, HERE, command="touchline", feed=True))
    assert "Restored 1,000 events" in text
    assert f"{UUID(int=9).hex}, a new one" in text
    assert "kept touchline_store_before_X" in text
    assert "DROP DATABASE touchline_store_before_X;" in text
    assert "feed restart" not in text
    text = shown(restored(result, MANIFEST, None, command="touchline", feed=False))
    assert "touchline feed restart the stream belongs to the old store" in text
    assert "lost" not in text
