"""A checker that can fail: an event dropped, swapped or doubled anywhere is found, and named.

In the feed and in projections; what is found in the store itself is in test_store_verification.
Invariants 4 and 8.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import nats.js.errors
import pytest
from nats.aio.client import Client as NatsClient

from libs.embedded import create_database, database_url_for, drop_database
from libs.eventstore import feed
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.feed.verification import FeedVerification, verify_feed
from libs.eventstore.server import serve_store
from libs.postgres.pool import open_pool
from libs.projection.identity_graph import IdentityGraph
from libs.projection.projection import Connection, Projection, Recorded
from libs.projection.runner import Runner
from libs.projection.timeline import Timeline
from libs.projection.verifying.comparing import ProjectionVerification, verify_projection
from libs.projection.verifying.copying import SCHEMA_PREFIX, Unverifiable
from libs.tasks import running
from tests.servers import SharedPostgres, start_nats
from tests.services import build_views
from tests.store import DEFAULT, Line, build_store, email, handle, open_line, said
from touchline.store.v1.store_pb2 import AppendRequest, AppendResponse, EventBatch

EVENTS = 7


@dataclass(frozen=True, slots=True)
class Checked:
    """A line of seven events, a NATS without a relay, and a database of projections.

    Attributes:
        line: The store.
        connection: To NATS, as the store has it.
        client: The store, as a service sees it.
        pool: Connections to the database of the projections.
        url: Of that database.
    """

    line: Line
    connection: NatsClient
    client: StoreClient
    pool: asyncpg.Pool
    url: str

    async def publish(self, batches: Sequence[EventBatch], names: dict[int, str]) -> None:
        """Makes the feed's stream anew, with these messages; `names` replaces message ids."""
        jetstream = self.connection.jetstream()
        with suppress(nats.js.errors.NotFoundError):
            await jetstream.delete_stream(feed.STREAM)
        await feed.ensure_stream(jetstream)
        for number, batch in enumerate(batches):
            # A name of its own for each: JetStream itself drops what has the same.
            name = names.get(number, feed.message_id(batch))
            headers = {feed.MESSAGE_ID: name}
            await jetstream.publish(feed.SUBJECT, batch.SerializeToString(), headers=headers)

    async def feed(self) -> FeedVerification:
        """Verifies the feed; its messages are counted from 1 in what is told."""
        found = [state async for state in verify_feed(self.connection, self.line.store)][-1]
        jetstream = self.connection.jetstream()
        first = (await jetstream.stream_info(feed.STREAM)).state.first_seq
        found.problems = [
            re.sub(r"message (\d+)", lambda told: f"message {int(told[1]) - first + 1}", problem)
            for problem in found.problems
        ]
        return found

    async def projection(self, projection: Projection) -> ProjectionVerification:
        """Verifies a projection."""
        states = verify_projection(projection, self.url, self.client)
        return [state async for state in states][-1]

    async def fold(self, *projections: Projection) -> None:
        """Folds projections up to the head, and stops."""
        for projection in projections:
            runner = Runner(projection, self.pool, self.client, uuid4())
            head = (await self.line.store.head()).position
            async with running(runner.run()):
                while runner.checkpoint.position < head:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.01)
            await runner.stop()

    async def copies(self) -> int:
        """How many schemas of copies there are."""
        count = "SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, $1)"
        return int(await self.pool.fetchval(count, SCHEMA_PREFIX))


@pytest.fixture(scope="module")
async def checked(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Checked]:
    """Seven events of three customers, one of whom has two identities; all folded."""
    for name, builder in (("checked_events", build_store), ("checked_views", build_views)):
        await create_database(servers.url, name, await servers.template(builder))
    events, views = (database_url_for(servers.url, f"checked_{n}") for n in ("events", "views"))
    server = await start_nats(tmp_path_factory.mktemp("nats"))
    async with (
        open_line(events) as line,
        connect_nats(server.url, "store") as connection,
        connect_nats(server.service_url, "service") as services,
        open_pool(views, application="test") as pool,
    ):
        both = [email("bo@example.org"), handle("bo")]
        await line.record(said("one"), said("two", who=both), said("three", who=both))
        await line.record(*(said(f"more {n}", who=[email(f"{n}@example.org")]) for n in range(4)))

        async def append(request: AppendRequest, traceparent: str) -> AppendResponse:
            return await line.recorder.append(DEFAULT, request, traceparent)

        async with serve_store(connection, line.store, line.keyring, append, line.erases):
            await connection.flush()
            found = Checked(line, connection, StoreClient(services), pool, views)
            await found.publish([], {})
            await found.fold(Timeline(), IdentityGraph())
            for table in ("timeline", "identities"):
                await pool.execute(f"CREATE TABLE whole_{table} AS TABLE {table}")
            yield found
    await server.stop()
    for url in (events, views):
        await drop_database(servers.url, url.rpartition("/")[2])


