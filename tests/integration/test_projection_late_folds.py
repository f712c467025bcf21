"""What is parked and folded later is what it would have been, and a reactor decides it once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from google.protobuf import text_format
from google.protobuf.timestamp_pb2 import Timestamp

from libs.embedded import create_database, database_url_for
from libs.eventstore import aggregates
from libs.postgres.pool import open_pool
from libs.projection.config import Reader
from libs.projection.identity_graph import IdentityGraph
from libs.projection.outbox import Outbox, may_act
from libs.projection.parking import ParkedKey, ParkedKeys, ask_to_refold, list_parked
from libs.projection.projection import Connection, Projection, Recorded, decode
from libs.projection.runner import Runner
from libs.projection.timeline import Timeline
from libs.projection.verifying.comparing import ProjectionVerification, verify_projection
from libs.projection.verifying.copying import Unverifiable
from libs.projection.waiting import follow_checkpoints
from libs.tasks import running
from services.engagement.domain.model import compile_model
from services.engagement.models import Models, PublishedModels
from services.engagement.scores import Scores, Scoring
from services.notification.expectations.keeping import Expectations
from services.notification.inbox.notifications import Notifications
from tests.aggregates import Lent, build_stores, lent_line
from tests.deciding import Caller, Desk, new_desk
from tests.faulty import Faulty
from tests.lines import project, undone
from tests.servers import SharedPostgres, start_nats
from tests.services import mint_store, new_notifications, new_scores
from tests.store import (
    DEFAULT,
    IDENTITY_KEYS,
    IDENTITY_SECRET,
    RECORDED,
    email,
    eventually,
    handle,
    said,
)
from tests.telling import told
from tests.waiting import until
from touchline.engagement.v1.engagement_pb2 import ModelDefinition
from touchline.events.v1.decisions_pb2 import (
    DELIVERY_OUTCOME_SENT,
    NOTIFICATION_CHANNEL_EMAIL,
    DeliveryAttempted,
    NotificationRead,
)
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import (
    CHANNEL_EMAIL,
    DIRECTION_OUTBOUND,
    EventRetracted,
    ExpectationSet,
    Interaction,
    NoteAdded,
)
from touchline.events.v1.identity_pb2 import Identity
from touchline.store.v1.store_pb2 import AppendEvent, AppendRequest, AppendUnit

TENANT = DEFAULT.tenant.number
READER = Reader(TENANT, DEFAULT.tenant.name, DEFAULT.identity_keys)
CUSTOMERS = [email(f"{name}@late.example") for name in ("ana", "ben", "cleo")]
SCORED = ModelDefinition(name="late")
text_format.Parse(
    """rules { name: 'all' weight: 1.5 day_cap: 3 half_life { seconds: 100000 } }
    rules { name: 'threes' weight: -0.7 condition: 'event.fact.text.contains("3")' }""",
    SCORED,
)
_TWO_HOURS_US = 2 * 3600 * 10**6
_BEGIN, _STEP = 1_700_000_000, 40_000


def scores(lent: Lent) -> Projection:
    """What counts, by rules of which one looks into events."""
    return Scores(Scoring(1, TENANT, 1, compile_model(SCORED)), lent.client)


def notifications(lent: Lent) -> Projection:
    """Inboxes, what was read, and attempts."""
    return Notifications(lent.client, {TENANT: READER})


def models(lent: Lent) -> Projection:
    """Versions of models."""
    return PublishedModels(lent.client, IDENTITY_KEYS)


Fold = Callable[[Lent], Projection]
FOLDS: tuple[Fold, ...] = (scores, notifications, models)


@pytest.fixture(scope="module")
async def urls(servers: SharedPostgres) -> dict[Fold, str]:
    """Where each has its tables; nothing is in them."""
    engagement = await new_scores(servers)
    return {
        scores: engagement,
        notifications: await new_notifications(servers),
        models: engagement,
    }


@pytest.fixture(scope="module")
async def lent(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lent]:
    """A line of what three customers did and were told, and of three models' versions.

    In between the first one is erased, and some hours of the second.
    """
    own = await start_nats(tmp_path_factory.mktemp("late_nats"))
    await create_database(servers.url, "late_line", await servers.template(build_stores))
    url = database_url_for(servers.url, "late_line")
    await mint_store(url)
    async with lent_line(url, own) as line:
        random = Random(11)
        for versions in range(3):
            await publish(line, versions)
            await append(line, *happened(random))
            if versions == 1:
                ana, ben, _ = (DEFAULT.identity_keys.identify(who).key for who in CUSTOMERS)
                await line.line.erase(ana)
                await line.line.erase(ben, since=_BEGIN, before=_BEGIN + _STEP)
                line.client.forget_keys()
        yield line
    await own.stop()


async def publish(lent: Lent, versions: int) -> None:
    """Publishes the next version of three models."""
    keys = DEFAULT.identity_keys
    with aggregates.lend(lent.client, DEFAULT.tenant, keys) as environment:
        application = Models(env=environment)
        for name in ("a", "b", "c"):
            definition = ModelDefinition(name=name, description=f"No. {versions}")
            await asyncio.to_thread(application.publish, definition, versions, "agent-7")


async def append(lent: Lent, *events: Event) -> None:
    """Records events as a service does."""
    units = [AppendUnit(events=[AppendEvent(event=event)]) for event in events]
    request = AppendRequest(tenant=DEFAULT.tenant.name, units=units)
    answer = await lent.client.append(request)
    assert {verdict.outcome for verdict in answer.verdicts} == {RECORDED}


def happened(random: Random) -> list[Event]:
    """Makes events in any order: what is taken back, read or attempted may come later."""
    events = []
    for number in range(4):
        notes = [_of(who, random, note_added=NoteAdded(text=str(number))) for who in CUSTOMERS]
        notices = [
            _of(who, random, notification_decided=told(random.choice(["", "agent-7"])))
            for who in CUSTOMERS
        ]
        events += [*notes, *notices]
        for who, note, notice in zip(CUSTOMERS, notes, notices, strict=True):
            name = notice.event_id
            if random.random() < 0.5:
                back = EventRetracted(event_id=note.event_id)
                events += [_of(who, random, event_retracted=back) for _ in range(2)]
            # Another customer's event may be the one that says it first.
            events += [
                _of(random.choice(CUSTOMERS), random, notification_read=read)
                for read in [NotificationRead(notification_id=name)] * random.randrange(3)
            ]
            attempted = DeliveryAttempted(
                notification_id=name,
                channel=NOTIFICATION_CHANNEL_EMAIL,
                outcome=DELIVERY_OUTCOME_SENT,
                attempt=1,
            )
            events.append(_of(who, random, delivery_attempted=attempted))
    random.shuffle(events)
    return events


def _of(who: Identity, random: Random, **fact: Any) -> Event:
    return Event(
        event_id=str(UUID(int=random.getrandbits(128), version=4)),
        identities=[who],
        occurred_at=Timestamp(seconds=_BEGIN + random.randrange(3) * _STEP),
        source="late",
        **fact,
    )


async def line_of(lent: Lent) -> list[Recorded]:
    """The line as projections see it."""
    found = list[Recorded]()
    while packed := (await lent.line.store.history(len(found))).events:
        found += decode(len(found) + 1, packed)
    return found


async def rows(connection: asyncpg.Connection, fold: Projection) -> dict[str, list[str]]:
    """Every row of a projection's tables as ordered text."""
    found = {}
    for table in fold.tables:
        texts = await connection.fetch(f"SELECT t::text AS said FROM {table.name} t")
        found[table.name] = sorted(row["said"] for row in texts)
    return found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again soon, as is what somebody asks for."""
    monkeypatch.setattr("libs.projection.runner._RETRY_SECONDS", 0.02)
    monkeypatch.setattr("libs.projection.runner._PARKED_IDLE_SECONDS", 0.02)


@pytest.mark.parametrize("fold", FOLDS)
async def test_given_any_owner_folded_late_then_the_rows_are_the_same_byte_for_byte(
    lent: Lent, urls: dict[Fold, str], fold: Fold
) -> None:
    events = await line_of(lent)
    projection = fold(lent)
    connection = await asyncpg.connect(urls[fold])

    async def folded(*parts: Sequence[Recorded]) -> dict[str, list[str]]:
        async with undone(connection):
            for part in parts:
                async with undone(connection):  # it crashes once, before it commits
                    await project(connection, projection, part)
                projection.aborted()
                await project(connection, projection, part, [len(part) // 2])
                projection.aborted()  # as whoever refolds does
            return await rows(connection, projection)

    clean = await folded(events)
    assert all(clean.values())
    for owner in sorted({event.record.owner_key for event in events}):
        for since in (1, len(events) // 2):
            waits = [e for e in events if e.record.owner_key == owner and e.position >= since]
            others = [event for event in events if event not in waits]
            assert await folded(others, waits[:1], waits[1:]) == clean
    await connection.close()


async def test_given_refolds_that_are_cut_off_then_verifying_finds_nothing(
    lent: Lent, urls: dict[Fold, str]
) -> None:
    events = await line_of(lent)
    found = await asyncio.gather(
        *(folded_late(lent, urls[fold], fold(lent), events) for fold in FOLDS)
    )
    for last in found:
        assert last.is_equal
        assert all(table.live_rows for table in last.tables)


async def folded_late(
    lent: Lent, url: str, fold: Projection, events: Sequence[Recorded]
) -> ProjectionVerification:
    """Parks some owners in the middle of the line, refolds them, and verifies."""
    faulty = Faulty(fold)
    faulty.since = len(events) // 3
    owners = list(dict.fromkeys(event.record.owner_key for event in events))
    faulty.fails_at = {*owners[:2], *owners[-2:]}  # of models and of customers
    async with open_pool(url, application="late") as pool:
        runner = Runner(faulty, pool, lent.client, uuid4())
        async with running(runner.run()):
            await until(lambda: runner.checkpoint.position >= len(events), 15)
            waiting = await parked(pool, fold.name)
            assert {one.owner_key for one in waiting} == faulty.fails_at
            assert any(one.waiting_events > 1 for one in waiting)
            faulty.fails_at, faulty.outages = set(), 1
            await ask_to_refold(pool, faulty.name, None, [])
            await eventually(lambda: nothing_waits(pool, fold.name))
            assert faulty.outages == 0
        await runner.stop()
        while True:
            try:
                return [one async for one in verify_projection(faulty, url, lent.client)][-1]
            except Unverifiable:  # another one is verified in this database
                await asyncio.sleep(0.02)


async def parked(pool: asyncpg.Pool, projection: str) -> list[ParkedKey]:
    """Whose events a projection has set aside."""
    found = await list_parked(pool, [TENANT], (projection, 0, b""), 9)
    return [one for one in found if one.projection == projection]


async def nothing_waits(pool: asyncpg.Pool, projection: str) -> bool:
    """Whether a projection has nothing set aside."""
    return not await parked(pool, projection)


class Careful(Caller):
    """A reactor that leaves alone what is too old.

    Attributes:
        later_us: How much later than now it is for it.
    """

    later_us = 0

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Decides about what may act."""
        now_us = time.time_ns() // 1000 + self.later_us
        await super().apply(connection, [one for one in events if may_act(one.record, now_us)])


