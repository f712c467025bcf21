"""Erasure in the store: keys go, the line stays, and nothing is sealed under what was deleted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest

from libs.embedded import create_database, database_url_for, drop_database
from libs.eventstore.errors import ErasureRefused, NothingToErase, SealsStale
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import open_event
from libs.identity.streams import stream_identity
from services.ingestion.checking import left_of
from services.ingestion.erasing import NAMESPACE
from services.ingestion.sweeping import sweep
from tests.servers import SharedPostgres
from tests.store import (
    DEFAULT,
    MASTER_KEY,
    OTHER,
    RECORDED,
    Line,
    build_store,
    email,
    handle,
    held_head,
    open_line,
    records_of,
    said,
    tamper,
)
from touchline.events.v1.event_pb2 import ACTOR_KIND_EMPLOYEE, EVENT_TYPE_PROFILE_ERASED
from touchline.events.v1.identity_pb2 import Identity
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_DUPLICATE, OUTCOME_RECORDED
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_ERASED,
    AppendEvent,
    AppendRequest,
    AppendUnit,
)

ANA, BO, CY = email("ana@example.org"), email("bo@example.org"), handle("cy")


TABLES = (
    *("events", "data_keys", "event_keys", "store_erasures", "store_erased_identities"),
    "rejected_events",
)


@pytest.fixture(scope="module")
async def database(servers: SharedPostgres) -> AsyncIterator[str]:
    """One for all tests of this module."""
    name = "erasure"
    await create_database(servers.url, name, await servers.template(build_store))
    yield database_url_for(servers.url, name)
    await drop_database(servers.url, name)


@pytest.fixture
async def line(database: str) -> AsyncIterator[Line]:
    async with open_line(database) as line:
        yield line
        head = "UPDATE store_head SET position = 0, chain = decode(repeat('00', 32), 'hex')"
        await tamper(line, *(f"DELETE FROM {table}" for table in TABLES), f"{head}, erasures = 0")


def key_of(identity: Identity) -> bytes:
    """The key of an identity of the default tenant."""
    return DEFAULT.identity_keys.identify(identity).key


async def texts(line: Line, keyring: Keyring | None = None) -> list[str | None]:
    """What the events of the line say, in their order; None for one that does not open."""
    records = await records_of(line.store)
    keys = await (keyring or Keyring(line.pool, MASTER_KEY)).keys_of(1, records)
    opened = [open_event(record, keys) for record in records]
    return [
        event and (event.interaction.text or event.WhichOneof("fact") or "") for event in opened
    ]


async def test_an_erased_customers_events_open_nowhere_and_the_others_do(line: Line) -> None:
    await line.record(
        said("from Ana", who=[ANA, CY]), said("from Bo", who=[BO]), said("to Bo", who=[BO, CY])
    )
    before = await line.store.history(0)
    answer = await line.erase(key_of(ANA), key_of(CY))
    assert (answer.position, answer.deleted_keys) == (4, 2)
    assert (answer.erased_events, answer.kept_events) == (1, 0)
    assert await texts(line) == await texts(line, line.keyring)
    assert await texts(line) == [None, "from Bo", "to Bo", "profile_erased"]
    records = await records_of(line.store)
    keys = await line.keyring.keys_of(1, records)
    opened = open_event(records[2], keys)
    assert opened is not None
    # Cy took part in Bo's conversation, and of Cy nothing is left but the kind.
    assert [(one.kind, one.value) for one in opened.identities] == [
        (BO.kind, BO.value),
        (CY.kind, ""),
    ]
    after = await line.store.history(0)
    assert after.events[:3] == before.events
    found = await line.verified()
    assert (found.problems, found.sealed) == ([], 2)


async def test_an_erasure_is_on_the_line_under_a_stream_of_its_own(line: Line) -> None:
    await line.record(said("hello", who=[ANA]))
    erasure_id = str(uuid4())
    answer = await line.erase(key_of(ANA), erasure_id=erasure_id)
    record = (await records_of(line.store))[-1]
    owner = DEFAULT.identity_keys.identify(stream_identity(NAMESPACE, erasure_id))
    assert (record.type, record.owner_key) == (EVENT_TYPE_PROFILE_ERASED, owner.key)
    assert record.erasure.identity_keys == [key_of(ANA)]
    event = open_event(record, await line.keyring.keys_of(1, [record]))
    assert event is not None
    assert event.profile_erased.reason == "request 7"
    assert (event.actor.kind, event.actor.reference) == (ACTOR_KIND_EMPLOYEE, "agent-7")
    (row,) = await line.owner("SELECT recorded_at_us FROM events WHERE position = 2")
    assert answer.recorded_at_us == row["recorded_at_us"]


async def test_asked_again_an_erasure_answers_as_the_first_time(line: Line) -> None:
    await line.record(said("hello", who=[ANA]), said("hi", who=[BO]))
    erasure_id = str(uuid4())
    first = await line.erase(key_of(ANA), erasure_id=erasure_id)
    async with open_line(line.url) as another:
        again = await asyncio.gather(
            line.erase(key_of(ANA), erasure_id=erasure_id),
            another.erase(key_of(ANA), erasure_id=erasure_id),
        )
    assert list(again) == [first, first]
    # Between the erasure and the answer the customer may have got another identity.
    assert await line.erase(key_of(BO), key_of(ANA), erasure_id=erasure_id) == first
    assert (await line.store.head()).position == 3
    with pytest.raises(ValueError, match="that of another erasure"):
        await line.erase(key_of(ANA), erasure_id=erasure_id, since=1)
    with pytest.raises(ValueError, match="that of another erasure"):
        await line.erase(key_of(BO), erasure_id=erasure_id)
    with pytest.raises(NothingToErase, match="none of the identities has a data key"):
        await line.erase(key_of(ANA))
    assert await texts(line) == [None, "hi", "profile_erased"]


async def test_two_processes_that_are_asked_at_once_erase_once(line: Line) -> None:
    await line.record(said("hello", who=[ANA]))
    erasure_id = str(uuid4())
    async with open_line(line.url) as another:
        async with held_head(line.url):
            asked = [
                asyncio.create_task(one.erase(key_of(ANA), erasure_id=erasure_id))
                for one in (line, another)
            ]
            await asyncio.sleep(0.1)
        first, second = await asyncio.gather(*asked)
    assert first == second
    assert (await line.store.head()).position == 2


async def test_of_a_time_range_only_what_happened_in_it_is_erased(line: Line) -> None:
    await line.record(*[said(f"at {at}", who=[ANA], at_seconds=at) for at in (100, 200, 300)])
    await line.record(said("Bo at 200", who=[BO], at_seconds=200))
    answer = await line.erase(key_of(ANA), since=150, before=300)
    assert (answer.deleted_keys, answer.erased_events, answer.kept_events) == (0, 1, 2)
    left = ["at 100", None, "at 300", "Bo at 200", "profile_erased"]
    assert await texts(line) == await texts(line, line.keyring) == left
    await line.record(said("late news of 200", who=[ANA], at_seconds=200))
    assert await texts(line) == [*left, "late news of 200"]
    found = await line.verified()
    assert (found.problems, found.sealed) == ([], 1)

    # What was kept of one erasure is erased by the next, whether derived or kept.
    answer = await line.erase(key_of(ANA), since=200)
    assert (answer.erased_events, answer.kept_events) == (2, 1)
    left = ["at 100", None, None, "Bo at 200", "profile_erased", None, "profile_erased"]
    assert await texts(line) == left
    assert (await line.verified()).problems == []
    answer = await line.erase(key_of(ANA))
    assert (answer.deleted_keys, answer.erased_events) == (1, 1)
    assert await line.owner("SELECT FROM event_keys") == []
    assert (await texts(line))[:4] == [None, None, None, "Bo at 200"]
    assert (await line.verified()).problems == []


async def test_who_comes_back_has_another_key_and_the_past_stays_shut(line: Line) -> None:
    await line.record(said("before", who=[ANA]))
    (before,) = await records_of(line.store)
    await line.erase(key_of(ANA))
    await line.record(said("after", who=[ANA]))
    assert await texts(line) == [None, "profile_erased", "after"]
    after = (await records_of(line.store))[-1]
    assert after.identities[0].key_id != before.identities[0].key_id
    assert (await line.verified()).problems == []
    answer = await line.erase(key_of(ANA))
    assert answer.erased_events == 1
    assert await texts(line) == [None, "profile_erased", None, "profile_erased"]


async def test_no_process_seals_with_a_key_that_another_deleted(line: Line) -> None:
    async with open_line(line.url) as other:
        for one in (line, other):
            await one.record(said("warms the caches", who=[ANA]))
        await line.erase(key_of(ANA))
        # Sealed with what it remembers, this is refused as a whole, and sealed again.
        verdicts = await other.record(said("after", who=[ANA]), said("hi", who=[BO]))
        assert [one.outcome for one in verdicts] == [OUTCOME_RECORDED] * 2
        unit = AppendUnit(events=[AppendEvent(event=said("a service", who=[BO]))])
        await line.erase(key_of(BO))
        await other.recorder.append(DEFAULT, AppendRequest(units=[unit]), "")
    left = [None, None, "profile_erased", "after", None, "profile_erased", "a service"]
    assert await texts(line) == left


async def test_no_process_serves_a_key_that_another_deleted(line: Line) -> None:
    async with open_line(line.url) as other:
        await other.record(said("warms the cache", who=[ANA]))
        assert await other.keyring.fetch(1, [key_of(ANA)])
        await line.erase(key_of(ANA))
        assert await other.keyring.fetch(1, [key_of(ANA)]) == {}
        assert await texts(other, other.keyring) == [None, "profile_erased"]


@asynccontextmanager
async def held_erasures(line: Line) -> AsyncIterator[None]:
    """Keeps every erasure waiting that has read what it concerns, until the block ends."""
    holder = await asyncpg.connect(line.url)
    try:
        await holder.execute("SELECT pg_advisory_lock(7410003)")
        yield
    finally:
        await holder.close()


@pytest.mark.parametrize("whom", [[ANA], [ANA, BO]], ids=["who has a key", "who gets one"])
async def test_events_that_come_while_a_range_is_read_are_looked_at_too(
    line: Line, whom: list[Identity]
) -> None:
    await line.record(said("at 100", who=[ANA], at_seconds=100))
    async with held_erasures(line):
        erasing = asyncio.create_task(line.erase(*map(key_of, whom), since=150, before=300))
        await asyncio.sleep(0.1)
        assert not erasing.done()
        for who in whom:  # Bo had no key when the erasure began
            for at in (200, 300):
                await line.record(said(f"at {at}", who=[who], at_seconds=at))
    answer = await erasing
    assert (answer.erased_events, answer.kept_events) == (len(whom), 1 + len(whom))
    assert await texts(line) == ["at 100", *[None, "at 300"] * len(whom), "profile_erased"]
    assert (await line.verified()).problems == []


async def test_no_key_is_kept_once_somebody_else_was_erased(line: Line) -> None:
    await line.record(said("hello", who=[ANA]))
    era = await line.keyring.era()
    keep = (
        "SELECT keep_event_keys(1::smallint, $1, ARRAY[gen_random_uuid()], ARRAY[$2::bytea],"
        " ARRAY[0::bigint], ARRAY['kept'::bytea]) AS kept"
    )
    (row,) = await line.pool.fetch(keep, era.erasures, key_of(ANA))
    assert row["kept"]
    await line.erase(key_of(ANA))
    (row,) = await line.pool.fetch(keep, era.erasures, key_of(ANA))
    assert not row["kept"]
    assert await line.owner("SELECT FROM event_keys") == []


async def test_what_waits_in_the_queue_when_somebody_is_erased_is_sealed_again(line: Line) -> None:
    await line.record(said("before", who=[ANA]))
    async with held_head(line.url):
        erasing = asyncio.create_task(line.erase(key_of(ANA)))
        await asyncio.sleep(0.1)  # it waits for the head, the others behind it
        waiting = [
            asyncio.create_task(line.record(said(f"while {number}", who=[ANA, BO])))
            for number in range(5)
        ]
        await asyncio.sleep(0.1)
    await erasing
    verdicts = [verdict for answer in await asyncio.gather(*waiting) for verdict in answer]
    assert {one.outcome for one in verdicts} == {OUTCOME_RECORDED}
    assert (await texts(line))[:2] == [None, "profile_erased"]
    assert sorted(filter(None, (await texts(line))[2:])) == [f"while {n}" for n in range(5)]
    assert (await line.verified()).problems == []


async def test_a_retry_of_an_erased_event_is_a_duplicate(line: Line) -> None:
    event = said("before", who=[ANA])
    await line.record(event)
    await line.erase(key_of(ANA))
    (verdict,) = await line.record(event)
    assert (verdict.outcome, verdict.position) == (OUTCOME_DUPLICATE, 1)


async def test_what_was_decided_before_an_erasure_is_not_appended_after_it(line: Line) -> None:
    await line.record(said("hello", who=[ANA]), said("hi", who=[BO]))
    await line.erase(key_of(ANA))

    async def decided(*whom: Identity, at: int) -> tuple[int, str]:
        entry = AppendEvent(event=said("decided", who=whom), decided_at_position=at)
        request = AppendRequest(units=[AppendUnit(events=[entry])])
        (verdict,) = (await line.recorder.append(DEFAULT, request, "")).verdicts
        return verdict.outcome, verdict.detail

    told = "was decided before position 3, where a customer of it was erased"
    assert await decided(BO, at=2) == (RECORDED, "")
    assert await decided(BO, ANA, at=2) == (APPEND_OUTCOME_ERASED, told)
    assert await decided(ANA, at=3) == (RECORDED, "")
    assert await decided(ANA, at=0) == (RECORDED, "")


async def test_rejected_events_that_name_who_is_erased_are_discarded(line: Line) -> None:
    for at, who in ((100, [ANA]), (200, [ANA, BO]), (200, [BO]), (0, [ANA])):
        bad = said("no source", who=who, at_seconds=at)
        bad.ClearField("source")
        if not at:
            bad.ClearField("occurred_at")
        await line.record(bad)
    await line.record(said("good", who=[ANA]), said("good", who=[BO]))
    # Kept by an older release, which did not note whom it names.
    await line.owner("UPDATE rejected_events SET identity_keys = NULL, occurred_at_us = NULL")
    await line.erase(key_of(ANA), since=150, before=300)
    left, _ = await line.kept.list(DEFAULT.sealed, 2**62, 10)
    # The one without a time may be of that time.
    assert [one.event.occurred_at.seconds for one in left] == [200, 100]
    answer = await line.erase(key_of(ANA))
    assert answer.discarded_rejected_events == 1
    assert await line.kept.count(DEFAULT.sealed) == 1


async def test_a_check_after_an_erasure_finds_nothing_left(line: Line) -> None:
    await line.record(*[said(f"at {at}", who=[ANA], at_seconds=at) for at in (100, 200)])
    in_range = await line.erase(key_of(ANA), since=150)
    answer = await line.erase(key_of(ANA))
    await line.record(said("again", who=[ANA]))
    for position, shut in ((in_range.position, 1), (answer.position, 1)):
        checks = await left_of(line.store, line.keyring, line.kept, DEFAULT.sealed, position)
        assert checks is not None
        assert {one.what: one.left for one in checks if one.left} == {}
        assert {one.what: one.shut for one in checks}["events"] == shut
    assert await left_of(line.store, line.keyring, line.kept, DEFAULT.sealed, 1) is None
    assert await left_of(line.store, line.keyring, line.kept, OTHER.sealed, 3) is None


async def test_an_erasure_that_breaks_off_has_changed_nothing(line: Line) -> None:
    await line.record(*[said(f"at {at}", who=[ANA], at_seconds=at) for at in (100, 200)])
    erasure_id = str(uuid4())
    async with held_head(line.url):
        erasing = asyncio.create_task(line.erase(key_of(ANA), since=150, erasure_id=erasure_id))
        await asyncio.sleep(0.1)
        assert len(await line.owner("SELECT FROM event_keys")) == 1
        (waits,) = await line.owner(
            "SELECT pid FROM pg_stat_activity WHERE query LIKE '%erase_identities%'"
            " AND wait_event_type = 'Lock'"
        )
        await line.owner("SELECT pg_terminate_backend($1)", waits["pid"])
        with pytest.raises(Exception, match="can't be reached"):
            await erasing
    assert await texts(line) == ["at 100", "at 200"]
    assert (await line.verified()).problems == []
    # A wider erasure in between must not leave the key that was kept for the first.
    await line.erase(key_of(ANA), before=150)
    await line.erase(key_of(ANA), since=150, erasure_id=erasure_id)
    assert await texts(line) == [None, None, "profile_erased", "profile_erased"]
    assert await line.owner("SELECT FROM event_keys") == []


async def test_events_of_an_older_release_are_erased_whole_only(line: Line) -> None:
    wrapped = MASTER_KEY.wrap(bytes(range(32)), 1, key_of(ANA))
    await line.owner("INSERT INTO data_keys VALUES (1, $1, $2)", key_of(ANA), wrapped)
    await line.record(*[said(f"at {at}", who=[ANA], at_seconds=at) for at in (100, 200)])
    assert {record.event_secret_id for record in await records_of(line.store)} == {b""}
    with pytest.raises(ErasureRefused, match="position 2 was recorded by a release that sealed"):
        await line.erase(key_of(ANA), since=150)
    answer = await line.erase(key_of(ANA), since=300)
    assert (answer.erased_events, answer.kept_events) == (0, 2)
    # From then on it has a secret of its own.
    await line.record(said("at 300", who=[ANA], at_seconds=300))
    await line.erase(key_of(ANA), since=300)
    assert await texts(line) == ["at 100", "at 200", "profile_erased", None, "profile_erased"]
    await line.erase(key_of(ANA))
    assert (await texts(line))[:2] == [None, None]
    assert (await line.verified()).problems == []


async def test_an_erasure_that_makes_no_sense_is_refused(line: Line) -> None:
    await line.record(said("hello", who=[ANA]))
    for keys, options, told in (
        ((), {}, "1 to 5,000 identities"),
        ((b"short",), {}, "have 16 bytes"),
        ((key_of(ANA), key_of(ANA)), {}, "named once"),
        ((key_of(ANA),), {"since": 5, "before": 5}, "ends before it begins"),
        ((key_of(ANA),), {"erasure_id": "seven"}, "no UUID"),
    ):
        with pytest.raises(ValueError, match=told):
            await line.erase(*keys, **options)
    with pytest.raises(NothingToErase):
        await line.erase(key_of(BO))
    with pytest.raises(NothingToErase):
        await line.erase(key_of(ANA), by=OTHER)
    assert (await line.store.head()).position == 1


async def test_a_rejected_event_that_is_erased_meanwhile_is_not_retried(line: Line) -> None:
    era = await line.keyring.renewed()
    event = said("kept among the rejected", who=[ANA])
    await line.record(said("hello", who=[ANA]))
    async with open_line(line.url) as other:
        await other.erase(key_of(ANA))
    with pytest.raises(SealsStale):
        await line.recorder.record(DEFAULT, [event], "", keeps_rejected=False, era=era)
    assert await texts(line) == [None, "profile_erased"]


async def test_after_an_erasure_the_deleted_rows_are_swept(line: Line) -> None:
    await line.record(said("hello", who=[ANA]))
    await line.erase(key_of(ANA))
    await sweep(line.url)
    await line.owner("CREATE EXTENSION IF NOT EXISTS pageinspect")
    (dead,) = await line.owner(
        "SELECT count(*) FROM heap_page_items(get_raw_page('data_keys', 0)) WHERE t_xmax <> 0"
    )
    assert dead["count"] == 0