async def singles(line: Line, first: int = 1) -> list[EventBatch]:
    """The line from a position on as batches of one event each."""
    return [await line.store.history(after, page_bytes=1) for after in range(first - 1, EVENTS)]


async def test_a_feed_that_is_the_lines_end_is_found_whole(checked: Checked) -> None:
    whole = await checked.line.store.history(0)
    for batches in ([whole], await singles(checked.line), await singles(checked.line, 4), []):
        await checked.publish(batches, {})
        found = await checked.feed()
        assert (found.problems, found.finished) == ([], True)
        assert found.checked_batches == found.batches == len(batches)
        assert (found.head, found.last) == (EVENTS, EVENTS if batches else 0)
        assert found.first == (batches[0].first if batches else 0)
        assert found.checked_events == sum(len(batch.events) for batch in batches)


async def test_a_feed_that_is_behind_is_no_problem(checked: Checked) -> None:
    await checked.publish((await singles(checked.line))[:5], {})
    found = await checked.feed()
    assert (found.problems, found.last, found.head) == ([], 5, EVENTS)


async def test_a_feed_that_is_not_there_is_empty(checked: Checked) -> None:
    await checked.publish([], {})
    await checked.connection.jetstream().delete_stream(feed.STREAM)
    found = [state async for state in verify_feed(checked.connection, checked.line.store)]
    assert [(state.problems, state.batches, state.finished) for state in found] == [([], 0, True)]


def _dropped(batches: list[EventBatch]) -> None:
    del batches[3]


def _swapped(batches: list[EventBatch]) -> None:
    batches[2], batches[3] = batches[3], batches[2]


def _doubled(batches: list[EventBatch]) -> None:
    batches.insert(3, batches[2])


def _other_store(batches: list[EventBatch]) -> None:
    batches[3].store_id = bytes(16)


def _other_chain_before(batches: list[EventBatch]) -> None:
    batches[3].previous_chain = bytes(32)


def _other_chain(batches: list[EventBatch]) -> None:
    batches[6].chain = bytes(32)


def _other_record(batches: list[EventBatch]) -> None:
    batches[3].events[0].record += b"\0"


def _other_time(batches: list[EventBatch]) -> None:
    batches[3].events[0].recorded_at_us += 1


def _other_content(batches: list[EventBatch]) -> None:
    batches[3].events[0].content_hash = bytes(32)


def _miscounted(batches: list[EventBatch]) -> None:
    batches[6].last += 1


def _past_the_head(batches: list[EventBatch]) -> None:
    after = EventBatch()
    after.CopyFrom(batches[-1])
    after.first, after.last, after.previous_chain = EVENTS + 1, EVENTS + 1, batches[-1].chain
    batches.append(after)


