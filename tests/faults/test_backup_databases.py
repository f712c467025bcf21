"""What a restore replaces, what it refuses, and what it leaves as it was."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from libs.backup import BackupError, look_at, read_manifest
from libs.cli.installation import migrations
from libs.embedded import create_database, database_url_for
from libs.postgres.migrations import MigrationError, migrate
from services.ingestion.__main__ import migrate_ingestion
from services.notification.__main__ import migrate_notification
from tests.backups import (
    EVENTS,
    MIGRATE,
    Backup,
    Installation,
    back_up,
    fetch,
    filled,
    installation,
    make,
)
from tests.servers import SharedPostgres
from tests.store import Line, email, open_line, records_of, said, tamper


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


async def test_a_backup_made_under_load_is_the_line_up_to_one_position(
    servers: SharedPostgres, here: Installation, tmp_path: Path
) -> None:
    await make(here, servers, *MIGRATE)
    async with open_line(here.urls["store"]) as line:
        await line.record(*[said("before") for _ in range(100)])
        recording = asyncio.create_task(keep_recording(line))
        made = await back_up(here, tmp_path / "new")
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
        state = made.manifest.store
        assert state.position >= 100
        at = "SELECT chain FROM events WHERE position = $1"
        assert [row[0] for row in await line.owner(at, state.position)] == [state.chain]
    assert made.manifest.part("store") is not None
    assert made.keys.position == state.position


async def keep_recording(line: Line) -> None:
    while True:
        await line.record(*[said("meanwhile", who=[email(f"{uuid4()}@x.org")]) for _ in range(20)])


async def test_what_is_replaced_is_kept_and_known_as_an_ancestor(
    backup: Backup, here: Installation
) -> None:
    first = await backup.restore(here)
    async with open_line(here.urls["store"]) as line:
        await line.record(said("lost"), said("lost too"))
        lost = await line.store.head()
    present = await look_at(here.target(), backup.manifest.store)
    assert present is not None
    assert (present.position, present.continues) == (EVENTS + 2, True)
    second = await backup.restore(here)
    assert set(second.kept) == set(here.names.values())
    assert await here.databases() == {
        name.removeprefix(here.prefix) for name in (*second.kept, *second.kept.values())
    }
    former = database_url_for(here.admin_url, second.kept[here.names["store"]])
    ((position,),) = await fetch(former, "SELECT position FROM store_head")
    assert position == EVENTS + 2
    async with open_line(here.urls["store"]) as line:
        lineage = await line.store.lineage()
        assert lineage.head.position == EVENTS
        # Whoever folded what the first restore made further knows that it must fold anew.
        replaced = lineage.ancestor(lost.store_id)
        assert replaced is not None
        assert (first.store_id.bytes, EVENTS) == (replaced.store_id, replaced.position)
        assert replaced.chain == lineage.head.chain


async def test_a_store_of_another_line_shares_nothing_with_the_restored_one(
    servers: SharedPostgres, backup: Backup, here: Installation
) -> None:
    await make(here, servers, "store")
    async with open_line(here.urls["store"]) as line:
        await line.record(said("another line"))
        other = await line.store.head()
    present = await look_at(here.target(), backup.manifest.store)
    assert present is not None
    assert not present.continues
    await backup.restore(here)
    async with open_line(here.urls["store"]) as line:
        replaced = (await line.store.lineage()).ancestor(other.store_id)
        assert replaced is not None
        assert (replaced.position, replaced.chain) == (0, bytes(32))


async def test_newer_keys_leave_the_erased_erased_and_open_all_others(
    backup: Backup, here: Installation, tmp_path: Path
) -> None:
    await backup.restore(here)
    older = await back_up(here, tmp_path / "older")
    async with open_line(here.urls["store"]) as line:
        await line.record(said("later", who=[email("later@example.org")]))
        erased = (await records_of(line.store))[0].owner_key
        await line.erase(erased)
    newer = await back_up(here, tmp_path / "newer")
    await older.restore(here, keys=newer.directory / "keys")
    async with open_line(here.urls["store"]) as line:
        verified = await line.verified()
        assert (verified.checked, verified.sealed) == (EVENTS, 7)
        # The erasure is lost with what was recorded since; to erase again records it.
        (told,) = verified.problems
        assert f"the data key of identity {erased.hex()}" in told
        assert (await line.erase(erased)).deleted_keys == 0
        verified = await line.verified()
        assert (verified.sealed, verified.problems) == (7, [])
    with pytest.raises(BackupError, match="older than the events"):
        await newer.restore(here, keys=older.directory / "keys")
    with pytest.raises(BackupError, match="are those of the store"):
        await newer.restore(here, keys=backup.directory / "keys")


async def test_an_older_schema_is_restored_as_it_was_and_migrated_afterwards(
    backup: Backup, here: Installation, tmp_path: Path
) -> None:
    known = migrations()
    later = tmp_path / "migrations"
    shutil.copytree(known["eventstore"], later)
    (later / "9999_later.sql").write_text("ALTER TABLE events ADD COLUMN later text")
    await backup.restore(here, {**known, "eventstore": later})
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'events'::regclass"
    assert "later" not in {row[0] for row in await fetch(here.urls["store"], columns)}
    assert await migrate(here.urls["store"], "eventstore", later) == ["9999_later"]
    await belongs_to_notification(here.urls["notification"])


async def test_what_was_taken_away_after_a_release_stays_away(
    servers: SharedPostgres, here: Installation, tmp_path: Path
) -> None:
    known = migrations()
    later = tmp_path / "migrations"
    shutil.copytree(known["eventstore"], later)
    (later / "9997_before.sql").write_text("ALTER TABLE store_head ADD COLUMN less text")
    (later / "9998_less.after.sql").write_text("ALTER TABLE store_head DROP COLUMN less")
    (later / "9999_more.sql").write_text("ALTER TABLE store_head ADD COLUMN more text")
    columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'store_head'::regclass"
    async with installation(servers) as source:
        await make(source, servers, *MIGRATE)
        for after in (), (9998,):
            await migrate(source.urls["store"], "eventstore", later, after=after)
            taken = await back_up(source, tmp_path / f"after_{len(after)}")
            assert (part := taken.manifest.part("store")) is not None
            assert {one.component: one.after for one in part.schema}["eventstore"] == after
            await taken.restore(here, {**known, "eventstore": later})
            found = [row[0] for row in await fetch(here.urls["store"], columns)]
            assert ("less" not in found) == bool(after)


async def belongs_to_notification(url: str) -> None:
    """What was restored belongs to its service, and to no other."""
    await migrate_notification(url)
    with pytest.raises(MigrationError, match="is not one of the ingestion service"):
        await migrate_ingestion(url)


async def test_a_restore_that_ends_in_the_middle_has_changed_nothing(
    source: Installation, backup: Backup, here: Installation
) -> None:
    await backup.restore(here)
    before = await here.databases()
    await create_database(here.admin_url, here.names["store"] + "_restoring")  # of a killed one

    def end() -> None:
        raise BackupError("ended")

    with pytest.raises(BackupError, match="ended"):
        await backup.restore(here, switching=end)
    assert await here.databases() == before
    assert await here.rows("store", "events") == await source.rows("store", "events")


async def test_databases_in_use_are_not_replaced(backup: Backup, here: Installation) -> None:
    await backup.restore(here)
    async with open_line(here.urls["store"]):
        with pytest.raises(BackupError, match=r"test uses .*_store. Stop the services first"):
            await backup.restore(here)
    assert await here.databases() == set(MIGRATE)


async def test_a_foreign_database_is_not_replaced(backup: Backup, here: Installation) -> None:
    await create_database(here.admin_url, here.names["store"])
    await fetch(here.urls["store"], "CREATE TABLE books (title text)")
    with pytest.raises(BackupError, match="has tables and is no event store"):
        await backup.restore(here)
    assert await here.rows("store", "books") == []


async def test_a_damaged_line_is_not_backed_up(
    here: Installation, backup: Backup, tmp_path: Path
) -> None:
    await backup.restore(here)
    async with open_line(here.urls["store"]) as line:
        await tamper(line, "UPDATE events SET content_hash = chain WHERE position = 7")
        with pytest.raises(BackupError, match="The chain of the line is broken at event 7"):
            await back_up(here, tmp_path / "damaged")
        await tamper(line, "DELETE FROM events WHERE position = 7")
        with pytest.raises(BackupError, match="Event 7 is missing"):
            await back_up(here, tmp_path / "cut")
    with pytest.raises(BackupError, match="is incomplete"):
        read_manifest(tmp_path / "damaged")