async def test_given_a_reactors_parked_events_then_they_are_decided_once_after_the_refold(
    lent: Lent, servers: SharedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    unpark, cut_off = ParkedKeys.unpark, [ConnectionError()]

    async def cut_off_once(*arguments: Any) -> None:
        await unpark(*arguments)
        if cut_off:
            raise cut_off.pop()

    monkeypatch.setattr(ParkedKeys, "unpark", cut_off_once)
    async with new_desk(servers, lent) as desk:
        careful = Careful(desk)
        faulty = Faulty(careful)
        key = DEFAULT.identity_keys.identify(desk.customer).key
        faulty.fails_at = {key}
        runner = Runner(faulty, desk.pool, lent.client, uuid4())
        async with running(runner.run()), desk.sending(runner):
            # The first may act now, and no more by the time of the refold.
            for text, seconds in (("Aged", now - 23 * 3600), ("Called", now), ("Again", now)):
                last = await lent.line.record(said(text, who=[desk.customer], at_seconds=seconds))
            await until(lambda: runner.checkpoint.position >= last[-1].position, 15)
            [waiting] = await parked(desk.pool, faulty.name)
            assert waiting.waiting_events == 3
            assert await desk.notes() == [] == await desk.rows()

            careful.later_us = _TWO_HOURS_US
            faulty.fails_at, faulty.outages = set(), 1
            for _ in range(2):
                await ask_to_refold(desk.pool, faulty.name, None, [])
                await eventually(lambda: nothing_waits(desk.pool, faulty.name))
            assert not faulty.outages
            assert not cut_off
            await append_after(desk, now)
            await eventually(lambda: told_of(desk, "After"))
        assert await desk.notes() == ["ring back: Called", "ring back: Again", "ring back: After"]
        await runner.stop()


async def append_after(desk: Desk, now: int) -> None:
    """Records one more event of the customer."""
    await desk.lent.line.record(said("After", who=[desk.customer], at_seconds=now))


async def told_of(desk: Desk, text: str) -> bool:
    """Whether it was decided about an event, and is on the line."""
    return f"ring back: {text}" in await desk.notes()


async def test_given_a_parked_expectation_then_an_answer_to_another_identity_keeps_it_afterwards(
    lent: Lent, servers: SharedPostgres
) -> None:
    now = int(time.time())
    mail, device = email("dora@late.example"), handle("dora")
    question = said("Where is it?", who=[mail, device], at_seconds=now - 60)
    awaited = ExpectationSet(
        expectation_id=str(uuid4()),
        promise="An answer",
        due_at=Timestamp(seconds=now + 3600),
        answers=question.event_id,
    )
    expected = said("", who=[mail], at_seconds=now - 50, interaction=None, expectation_set=awaited)
    contact = Interaction(
        channel=CHANNEL_EMAIL,
        direction=DIRECTION_OUTBOUND,
        text="On its way",
        in_reply_to=question.event_id,
    )
    answer = said("", who=[device], at_seconds=now - 40, interaction=contact)
    url = await new_notifications(servers)
    async with (
        open_pool(url, application="late") as pool,
        follow_checkpoints(url, pool) as checkpoints,
        AsyncExitStack() as stack,
    ):
        outbox, readers = Outbox(IDENTITY_SECRET), {TENANT: READER}
        faulty = Faulty(Expectations(pool, lent.client, outbox, checkpoints, readers))
        faulty.fails_at = {DEFAULT.identity_keys.identify(mail).key}
        runners = [
            Runner(fold, pool, lent.client, uuid4())
            for fold in (IdentityGraph(), Timeline(), faulty)
        ]
        for runner in runners:
            await stack.enter_async_context(running(runner.run()))
        last = await lent.line.record(question, expected, answer)
        await until(lambda: runners[-1].checkpoint.position >= last[-1].position, 15)
        [waiting] = await parked(pool, faulty.name)
        assert waiting.waiting_events == 2
        assert await pool.fetchval("SELECT count(*) FROM outbox") == 0

        faulty.fails_at = set()
        await ask_to_refold(pool, faulty.name, None, [])
        await eventually(lambda: nothing_waits(pool, faulty.name))
        assert await pool.fetchval("SELECT count(*) FROM outbox") == 1