TAMPERINGS: dict[str, tuple[Callable[[list[EventBatch]], None], str]] = {
    "an event dropped": (_dropped, "event 4 missing before message 4 (event 5)"),
    "two events swapped": (_swapped, "event 3 missing before message 3 (event 4)"),
    "an event doubled": (_doubled, "message 4 (event 3) begins before event 3"),
    "another store's": (_other_store, "message 4 (event 4) comes from another store"),
    "another chain before": (_other_chain_before, "does not continue the chain at event 3"),
    "another chain": (_other_chain, "(event 7) has events that its chain does not cover"),
    "another record": (_other_record, "event 4 has another record than in the store"),
    "another time": (_other_time, "event 4 has another recorded_at_us than in the store"),
    "another content": (_other_content, "event 4 has another content_hash than in the store"),
    "miscounted": (_miscounted, "message 7 (events 7 to 8) holds 1 of them"),
    "past the head": (_past_the_head, "goes on after event 7, where the store ends"),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_verify_finds_in_the_feed(checked: Checked, tampering: str) -> None:
    tamper, problem = TAMPERINGS[tampering]
    batches = await singles(checked.line)
    tamper(batches)
    await checked.publish(batches, {number: f"name-{number}" for number in range(8)})
    unnamed = [told for told in (await checked.feed()).problems if "is not named" not in told]
    assert any(problem in told for told in unnamed), unnamed


async def test_verify_finds_an_event_doubled_dropped_or_swapped_within_a_message(
    checked: Checked,
) -> None:
    for tamper in (_dropped, _swapped, _doubled):
        batch = await checked.line.store.history(0)
        events = list(batch.events)
        tamper(events)  # type: ignore[arg-type]  # lists are all alike to it
        del batch.events[:]
        batch.events.extend(events)
        await checked.publish([batch], {})
        problems = (await checked.feed()).problems
        assert any("its chain does not cover" in told for told in problems), problems
        assert any("than in the store" in told for told in problems), problems


async def test_verify_finds_a_message_by_another_name_and_one_that_is_no_batch(
    checked: Checked,
) -> None:
    await checked.publish(await singles(checked.line), {3: "4:abc"})
    await checked.connection.jetstream().publish(feed.SUBJECT, b"\xff\xff")
    found = await checked.feed()
    assert found.problems == [
        "message 4 (event 4) is not named after where it ends",
        "message 8 is no batch of events",
    ]


@pytest.fixture
async def tables(checked: Checked) -> AsyncIterator[Checked]:
    """The projections' tables as they were folded."""
    yield checked
    for table in ("timeline", "identities"):
        await checked.pool.execute(f"TRUNCATE {table}")
        await checked.pool.execute(f"INSERT INTO {table} TABLE whole_{table}")


async def test_a_projection_as_it_was_folded_is_found_equal(tables: Checked) -> None:
    for projection in (Timeline(), IdentityGraph()):
        found = await tables.projection(projection)
        assert found.is_equal
        assert (found.folded, found.events) == (EVENTS, EVENTS)
        assert [table.table for table in found.tables] == [t.name for t in projection.tables]
        assert all(table.live_rows == table.copied_rows for table in found.tables)
        assert found.tables[0].live_rows == {"timeline": 7, "identity_graph": 7}[projection.name]
    assert await tables.copies() == 0


_OF = "(SELECT event_id FROM timeline WHERE position = {})"
ROWS = {
    "a row deleted": ("DELETE FROM timeline WHERE position = 3", (6, 7, 1)),
    "two rows' values swapped": (
        "UPDATE timeline a SET record = b.record FROM timeline b"
        " WHERE a.position IN (3, 4) AND b.position = 7 - a.position",
        (7, 7, 4),
    ),
    "a row doubled under another key": (
        "INSERT INTO timeline SELECT tenant, owner_key, occurred_at_us + 1, event_id, position,"
        " recorded_at_us, type, channel, direction, record FROM timeline WHERE position = 3",
        (8, 7, 1),
    ),
    "a byte of a row": (
        "UPDATE timeline SET record = set_byte(record, 9, get_byte(record, 9) # 1)"
        " WHERE position = 3",
        (7, 7, 2),
    ),
}


@pytest.mark.parametrize("tampering", ROWS)
async def test_verify_finds_in_a_projection(tables: Checked, tampering: str) -> None:
    statement, numbers = ROWS[tampering]
    name = await tables.pool.fetchval(_OF.format(3))
    await tables.pool.execute(statement)
    found = await tables.projection(Timeline())
    timeline, retractions = found.tables
    assert not found.is_equal
    assert (timeline.live_rows, timeline.copied_rows, timeline.differing_rows) == numbers
    assert retractions.differing_rows == 0
    assert len(timeline.differences) == timeline.differing_rows
    assert any(str(name) in one.row for one in timeline.differences)
    if tampering == "a row deleted":
        assert not timeline.differences[0].is_live
    if tampering == "a row doubled under another key":
        assert timeline.differences[0].is_live


async def test_a_thousand_differences_are_counted_and_twenty_told(tables: Checked) -> None:
    await tables.pool.execute(
        "INSERT INTO identities SELECT tenant, sha256(identity_key || n::text::bytea), kind,"
        " namespace_key, first_position, root_key, sealed_value, key_id, sealed_position"
        " FROM identities, generate_series(1, 1000) AS n WHERE first_position = 1"
    )
    identities, *_ = (await tables.projection(IdentityGraph())).tables
    assert (identities.differing_rows, len(identities.differences)) == (1000, 20)


async def test_parked_customers_wait_in_the_copy_as_they_do_in_the_live_tables(
    tables: Checked,
) -> None:
    ((owner, event_id),) = await tables.pool.fetch(
        "SELECT owner_key, event_id FROM timeline WHERE position = 2"
    )
    await tables.pool.execute("DELETE FROM timeline WHERE position = 3")
    await tables.pool.execute(
        "INSERT INTO parked_keys"
        " (generation, projection, tenant, owner_key, position, event_id, error)"
        " SELECT id, projection, 1, $1, 3, $2, 'ValueError'"
        " FROM projection_generations WHERE projection = 'timeline'",
        *(owner, event_id),
    )
    found = await tables.projection(Timeline())
    await tables.pool.execute("DELETE FROM parked_keys")
    assert (found.is_equal, found.parked, found.tables[0].copied_rows) == (True, 1, 6)


async def test_only_one_verifies_and_what_a_killed_one_left_goes(tables: Checked) -> None:
    await tables.pool.execute(f"CREATE SCHEMA {SCHEMA_PREFIX}left_over")
    await tables.pool.execute(f"CREATE TABLE {SCHEMA_PREFIX}left_over.timeline (a text)")
    async with aclosing(verify_projection(Timeline(), tables.url, tables.client)) as first:
        await anext(first)
        assert await tables.copies() == 1
        with pytest.raises(Unverifiable, match="another verification is under way"):
            await tables.projection(IdentityGraph())
    assert await tables.copies() == 0  # also of one that was closed half-way
    assert (await tables.projection(IdentityGraph())).is_equal


async def test_a_cancelled_verification_leaves_nothing(tables: Checked) -> None:
    class Slow(Timeline):
        def copy(self) -> Timeline:
            return Slow()

        async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
            await super().apply(connection, events)
            under_way.set()
            await connection.execute("SELECT pg_sleep(30)")

    under_way = asyncio.Event()
    verifying = asyncio.create_task(tables.projection(Slow()))
    await asyncio.wait_for(under_way.wait(), 30)
    await asyncio.sleep(0.1)  # PostgreSQL does not hear of it before it sleeps
    verifying.cancel()
    await asyncio.wait([verifying], timeout=10)
    assert verifying.cancelled()
    assert await tables.copies() == 0
    assert (await tables.projection(Timeline())).is_equal


async def test_what_can_not_be_compared_says_why(tables: Checked) -> None:
    class Reactor(Timeline):
        def copy(self) -> None:  # type: ignore[override]
            """Only one may act."""

    class Newer(Timeline):
        fold_version = 9

    class Unknown(Timeline):
        name = "unknown"

    class Failing(Timeline):
        def copy(self) -> Timeline:
            return Failing()

        async def prepare(self, events: Sequence[Recorded]) -> None:  # noqa: ARG002
            raise ValueError("ana@example.org")

    for projection, why in (
        (Reactor(), "acts on what it folds"),
        (Newer(), "never folded in this database by version 9"),
        (Unknown(), "never folded in this database"),
        (Failing(), r"events from 1 to 7 can't be folded into the copy .* \(ValueError in prepare"),
    ):
        with pytest.raises(Unverifiable, match=why) as refused:
            await tables.projection(projection)
        assert "ana" not in str(refused.value)
    assert await tables.copies() == 0


async def test_a_checkpoint_off_the_line_and_a_halted_one_are_told(tables: Checked) -> None:
    statement = "UPDATE projection_checkpoints SET {} WHERE projection = 'timeline'"
    for change, back, why in (
        ("chain = '\\x00'", "chain = $1", "has another chain at position 7"),
        (
            "position = 9",
            "position = 7, chain = $1",
            "ends at position 7, and timeline stands",
        ),
        ("halt_reason = 'a fork'", "halt_reason = '', chain = $1", "halted: a fork"),
    ):
        chain = (await tables.line.store.head()).chain
        await tables.pool.execute(statement.format(change))
        with pytest.raises(Unverifiable, match=why):
            await tables.projection(Timeline())
        await tables.pool.execute(statement.format(back), chain)


async def test_a_projection_is_verified_while_it_goes_on(tables: Checked) -> None:
    # The last test: from here on there are eight events.
    states: list[ProjectionVerification] = []
    async with aclosing(verify_projection(Timeline(), tables.url, tables.client)) as told:
        async for state in told:
            if not states:
                await tables.line.record(said("meanwhile"))
                await tables.fold(Timeline())
            states.append(state)
    assert states[-1].is_equal
    assert [state.folded for state in states] == [EVENTS, EVENTS + 1, EVENTS + 1]
