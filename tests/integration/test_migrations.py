"""Schemas grow before a release's code and shrink after it, one migration at a time, once."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import pytest

from libs.embedded import Child
from libs.embedded.process import spawn
from libs.postgres.migrations import (
    MigrationError,
    Phase,
    migrate,
    migrate_service,
    read_migrations,
)
from tests.contents import contents

ROOT = Path(__file__).parents[2]
SHOP = {
    "0001_orders.sql": "CREATE TABLE orders (number integer PRIMARY KEY, clerk text NOT NULL)",
    # The older release writes a clerk, this one does not: nobody has to any more.
    "0002_no_clerk_needed.sql": "ALTER TABLE orders ALTER COLUMN clerk DROP NOT NULL",
    "0003_no_clerks.after.sql": "ALTER TABLE orders DROP COLUMN clerk",
    "0004_places.sql": "ALTER TABLE orders ADD COLUMN place text",
}
FIRST = ("0001_orders.sql",)
GROWN = (*FIRST, "0002_no_clerk_needed.sql")


def release(directory: Path, files: Mapping[str, str]) -> Path:
    """The migrations that a release comes with."""
    made = directory / f"release_{len(list(directory.iterdir()))}"
    made.mkdir()
    for name, sql in files.items():
        (made / name).write_text(sql)
    return made


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The release that no longer knows clerks."""
    return release(tmp_path, SHOP)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The release before it."""
    return release(tmp_path, {name: SHOP[name] for name in FIRST})


async def bring(url: str, directory: Path, phase: Phase = "before") -> list[str]:
    return await migrate_service(url, "shop", {"orders": directory}, phase=phase)


async def refused(url: str, directory: Path, phase: Phase = "before") -> str:
    """Why a database is not migrated, in which nothing changed."""
    before = await contents(url)
    with pytest.raises(MigrationError) as told:
        await bring(url, directory, phase)
    assert await contents(url) == before
    return str(told.value)


async def columns(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0"
        " AND NOT attisdropped ORDER BY attnum"
    )
    await connection.close()
    return [row["attname"] for row in rows]


async def test_what_runs_before_the_code_runs_at_its_start_and_the_rest_on_request(
    postgres_url: str, whole: Path
) -> None:
    assert await bring(postgres_url, whole) == [
        "0001_orders",
        "0002_no_clerk_needed",
        "0004_places",
    ]
    assert await bring(postgres_url, whole) == []
    assert await columns(postgres_url) == ["number", "clerk", "place"]
    assert await bring(postgres_url, whole, "after") == ["0003_no_clerks.after"]
    assert await bring(postgres_url, whole, "after") == []
    assert await bring(postgres_url, whole) == []
    assert await columns(postgres_url) == ["number", "place"]


async def test_nothing_is_taken_away_before_everything_is_added(
    postgres_url: str, first: Path, whole: Path
) -> None:
    assert "0001_orders of orders runs before the code, and has not run" in await refused(
        postgres_url, whole, "after"
    )
    await bring(postgres_url, first)
    said = await refused(postgres_url, whole, "after")
    assert "0002_no_clerk_needed of orders runs before the code, and has not run" in said
    assert "Start the release, or run --migrate-only without --after first" in said


async def test_a_release_can_be_rolled_back_while_it_only_added(
    postgres_url: str, first: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await bring(postgres_url, first)
    await bring(postgres_url, whole)
    assert "newer" not in capsys.readouterr().out
    before = await contents(postgres_url)
    assert await bring(postgres_url, first) == []
    assert await contents(postgres_url) == before
    (line,) = capsys.readouterr().out.splitlines()
    assert "the schema is newer than this release, which runs all the same" in line
    assert "orders/0002_no_clerk_needed" in line
    assert "orders/0004_places" in line


async def test_an_older_release_refuses_once_something_was_taken_away(
    postgres_url: str, first: Path, whole: Path
) -> None:
    await bring(postgres_url, whole)
    await bring(postgres_url, whole, "after")
    said = await refused(postgres_url, first)
    assert "0003_no_clerks.after, which this code does not know: it is newer than the code" in said
    assert "Run the newer release; nothing was changed" in said


async def test_a_migration_of_no_release_before_this_one_is_refused(
    postgres_url: str, tmp_path: Path, whole: Path
) -> None:
    await bring(postgres_url, whole)
    branch = release(tmp_path, {name: SHOP[name] for name in SHOP if "0002" not in name})
    assert "0002_no_clerk_needed, which this code does not know: it is of another release" in (
        await refused(postgres_url, branch)
    )


@pytest.mark.parametrize("edited", ["0001_orders.sql", "0003_no_clerks.after.sql"])
async def test_a_migration_edited_after_it_ran_is_refused_in_both_phases(
    postgres_url: str, tmp_path: Path, whole: Path, edited: str
) -> None:
    await bring(postgres_url, whole)
    await bring(postgres_url, whole, "after")
    other = release(tmp_path, SHOP | {edited: SHOP[edited] + " -- a thought"})
    for phase in ("before", "after"):
        said = await refused(postgres_url, other, phase)
        assert f"migration {edited.removesuffix('.sql')} of orders was edited after it ran" in said


async def test_one_that_has_not_run_may_still_be_edited(
    postgres_url: str, tmp_path: Path, whole: Path
) -> None:
    await bring(postgres_url, whole)
    name = "0003_no_clerks.after.sql"
    other = release(tmp_path, SHOP | {name: SHOP[name] + ", ALTER COLUMN place SET DEFAULT ''"})
    assert await bring(postgres_url, other, "after") == ["0003_no_clerks.after"]


async def test_many_that_start_at_once_run_each_migration_once(
    postgres_url: str, whole: Path
) -> None:
    phases: tuple[Phase, ...] = ("before", "after")
    for phase in phases:
        ran = await asyncio.gather(*[bring(postgres_url, whole, phase) for _ in range(5)])
        names = sorted(name for one in ran for name in one)
        assert names == [one.name for one in read_migrations("o", whole) if one.phase == phase]
    assert await columns(postgres_url) == ["number", "place"]


async def test_a_migration_that_is_cut_off_leaves_nothing_and_runs_again(
    postgres_url: str, tmp_path: Path
) -> None:
    slow = release(tmp_path, SHOP | {"0002_no_clerk_needed.sql": GROWING + "SELECT pg_sleep(60)"})
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        migrating = group.create_task(outcome(postgres_url, slow))
        await asleep(postgres_url)
        await on(postgres_url, f"SELECT pg_terminate_backend(pid) {SLEEPING}")
    assert isinstance(migrating.result(), MigrationError)
    assert "0002_no_clerk_needed of orders failed and was rolled back" in str(migrating.result())
    assert await columns(postgres_url) == ["number", "clerk"]
    quick = release(tmp_path, SHOP | {"0002_no_clerk_needed.sql": GROWING})
    assert await bring(postgres_url, quick) == ["0002_no_clerk_needed", "0004_places"]


async def test_a_killed_process_is_waited_for_and_gone_on_after(
    postgres_url: str, tmp_path: Path
) -> None:
    """PostgreSQL ends what it was told to do, whole, though nobody listens any more."""
    slow = release(tmp_path, SHOP | {"0002_no_clerk_needed.sql": GROWING + "SELECT pg_sleep(2)"})
    killed = await spawn(
        Child(
            "shop",
            (sys.executable, "-c", MIGRATING, postgres_url, str(slow)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    )
    async with asyncio.timeout(60):
        await asleep(postgres_url)
        os.kill(killed.pid, signal.SIGKILL)
        assert await bring(postgres_url, slow) == ["0004_places"]
    await killed.stop()
    assert await columns(postgres_url) == ["number", "clerk", "grown", "place"]


GROWING = "ALTER TABLE orders ADD COLUMN grown text; "
SLEEPING = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
MIGRATING = """
import asyncio, sys
from pathlib import Path
from libs.postgres.migrations import migrate_service
asyncio.run(migrate_service(sys.argv[1], "shop", {"orders": Path(sys.argv[2])}))
"""


async def outcome(url: str, directory: Path) -> list[str] | MigrationError:
    try:
        return await bring(url, directory)
    except MigrationError as error:
        return error


async def on(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    rows: list[asyncpg.Record] = await connection.fetch(query)
    await connection.close()
    return rows


async def asleep(url: str) -> None:
    """Returns once a migration is in the middle."""
    while not await on(url, f"SELECT pid {SLEEPING}"):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.05)


async def test_a_table_in_use_is_waited_for_and_kept_from_nobody(
    postgres_url: str, first: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await bring(postgres_url, first)
    long = await asyncpg.connect(postgres_url)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group, long.transaction():
        await long.fetch("SELECT FROM orders")
        migrating = group.create_task(bring(postgres_url, whole))
        while "waits for a table that is in use" not in capsys.readouterr().out:
            # Whoever reads meanwhile waits for a second at most.
            await asyncio.wait_for(on(postgres_url, "SELECT FROM orders"), 2)
            await asyncio.sleep(0.05)
        assert not migrating.done()
    await long.close()
    assert migrating.result() == ["0002_no_clerk_needed", "0004_places"]


async def test_what_a_backup_was_taken_of_is_made_again(postgres_url: str, whole: Path) -> None:
    assert await migrate(postgres_url, "orders", whole, up_to=3, after={3}) == [
        "0001_orders",
        "0002_no_clerk_needed",
        "0003_no_clerks.after",
    ]
    assert await migrate(postgres_url, "orders", whole) == ["0004_places"]


async def test_without_being_told_nothing_is_taken_away(postgres_url: str, whole: Path) -> None:
    assert await migrate(postgres_url, "orders", whole, up_to=3) == [
        "0001_orders",
        "0002_no_clerk_needed",
    ]


def test_two_migrations_of_one_number_are_a_mistake(tmp_path: Path) -> None:
    twice = release(tmp_path, SHOP | {"0004_other.after.sql": "SELECT 1"})
    with pytest.raises(ValueError, match="two migrations have the same number"):
        read_migrations("orders", twice)
