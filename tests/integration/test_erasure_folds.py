"""Rebuilt is live after erasures: what a fold opened before is what one that can't open leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from google.protobuf import text_format
from google.protobuf.timestamp_pb2 import Timestamp

from libs.embedded import create_database, database_url_for
from libs.eventstore.client import StoreClient
from libs.postgres.pool import open_pool
from libs.projection.config import Reader
from libs.projection.consents import Consents
from libs.projection.erasing import erasures_among, is_erased
from libs.projection.generations.records import introduce
from libs.projection.opening import open_events
from libs.projection.outbox import Outbox
from libs.projection.projection import Connection, Projection, Recorded, decode
from libs.projection.timeline import Timeline
from libs.projection.verifying.comparing import ProjectionVerification, verify_projection
from libs.projection.waiting import Checkpoints
from services.engagement.domain.model import compile_model
from services.engagement.scores import Scores, Scoring
from services.notification.deliveries.taking_in import Deliveries
from services.notification.expectations.keeping import Expectations
from services.notification.inbox.notifications import Notifications
from services.profile.attributes import AttributeValues
from tests.aggregates import Lent, build_stores, lent_line
from tests.lines import project, undone
from tests.servers import SharedPostgres, start_nats
from tests.services import mint_store, new_notifications, new_scores, new_views
from tests.store import DEFAULT, IDENTITY_SECRET, RECORDED, email
from tests.telling import chosen, told
from touchline.engagement.v1.engagement_pb2 import ModelDefinition
from touchline.events.v1.decisions_pb2 import (
    DELIVERY_OUTCOME_DEFERRED,
    NOTIFICATION_CHANNEL_EMAIL,
    DeliveryAttempted,
    NotificationRead,
)
from touchline.events.v1.event_pb2 import EVENT_TYPE_TRAITS_OBSERVED, Event
from touchline.events.v1.facts_pb2 import (
    CHANNEL_EMAIL,
    EXPECTATION_OUTCOME_RENEGOTIATED,
    PREFERENCE_STATUS_AVOIDED,
    EventRetracted,
    ExpectationResolved,
    ExpectationSet,
    NoteAdded,
    PreferenceChanged,
    TraitsObserved,
)
from touchline.events.v1.identity_pb2 import Identity
from touchline.notification.v1.notification_pb2 import DELIVERY_STATE_WAITING
from touchline.store.v1.store_pb2 import AppendEvent, AppendRequest, AppendUnit

TENANT = DEFAULT.tenant.number
READER = Reader(TENANT, DEFAULT.tenant.name, DEFAULT.identity_keys)
ANA, BEN, CLEO = (email(f"{name}@erased.example") for name in ("ana", "ben", "cleo"))
BEGIN, STEP = 1_700_000_000, 40_000
SIZES = [[], [1] * 300, [7] * 40, [40, 3, 60, 1, 5]]
"""Sizes of batches, the rest in one: an erasure concerns what comes in its own batch as well."""

SCORED = ModelDefinition(name="erased")
text_format.Parse(
    """rules { name: 'all' weight: 1.5 day_cap: 3 half_life { seconds: 100000 } }
    rules { name: 'threes' weight: -0.7 condition: 'event.fact.text.contains("3")' }""",
    SCORED,
)
Fold = Callable[[StoreClient], Projection]


@dataclass(slots=True)
class Scene:
    """A line with erasures on it.

    Attributes:
        lent: The line.
        events: All of it.
        knowing: Clients that remember all keys of before the erasures, as a process may that has
            not heard of them: each is good for one fold.
    """

    lent: Lent
    events: list[Recorded]
    knowing: list[StoreClient]


def of(who: Identity, random: Random, **fact: Any) -> Event:
    """An event on one of three days."""
    at = Timestamp(seconds=BEGIN + random.randrange(3) * STEP)
    event_id = str(UUID(int=random.getrandbits(128), version=4))
    return Event(event_id=event_id, identities=[who], occurred_at=at, source="erased", **fact)


def happened(random: Random, number: int) -> list[Event]:
    """What three customers did and were told and promised, in any order."""
    events = []
    for who in (ANA, BEN, CLEO):
        note = of(who, random, note_added=NoteAdded(text=f"No. {number}"))
        channels = chosen(NOTIFICATION_CHANNEL_EMAIL)
        notice = of(who, random, notification_decided=told("agent-7", channels))
        awaited = ExpectationSet(
            expectation_id=f"{who.value}:{number % 2}",
            promise="An answer",
            due_at=Timestamp(seconds=BEGIN + 9 * STEP),
            team="support",
        )
        moved = ExpectationResolved(
            expectation_id=awaited.expectation_id,
            outcome=EXPECTATION_OUTCOME_RENEGOTIATED,
            due_at=Timestamp(seconds=BEGIN + (9 + number) * STEP),
        )
        attempted = DeliveryAttempted(
            notification_id=notice.event_id,
            channel=NOTIFICATION_CHANNEL_EMAIL,
            outcome=DELIVERY_OUTCOME_DEFERRED,
            attempt=1,
            retry_at=Timestamp(seconds=BEGIN + 9 * STEP),
        )
        read = NotificationRead(notification_id=notice.event_id)
        seen = of(who, random, traits_observed=TraitsObserved(traits={"n": str(number), "c": "A"}))
        avoided = PreferenceChanged(channel=CHANNEL_EMAIL, status=PREFERENCE_STATUS_AVOIDED)
        events += [
            *(seen, of(who, random, preference_changed=avoided)),
            *(note, notice, of(who, random, delivery_attempted=attempted)),
            *(of(who, random, expectation_set=awaited) for _ in range(2)),
            of(who, random, expectation_resolved=moved),
            *(
                of(random.choice([who, CLEO]), random, notification_read=read)
                for _ in range(2 * (number % 2))
            ),
        ]
        if random.random() < 0.4:
            events += [
                of(who, random, event_retracted=EventRetracted(event_id=one.event_id))
                for one in (note, seen)
            ]
    random.shuffle(events)
    return events


async def append(lent: Lent, *events: Event) -> None:
    """Records events as a service does."""
    units = [AppendUnit(events=[AppendEvent(event=event)]) for event in events]
    answer = await lent.client.append(AppendRequest(tenant=DEFAULT.tenant.name, units=units))
    assert {verdict.outcome for verdict in answer.verdicts} == {RECORDED}


async def line_of(lent: Lent) -> list[Recorded]:
    """The line as projections see it."""
    found = list[Recorded]()
    while packed := (await lent.line.store.history(len(found))).events:
        found += decode(len(found) + 1, packed)
    return found


@pytest.fixture(scope="module")
async def scene(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """Ana is erased, and comes back; of Ben a time is erased, and later the rest."""
    own = await start_nats(tmp_path_factory.mktemp("erasure_nats"))
    await create_database(servers.url, "erasure_line", await servers.template(build_stores))
    url = database_url_for(servers.url, "erasure_line")
    await mint_store(url)
    random = Random(5)
    ana, ben = (DEFAULT.identity_keys.identify(who).key for who in (ANA, BEN))
    async with lent_line(url, own) as lent:
        for number in range(4):
            await append(lent, *happened(random, number))
        clients = [StoreClient(lent.client.connection) for _ in range(40)]
        before = await line_of(lent)
        for client in clients:
            assert None not in await open_events(client, before)
        await lent.line.erase(ana)
        await lent.line.erase(ben, since=BEGIN, before=BEGIN + STEP)
        for number in range(4, 6):
            await append(lent, *happened(random, number))
        await lent.line.erase(ben)
        await append(lent, *happened(random, 6))
        lent.client.forget_keys()
        yield Scene(lent, await line_of(lent), clients)
    await own.stop()


def scores(store: StoreClient) -> Projection:
    """What counts, by rules of which one looks into events."""
    return Scores(Scoring(1, TENANT, 1, compile_model(SCORED)), store)


def notifications(store: StoreClient) -> Projection:
    """Inboxes, what was read, and attempts."""
    return Notifications(store, {TENANT: READER})


def timeline(_: StoreClient) -> Projection:
    """What happened, sealed."""
    return Timeline()


def consents(_: StoreClient) -> Projection:
    """What was allowed and liked, sealed."""
    return Consents()


def attributes(store: StoreClient) -> Projection:
    """Hashes of what was observed."""
    return AttributeValues(store, {TENANT: READER})


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Gives a connection to a database."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def rows(connection: Connection, fold: Projection) -> dict[str, list[str]]:
    """Every row of a projection's tables as ordered text."""
    found = {}
    for table in fold.tables:
        texts = await connection.fetch(f"SELECT t::text AS said FROM {table.name} t")
        found[table.name] = sorted(row["said"] for row in texts)
    return found


