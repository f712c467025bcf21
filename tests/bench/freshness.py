"""How soon what is recorded can be read, while a thousand events a second are recorded."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from tests.bench import events as load
from tests.bench.figures import percentiles
from tests.bench.holding import Rate, probed
from tests.bench.load import ticks
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.worker import Result, Spec, Tell
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_service_pb2 import RecordEventRequest
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import (
    ListTimelineEventsRequest,
    WatchTimelineRequest,
)

RATE: Final = 1000
BATCH: Final = 10
PROBES_PER_SECOND: Final = 20
_PROBED: Final = 20
_FIRST_PROBED: Final = 9_000_000  # customers whom nobody else writes to
_WATCHED: Final = _FIRST_PROBED + _PROBED
_AGAIN_SECONDS: Final = 0.001

DEFINITION: Final = (
    "From a probe's recorded_at, which the store sets before it commits, until its caller has it: "
    "read lists the timeline over and over, watch has a WatchTimeline open. write_then_read is a "
    "RecordEvent and a ListTimelineEvents after its position together."
)


async def measure(report: Report, ingestion: str, profile: str, scale: Scale) -> None:
    """Hold a rate, in small batches and then one event a call; see how soon probes are visible."""
    for size, suffix in ((BATCH, ""), (1, "_unary")):
        sent = "one event a call" if size == 1 else f"{size} events a call"
        told = f"Freshness at {RATE:,} events/s, {sent}, at a steady rate"
        report.heading(told, "" if suffix else DEFINITION)
        figure = f"freshness_rate_held{suffix}"
        probing = {"ingestion": ingestion, "profile": profile}
        seen = await probed(report, scale, Rate(RATE, size), figure, "probes", probing)
        report.add(*percentiles(f"freshness{suffix}_read", seen["read"]))
        report.add(*percentiles(f"freshness{suffix}_watch", seen["watch"]))
        report.add(*percentiles(f"write_then_read{suffix}", seen["write_then_read"]))


@asynccontextmanager
async def probes(spec: Spec, tell: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Record events and see when they are visible. Spec: ingestion, profile, seconds."""
    async with Client.connect(spec["ingestion"], spec["profile"]) as client:
        probe = _Probes(client)
        await probe.introduce()

        async def work() -> Result:
            watching = asyncio.create_task(probe.watch())
            count = int(PROBES_PER_SECOND * spec["seconds"])
            async with asyncio.TaskGroup() as tasks:
                async for number, _ in ticks(PROBES_PER_SECOND, count):
                    tasks.create_task(probe.probe(number))
                    if number % PROBES_PER_SECOND == 0:
                        tell(number / PROBES_PER_SECOND)
            await asyncio.sleep(0.5)
            watching.cancel()
            return {
                "read": probe.reads,
                "watch": probe.watched,
                "write_then_read": probe.both,
                "failed": dict(probe.failed),
            }

        yield work


class _Probes:
    """Records events of customers of its own, each way of seeing them in its own list (ms)."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rng = random.Random(7)
        self.reads: list[float] = []
        self.watched: list[float] = []
        self.both: list[float] = []
        self.failed: Counter[str] = Counter()

    async def introduce(self) -> None:
        """Make the probed profiles, so that they can be read from the start."""
        verdicts = await self._client.record(
            [self._event(_FIRST_PROBED + number) for number in range(_PROBED + 1)]
        )
        self._start = verdicts[-1].position
        await self._client.profile.ListTimelineEvents(
            _list(_WATCHED, after_position=self._start), timeout=60
        )

    async def probe(self, number: int) -> None:
        """Probe in one of the three ways; a call that is refused is counted."""
        ways = (self.read, self.record_watched, self.write_then_read)
        try:
            await ways[number % 3](number)
        except grpc.aio.AioRpcError as error:
            self.failed[error.code().name] += 1

    async def read(self, number: int) -> None:
        """Record an event, and list the timeline until it is there."""
        customer = _FIRST_PROBED + number % _PROBED
        event = self._event(customer)
        await self._record(event)
        while True:
            answer = await self._client.profile.ListTimelineEvents(_list(customer))
            for entry in answer.entries:
                if entry.event.event_id == event.event_id:
                    self.reads.append(_millis_since(entry.recorded_at))
                    return
            await asyncio.sleep(_AGAIN_SECONDS)

    async def record_watched(self, _: int) -> None:
        """Record an event of the watched profile."""
        await self._record(self._event(_WATCHED))

    async def watch(self) -> None:
        """Watch a profile for ever."""
        reference = ProfileReference(identity=load.crm_identity(_WATCHED))
        request = WatchTimelineRequest(profile=reference, after_position=self._start)
        async for answer in self._client.profile.WatchTimeline(request):
            self.watched.append(_millis_since(answer.entry.recorded_at))

    async def write_then_read(self, number: int) -> None:
        """Record an event, and read it with after_position."""
        customer = _FIRST_PROBED + number % _PROBED
        event = self._event(customer)
        start = time.perf_counter()
        position = await self._record(event)
        answer = await self._client.profile.ListTimelineEvents(
            _list(customer, after_position=position)
        )
        self.both.append((time.perf_counter() - start) * 1e3)
        if all(entry.event.event_id != event.event_id for entry in answer.entries):
            raise AssertionError("a read after a position does not show what was recorded there")

    async def _record(self, event: Event) -> int:
        answer = await self._client.ingestion.RecordEvent(RecordEventRequest(event=event))
        return int(answer.verdict.position)

    def _event(self, customer: int) -> Event:
        event = load.event_of(customer, self._rng)
        event.occurred_at.GetCurrentTime()
        return event


def _list(customer: int, after_position: int = 0) -> ListTimelineEventsRequest:
    return ListTimelineEventsRequest(
        profile=ProfileReference(identity=load.crm_identity(customer)),
        page_size=3,
        after_position=after_position,
    )


def _millis_since(recorded_at: Timestamp) -> float:
    return (time.time_ns() - recorded_at.ToNanoseconds()) / 1e6
