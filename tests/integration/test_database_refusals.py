"""A database that is not a service's own is refused, and kept as it is."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from libs.embedded import Child, start
from libs.postgres import migrations
from libs.postgres.migrations import MigrationError, migrate, migrate_service, read_migrations
from libs.projection import checkpoints, timeline
from services.engagement.__main__ import migrate_engagement
from services.ingestion.__main__ import migrate_ingestion
from services.notification.__main__ import migrate_notification
from services.profile.__main__ import migrate_profile
from tests.contents import contents
from tests.servers import MakeDatabase

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Callable[[str], Awaitable[None]]] = {
    "ingestion": migrate_ingestion,
    "profile": migrate_profile,
    "engagement": migrate_engagement,
    "notification": migrate_notification,
}
SHOP = """
CREATE TABLE customers (name text);
CREATE TABLE orders (number integer);
CREATE TABLE prices (amount integer);
CREATE TABLE stock (place text);
INSERT INTO customers VALUES ('somebody'), ('else');
"""


async def execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


async def refused(service: str, url: str) -> str:
    """What a service says that can't use a database, in which it changed nothing."""
    before = await contents(url)
    with pytest.raises(MigrationError) as told:
        await SERVICES[service](url)
    assert await contents(url) == before
    return str(told.value)


async def test_the_database_of_other_software_is_refused(postgres_url: str) -> None:
    await execute(postgres_url, SHOP)
    for service in SERVICES:
        said = await refused(service, postgres_url)
        assert f"is not one of the {service} service: it holds 4 tables" in said
        assert "(customers, orders, prices, …)" in said
        assert "Nothing was changed" in said
        assert "CREATE DATABASE touchline_" in said
        assert "touchline:" not in said  # nor the password


async def test_tables_in_a_schema_of_their_own_are_somebodys_too(postgres_url: str) -> None:
    await execute(postgres_url, "CREATE SCHEMA shop; CREATE TABLE shop.orders (number integer)")
    assert "it holds a table that Touchline did not make (shop.orders)" in await refused(
        "profile", postgres_url
    )


async def test_a_migration_that_fails_quotes_no_row(postgres_url: str, tmp_path: Path) -> None:
    await execute(postgres_url, "CREATE TABLE people (email text)")
    await execute(
        postgres_url, "INSERT INTO people VALUES ('ana@shop.example'), ('ana@shop.example')"
    )
    (tmp_path / "0001_once.sql").write_text("CREATE UNIQUE INDEX people_once ON people (email)")
    with pytest.raises(MigrationError, match="could not create unique index") as told:
        await migrate(postgres_url, "people", tmp_path)
    assert "ana@" not in str(told.value)


async def test_the_migrations_of_another_framework_are_not_ours(postgres_url: str) -> None:
    await execute(postgres_url, "CREATE TABLE schema_migrations (version bigint, dirty boolean)")
    said = await refused("ingestion", postgres_url)
    assert "it holds a table that Touchline did not make (schema_migrations)" in said


async def test_an_extension_makes_a_database_nobodys(postgres_url: str) -> None:
    await execute(postgres_url, "CREATE EXTENSION pg_stat_statements")
    await migrate_profile(postgres_url)
    made = await contents(postgres_url)
    assert "public.projection_checkpoints" in {one["name"] for one in made[0]}
    await migrate_profile(postgres_url)
    assert await contents(postgres_url) == made


async def test_no_service_takes_the_database_of_another(
    database_from_template: MakeDatabase,
) -> None:
    for owner, make in SERVICES.items():
        url = await database_from_template(make)
        before = await contents(url)
        for service, migrate_it in SERVICES.items():
            if service == owner:
                await migrate_it(url)
            else:
                with pytest.raises(MigrationError, match=f"it belongs to the {owner} service"):
                    await migrate_it(url)
        assert await contents(url) == before


async def test_what_a_former_release_made_finds_its_owner(
    database_from_template: MakeDatabase,
) -> None:
    url = await database_from_template(_made_before_owners_were_told)
    for service in ("notification", "engagement", "ingestion"):
        said = await refused(service, url)
        assert "it holds tables of another service (of the components projection, timeline)" in said
    await migrate_profile(url)
    assert "it belongs to the profile service" in await refused("notification", url)


async def _made_before_owners_were_told(url: str) -> None:
    await migrate(url, "projection", checkpoints.MIGRATIONS)
    await migrate(url, "timeline", timeline.MIGRATIONS)


