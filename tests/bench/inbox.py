"""How soon an event that concerns somebody is in the inbox, at hundreds of events a second."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import grpc

from tests.bench import events as load
from tests.bench.figures import percentiles
from tests.bench.holding import Rate, probed
from tests.bench.load import ticks
from tests.bench.report import Report
from tests.bench.rules import DESCRIPTION, INTENT, TEAM, WORD, hundred_rules
from tests.bench.scale import Scale
from tests.bench.stage import Stage
from tests.bench.worker import Result, Spec, Tell
from touchline.client import Client
from touchline.engagement.v1.engagement_service_pb2 import GetScoreRequest
from touchline.events.v1 import facts_pb2 as facts
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_service_pb2 import RecordEventRequest
from touchline.notification.v1.notification_pb2 import InboxItem
from touchline.notification.v1.notification_service_pb2 import (
    Inbox,
    PublishRuleRequest,
    WatchInboxRequest,
)
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import ListTimelineEventsRequest

RATE: Final = 500
BATCH: Final = 5
PROBES_PER_SECOND: Final = 20
_SPAN_SECONDS: Final = 60
_PROBED: Final = 20
_FIRST_PROBED: Final = 9_000_000  # customers whom nobody else writes to
_CATCHING_UP_SECONDS: Final = 600.0
_LAST_SECONDS: Final = 5.0

DEFINITION: Final = (
    "From a probe's recorded_at, which the store sets before it commits, to the millisecond, until "
    f"a WatchInbox tells what it made one rule decide. {DESCRIPTION}"
)


async def measure(report: Report, stage: Stage, ingestion: str, scale: Scale) -> None:
    """Run the other services, publish the rules, hold a rate, and see when probes are told."""
    report.heading(f"From event to inbox at {RATE} events/s, {BATCH} events a call", DEFINITION)
    async with (
        stage.run("profile") as profile,
        stage.run("engagement") as engagement,
        stage.run("notification") as notification,
    ):
        probing = {
            "ingestion": ingestion,
            "profile": profile,
            "engagement": engagement,
            "notification": notification,
        }
        rate = Rate(RATE, BATCH, _SPAN_SECONDS)
        told = await probed(report, scale, rate, "inbox_rate_held", "alarms", probing)
    lost = f"{told['missing']} never came" if told["missing"] else ""
    report.add(*percentiles("inbox", told["told"], lost))
    report.add(*percentiles("inbox_decided", told["decided"], "until the decision is recorded"))


@asynccontextmanager
async def alarms(spec: Spec, tell: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Record events that one rule wants to know of, and see when an inbox tells.

    Spec: ingestion, profile, engagement, notification, seconds.
    """
    targets = {name: spec[name] for name in ("profile", "engagement", "notification")}
    async with Client.connect(spec["ingestion"], **targets) as client:
        alarm = _Alarms(client)
        await alarm.introduce()

        async def work() -> Result:
            count = int(PROBES_PER_SECOND * spec["seconds"])
            async with asyncio.TaskGroup() as tasks:
                async for number, _ in ticks(PROBES_PER_SECOND, count):
                    tasks.create_task(alarm.raise_one(number))
                    if number % PROBES_PER_SECOND == 0:
                        tell(number / PROBES_PER_SECOND)
            await alarm.all_told(_LAST_SECONDS)
            return alarm.result()

        yield work


class _Alarms:
    """Records events of customers of its own, and collects what an inbox tells of them (ms)."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rng = random.Random(11)
        self._waiting: set[str] = set()
        self._told: list[float] = []
        self._decided: list[float] = []
        self._failed: Counter[str] = Counter()
        self._watching = asyncio.create_task(self._watch())

    async def introduce(self) -> None:
        """Publish the rules; return once all services are at the head, and a first alarm came."""
        for rule in hundred_rules():
            request = PublishRuleRequest(definition=rule, published_by="bench")
            await self._client.notification.PublishRule(request)
        position = await self.raise_one(0)
        reference = ProfileReference(identity=load.crm_identity(_FIRST_PROBED))
        timeline = ListTimelineEventsRequest(profile=reference, after_position=position)
        await self._client.profile.ListTimelineEvents(timeline, timeout=_CATCHING_UP_SECONDS)
        score = GetScoreRequest(profile=reference, after_position=position)
        await self._client.engagement.GetScore(score, timeout=_CATCHING_UP_SECONDS)
        await self.all_told(_CATCHING_UP_SECONDS)
        if self._waiting:
            raise AssertionError("the inbox does not tell what the first probe is about")
        self._told.clear()
        self._decided.clear()

    async def raise_one(self, number: int) -> int:
        """Record an event that a rule wants to know of; return its position, 0 if refused."""
        event = self._event(_FIRST_PROBED + number % _PROBED)
        self._waiting.add(event.event_id)
        try:
            answer = await self._client.ingestion.RecordEvent(RecordEventRequest(event=event))
        except grpc.aio.AioRpcError as error:
            self._waiting.discard(event.event_id)
            self._failed[error.code().name] += 1
            return 0
        return int(answer.verdict.position)

    async def all_told(self, seconds: float) -> None:
        """Return once nothing is waited for any more, or after so many seconds."""
        end = time.monotonic() + seconds
        while self._waiting and time.monotonic() < end:
            await asyncio.sleep(0.01)
            if self._watching.done():
                self._watching.result()

    def result(self) -> dict[str, Any]:
        """Return what was measured."""
        return {
            "told": self._told,
            "decided": self._decided,
            "failed": dict(self._failed),
            "missing": len(self._waiting),
        }

    async def _watch(self) -> None:
        request = WatchInboxRequest(inbox=Inbox(reference=TEAM))
        async for answer in self._client.notification.WatchInbox(request):
            self._heard(answer.item)

    def _heard(self, item: InboxItem) -> None:
        if item.cause_event_id not in self._waiting:
            raise AssertionError("the inbox told something twice, or something else")
        self._waiting.remove(item.cause_event_id)
        # The first 48 bits of a decision's id are when its cause was recorded.
        recorded_ms = UUID(item.notification_id).int >> 80
        self._told.append(time.time_ns() / 1e6 - recorded_ms)
        self._decided.append(item.decided_at.ToNanoseconds() / 1e6 - recorded_ms)

    def _event(self, customer: int) -> Event:
        event = load.event_of(customer, self._rng)
        event.occurred_at.GetCurrentTime()
        event.interaction.Clear()
        event.interaction.channel = facts.CHANNEL_SOCIAL
        event.interaction.direction = facts.DIRECTION_INBOUND
        event.interaction.intent = INTENT
        event.interaction.text = f"Once more, and you will hear from my {WORD}."
        return event
