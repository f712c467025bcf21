"""The chain, and what `verify` finds when somebody changes the line (invariant 4)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256

import asyncpg
import pytest

from libs.embedded import create_database, database_url_for, drop_database
from libs.eventstore.errors import NothingToErase
from libs.eventstore.verification import verify
from tests.servers import MakeDatabase, SharedPostgres
from tests.store import (
    OTHER,
    SECRETS,
    Line,
    build_store,
    email,
    handle,
    held_head,
    open_line,
    records_of,
    said,
    tamper,
    whole_line,
)

EVENTS = 6
TABLES = (
    *("events", "store_head", "data_keys", "event_keys"),
    *("store_erasures", "store_erased_identities"),
)


@pytest.fixture(scope="module")
async def six_events(servers: SharedPostgres) -> AsyncIterator[Line]:
    """Six events in three appends, and a copy of every table of them."""
    name = "verification"
    await create_database(servers.url, name, await servers.template(build_store))
    async with open_line(database_url_for(servers.url, name)) as line:
        await line.record(said("one"), said("two", who=[email("bo@example.org"), handle("bo")]))
        await line.record(said("three", who=[email("cy@example.org")]), said("four"))
        await line.record(said("five"), said("six"), by=OTHER)
        for table in TABLES:
            await line.owner(f"CREATE TABLE whole_{table} AS TABLE {table}")
        yield line
    await drop_database(servers.url, name)


@pytest.fixture
async def line(six_events: Line) -> AsyncIterator[Line]:
    """The six events as they were recorded."""
    yield six_events
    restore = [f"DELETE FROM {table}; INSERT INTO {table} TABLE whole_{table}" for table in TABLES]
    await tamper(six_events, *";".join(restore).split(";"))


async def test_the_chain_is_the_hash_of_hashes(line: Line) -> None:
    chain = bytes(32)
    for stored in await line.owner("SELECT * FROM events ORDER BY position"):
        chain = sha256(chain + stored["content_hash"]).digest()
        assert stored["chain"] == chain
    assert (await line.store.head()).chain == chain
    assert (await whole_line(line.store))[-1].chain == chain


async def test_an_untouched_line_is_found_whole(line: Line) -> None:
    found = await line.verified()
    assert (found.problems, found.finished) == ([], True)
    assert (found.head, found.checked, found.sealed) == (EVENTS, EVENTS, 0)


async def test_an_empty_line_is_found_whole(database_from_template: MakeDatabase) -> None:
    async with open_line(await database_from_template(build_store)) as line:
        found = await line.verified()
    assert (found.problems, found.checked, found.finished) == ([], 0, True)


def _flip(column: str, at: str) -> str:
    return f"{column} = set_byte({column}, {at}, get_byte({column}, {at}) # 1)"


# The last field of a record's event is sealed_event, before its identities: its last byte is the
# owner's sealed value's.
_LAST_BYTE = "length(record) - 1"
_SWAP = (
    "UPDATE events SET position = -2 WHERE position = 2",
    "UPDATE events SET position = 2 WHERE position = 3",
    "UPDATE events SET position = 3 WHERE position = -2",
)

TAMPERINGS: dict[str, tuple[Sequence[str], str]] = {
    "a content hash": (
        [f"UPDATE events SET {_flip('content_hash', '0')} WHERE position = 3"],
        "the chain is broken at event 3",
    ),
    "the last event's content hash": (
        [f"UPDATE events SET {_flip('content_hash', '31')} WHERE position = {EVENTS}"],
        "the chain is broken at event 6",
    ),
    "the last identity's key id": (
        [f"UPDATE events SET {_flip('record', _LAST_BYTE)} WHERE position = 3"],
        "event 3 names an identity otherwise than it is sealed",
    ),
    "a record replaced by another's": (
        [
            "UPDATE events SET record = (SELECT record FROM events WHERE position = 1)"
            " WHERE position = 4"
        ],
        "event 4 has other columns than its record says",
    ),
    "a record that is no message": (
        ["UPDATE events SET record = '\\xffffff' WHERE position = 3"],
        "event 3 has a record that can't be read",
    ),
    "an empty record": (
        ["UPDATE events SET record = '' WHERE position = 3"],
        "event 3 has a record that can't be read",
    ),
    "the type": (
        ["UPDATE events SET type = 28 WHERE position = 3"],
        "event 3 has other columns than its record says",
    ),
    "the partition": (
        ["UPDATE events SET partition = (partition + 1) % 64 WHERE position = 3"],
        "event 3 has another partition than its owner",
    ),
    "the owner": (
        [f"UPDATE events SET {_flip('owner_key', '5')} WHERE position = 3"],
        "event 3 has other columns than its record says",
    ),
    "the tenant": (
        ["UPDATE events SET tenant = 2 WHERE position = 3"],
        "event 3 has other columns than its record says",
    ),
    "the event id": (
        ["UPDATE events SET event_id = gen_random_uuid() WHERE position = 3"],
        "event 3 has other columns than its record says",
    ),
    "a time before the one in front": (
        ["UPDATE events SET recorded_at_us = recorded_at_us - 1000000 WHERE position = 3"],
        "event 3 was recorded before the event in front of it",
    ),
    "a time in the future": (
        ["UPDATE events SET recorded_at_us = recorded_at_us + 1000000000 WHERE position = 6"],
        "event 6 was recorded after the head's time",
    ),
    "a chain within a page": (
        [f"UPDATE events SET {_flip('chain', '0')} WHERE position = 3"],
        "the chain is broken at event 3",
    ),
    "the last chain": (
        [f"UPDATE events SET {_flip('chain', '0')} WHERE position = 6"],
        "the chain is broken at event 6",
    ),
    "the first row deleted": (
        ["DELETE FROM events WHERE position = 1"],
        "events 1 to 1 are missing",
    ),
    "rows in the middle deleted": (
        ["DELETE FROM events WHERE position IN (3, 4)"],
        "events 3 to 4 are missing",
    ),
    "a row deleted and the others moved up": (
        [
            "DELETE FROM events WHERE position = 3",
            "UPDATE events SET position = position - 1 WHERE position > 3",
            "UPDATE store_head SET position = 5",
        ],
        "the chain is broken at event 3",
    ),
    "two rows swapped": (_SWAP, "the chain is broken at event 2"),
    "two rows swapped and chained anew": (
        [
            *_SWAP,
            "UPDATE events n SET chain = sha256(p.chain || n.content_hash) FROM events p"
            " WHERE n.position = 2 AND p.position = 1",
            "UPDATE events n SET chain = sha256(p.chain || n.content_hash) FROM events p"
            " WHERE n.position = 3 AND p.position = 2",
        ],
        "the chain is broken at event 4",
    ),
    "a row put in": (
        [
            "INSERT INTO events SELECT 7, tenant, gen_random_uuid(), owner_key, partition, type,"
            " recorded_at_us, content_hash, chain, NULL, NULL, record FROM events"
            " WHERE position = 6"
        ],
        "there are events after the head, up to 7",
    ),
    "a row doubled and the others moved down": (
        [
            "UPDATE events SET position = -position WHERE position > 3",
            "UPDATE events SET position = 1 - position WHERE position < 0",
            "INSERT INTO events SELECT 4, tenant, gen_random_uuid(), owner_key, partition, type,"
            " recorded_at_us, content_hash, chain, NULL, NULL, record FROM events"
            " WHERE position = 3",
            "UPDATE store_head SET position = 7",
        ],
        "the chain is broken at event 4",
    ),
    "the tail cut off": (
        ["DELETE FROM events WHERE position > 4"],
        "events 5 to 6 are missing",
    ),
    "everything deleted": (["DELETE FROM events"], "events 1 to 6 are missing"),
    "the head set back": (
        ["UPDATE store_head SET position = 4"],
        "there are events after the head, up to 6",
    ),
    "the head's chain": (
        [f"UPDATE store_head SET {_flip('chain', '0')}"],
        "the head's chain is not that of event 6",
    ),
    "a data key": (
        [f"UPDATE data_keys SET {_flip('wrapped_key', '20')}"],
        "was changed",
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_verify_finds(line: Line, tampering: str) -> None:
    statements, problem = TAMPERINGS[tampering]
    await tamper(line, *statements)
    found = await line.verified()
    assert found.finished
    assert any(problem in told for told in found.problems), found.problems


async def test_verify_finds_every_byte_of_a_record_that_was_changed(line: Line) -> None:
    owner = await asyncpg.connect(line.url)
    await owner.execute("ALTER TABLE events DISABLE TRIGGER append_only")
    stored = await owner.fetchval("SELECT record FROM events WHERE position = 2")
    for index, byte in enumerate(stored):
        changed = stored[:index] + bytes([byte ^ 1]) + stored[index + 1 :]
        await owner.execute("UPDATE events SET record = $1 WHERE position = 2", changed)
        found = await line.verified(line.keyring)
        assert found.problems, index
    await owner.close()


async def test_erased_events_stay_counted_and_chained_and_count_as_sealed(line: Line) -> None:
    (owner, *_) = {
        record.owner_key for record in await records_of(line.store) if record.tenant == 2
    }
    await line.erase(owner, by=OTHER)
    found = await line.verified()
    assert (found.problems, found.checked, found.sealed) == ([], EVENTS + 1, 2)


async def test_a_key_that_is_gone_without_an_erasure_is_damage(line: Line) -> None:
    key = (await records_of(line.store))[0].owner_key
    await line.owner("DELETE FROM data_keys WHERE identity_key = $1", key)
    (told,) = (await line.verified()).problems
    gone = f"the data key of identity {key.hex()}, which event 1 names, is gone"
    assert told == f"{gone}, and no erasure says so"
    # As after the restore of a backup beside newer keys: to erase again says why.
    assert (await line.erase(key)).deleted_keys == 0
    assert (await line.verified()).problems == []
    with pytest.raises(NothingToErase):
        await line.erase(key)


async def test_a_deleted_key_that_came_back_is_damage(line: Line) -> None:
    record = (await records_of(line.store))[0]
    await line.erase(record.owner_key)
    await line.owner("INSERT INTO data_keys TABLE whole_data_keys ON CONFLICT DO NOTHING")
    assert "event 1 opens though it was erased" in (await line.verified()).problems


async def test_kept_event_keys_are_verified(line: Line) -> None:
    await line.record(said("kept", at_seconds=100), said("gone", at_seconds=200))
    await line.erase((await records_of(line.store))[-1].owner_key, since=200, before=300)
    assert (await line.verified()).problems == []
    await line.owner(f"UPDATE event_keys SET {_flip('wrapped_key', '20')}")
    problems = (await line.verified()).problems
    assert any("key that is kept for event" in told for told in problems), problems
    await line.owner("UPDATE event_keys SET event_id = gen_random_uuid()")
    problems = (await line.verified()).problems
    assert any("does not open, and no erasure says so" in told for told in problems), problems
    assert any("events that do not exist" in told for told in problems), problems


async def test_verify_tells_a_hundred_problems_and_reads_on(line: Line) -> None:
    await line.record(*(said("again") for _ in range(120)))
    await tamper(line, f"UPDATE events SET {_flip('content_hash', '0')}")
    found = await line.verified()
    assert (len(found.problems), found.checked) == (100, EVENTS + 120)


async def test_who_verifies_and_who_appends_do_not_wait_for_each_other(line: Line) -> None:
    async with held_head(line.url):  # as while somebody appends
        assert (await asyncio.wait_for(line.verified(), 30)).problems == []
    states = verify(line.store, line.keyring, SECRETS)
    await anext(states)
    await asyncio.wait_for(line.record(said("meanwhile")), 30)
    *_, last = [state async for state in states]
    assert (last.problems, last.checked) == ([], EVENTS)
