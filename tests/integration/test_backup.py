"""A backup is a line and what is on no line; a restored one is whole, and a store of its own."""

import json
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import services.engagement.__main__ as engagement
import services.ingestion.__main__ as ingestion
import services.notification.__main__ as notification
import services.profile.__main__ as profile
from libs.backup import PARTS, BackupError, SecretsAtHand, check_keys, read_keys_manifest
from libs.backup.manifest import write_manifest
from libs.cli.installation import DATABASES
from libs.cli.stack import CHECKOUT, SERVICES
from libs.embedded import database_url_for
from tests.backups import EVENTS, Backup, Installation, back_up, fetch, filled, installation
from tests.servers import SharedPostgres
from tests.store import IDENTITY_SECRET, open_line, said

KEPT = {
    "engagement": ("level_sweeps", "outbox"),
    "notification": ("outbox", "recipients"),
    "store": (
        *("data_keys", "event_keys", "events", "rejected_events"),
        *("store_erasures", "store_erased_identities"),
    ),
}
# How far the folds are, and what they could not fold: it goes with what is folded.
PROGRESS = {
    *("parked_keys", "projection_checkpoints", "projection_foldings"),
    *("projection_generations", "projection_pauses", "projection_workers"),
}
SERVICES_DATABASES = {one.name: one.database for one in SERVICES}
# After the header, the number of fields, seven fixed columns and the length of the eighth.
FIRST_CONTENT_HASH = 19 + 2 + sum(4 + width for width in (8, 2, 16, 16, 2, 2, 8)) + 4


def _name(service: ModuleType) -> str:
    return service.__name__.split(".")[1]


@pytest.fixture(scope="module")
async def source(servers: SharedPostgres) -> AsyncIterator[Installation]:
    async with filled(servers) as one:
        yield one