async def folded(
    connection: asyncpg.Connection,
    fold: Projection,
    events: Sequence[Recorded],
    sizes: Sequence[int] = (),
) -> dict[str, list[str]]:
    """What a fold makes of events; nothing of it stays."""
    async with undone(connection):
        await project(connection, fold, events, sizes)
        return await rows(connection, fold)


@pytest.fixture(scope="module")
async def databases(servers: SharedPostgres) -> AsyncIterator[dict[Fold, asyncpg.Connection]]:
    """Where each has its tables; nothing is in them."""
    async with AsyncExitStack() as stack:
        connections = {}
        for fold, url in (
            (scores, await new_scores(servers)),
            (notifications, await new_notifications(servers)),
            (attributes, await new_views(servers)),
        ):
            connections[fold] = await asyncpg.connect(url)
            stack.push_async_callback(connections[fold].close)
        of_notifications = connections[notifications]
        yield {**connections, timeline: of_notifications, consents: of_notifications}


@pytest.mark.parametrize("fold", [scores, notifications, timeline, consents, attributes])
async def test_what_was_opened_before_it_was_erased_leaves_what_a_rebuild_leaves(
    scene: Scene, databases: dict[Fold, asyncpg.Connection], fold: Fold
) -> None:
    connection = databases[fold]
    rebuilt = await folded(connection, fold(scene.lent.client), scene.events)
    assert all(rebuilt.values())
    for sizes in SIZES:
        live = await folded(connection, fold(scene.knowing.pop()), scene.events, sizes)
        assert live == rebuilt