async def test_a_schema_that_lost_what_the_code_needs_is_refused_before_anything_is_changed(
    database_from_template: MakeDatabase,
) -> None:
    for service, make in SERVICES.items():
        url = await database_from_template(make)
        # One component has a migration too many while another lacks one.
        await execute(
            url,
            """
            DELETE FROM schema_migrations WHERE component IN ('eventstore', 'projection')
                AND number > 3;
            INSERT INTO schema_migrations SELECT component, 9999, '9999_from_tomorrow.after', 'x'
                FROM schema_migrations WHERE component NOT IN ('owner', 'eventstore', 'projection')
                LIMIT 1;
            """,
        )
        said = await refused(service, url)
        assert "9999_from_tomorrow.after, which this code does not know: it is newer than" in said
        assert "Run the newer release; nothing was changed" in said


async def test_a_migration_edited_after_it_ran_is_refused(
    database_from_template: MakeDatabase,
) -> None:
    url = await database_from_template(migrate_ingestion)
    await execute(url, "UPDATE schema_migrations SET checksum = 'x' WHERE name = '0002_append'")
    said = await refused("ingestion", url)
    assert "migration 0002_append of eventstore was edited after it ran" in said


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    postgres_url: str, tmp_path: Path
) -> None:
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (n integer);")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (n integer); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match=r"0002_two of c failed .* division by zero"):
        await migrate_service(postgres_url, "s", {"c": tmp_path})
    relations, *_ = await contents(postgres_url)
    assert [one["name"] for one in relations if one["has_rows"]] == [
        "public.one",
        "public.schema_migrations",
    ]
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (n integer);")
    assert await migrate_service(postgres_url, "s", {"c": tmp_path}) == ["0002_two"]


async def test_two_services_that_start_on_one_empty_database_do_not_share_it(
    postgres_url: str,
) -> None:
    outcomes = await asyncio.gather(
        *[migrate_it(postgres_url) for migrate_it in SERVICES.values()], return_exceptions=True
    )
    refusals = [str(one) for one in outcomes if one is not None]
    assert len(refusals) == len(SERVICES) - 1
    assert all("it belongs to the" in one for one in refusals)


async def test_who_has_nothing_to_migrate_waits_for_nobody(postgres_url: str) -> None:
    await migrate_profile(postgres_url)
    made = await contents(postgres_url)
    frozen = await asyncpg.connect(postgres_url)
    await frozen.execute("SELECT pg_advisory_lock($1)", migrations._LOCK)
    await asyncio.wait_for(migrate_profile(postgres_url), 30)
    assert await frozen.fetchval("SELECT pg_advisory_unlock($1)", migrations._LOCK)
    await frozen.close()
    assert await contents(postgres_url) == made


async def test_a_process_that_froze_while_it_migrated_is_not_waited_for_long(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migrations, "_SESSION", {"idle_session_timeout": "700ms"})
    monkeypatch.setattr(migrations, "_TELL_SECONDS", 0.2)
    async with migrations._connection(postgres_url, "profile", 5) as frozen:
        await migrations._lock(frozen, "profile")
        await asyncio.wait_for(migrate_profile(postgres_url), 30)
    said = capsys.readouterr().out
    assert "waits for another process that migrates" in said
    assert "profile migrations" in said


async def test_migrations_hold_no_lock_over_a_round_trip(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    execute_really = asyncpg.Connection.execute

    async def execute_and_look(self: asyncpg.Connection, query: str, *arguments: object) -> str:
        sent.append(query)
        told = await execute_really(self, query, *arguments)
        assert "CREATE" not in query or not self.is_in_transaction()
        return str(told)

    monkeypatch.setattr(asyncpg.Connection, "execute", execute_and_look)
    await migrate_profile(postgres_url)
    directories = (checkpoints.MIGRATIONS, timeline.MIGRATIONS)
    files = [one for directory in directories for one in read_migrations("c", directory)]
    assert len([query for query in sent if "CREATE TABLE" in query]) >= len(files)


async def test_the_init_job_of_a_deployment_refuses_as_well(postgres_url: str) -> None:
    await execute(postgres_url, SHOP)
    before = await contents(postgres_url)
    process = await start(
        Child(
            "profile",
            (sys.executable, "-m", "services.profile", "--migrate-only"),
            env={**os.environ, "TOUCHLINE_DATABASE_URL": postgres_url},
            cwd=ROOT,
        )
    )
    await asyncio.wait_for(process.wait(), 30)
    assert process.ended == "it ended with exit status 1"
    assert process.lines[-1].startswith("profile can't start: the database test_")
    assert await contents(postgres_url) == before
