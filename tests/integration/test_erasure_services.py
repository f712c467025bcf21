"""Customers who are erased are gone from every answer of every service, and nothing else is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from uuid import uuid4

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.projection.outbox import Decision, Outbox
from tests.customers import new_device, new_email, of, profile_id, record, told
from tests.given import contact, note, stamp, traits, used
from tests.servers import SharedPostgres
from tests.services import Service, Touchline, engagement_on, new_scores
from tests.store import eventually
from tests.telling import Teller
from tests.telling import told as notice
from touchline.client import Client
from touchline.engagement.v1 import engagement_service_pb2 as eng
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_EMAIL, Identity
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1 import ingestion_service_pb2 as ingestion
from touchline.notification.v1 import notification_service_pb2 as notification
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.erasure_pb2 import Erased, TimeRange
from touchline.profile.v1.profile_pb2 import ProfileReference, TimelineEntry
from touchline.projection.v1.projection_service_pb2 import (
    CheckErasureRequest,
    ErasureCheck,
    ListProjectionsRequest,
    VerifyProjectionRequest,
)

SECRET = bytes.fromhex("1d" * 32)
SERVICES = ("profile", "engagement", "notification")


@pytest.fixture(scope="module")
async def engagement(
    shared_touchline: Touchline, servers: SharedPostgres
) -> AsyncIterator[tuple[Service, Client]]:
    """An engagement service beside the shared ones."""
    async with engagement_on(shared_touchline, await new_scores(servers)) as running:
        yield running


@pytest.fixture
async def client(
    shared_touchline: Touchline, teller: Teller, engagement: tuple[Service, Client]
) -> AsyncIterator[Client]:
    """A client of all four services."""
    async with Client.connect(
        *(shared_touchline.ingestion.listen, shared_touchline.profile.listen),
        engagement=engagement[0].listen,
        notification=teller.listen,
    ) as client:
        yield client


@dataclass(slots=True)
class Customer:
    """A customer of whom every service knows something, and how that is asked.

    Attributes:
        client: Asks.
        teller: Tells notifications.
        email: The customer's.
        device: The customer's.
        last: The position of the last event.
    """

    client: Client
    teller: Teller
    email: Identity = field(default_factory=new_email)
    device: Identity = field(default_factory=new_device)
    last: int = 0

    async def lives(self) -> None:
        """Things happen to the customer, of which services remember keys afterwards."""
        who = (self.email, self.device)
        await record(
            self.client,
            told(
                contact("2026-03-01 10:00", "email", text="My name is Ada", intent="complaint"),
                *who,
            ),
            told(traits("2026-03-02", {"first_name": "Ada"}), self.email),
            told(note("2026-03-03 12:00", "calls back on Friday"), self.email),
            told(used("2026-03-04", "app", seconds=9000), self.device),
        )
        await self.teller.tell(self.email, notice("agent-7", title="Ada complains"))
        promise = await self.client.notification.GivePromise(
            notification.GivePromiseRequest(
                expectation_id=self.promise,
                identities=[self.email],
                promise="A new lamp for Ada",
                due_at=Timestamp(seconds=4_000_000_000),
                promised_by="agent-7",
            )
        )
        self.last = promise.position

    @property
    def promise(self) -> str:
        """The id of what was promised."""
        return f"promise to {self.email.value}"

    async def timeline(self, after: int = 0) -> list[TimelineEntry]:
        """All that happened, the newest first."""
        request = api.ListTimelineEventsRequest(profile=of(self.email), after_position=after)
        return list((await self.client.profile.ListTimelineEvents(request)).entries)

    async def told(self, after: int) -> Iterator[str]:
        """What the services say of the customer in words, wherever they do."""
        calls = self.client.notification
        profile = await self.client.profile.GetProfile(
            api.GetProfileRequest(profile=of(self.email), after_position=after)
        )
        inbox = await calls.ListInbox(
            notification.ListInboxRequest(
                inbox=notification.Inbox(reference="agent-7"), after_position=after
            )
        )
        awaited = await calls.ListExpectations(
            notification.ListExpectationsRequest(profile=of(self.email), after_position=after)
        )
        said = [entry.event for entry in await self.timeline(after)]
        hers = [one for one in inbox.items if one.profile_id == profile.profile.profile_id]
        return iter([str(one) for one in (profile, *hers, *awaited.expectations, *said)])

    async def score(self, after: int) -> float:
        """The points by the default model."""
        request = eng.GetScoreRequest(profile=of(self.device), after_position=after)
        return (await self.client.engagement.GetScore(request)).score.score

    async def erase(self, **more: object) -> Erased:
        """Erases the customer, whom the service knows by then."""
        return await erase(self.client, profile=of(self.email), after_position=self.last, **more)


async def erase(client: Client, **more: object) -> Erased:
    """Asks to erase."""
    request = api.EraseProfileRequest(reason="request 17", requested_by="agent-7", **more)  # type: ignore[arg-type]
    with readable_failures():
        return (await client.profile.EraseProfile(request)).erased


@pytest.fixture
async def customer(client: Client, teller: Teller) -> Customer:
    """One of whom every service knows something."""
    made = Customer(client, teller)
    await made.lives()
    return made


async def checks(client: Client, position: int) -> dict[str, ErasureCheck]:
    """What every service finds left, by service and what it looked at."""
    found: dict[str, ErasureCheck] = {}
    for service in SERVICES:
        answer = await client.projections[service].CheckErasure(
            CheckErasureRequest(position=position)
        )
        assert min(answer.positions.values()) >= position
        found |= {f"{service} {one.what}": one for one in answer.checks}
    stored = await client.ingestion.CheckErasure(ingestion.CheckErasureRequest(position=position))
    return found | {f"store {one.what}": one for one in stored.checks}


async def differing(client: Client) -> list[str]:
    """The projections of which a copy folded anew is another."""
    found = []
    for service in SERVICES:
        calls = client.projections[service]
        for one in (await calls.ListProjections(ListProjectionsRequest())).projections:
            if not one.is_reactor:
                request = VerifyProjectionRequest(projection=one.name)
                last = [state async for state in calls.VerifyProjection(request)][-1]
                assert last.finished
                found += [table.table for table in last.tables if table.differing_rows]
    return found


async def test_an_erased_customer_is_gone_from_every_answer_and_what_is_counted_stays(
    customer: Customer, client: Client
) -> None:
    assert any("Ada" in text for text in await customer.told(customer.last))
    assert await customer.score(customer.last) != 0
    happened = await customer.timeline(customer.last)
    erased = await customer.erase()
    assert erased.position > customer.last
    assert (erased.deleted_keys, erased.kept_events) == (2, 0)
    assert erased.erased_events == len(happened)
    assert (erased.reason, erased.requested_by) == ("request 17", "agent-7")
    assert len(erased.identity_keys) == 2

    words = list(await customer.told(erased.position))
    assert not [text for text in words if "Ada" in text or customer.email.value in text]
    assert await customer.score(erased.position) == 0
    left = await customer.timeline(erased.position)
    assert [one.position for one in left] == [one.position for one in happened]
    assert all(one.erased for one in left)
    found = await checks(client, erased.position)
    assert {what: one.left for what, one in found.items() if one.left} == {}
    assert found["profile timeline"].shut == len(happened)
    assert found["notification identities"].shut == 2
    assert {"notification outbox", "engagement contributions", "store data keys"} <= {*found}
    assert await differing(client) == []


async def test_of_an_erased_time_nothing_opens_and_the_rest_does(
    customer: Customer, client: Client
) -> None:
    occurred = TimeRange()
    getattr(occurred, "from").CopyFrom(stamp("2026-03-01"))
    occurred.before.CopyFrom(stamp("2026-03-02 12:00"))
    erased = await customer.erase(occurred=occurred)
    assert (erased.deleted_keys, erased.erased_events) == (0, 2)
    assert erased.occurred == occurred
    assert not any("My name is Ada" in text for text in await customer.told(erased.position))
    opened = [one for one in await customer.timeline(erased.position) if not one.erased]
    assert {one.event.WhichOneof("fact") for one in opened} >= {"note_added", "expectation_set"}
    assert len(opened) == erased.kept_events
    profile = await client.profile.GetProfile(api.GetProfileRequest(profile=of(customer.email)))
    assert customer.email.value in str(profile)
    assert "first_name" not in profile.profile.attributes
    found = await checks(client, erased.position)
    assert {what: one.left for what, one in found.items() if one.left} == {}
    assert await differing(client) == []


async def test_asked_again_it_answers_as_the_first_time_or_says_where_it_was_done(
    customer: Customer, client: Client
) -> None:
    name = str(uuid4())
    erased = await customer.erase(erasure_id=name)
    assert await customer.erase(erasure_id=name) == erased
    for again in ({"profile": of(customer.email)}, {"identity_keys": erased.identity_keys}):
        with pytest.raises(CallFailed) as failed:
            await erase(client, after_position=erased.position, **again)
        assert failed.value.reason == "PROFILE_ERASED"
        assert failed.value.metadata == {"position": str(erased.position)}
    other = new_email()
    position = await record(client, told(note("2026-03-05", "somebody else"), other))
    with pytest.raises(CallFailed) as failed:
        await erase(client, profile=of(other), erasure_id=name, after_position=position)
    assert [path for path, _ in failed.value.violations] == ["erasure_id"]


async def test_who_comes_back_is_known_by_what_is_new(customer: Customer, client: Client) -> None:
    erased = await customer.erase()
    back = await record(client, told(note("2026-03-05", "It is Ada again"), customer.email))
    entries = await customer.timeline(back)
    assert [one.position for one in entries if not one.erased] == [back]
    again = await erase(client, identity_keys=erased.identity_keys)
    assert (again.deleted_keys, again.erased_events) == (1, 1)
    assert all(one.erased for one in await customer.timeline(again.position))


async def test_what_waits_in_an_outbox_is_never_told_of_somebody_who_was_erased(
    customer: Customer, teller: Teller, client: Client
) -> None:
    outbox = Outbox(SECRET)
    url = await asyncpg.connect(teller.url)

    def decision(number: int) -> Decision:
        event = told(note("2026-03-05", f"decided about Ada {number}"), customer.email)
        return Decision("default", event, customer.last)

    async def decided(number: int, state: str) -> None:
        async with url.transaction():
            await outbox.decide(url, "rules", [decision(number)])
            await url.execute("UPDATE outbox SET state = $1 WHERE state <> 'dead'", state)

    async def is_empty() -> bool:
        return not await url.fetchval("SELECT count(*) FROM outbox")

    await decided(1, "dead")
    await url.execute("UPDATE outbox SET identity_keys = '{}'")  # as an older release left it
    await decided(2, "dead")
    erased = await customer.erase()
    await checks(client, erased.position)
    assert await is_empty()
    await decided(3, "waiting")  # on its way when the erasure came
    await eventually(is_empty)
    entries = await customer.timeline(await record(client, _something()))
    assert all(one.erased for one in entries)
    await url.close()


def _something() -> Event:
    return told(note("2026-03-05", "of somebody else"), new_email())


async def test_who_was_never_there_can_not_be_erased(client: Client) -> None:
    for whom in ({"profile": of(new_email())}, {"identity_keys": ["ab" * 16]}):
        with pytest.raises(CallFailed) as failed:
            await erase(client, **whom)
        assert failed.value.reason == "PROFILE_NOT_FOUND"


async def test_an_absorbed_profile_is_not_erased_by_its_old_id(
    customer: Customer, client: Client
) -> None:
    other = new_device()
    await record(client, told(used("2026-03-06", "app"), other))
    absorbed = await profile_id(client, other, await record(client, _something()))
    position = await record(client, told(used("2026-03-07", "app"), customer.email, other))
    old = ProfileReference(profile_id=absorbed)
    with pytest.raises(CallFailed) as failed:
        await erase(client, profile=old, after_position=position)
    assert failed.value.reason == "PROFILE_MERGED_AWAY"


async def test_what_makes_no_sense_is_refused_field_by_field(client: Client) -> None:
    day = stamp("2026-03-01")
    backwards = TimeRange(before=day)
    getattr(backwards, "from").CopyFrom(day)
    request = api.EraseProfileRequest(
        profile=of(Identity(kind=IDENTITY_KIND_EMAIL, value="ada@example.com")),
        reason="ada@example.com asks",
        requested_by="Ada Lovelace",
        erasure_id="17",
        identity_keys=["ab"],
        occurred=backwards,
    )
    with pytest.raises(CallFailed) as failed, readable_failures():
        await client.profile.EraseProfile(request)
    assert failed.value.reason == "INVALID_REQUEST"
    assert [path for path, _ in failed.value.violations] == [
        *("reason", "requested_by", "erasure_id", "identity_keys", "identity_keys[0]"),
        "occurred.before",
    ]
    for wrong, path in (
        ({"occurred": TimeRange()}, "occurred"),
        ({"occurred": TimeRange(before=Timestamp(seconds=-1))}, "occurred.before"),
        ({}, "profile"),
    ):
        named = {"profile": of(new_email())} if wrong else {}
        with pytest.raises(CallFailed) as failed:
            await erase(client, **named, **wrong)
        assert [found for found, _ in failed.value.violations] == [path]


async def test_only_an_erasure_is_looked_into(client: Client) -> None:
    position = await record(client, told(note("2026-03-05", "no erasure"), new_email()))
    for wrong in (0, position, position + 10_000):
        request = CheckErasureRequest(position=wrong)
        with pytest.raises(CallFailed) as failed, readable_failures():
            await client.projections["profile"].CheckErasure(request)
        assert [path for path, _ in failed.value.violations] == ["position"]