async def test_of_an_erased_customers_attributes_no_hash_is_left_and_of_the_others_every_one(
    scene: Scene, databases: dict[Fold, asyncpg.Connection]
) -> None:
    erasures, connection = erasures_among(scene.events), databases[attributes]
    observed = [one for one in scene.events if one.record.type == EVENT_TYPE_TRAITS_OBSERVED]
    async with undone(connection):
        await project(connection, attributes(scene.knowing.pop()), scene.events, [50])
        left = await connection.fetch("SELECT position FROM attribute_values")
    expected = [one.position for one in observed if not is_erased(one, erasures)]
    assert sorted(row["position"] for row in left) == sorted(2 * expected)
    assert 0 < len(expected) < len(observed)


async def test_in_whatever_order_attributes_and_consents_arrive_the_rows_say_the_same(
    scene: Scene, databases: dict[Fold, asyncpg.Connection]
) -> None:
    first = erasures_among(scene.events)[0].position
    events = scene.events[: first - 1]
    shuffled = [
        one._replace(position=at) for at, one in enumerate(Random(3).sample(events, len(events)))
    ]
    for fold, table in ((attributes, "attribute_values"), (consents, "consents")):
        said = []
        for line, sizes in ((events, []), (shuffled, [7] * 10)):
            async with undone(databases[fold]):
                await project(databases[fold], fold(scene.knowing.pop()), line, sizes)
                texts = await databases[fold].fetch(
                    f"SELECT to_jsonb(t) - 'position' AS said FROM {table} t"
                )
            said.append(sorted(row["said"] for row in texts))
        assert said[0] == said[1] != []


