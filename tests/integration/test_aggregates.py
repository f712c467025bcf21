"""Aggregates on the line: what the library's own cases do not ask."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import asyncpg
import pytest
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import (
    DatabaseError,
    DataError,
    IntegrityError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
)

from libs.eventstore import aggregates
from libs.eventstore.aggregates.recorders import LineAggregateRecorder, LineApplicationRecorder
from libs.eventstore.aggregates.stored import SNAPSHOTS
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.records import open_event
from tests.aggregates import Lent, build_stores, lent_line
from tests.servers import MakeDatabase, OwnNats
from tests.store import DEFAULT, records_of, said, tamper
from touchline.events.v1.event_pb2 import (
    ACTOR_KIND_SYSTEM,
    EVENT_TYPE_AGGREGATE_CHANGED,
    EVENT_TYPE_INTERACTION,
    Event,
)
from touchline.store.v1.store_pb2 import AppendEvent


class Promise(Aggregate):
    """What a customer was promised."""

    @event("Given")
    def __init__(self, to: str) -> None:
        self.to = to
        self.moved = 0

    @event("Moved")
    def move(self) -> None:
        self.moved += 1


class Promises(Application[UUID]):
    name = "promises"


def _moved(promise: Promise) -> Promise:
    promise.move()
    return promise


def _other(told: Event) -> AppendEvent:
    return AppendEvent(event=said("Something else", event_id=told.event_id))


@pytest.fixture
async def lent(database_from_template: MakeDatabase, nats: OwnNats) -> AsyncIterator[Lent]:
    async with lent_line(await database_from_template(build_stores), nats) as lent:
        yield lent


def recorder_of(lent: Lent, application: str = "promises") -> LineApplicationRecorder:
    return LineApplicationRecorder(lent.borrowed, application)


def change(aggregate_id: UUID | str, version: int, state: bytes = b"{}") -> StoredEvent:
    return StoredEvent(aggregate_id, version, "module:Promise.Moved", state)


async def test_one_of_32_writers_has_each_version(lent: Lent) -> None:
    recorder, aggregate_id, versions = recorder_of(lent), uuid4(), 8

    def write(writer: int) -> list[int]:
        won = []
        for version in range(versions):
            try:
                recorder.insert_events([change(aggregate_id, version, b"%d" % writer)])
            except IntegrityError:
                continue
            won.append(version)
        return won

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(max_workers=32) as writers:
        won = await asyncio.gather(
            *(loop.run_in_executor(writers, write, writer) for writer in range(32))
        )
    assert sorted(version for versions_won in won for version in versions_won) == [*range(versions)]
    stored = await asyncio.to_thread(recorder.select_events, aggregate_id)
    assert [int(one.state) for one in stored] == [
        next(writer for writer, mine in enumerate(won) if version in mine)
        for version in range(versions)
    ]
    assert (await lent.line.store.head()).position == versions


async def test_an_append_whose_answer_was_lost_is_recorded_once(
    database_from_template: MakeDatabase, nats: OwnNats
) -> None:
    url = await database_from_template(build_stores)
    async with lent_line(url, nats, patience=0.5) as lent:
        recorder, aggregate_id = recorder_of(lent), uuid4()
        lent.lose_answers = 2
        save = [change(aggregate_id, 1), change(aggregate_id, 2)]
        assert await asyncio.to_thread(recorder.insert_events, save) == [1, 2]
        assert lent.lose_answers == 0
        assert (await lent.line.store.head()).position == 2
        with pytest.raises(IntegrityError, match="another writer has version 1"):
            await asyncio.to_thread(recorder.insert_events, save)


async def test_an_aggregate_is_loaded_as_it_was_saved(lent: Lent) -> None:
    promises = Promises(env=lent.environment)

    def give_and_move() -> tuple[UUID, Promise]:
        promise = Promise(to="Ana")
        promises.save(promise)
        promise.move()
        promise.move()
        promises.save(promise)
        return promise.id, promises.repository.get(promise.id)

    promise_id, loaded = await asyncio.to_thread(give_and_move)
    assert (loaded.to, loaded.moved, loaded.version) == ("Ana", 2, 3)
    with pytest.raises(AggregateNotFoundError):
        await asyncio.to_thread(promises.repository.get, uuid4())
    other = aggregates.Factory(promises.env)
    assert len(await asyncio.to_thread(other.aggregate_recorder().select_events, promise_id)) == 3


async def test_a_save_of_two_aggregates_is_all_or_nothing(lent: Lent) -> None:
    recorder, one, other = recorder_of(lent), uuid4(), uuid4()
    await asyncio.to_thread(recorder.insert_events, [change(one, 1)])
    with pytest.raises(IntegrityError):
        await asyncio.to_thread(recorder.insert_events, [change(other, 1), change(one, 1)])
    assert await asyncio.to_thread(recorder.select_events, other) == []


async def test_applications_and_snapshots_have_streams_of_their_own(lent: Lent) -> None:
    promises, rules = recorder_of(lent), recorder_of(lent, "rules")
    snapshots = LineAggregateRecorder(lent.borrowed, "promises", SNAPSHOTS)
    same = uuid4()
    await lent.line.record(said("a fact"))
    assert await asyncio.to_thread(promises.insert_events, [change(same, 1, b"promise")]) == [2]
    assert await asyncio.to_thread(rules.insert_events, [change(same, 1, b"rule")]) == [3]
    assert await asyncio.to_thread(snapshots.insert_events, [change(same, 1, b"all")]) is None
    await lent.line.record(said("another fact"))
    assert await asyncio.to_thread(promises.insert_events, [change(same, 2)]) == [6]
    (snapshot,) = await asyncio.to_thread(snapshots.select_events, same)
    assert snapshot.state == b"all"

    def ids(recorder: LineApplicationRecorder) -> list[int]:
        return [one.id for one in recorder.select_notifications(None, 10)]

    assert await asyncio.to_thread(ids, promises) == [2, 6]
    assert await asyncio.to_thread(ids, rules) == [3]
    assert await asyncio.to_thread(promises.max_notification_id) == 6
    assert await asyncio.to_thread(rules.max_notification_id) == 3
    assert await asyncio.to_thread(recorder_of(lent, "none").max_notification_id) is None


async def test_a_log_far_between_others_is_found(lent: Lent) -> None:
    promises, rules = recorder_of(lent), recorder_of(lent, "rules")

    def insert() -> None:
        rules.insert_events([change("first", 1)])
        for start in range(0, 450, 150):
            promises.insert_events([change("many", start + step) for step in range(150)])
        rules.insert_events([change("last", 1)])
        promises.insert_events([change("many", 450 + step) for step in range(150)])

    await asyncio.to_thread(insert)
    for limit in (1, 2, 10):
        found = await asyncio.to_thread(rules.select_notifications, None, limit)
        names = [(one.id, one.originator_id) for one in found]
        assert names == [(1, "first"), (452, "last")][:limit]
    assert await asyncio.to_thread(rules.select_notifications, 1, 9, 451) == found[:1]
    assert await asyncio.to_thread(rules.select_notifications, 2, 9, 451) == []
    assert await asyncio.to_thread(rules.max_notification_id) == 452
    many = await asyncio.to_thread(promises.select_notifications, None, 1000)
    assert [one.originator_version for one in many] == [*range(600)]


@pytest.mark.parametrize(
    "aggregate_id", ["a", " a", "A ", "urn", "8" * 32, str(UUID(int=7)), UUID(int=7)]
)
async def test_an_aggregates_id_comes_back_as_it_was(lent: Lent, aggregate_id: UUID | str) -> None:
    recorder = recorder_of(lent)
    await asyncio.to_thread(recorder.insert_events, [change(aggregate_id, 0)])
    await asyncio.to_thread(recorder.insert_events, [change(f"{aggregate_id}.", 0)])
    (stored,) = await asyncio.to_thread(recorder.select_events, aggregate_id)
    (notification, _) = await asyncio.to_thread(recorder.select_notifications, None, 9)
    for found in (stored, notification):
        assert (found.originator_id, type(found.originator_id)) == (
            aggregate_id,
            type(aggregate_id),
        )


async def test_streams_longer_than_a_page_are_read_whole_in_both_directions(lent: Lent) -> None:
    recorder, aggregate_id = recorder_of(lent), uuid4()
    for version in range(1, 8):
        await asyncio.to_thread(
            recorder.insert_events, [change(aggregate_id, version, b"x" * 200 * 1024)]
        )
    await lent.line.record(said("a fact"))

    def versions(**what: int | bool | None) -> list[int]:
        stored = recorder.select_events(aggregate_id, **what)  # type: ignore[arg-type]
        return [one.originator_version for one in stored]

    assert await asyncio.to_thread(versions) == [*range(1, 8)]
    assert await asyncio.to_thread(lambda: versions(desc=True)) == [*range(7, 0, -1)]
    assert await asyncio.to_thread(lambda: versions(gt=1, lte=6, limit=4)) == [2, 3, 4, 5]
    assert await asyncio.to_thread(lambda: versions(lte=6, desc=True, limit=5)) == [6, 5, 4, 3, 2]
    assert await asyncio.to_thread(lambda: versions(gt=7)) == []
    assert await asyncio.to_thread(lambda: versions(limit=0)) == []
    log = await asyncio.to_thread(recorder.select_notifications, None, 100)
    assert [one.id for one in log] == [*range(1, 8)]


async def test_a_save_says_its_cause_and_its_time(lent: Lent) -> None:
    promises, cause = Promises(env=lent.environment), str(uuid4())
    at = datetime(2026, 3, 1, 9, 30, 0, 123457, tzinfo=UTC)
    await asyncio.to_thread(
        lambda: promises.save(Promise(to="Ana"), causation_id=cause, occurred_at=at)
    )
    (record,) = await records_of(lent.line.store)
    opened = open_event(record, await lent.client.keys_of(1, [record]))
    assert opened is not None
    assert (opened.causation_id, opened.source) == (cause, "promises")
    assert (opened.actor.kind, opened.actor.reference) == (ACTOR_KIND_SYSTEM, "promises")
    assert opened.occurred_at.ToDatetime(UTC) == at
    assert (record.type, record.historical) == (EVENT_TYPE_AGGREGATE_CHANGED, False)
    with pytest.raises(TypeError, match="caused"):
        await asyncio.to_thread(lambda: promises.save(Promise(to="Bo"), caused=cause))


async def test_a_save_and_its_facts_are_on_the_line_together_or_not_at_all(lent: Lent) -> None:
    promises, told = Promises(env=lent.environment), said("Your promise was kept")
    facts = [AppendEvent(event=told)]
    await lent.line.record(said("before"))
    promise = Promise(to="Ana")
    (recording,) = await asyncio.to_thread(lambda: promises.save(promise, facts=facts))
    assert recording.notification.id == 2
    _, changed, fact = await records_of(lent.line.store)
    assert (changed.type, fact.event_id) == (
        EVENT_TYPE_AGGREGATE_CHANGED,
        UUID(told.event_id).bytes,
    )
    assert (fact.type, fact.stream_id) == (EVENT_TYPE_INTERACTION, b"")

    theirs: Promise = await asyncio.to_thread(promises.repository.get, promise.id)
    promise.move()
    await asyncio.to_thread(promises.save, promise)
    theirs.move()
    with pytest.raises(IntegrityError, match="another writer has version"):
        await asyncio.to_thread(
            lambda: promises.save(theirs, facts=[AppendEvent(event=said("It was not"))])
        )
    with pytest.raises(IntegrityError, match=told.event_id):
        await asyncio.to_thread(lambda: promises.save(_moved(promise), facts=[_other(told)]))
    refused = said("No event", event_id="no id")
    with pytest.raises(DataError, match="event_id"):
        await asyncio.to_thread(
            lambda: promises.save(Promise(to="Bo"), facts=[AppendEvent(event=refused)])
        )
    with pytest.raises(ProgrammingError, match="facts go with a change"):
        await asyncio.to_thread(lambda: promises.save(facts=[AppendEvent(event=said("Alone"))]))
    assert (await lent.line.store.head()).position == 4


async def test_a_lost_answer_records_neither_the_save_nor_its_facts_twice(
    database_from_template: MakeDatabase, nats: OwnNats
) -> None:
    url = await database_from_template(build_stores)
    async with lent_line(url, nats, patience=0.5) as lent:
        promises, lent.lose_answers = Promises(env=lent.environment), 1
        facts = [AppendEvent(event=said("Given"))]
        (recording,) = await asyncio.to_thread(
            lambda: promises.save(Promise(to="Ana"), facts=facts)
        )
        assert recording.notification.id == 1
        assert (await lent.line.store.head()).position == 2


async def test_nothing_of_an_aggregate_is_in_the_clear_and_verify_finds_nothing(lent: Lent) -> None:
    recorder = recorder_of(lent)
    stored = StoredEvent("for-ana@example.org", 1, "module:Promise.Given", b'{"to": "Ana"}')
    await asyncio.to_thread(recorder.insert_events, [stored])
    (row,) = await lent.line.owner("SELECT * FROM events")
    told = b"".join(str(value).encode() + bytes(row["record"]) for value in row.values())
    for secret in (b"ana", b"Ana", b"Promise", b"promises"):
        assert secret not in told
    found = await lent.line.verified()
    assert (found.checked, found.sealed, found.problems) == (1, 0, [])


async def test_an_erased_aggregate_is_gone_and_the_others_stay(
    database_from_template: MakeDatabase, nats: OwnNats
) -> None:
    url = await database_from_template(build_stores)
    async with lent_line(url, nats) as lent:
        recorder = recorder_of(lent)
        await asyncio.to_thread(recorder.insert_events, [change("erased", 1), change("kept", 1)])
        first, _ = await records_of(lent.line.store)
        await lent.line.owner("DELETE FROM data_keys WHERE identity_key = $1", first.owner_key)
    async with lent_line(url, nats) as restarted:
        recorder = recorder_of(restarted)
        assert await asyncio.to_thread(recorder.select_events, "erased") == []
        (kept,) = await asyncio.to_thread(recorder.select_notifications, None, 9)
        assert (kept.id, kept.originator_id) == (2, "kept")
        assert await asyncio.to_thread(recorder.max_notification_id) == 2
        with pytest.raises(IntegrityError):  # its versions stay taken
            await asyncio.to_thread(recorder.insert_events, [change("erased", 1)])
        assert await asyncio.to_thread(recorder.select_notifications, None, 9) == [kept]
        assert await asyncio.to_thread(recorder.select_events, "erased") == []


async def test_a_changed_place_in_a_stream_is_noticed(lent: Lent) -> None:
    recorder = recorder_of(lent)
    await asyncio.to_thread(recorder.insert_events, [change("one", 1), change("other", 1)])
    await tamper(
        lent.line,
        "UPDATE events SET stream_version = 2, stream_id = (SELECT stream_id FROM events "
        "WHERE position = 1) WHERE position = 2",
    )
    with pytest.raises(InternalError, match="event 2 is of another stream"):
        await asyncio.to_thread(recorder.select_events, "one")
    assert (await lent.line.verified()).problems


async def test_what_the_store_does_not_take_is_said(lent: Lent) -> None:
    recorder = recorder_of(lent)
    for wrong, problem in (
        ([change("many", version) for version in range(1001)], "at most 1000 events, not 1001"),
        ([change("large", 1, b"x" * 300 * 1024)], "may have 262,144"),
        ([change("", 1)], "value: is empty"),
        ([change("a\nb", 1)], "control character"),
        ([change("urn:uuid:1", 1)], "give the UUID itself"),
        ([change("below", -1)], "start at 0, not at -1"),
        ([StoredEvent("topic", 1, "t" * 513, b"")], "aggregate_changed.topic has 513"),
    ):
        with pytest.raises(DataError, match=problem):
            await asyncio.to_thread(recorder.insert_events, wrong)
    with pytest.raises(DatabaseError, match="larger than NATS takes"):
        await asyncio.to_thread(recorder.insert_events, [change("huge", 1, b"x" * 2**20)])
    tracked = partial(recorder.insert_events, [change("a", 1)], tracking=Tracking("upstream", 1))
    with pytest.raises(NotSupportedError, match="tracking"):
        await asyncio.to_thread(tracked)
    assert (await lent.line.store.head()).position == 0


async def test_a_store_that_is_not_there_is_an_operational_error(nats: OwnNats) -> None:
    async with connect_nats(nats.service_url, "service") as connection:
        client = StoreClient(connection, timeout=1)
        with aggregates.lend(client, DEFAULT.tenant, DEFAULT.identity_keys) as environment:
            promises = Promises(env=environment)
            with pytest.raises(OperationalError, match="is the ingestion service running"):
                await asyncio.to_thread(promises.save, Promise(to="Ana"))
            with pytest.raises(OperationalError):
                await asyncio.to_thread(promises.repository.get, uuid4())
            with pytest.raises(ProgrammingError, match="lend it with its pool"):
                promises.factory.tracking_recorder()
        with pytest.raises(ProgrammingError, match="no line that is lent now"):
            Promises(env=environment)


async def test_a_call_on_the_services_loop_is_refused_and_does_not_hang(lent: Lent) -> None:
    promises = Promises(env=lent.environment)
    with pytest.raises(ProgrammingError, match=r"asyncio\.to_thread"):
        promises.save(Promise(to="Ana"))
    with pytest.raises(ProgrammingError, match="has no name"):
        aggregates.Factory(lent.environment).application_recorder()


class Counted(aggregates.LineTrackingRecorder):
    """A view: how many promises moved."""

    def count(self, tracking: Tracking) -> None:
        self.line.run(self._count(tracking))

    async def _count(self, tracking: Tracking) -> None:
        assert self.line.pool is not None
        async with self.line.pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE counted SET moves = moves + 1")
            await self.track(connection, tracking)


async def test_a_views_state_and_tracking_commit_together(lent: Lent) -> None:
    await lent.line.owner("CREATE TABLE counted AS SELECT 0 AS moves")
    view, other = Counted(lent.borrowed, "counted"), Counted(lent.borrowed, "other")
    await asyncio.to_thread(view.count, Tracking("promises", 4))
    await asyncio.to_thread(other.insert_tracking, Tracking("promises", 2))
    with pytest.raises(IntegrityError, match="has come to 3 of promises before"):
        await asyncio.to_thread(view.count, Tracking("promises", 3))
    (row,) = await lent.line.owner("SELECT moves FROM counted")
    assert row["moves"] == 1
    assert await asyncio.to_thread(view.max_tracking_id, "promises") == 4
    assert await asyncio.to_thread(other.max_tracking_id, "promises") == 2


async def test_a_database_that_is_gone_is_an_operational_error(lent: Lent) -> None:
    view = Counted(lent.borrowed, "counted")
    assert isinstance(lent.borrowed.pool, asyncpg.Pool)
    await lent.borrowed.pool.close()
    with pytest.raises(OperationalError, match="database can't be reached"):
        await asyncio.to_thread(view.insert_tracking, Tracking("promises", 4))
    with pytest.raises(OperationalError, match="database can't be reached"):
        await asyncio.to_thread(view.max_tracking_id, "promises")


async def test_a_subscription_hears_of_what_is_recorded_elsewhere(lent: Lent) -> None:
    recorder, elsewhere = recorder_of(lent), recorder_of(lent)

    def follow() -> list[int]:
        found = []
        with recorder.subscribe(gt=0) as subscription:
            for notification in subscription:
                found.append(notification.id)
                if len(found) == 2:
                    return found
        return found

    following = asyncio.create_task(asyncio.to_thread(follow))
    await asyncio.to_thread(elsewhere.insert_events, [change("one", 1)])
    await lent.line.record(said("a fact"))
    await asyncio.to_thread(elsewhere.insert_events, [change("one", 2)])
    assert await asyncio.wait_for(following, 30) == [1, 3]
