"""One of a thousand customers is erased: nothing of them is left, and everything of the others.

They talk in the same conversations, mention each other's events and use the same devices. Seven
processes run: two of ingestion, so that what one remembers is not what the other erased.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.embedded.smtp_sink import SmtpSink, run_smtp_sink
from libs.eventstore.sealing import MasterKey
from libs.identity.keys import IdentityKeys, tenant_secret
from tests.customers import email, number_in, of, record, told
from tests.faults import cluster as clusters
from tests.faults.cluster import INGESTION, PROJECTING, Cluster, open_cluster
from tests.given import case, contact, note, touch, traits, used
from tests.ruling import a_rule, notice
from touchline.client import Client
from touchline.engagement.v1 import engagement_service_pb2 as eng
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_DEVICE,
    IDENTITY_KIND_PHONE,
    IDENTITY_KIND_SOCIAL_HANDLE,
    Identity,
)
from touchline.ingestion.v1 import ingestion_service_pb2 as ingestion
from touchline.notification.v1 import notification_service_pb2 as notification
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.erasure_pb2 import Erased, TimeRange
from touchline.profile.v1.profile_pb2 import TimelineEntry
from touchline.projection.v1.projection_service_pb2 import (
    CheckErasureRequest,
    ListProjectionsRequest,
    VerifyProjectionRequest,
)

CUSTOMERS = 1000
IN_A_CONVERSATION = 10
AT_ONCE = 25
NOW = int(time.time())
ERASED, SHORTENED = 417, 523
"""Who is erased, and of whom a time is."""


@dataclass(frozen=True, slots=True)
class Person:
    """A customer, whose every word occurs nowhere else.

    Attributes:
        number: Tells them apart.
    """

    number: int

    def word(self, what: str) -> str:
        """A word that only this person's events have."""
        return f"{what}quill{self.number:04}"

    @property
    def email(self) -> Identity:
        """Their address."""
        return email(f"{self.word('mail')}@birds.example")

    @property
    def others(self) -> list[Identity]:
        """What else they are known by."""
        return [
            Identity(kind=IDENTITY_KIND_PHONE, value=f"+4930555{self.number:04}"),
            Identity(
                kind=IDENTITY_KIND_SOCIAL_HANDLE,
                namespace="mastodon",
                value=self.word("handle"),
            ),
            number_in("crm", self.word("crm")),
        ]

    @property
    def kiosk(self) -> Identity:
        """A device that ten of them use; nobody's name."""
        return Identity(kind=IDENTITY_KIND_DEVICE, value=f"kiosk-{self.number // 10}")

    @property
    def is_near(self) -> bool:
        """Whether they talk with one of the erased, share a device, or come every so often."""
        beside = {self.number // 10, (self.number + 1) // 10, (self.number - 1) // 10}
        return bool(beside & {ERASED // 10, SHORTENED // 10}) or self.number % 10 == 0

    @property
    def words(self) -> list[str]:
        """All that must not be found once they are erased."""
        spoken = ("first", "said", "noted", "later", "promised", "awaited", "handle", "crm", "mail")
        return [*map(self.word, spoken), f"+4930555{self.number:04}", f"4930555{self.number:04}"]

    def events(self, before: str) -> list[Event]:
        """What they did: they answer somebody else's event in the conversation of all."""
        talk = f"conversation-{self.number // IN_A_CONVERSATION}"
        said = contact(
            *("2026-03-01 10:00", "email"),
            text=self.word("said"),
            in_reply_to=before,
            conversation_id=talk,
        )
        late = touch(
            "2026-03-01", case_changed=case("2026-03-01", self.word("later")).event.case_changed
        )
        late.event.occurred_at.CopyFrom(Timestamp(seconds=NOW))
        return [
            told(said, self.email, *self.others),
            told(traits("2026-03-02", {"first_name": self.word("first")}), self.email),
            told(note("2026-03-03 12:00", self.word("noted")), self.email),
            told(used("2026-03-04", "app"), self.email, self.kiosk),
            # What is of today tells somebody something.
            *([told(late, self.email)] if self.is_near else []),
        ]


_UNDER_WAY = """
    SELECT EXISTS (SELECT FROM outbox)
        OR EXISTS (SELECT FROM projection_checkpoints WHERE position < $1)
"""
_BEING_DELIVERED = "SELECT EXISTS (SELECT FROM deliveries WHERE state IN (1, 2))"

PEOPLE = [Person(number) for number in range(CUSTOMERS)]


@dataclass(slots=True)
class Town:
    """All the customers, and what runs.

    Attributes:
        cluster: The processes.
        client: Asks them; ingestion's first replica.
        other: The same with the second.
        mails: What the notification service sent.
        master_key: Wraps the data keys.
        keys: Names identities.
    """

    cluster: Cluster
    client: Client
    other: Client
    mails: SmtpSink
    master_key: MasterKey
    keys: IdentityKeys

    async def live(self) -> int:
        """Everything happens to everybody; returns the last position."""
        rule = a_rule(
            "case_changed",
            name="case",
            notices=[
                notice(
                    {"customer": True},
                    title="Your case {event.fact.case_id}",
                    channels=["NOTIFICATION_CHANNEL_EMAIL", "NOTIFICATION_CHANNEL_INBOX"],
                ),
                notice({"reference": "agent-7"}, title="Look at {event.fact.case_id}"),
            ],
            expect={
                "promise": "An answer to {event.fact.case_id}",
                "within": "86400s",
                "team": "care",
            },
        )
        await self.client.notification.PublishRule(
            notification.PublishRuleRequest(definition=rule, published_by="agent-7")
        )
        before, last = "", 0
        for start in range(0, CUSTOMERS, 50):
            events = []
            for person in PEOPLE[start : start + 50]:
                theirs = person.events(before)
                before = theirs[0].event_id
                events += theirs
            client = self.client if start % 100 else self.other
            last = await record(client, *events)
        for person in (PEOPLE[ERASED], PEOPLE[SHORTENED], PEOPLE[ERASED + 1]):
            given = await self.client.notification.GivePromise(
                notification.GivePromiseRequest(
                    expectation_id=person.word("awaited"),
                    identities=[person.email],
                    promise=person.word("promised"),
                    due_at=Timestamp(seconds=4_000_000_000),
                    promised_by="agent-7",
                )
            )
            last = given.position
        return last

    async def settled(self) -> int:
        """Returns the head's position once nothing is under way."""
        position, quiet = 0, 0
        async with AsyncExitStack() as stack:
            views = []
            for service in PROJECTING:
                views.append(await asyncpg.connect(self.cluster.database(service)))
                stack.push_async_callback(views[-1].close)
            while quiet < 5:
                status = await self.client.ingestion.GetStoreStatus(
                    ingestion.GetStoreStatusRequest()
                )
                head = status.status.head_position
                waits = [await view.fetchval(_UNDER_WAY, head) for view in views]
                waits.append(await views[-1].fetchval(_BEING_DELIVERED))
                quiet = quiet + 1 if not any(waits) and head == position else 0
                position = head
                await asyncio.sleep(0.1)
        return position

    async def told_of(self, person: Person, after: int) -> tuple[list[TimelineEntry], str]:
        """A person's timeline, and all that the services say of those near the erased, as text."""
        whom = of(person.email)
        profile = await self.client.profile.GetProfile(
            api.GetProfileRequest(profile=whom, after_position=after)
        )
        entries = (
            await self.client.profile.ListTimelineEvents(
                api.ListTimelineEventsRequest(profile=whom, after_position=after)
            )
        ).entries
        if not person.is_near:
            return list(entries), str(profile)
        inbox = await self.client.notification.ListInbox(
            notification.ListInboxRequest(
                inbox=notification.Inbox(customer=whom), after_position=after
            )
        )
        awaited = await self.client.notification.ListExpectations(
            notification.ListExpectationsRequest(profile=whom, after_position=after)
        )
        score = await self.client.engagement.GetScore(
            eng.GetScoreRequest(profile=whom, after_position=after)
        )
        return list(entries), f"{profile} {inbox} {awaited} {score.score.score:.3f}"

    async def everybody(self, after: int) -> dict[int, tuple[list[TimelineEntry], str]]:
        """What is told of each person, by number."""
        found: dict[int, tuple[list[TimelineEntry], str]] = {}
        for start in range(0, CUSTOMERS, AT_ONCE):
            part = PEOPLE[start : start + AT_ONCE]
            asked = await asyncio.gather(*(self.told_of(one, after) for one in part))
            found |= {one.number: what for one, what in zip(part, asked, strict=True)}
        return found

    async def erase(self, person: Person, occurred: TimeRange | None = None) -> Erased:
        """Erases a person, or a time of theirs."""
        request = api.EraseProfileRequest(
            profile=of(person.email),
            occurred=occurred,
            reason="request 17",
            requested_by="agent-7",
        )
        return (await self.client.profile.EraseProfile(request)).erased

    async def wrapped_keys(self, person: Person) -> dict[bytes, bytes]:
        """The rows of a person's data keys: what is stored, and what it wraps."""
        store = await asyncpg.connect(self.cluster.database(INGESTION[0]))
        names = [self.keys.identify(one).key for one in (person.email, *person.others)]
        rows = await store.fetch(
            "SELECT identity_key, wrapped_key FROM data_keys WHERE identity_key = ANY($1)", names
        )
        await store.close()
        return {
            row["wrapped_key"]: self.master_key.unwrap(row["wrapped_key"], 1, row["identity_key"])
            for row in rows
        }

    async def left(self, position: int) -> dict[str, int]:
        """What any process finds left of an erasure, but for what is 0."""
        found = Counter[str]()
        for service in PROJECTING:
            calls = self.client.projections[service]
            for one in (await calls.CheckErasure(CheckErasureRequest(position=position))).checks:
                found[f"{service} {one.what}"] += one.left
        for client in (self.client, self.other):
            request = ingestion.CheckErasureRequest(position=position)
            for one in (await client.ingestion.CheckErasure(request)).checks:
                found[f"ingestion {one.what}"] += one.left
        return dict(+found)

    async def wrong(self) -> list[str]:
        """What verifying finds: in the store, the feed, and every projection folded anew."""
        found = []
        async for store in self.client.ingestion.VerifyStore(ingestion.VerifyStoreRequest()):
            found += [f"store: {one}" for one in store.problems]
        async for feed in self.client.ingestion.VerifyFeed(ingestion.VerifyFeedRequest()):
            found += [f"feed: {one}" for one in feed.problems]
        for service in PROJECTING:
            calls = self.client.projections[service]
            for one in (await calls.ListProjections(ListProjectionsRequest())).projections:
                if one.is_reactor:
                    continue
                request = VerifyProjectionRequest(projection=one.name)
                last = [state async for state in calls.VerifyProjection(request)][-1]
                assert last.finished
                found += [f"{one.name}: {t}" for t in last.tables if t.differing_rows]
        return found


def client_of(cluster: Cluster, replica: str) -> AbstractAsyncContextManager[Client]:
    """A client of all services, of ingestion's by one replica."""
    at = cluster.addresses
    return Client.connect(
        *(at[replica], at["profile"]),
        engagement=at["engagement"],
        notification=at["notification"],
    )


@pytest.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """An empty town, with a mail server."""
    async with run_smtp_sink() as mails:
        made = clusters._secrets() | {"TOUCHLINE_SMTP_URL": mails.url}
        monkeypatch.setattr(clusters, "_secrets", lambda: made)
        async with open_cluster(tmp_path / "home", None) as cluster:
            await cluster.until_serving()
            async with (
                client_of(cluster, "ingestion-a") as client,
                client_of(cluster, "ingestion-b") as other,
            ):
                identity_secret = bytes.fromhex(made["TOUCHLINE_IDENTITY_SECRET"])
                yield Town(
                    *(cluster, client, other, mails),
                    MasterKey(bytes.fromhex(made["TOUCHLINE_MASTER_KEY"])),
                    IdentityKeys(tenant_secret(identity_secret, "default")),
                )


def spellings(person: Person) -> list[bytes]:
    """What only this person's words have, as files may have it: in any encoding or spelling."""
    found = set[bytes]()
    for word in (person.word(""), f"4930555{person.number:04}"):
        plain = word.encode()
        found |= {plain, word.encode("utf-16-le"), word.encode("utf-16-be"), plain.hex().encode()}
        for shift in range(3):  # where it begins among the threes of bytes
            encoded = base64.b64encode(bytes(shift) + plain)[4 if shift else 0 :]
            found.add(encoded.rstrip(b"=")[:-1])
    return sorted(found)


def files_with(home: Path, wanted: Sequence[bytes]) -> dict[str, int]:
    """How often any of some strings of bytes is in the files of a directory, by file."""
    found = Counter[str]()
    for path in _files(home):
        data = path.read_bytes()
        for one in wanted:
            if times := data.count(one):
                found[str(path.relative_to(home))] += times
    return dict(found)


def _files(home: Path) -> Iterator[Path]:
    for path in sorted(home.rglob("*")):
        try:
            if path.is_file() and not path.is_symlink():
                yield path
        except OSError:
            continue  # it went meanwhile


@pytest.mark.timeout(300)
async def test_one_of_a_thousand_is_erased(town: Town) -> None:
    home, gone, shortened = town.cluster.home, PEOPLE[ERASED], PEOPLE[SHORTENED]
    await town.live()
    before_us = await town.settled()
    everybody = await town.everybody(before_us)
    mails = [await town.mails.next_mail(1) for one in PEOPLE if one.is_near]
    assert sum(gone.word("mail") in str(mail["To"]) for mail in mails) == 1
    assert gone.word("first") in everybody[ERASED][1]
    keys = await town.wrapped_keys(gone)
    assert len(keys) == 4
    (home / "canary").write_bytes(base64.b64encode(f"I am {gone.word('said')}!".encode()))
    assert files_with(home, spellings(gone)) == {"canary": 1}
    (home / "canary").unlink()

    occurred = TimeRange(before=Timestamp(seconds=1_772_500_000))  # 2026-03-03 01:06
    began = time.monotonic()
    whole = await town.erase(gone)
    took = time.monotonic() - began
    part = await town.erase(shortened, occurred)
    assert (part.deleted_keys, part.erased_events) == (0, 2)
    assert whole.deleted_keys == 4

    assert await town.left(whole.position) == await town.left(part.position) == {}
    after = await town.everybody(part.position)
    entries, rest = after[ERASED]
    assert all(one.erased for one in entries)
    assert len(entries) == len(everybody[ERASED][0])
    assert not [word for word in gone.words if word in rest]
    entries, rest = after[SHORTENED]
    assert Counter(one.erased for one in entries) == {False: len(entries) - 2, True: 2}
    assert shortened.word("first") not in rest
    assert shortened.word("mail") in rest
    for number, before in everybody.items():
        if number not in (ERASED, SHORTENED):
            assert after[number] == before

    assert await town.wrong() == []
    for name in {*town.cluster.addresses}:
        base = name.partition("-")[0]
        database = await asyncpg.connect(town.cluster.database(base))
        await database.execute("CHECKPOINT")
        await database.close()
    assert files_with(home, spellings(gone)) == {}
    halves = [secret[at : at + 32] for secret in keys.values() for at in (0, 32)]
    assert files_with(home, halves) == {}
    wrapped = files_with(home, [*keys])
    print(  # noqa: T201 - whoever runs it wants to know
        f"erased in {took * 1000:.0f} ms; wrapped keys are still in {wrapped or 'no file'}"
    )
    assert not [name for name in wrapped if not name.startswith("postgres/")]
    # The keys themselves are not to be had any more, by anybody.
    assert await town.wrapped_keys(gone) == {}