async def test_an_erased_customers_points_go_and_the_others_stay(
    scene: Scene, databases: dict[Fold, asyncpg.Connection]
) -> None:
    erasures = erasures_among(scene.events)
    assert [erasure.is_whole for erasure in erasures] == [True, False, True]
    gone = [event for event in scene.events if is_erased(event, erasures)]
    left = [event for event in scene.events if event not in gone]
    connection = databases[scores]
    counted = await folded(connection, scores(scene.knowing.pop()), scene.events)
    never = await folded(connection, scores(scene.lent.client), left)
    for table in ("contributions", "day_sums"):
        assert counted[table] == never[table]
    assert len(gone) > 60


async def test_of_an_erased_customers_expectations_nothing_is_left_and_nothing_is_decided(
    scene: Scene, servers: SharedPostgres
) -> None:
    found = []
    outbox, readers = Outbox(IDENTITY_SECRET), {TENANT: READER}
    for store, sizes in [(scene.lent.client, []), *((scene.knowing.pop(), s) for s in SIZES[:3])]:
        url = await new_notifications(servers)
        async with open_pool(url, application="erasures") as pool, connected(url) as connection:
            fold = Expectations(pool, store, outbox, Checkpoints(pool), readers)
            await project(connection, fold, scene.events, sizes)
            found.append(await rows(connection, fold))
            assert not await pool.fetchval("SELECT count(*) FROM outbox")
    rebuilt, *live = found
    assert live == [rebuilt] * len(live)
    ana = DEFAULT.identity_keys.identify(ANA).key.hex()
    first = next(e.position for e in erasures_among(scene.events))
    assert len(rebuilt["expectation_tellings"]) < sum(
        event.record.owner_key.hex() != ana or event.position > first for event in scene.events
    )


async def test_what_waits_to_be_delivered_of_the_erased_is_looked_at_at_once(
    scene: Scene, databases: dict[Fold, asyncpg.Connection]
) -> None:
    connection, first = databases[notifications], erasures_among(scene.events)[0]
    (ana,) = first.identity_keys

    async def due(events: Sequence[Recorded]) -> tuple[list[int], list[int]]:
        fold = Deliveries(scene.knowing.pop(), {TENANT: READER})
        async with undone(connection):
            await project(connection, fold, events, [5])
            waiting = await connection.fetch(
                "SELECT owner_key = $1 AS hers, due_at_us FROM deliveries WHERE state = $2 "
                "ORDER BY notification_id",
                *(ana, DELIVERY_STATE_WAITING),
            )
        hers = [at_us for is_hers, at_us in waiting if is_hers]
        return hers, [at_us for is_hers, at_us in waiting if not is_hers]

    before, others_before = await due(scene.events[: first.position - 1])
    after, others_after = await due(scene.events[: first.position])
    assert any(before)
    assert after == [0] * len(before)
    assert others_after == others_before


async def test_verifying_waits_until_the_live_rows_have_forgotten_what_a_copy_can_not_open(
    scene: Scene, servers: SharedPostgres
) -> None:
    url, first = await new_notifications(servers), erasures_among(scene.events)[0]
    lent, live = scene.lent, notifications(scene.knowing.pop())
    last = scene.events[-1]
    async with connected(url) as connection:

        async def stand_at(end: Recorded) -> None:
            chain = await lent.line.owner(
                "SELECT chain FROM events WHERE position = $1", end.position
            )
            await introduce(connection, "notifications", 1)
            await connection.execute(
                "UPDATE projection_checkpoints SET position = $1, chain = $2 "
                "WHERE projection = 'notifications'",
                *(end.position, chain[0]["chain"]),
            )

        # As it was when the keys were just gone, and nobody had folded that they are.
        before = scene.events[: first.position - 1]
        await project(connection, live, before)
        await stand_at(before[-1])
        states = verify_projection(notifications(lent.client), url, lent.client)
        verifying = asyncio.ensure_future(_last(states))
        await asyncio.sleep(0.3)
        assert not verifying.done()
        await project(connection, live, scene.events[first.position - 1 :])
        await stand_at(last)
        found = await verifying
    assert found.is_equal
    assert found.folded == last.position
    assert all(table.live_rows for table in found.tables)


async def _last(states: AsyncIterator[ProjectionVerification]) -> ProjectionVerification:
    return [state async for state in states][-1]
