"""Callers of all services while their processes are restarted, and what they were told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from libs.tasks import running
from tests.bench import events as made
from tests.bench.load import ticks
from tests.faults import commands
from touchline.client import Client
from touchline.engagement.v1.engagement_service_pb2 import GetScoreRequest
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import PAYMENT_STATUS_DECLINED, NoteAdded, PaymentAttempted
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_EMAIL, Identity
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1.ingestion_pb2 import Verdict
from touchline.ingestion.v1.ingestion_service_pb2 import RecordEventRequest
from touchline.notification.v1 import notification_service_pb2 as notification
from touchline.profile.v1 import profile_service_pb2 as profile
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.views_pb2 import VIEW_KIND_SALES
from touchline.uuid7 import uuid7

CUSTOMERS: Final = 100
_FOREVER: Final = 10**9
_BATCH: Final = 10


@dataclass(slots=True)
class Callers:
    """Everybody who calls, and what came of it.

    Attributes:
        client: Calls as the shipped client does.
        name: What nobody else is called; the names of all that is made here begin with it.
        millis: What each kind of call took.
        failed: Calls that failed, by their kind and reason.
        wrong: What was answered and should not have been.
        published: How many versions of the rule and of the model were published.
        noted: The position and id of each event of the customer whose timeline is watched.
        entries: Those that the watch told.
        declined: The events of which the rule makes a notification.
        causes: The events of the notifications that the watch of the inbox told.
    """

    client: Client
    name: str
    millis: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    published: Counter[str] = field(default_factory=Counter)
    noted: list[tuple[int, str]] = field(default_factory=list)
    entries: list[tuple[int, str]] = field(default_factory=list)
    declined: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    _last: int = 0

    async def prepare(self) -> None:
        """Record what is read and watched, and publish the first versions."""
        rng = random.Random(0)
        await self.client.record(made.event_of(number, rng) for number in range(CUSTOMERS))
        for what in ("rule", "model"):
            await self._publish(what, 0)
        await self._note(0)
        ((position, _),) = self.noted
        await self._read_back(self._somebody("watched"), position, [])
        self.millis.clear()

    async def read(self, per_second: float) -> None:
        """Read random customers, half of the time with what was recorded last."""
        rng, client = random.Random(1), self.client

        async def once(number: int) -> None:
            who = ProfileReference(identity=made.crm_identity(rng.randrange(CUSTOMERS)))
            after = self._last * rng.randrange(2)
            asked: Any = {"profile": who, "after_position": after}
            inbox = notification.Inbox(reference=self.name)
            calls: Sequence[Callable[[], Awaitable[Any]]] = (
                lambda: client.profile.GetProfile(profile.GetProfileRequest(**asked)),
                lambda: client.profile.GetView(
                    profile.GetViewRequest(view=VIEW_KIND_SALES, **asked)
                ),
                lambda: client.profile.ListTimelineEvents(
                    profile.ListTimelineEventsRequest(**asked)
                ),
                lambda: client.engagement.GetScore(GetScoreRequest(**asked)),
                lambda: client.notification.ListInbox(
                    notification.ListInboxRequest(inbox=inbox, after_position=after)
                ),
            )
            await self._timed("read", calls[number % len(calls)]())

        await _each(per_second, once)

    async def record(self, per_second: float) -> None:
        """Record one event a call."""
        rng = random.Random(2)

        async def once(_: int) -> None:
            await self._recorded(made.event_of(rng.randrange(CUSTOMERS), rng))

        await _each(per_second, once)

    async def record_batches(self, per_second: float) -> None:
        """Record batches with `record`."""
        rng = random.Random(3)

        async def once(_: int) -> None:
            events = [made.event_of(rng.randrange(CUSTOMERS), rng) for _ in range(_BATCH)]
            verdicts = await self._timed("record", self.client.record(events))
            self._check(verdicts or [], events)

        await _each(per_second / _BATCH, once)

    async def record_stream(self, per_second: float) -> None:
        """Record events on one stream that does not end."""
        rng, sent = random.Random(4), deque[tuple[Event, float]]()

        async def source() -> AsyncIterator[Event]:
            async for _ in ticks(per_second, _FOREVER):
                event = made.event_of(rng.randrange(CUSTOMERS), rng)
                sent.append((event, time.perf_counter()))
                yield event

        with self._told("record_stream"):
            async for verdict in self.client.record_stream(source()):
                event, began = sent.popleft()
                self.millis["record_stream"].append((time.perf_counter() - began) * 1e3)
                self._check([verdict], [event])

    async def write_and_read(self, per_second: float) -> None:
        """Record an event of a new customer and read it back from each service."""

        async def once(number: int) -> None:
            who = self._somebody(f"new-{number}")
            event = _event(who)
            event.payment_attempted.CopyFrom(
                PaymentAttempted(payment_id=f"{self.name}-{number}", status=PAYMENT_STATUS_DECLINED)
            )
            if position := await self._recorded(event):
                self.declined.append(event.event_id)
                await self._read_back(who, position, [event.event_id])

        await _each(per_second, once)

    async def _read_back(self, who: Identity, position: int, written: Sequence[str]) -> None:
        asked: Any = {"profile": ProfileReference(identity=who), "after_position": position}
        calls = self.client.profile
        listed = await self._timed(
            "own write", calls.ListTimelineEvents(profile.ListTimelineEventsRequest(**asked))
        )
        if listed and not {one.event.event_id for one in listed.entries}.issuperset(written):
            self.wrong["the timeline lacks what its reader wrote"] += 1
        got = await self._timed("own write", calls.GetProfile(profile.GetProfileRequest(**asked)))
        if got and not got.profile.event_count:
            self.wrong["the profile lacks what its reader wrote"] += 1
        score = self.client.engagement.GetScore(GetScoreRequest(**asked))
        await self._timed("own write", score)
        expectations = notification.ListExpectationsRequest(**asked)
        await self._timed("own write", self.client.notification.ListExpectations(expectations))

    async def publish(self, what: str, per_second: float) -> None:
        """Publish the next version of the rule or the model, each once."""
        async for number, _ in ticks(per_second, _FOREVER):
            await self._publish(what, number + 1)

    async def _publish(self, what: str, number: int) -> None:
        expected = self.published[what]
        version = await self._timed(
            f"publish {what}", commands.PUBLISH[what](self.client, self.name, number, expected)
        )
        if version is not None:
            self.published[what] += 1
            if version != self.published[what]:
                self.wrong[f"somebody else published a {what}"] += 1

    async def merge(self, per_second: float) -> None:
        """Decide about two new customers that they are one."""

        async def once(number: int) -> None:
            left, right = (self._somebody(f"{side}-{number}") for side in ("left", "right"))
            seen = [await self._recorded(_note(one, "Seen")) or 0 for one in (left, right)]
            call = commands.merge(self.client, left, right, str(uuid4()), max(seen))
            position = await self._timed("merge", call)
            if position is None:
                return
            request = profile.ResolveProfileRequest(identity=left, after_position=position)
            one = await self._timed("own write", self.client.profile.ResolveProfile(request))
            request = profile.ResolveProfileRequest(identity=right, after_position=position)
            other = await self._timed("own write", self.client.profile.ResolveProfile(request))
            if one and other and one.profile_id != other.profile_id:
                self.wrong["two who were merged are two"] += 1

        await _each(per_second, once)

    async def note(self, per_second: float) -> None:
        """Record events of the customer whose timeline is watched."""
        async for number, _ in ticks(per_second, _FOREVER):
            await self._note(number + 1)

    async def _note(self, number: int) -> None:
        event = _note(self._somebody("watched"), f"Note {number}")
        if position := await self._recorded(event):
            self.noted.append((position, event.event_id))

    async def watch_timeline(self) -> None:
        """Watch a customer's timeline from its beginning."""
        who = ProfileReference(identity=self._somebody("watched"))
        with self._told("watch_timeline"):
            async for entry in self.client.watch_timeline(
                profile.WatchTimelineRequest(profile=who)
            ):
                self.entries.append((entry.position, entry.event.event_id))

    async def watch_inbox(self) -> None:
        """Watch a team's inbox from its beginning."""
        inbox = notification.Inbox(reference=self.name)
        with self._told("watch_inbox"):
            async for item in self.client.watch_inbox(notification.WatchInboxRequest(inbox=inbox)):
                self.causes.append(item.cause_event_id)

    def _somebody(self, name: str) -> Identity:
        return Identity(kind=IDENTITY_KIND_EMAIL, value=f"{name}@{self.name}.example")

    async def _recorded(self, event: Event) -> int | None:
        call = self.client.ingestion.RecordEvent(RecordEventRequest(event=event))
        response = await self._timed("RecordEvent", call)
        if response is None:
            return None
        self._check([response.verdict], [event])
        return int(response.verdict.position)

    def _check(self, verdicts: Iterable[Verdict], events: Sequence[Event]) -> None:
        for verdict, event in zip(verdicts, events, strict=False):
            if verdict.event_id != event.event_id or not verdict.position:
                self.wrong["a verdict says nothing of its event"] += 1
            self._last = max(self._last, verdict.position)

    async def _timed(self, what: str, call: Awaitable[Any]) -> Any:
        began, answer = time.perf_counter(), None
        with self._told(what):
            answer = await call
            self.millis[what].append((time.perf_counter() - began) * 1e3)
        return answer

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Note what fails in the block."""
        try:
            with readable_failures():
                yield
        except CallFailed as error:
            self.failed[f"{what}: {error}"] += 1


@asynccontextmanager
async def calling(client: Client, name: str) -> AsyncIterator[Callers]:
    """Call everything at a modest rate until the block ends.

    Args:
        client: Of the running services.
        name: What nobody else there is called.
    """
    callers = Callers(client, name)
    await callers.prepare()
    async with running(
        callers.read(30),
        callers.record(10),
        callers.record_batches(20),
        callers.record_stream(20),
        callers.write_and_read(1),
        callers.publish("rule", 0.5),
        callers.publish("model", 0.1),
        callers.merge(0.5),
        callers.note(2),
        callers.watch_timeline(),
        callers.watch_inbox(),
    ):
        yield callers


async def _each(per_second: float, once: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """Begin something at a rate, for ever, whether what began before has ended or not."""
    async with asyncio.TaskGroup() as calls:
        async for number, _ in ticks(per_second, _FOREVER):
            calls.create_task(once(number))


def _event(who: Identity) -> Event:
    event = Event(event_id=uuid7(), source="restarts", identities=[who])
    event.occurred_at.GetCurrentTime()
    return event


def _note(who: Identity, text: str) -> Event:
    event = _event(who)
    event.note_added.CopyFrom(NoteAdded(text=text))
    return event
