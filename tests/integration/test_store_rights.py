"""Append-only, enforced by the database for everyone (invariant 3)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from libs.eventstore.store import ROLE
from services.ingestion.__main__ import serve_ingestion
from services.ingestion.config import read_config
from tests.servers import MakeDatabase, OwnNats
from tests.store import IDENTITY_SECRET, MASTER_KEY, Line, build_store, open_line, row

CHANGES = [
    "UPDATE events SET type = 20",
    "UPDATE events SET record = '' WHERE false",
    "DELETE FROM events WHERE position = 1",
    "DELETE FROM events",
    "TRUNCATE events",
    "TRUNCATE events CASCADE",
    "INSERT INTO events SELECT * FROM events ON CONFLICT (position) DO UPDATE SET type = 20",
    "MERGE INTO events e USING store_head h ON e.position = h.position WHEN MATCHED THEN DELETE",
]


ROLE_MAY_NOT = [
    *CHANGES,
    "INSERT INTO events SELECT * FROM events",
    "INSERT INTO events SELECT 2, 2, event_id, owner_key, partition, type, recorded_at_us,"
    " content_hash, chain, stream_id, stream_version, record FROM events",
    "UPDATE store_head SET position = 0",
    "DELETE FROM store_head",
    "INSERT INTO store_head DEFAULT VALUES",
    "TRUNCATE store_head",
    "DROP TABLE events",
    "ALTER TABLE events DISABLE TRIGGER append_only",
    "DROP TRIGGER append_only ON events",
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'",
    "DROP FUNCTION append_events",
    "SET session_replication_role = replica",
    "CREATE TABLE mine (one integer)",
    "UPDATE data_keys SET wrapped_key = ''",
    "TRUNCATE data_keys",
    # Keys are deleted by who records it.
    "DELETE FROM data_keys",
    "UPDATE store_head SET erasures = 0",
    "INSERT INTO event_keys VALUES (1, gen_random_uuid(), decode(repeat('00', 16), 'hex'), 0, '')",
    "UPDATE event_keys SET wrapped_key = ''",
    "DELETE FROM event_keys",
    "INSERT INTO store_erasures VALUES (1, gen_random_uuid(), 1, 0, 0, 0, 0, 0)",
    "DELETE FROM store_erasures",
    "DELETE FROM store_erased_identities",
]


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        await line.append([row(1)])
        yield line


@asynccontextmanager
async def session(line: Line, *before: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(line.url)
    try:
        for statement in before:
            await connection.execute(statement)
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("replication", ["origin", "replica", "local"])
async def test_the_owner_who_is_superuser_changes_nothing(line: Line, replication: str) -> None:
    async with session(line, f"SET session_replication_role = {replication}") as owner:
        assert await owner.fetchval("SELECT usesuper FROM pg_user WHERE usename = current_user")
        for change in CHANGES:
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only") as told:
                await owner.execute(change)
            assert told.value.hint == "Record an event that corrects or retracts instead."
        assert await owner.fetchval("SELECT count(*) FROM events WHERE type = 28") == 1


async def test_the_stores_role_may_only_read_and_call_append(line: Line) -> None:
    async with line.pool.acquire() as connection:
        assert await connection.fetchval("SELECT current_user") == ROLE
        for statement in ROLE_MAY_NOT:
            try:
                await connection.execute(statement)
            except (asyncpg.InsufficientPrivilegeError, asyncpg.RestrictViolationError):
                continue
            pytest.fail(f"the role may {statement}")
    assert (await line.store.head()).position == 1
    assert await line.append([row(2)]) == [(1, 2)]


async def test_the_stores_role_cannot_log_in_and_owns_nothing(line: Line) -> None:
    (role,) = await line.owner(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls,"
        " (SELECT count(*) FROM pg_class WHERE relowner = r.oid) AS owned"
        " FROM pg_roles r WHERE rolname = $1",
        ROLE,
    )
    assert tuple(role) == (False, False, False, False, False, 0)


async def test_the_service_itself_acts_in_that_role(
    database_from_template: MakeDatabase, nats: OwnNats
) -> None:
    url = await database_from_template(build_store)
    # Whoever is not held by the role's rights would not notice.
    connection = await asyncpg.connect(url)
    await connection.execute(f"REVOKE SELECT ON store_head FROM {ROLE}")
    await connection.close()
    config = read_config(
        {
            "TOUCHLINE_DATABASE_URL": url,
            "TOUCHLINE_NATS_URL": nats.url,
            "TOUCHLINE_LISTEN": "127.0.0.1:0",
            "TOUCHLINE_IDENTITY_SECRET": IDENTITY_SECRET.hex(),
            "TOUCHLINE_MASTER_KEY": MASTER_KEY.secret.hex(),
        }
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="store_head"):
        await asyncio.wait_for(serve_ingestion(config, asyncio.Event()), 30)