@pytest.fixture(scope="module")
async def kept(source: Installation, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    return await back_up(source, tmp_path_factory.mktemp("backup") / "new")


@pytest.fixture
async def backup(kept: Backup, tmp_path: Path) -> Backup:
    """A copy that the test may change."""
    shutil.copytree(kept.directory, tmp_path / "backup")
    return Backup(tmp_path / "backup")


@pytest.fixture
async def here(servers: SharedPostgres) -> AsyncIterator[Installation]:
    """Where to restore: nothing is there."""
    async with installation(servers) as one:
        yield one


async def test_what_is_restored_is_what_was_backed_up_in_a_store_of_its_own(
    source: Installation, backup: Backup, here: Installation
) -> None:
    result = await backup.restore(here)
    for part, tables in KEPT.items():
        for table in tables:
            rows = await source.rows(part, table)
            assert rows, (part, table)
            assert await here.rows(part, table) == rows
    state = backup.manifest.store
    assert (state.position, result.kept) == (EVENTS, {})
    async with open_line(source.urls["store"]) as before, open_line(here.urls["store"]) as after:
        assert state.store_id.bytes == (await before.store.head()).store_id
        lineage = await after.store.lineage()
        assert lineage.head.store_id == result.store_id.bytes != state.store_id.bytes
        (ancestor,) = lineage.ancestors
        assert ancestor.store_id == state.store_id.bytes
        assert (ancestor.position, ancestor.chain) == (EVENTS, state.chain)
        verified = await after.verified()
        assert (verified.checked, verified.sealed, verified.problems) == (EVENTS, 1, [])
        (verdict,) = await after.record(said("the next"))
        assert verdict.position == EVENTS + 1
        await after.record(said("rejected", event_id="none either"))
    numbers = await fetch(here.urls["store"], "SELECT rejected_id FROM rejected_events ORDER BY 1")
    assert [row[0] for row in numbers] == [1, 2]


@pytest.mark.parametrize("service", [engagement, ingestion, notification, profile], ids=_name)
async def test_every_table_is_folded_or_kept_or_left_out_for_a_reason(
    servers: SharedPostgres, service: Any
) -> None:
    name = _name(service)
    url = database_url_for(servers.url, await servers.template(getattr(service, f"migrate_{name}")))
    found = await fetch(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    tables = {row[0] for row in found} - getattr(service, "FOLDED_TABLES", set()) - PROGRESS
    if service is profile:  # it decides nothing: its outbox is never filled
        assert tables == {"schema_migrations", "outbox", "outbox_sender"}
        return
    [part] = [one for one in PARTS if DATABASES[one.name] == SERVICES_DATABASES[name]]
    assert tables == {*part.left_out, *(part.kept or tables)}


async def test_the_runbook_empties_of_notification_what_is_folded_and_nothing_else(
    servers: SharedPostgres,
) -> None:
    url = database_url_for(servers.url, await servers.template(notification.migrate_notification))
    section = (CHECKOUT / "docs/runbook.md").read_text().split("### Notification folds anew")[1]
    [block] = re.findall(r"^DO \$\$$.*?^END \$\$;$", section, re.MULTILINE | re.DOTALL)[:1]
    [kept] = re.findall(r"NOT IN \(([^)]*)\)", block)
    found = await fetch(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    emptied = {row[0] for row in found} - set(re.findall(r"'(\w+)'", kept))
    # Who folds compares the number of foldings and needs its row.
    assert emptied == {*notification.FOLDED_TABLES, *PROGRESS} - {"projection_foldings"}


async def test_a_line_that_is_none_is_refused_though_every_file_is_as_the_manifest_says(
    backup: Backup, here: Installation
) -> None:
    file = backup.directory / "store/events.copy"
    content = bytearray(file.read_bytes())
    content[FIRST_CONTENT_HASH] ^= 1
    file.write_bytes(content)
    part = backup.manifest.part("store")
    assert part is not None
    changed = replace(part.tables[0], sha256=sha256(content).digest())
    assert changed.table == "events"
    part = replace(part, tables=(changed, *part.tables[1:]))
    write_manifest(backup.directory, replace(backup.manifest, parts=(part,)))
    with pytest.raises(BackupError, match="The chain of the line is broken at event 1"):
        await backup.restore(here)
    assert await here.databases() == set()


@pytest.mark.parametrize(
    "file",
    [
        *("store/events.copy", "keys/data_keys.copy", "keys/event_keys.copy"),
        "notification/recipients.copy",
    ],
)
async def test_a_flipped_bit_and_a_missing_file_are_refused(
    backup: Backup, here: Installation, file: str
) -> None:
    path = backup.directory / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(BackupError, match="its SHA-256 is another"):
        await backup.restore(here)
    path.unlink()
    with pytest.raises(BackupError, match="can't be read"):
        await backup.restore(here)
    assert await here.databases() == set()


async def test_an_existing_directory_and_foreign_secrets_are_refused(
    source: Installation, backup: Backup, tmp_path: Path
) -> None:
    before = sorted(backup.directory.rglob("*"))
    with pytest.raises(BackupError, match="is not empty, and nothing is overwritten"):
        await back_up(source, backup.directory)
    assert sorted(backup.directory.rglob("*")) == before
    other = SecretsAtHand("there", bytes(32), IDENTITY_SECRET)
    with pytest.raises(BackupError, match="The master key in there is not the one"):
        await back_up(source, tmp_path / "other", secrets=other)


async def test_keys_can_lie_elsewhere_or_be_left_out(source: Installation, tmp_path: Path) -> None:
    place = tmp_path / "their place"
    apart = await back_up(source, tmp_path / "apart", keys_directory=place)
    assert not (apart.directory / "keys").exists()
    check_keys(apart.manifest, read_keys_manifest(place))
    without = await back_up(source, tmp_path / "without", keys_directory=None)
    assert not (without.directory / "keys").exists()
    told = json.loads((without.directory / "manifest.json").read_text())["parts"][-1]["left_out"]
    assert "apart" in told["data_keys"]
    with pytest.raises(BackupError, match="There is no dump of data keys"):
        await without.restore(source)
