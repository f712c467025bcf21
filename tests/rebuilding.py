"""Rebuilds every projection while people read and events are recorded, and keeps count of all."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from libs.tasks import running
from tests.bench import events as made
from tests.bench.load import ticks
from touchline.client import Client
from touchline.engagement.v1 import engagement_service_pb2 as engagement
from touchline.events.v1.event_pb2 import EVENT_TYPE_ORDER_CHANGED, Event
from touchline.events.v1.filter_pb2 import EventFilter
from touchline.failures import CallFailed
from touchline.notification.v1 import notification_service_pb2 as notification
from touchline.notification.v1.notification_pb2 import Notice, RuleDefinition
from touchline.profile.v1 import profile_service_pb2 as profile
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.views_pb2 import VIEW_KIND_SALES
from touchline.projection.v1 import projection_service_pb2 as api
from touchline.projection.v1.projection_pb2 import GENERATION_STATE_RETIRED, Projection

SERVICES: Final = ("profile", "engagement", "notification")
_FIRST_PROBED: Final = 8_000_000  # customers whom nobody else writes to
_BATCH: Final = 10
_FOREVER: Final = 10**9
_MOMENT_SECONDS: Final = 0.3
_RECENT_SECONDS: Final = 3600  # rules act on nothing that is a day old
_MOST_UNDER_WAY: Final = 16
_MOST_REPEATS: Final = 30

_RULE: Final = RuleDefinition(
    name="large-order",
    on=EventFilter(types=[EVENT_TYPE_ORDER_CHANGED]),
    condition="event.fact.amount.amount >= 450.0",
    reason="Ordered on {{ event.at }}",
    notices=[Notice(reference="team:bench", title="A large order")],
)
"""Of a hundredth of the events somebody is told."""

Tell = Callable[[str], None]


@dataclass(slots=True)
class Load:
    """What callers do and are told, while something else goes on.

    Attributes:
        client: Calls as the shipped client does.
        customers: How many there are.
        doing: What else goes on: `nothing`, `fill`, `compare` or `switch`.
        millis: What reads took, by what went on.
        waits: What reads after a write of the caller's own took, likewise.
        failed: Calls that failed, by their kind and reason.
        stale: Reads that lacked what their caller had just written.
        recorded: How many events were.
        repeated: How often comparing, switching or rolling back was refused for a moment and tried
            again, as the refusal says.
    """

    client: Client
    customers: int
    doing: str = "nothing"
    millis: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    waits: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)
    recorded: int = 0
    repeated: int = 0
    _probes: int = 0

    @property
    def reads(self) -> int:
        """How many reads were answered."""
        return sum(map(len, self.millis.values())) + sum(map(len, self.waits.values()))

    async def read(self, per_second: float) -> None:
        """Read the sales view of random customers, for ever."""
        rng = random.Random(3)

        async def once(customer: int) -> None:
            request = profile.GetViewRequest(profile=_of(customer), view=VIEW_KIND_SALES)
            try:
                await self._timed("view", self.millis, self.client.profile.GetView(request))
            finally:
                free.release()

        # Who is that slow is called less often: a machine with too much to do is no defect.
        free = asyncio.Semaphore(_MOST_UNDER_WAY)
        async with asyncio.TaskGroup() as calls:
            async for _ in ticks(per_second, _FOREVER):
                await free.acquire()
                calls.create_task(once(rng.randrange(self.customers)))

    async def record(self, per_second: float) -> None:
        """Record batches of events of random customers, for ever."""
        rng = random.Random(4)

        async def once(events: Sequence[Event]) -> None:
            try:
                await self.client.record(events)
            except CallFailed as error:
                self.failed[f"record {error.reason or error.code.name}"] += 1
            else:
                self.recorded += len(events)

        async with asyncio.TaskGroup() as calls:
            async for _ in ticks(per_second / _BATCH, _FOREVER):
                customers = (rng.randrange(self.customers) for _ in range(_BATCH))
                batch = [made.varied_event_of(one, rng, _RECENT_SECONDS) for one in customers]
                calls.create_task(once(batch))

    async def write_and_read(self, per_second: float) -> None:
        """Record an event of a customer and read what it changes, in each service, for ever."""
        rng = random.Random(5)

        async with asyncio.TaskGroup() as calls:
            async for _ in ticks(per_second, _FOREVER):
                self._probes += 1
                calls.create_task(self._probe(_FIRST_PROBED + self._probes, rng))

    async def _probe(self, customer: int, rng: random.Random) -> None:
        """A customer comes in, and has one more event each time."""
        for number in range(1, 4):
            event = made.event_of(customer, rng)
            try:
                (verdict,) = await self.client.record([event])
            except CallFailed as error:
                self.failed[f"record {error.reason or error.code.name}"] += 1
                return
            await self._see(customer, event, number, verdict.position)

    async def _see(self, customer: int, event: Event, number: int, position: int) -> None:
        who, client = _of(customer), self.client
        listed = await self._timed(
            "timeline",
            self.waits,
            client.profile.ListTimelineEvents(
                profile.ListTimelineEventsRequest(
                    profile=who, page_size=10, after_position=position
                )
            ),
        )
        if listed is not None and event.event_id not in {
            entry.event.event_id for entry in listed.entries
        }:
            self.stale["timeline"] += 1
        got = await self._timed(
            "profile",
            self.waits,
            client.profile.GetProfile(
                profile.GetProfileRequest(profile=who, after_position=position)
            ),
        )
        if got is not None and got.profile.event_count < number:
            self.stale["profile"] += 1
        await self._timed(
            "score",
            self.waits,
            client.engagement.GetScore(
                engagement.GetScoreRequest(profile=who, after_position=position)
            ),
        )
        await self._timed(
            "expectations",
            self.waits,
            client.notification.ListExpectations(
                notification.ListExpectationsRequest(profile=who, after_position=position)
            ),
        )

    async def _timed(
        self, what: str, into: defaultdict[str, list[float]], call: Awaitable[Any]
    ) -> Any:
        doing, began = self.doing, time.perf_counter()
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            failed = CallFailed.of(error)
            self.failed[f"{what} {failed.reason or failed.code.name}"] += 1
            return None
        # A call that a switch came in between is one of the switch's.
        if "switch" in (doing, self.doing):
            doing = "switch"
        into[doing].append((time.perf_counter() - began) * 1e3)
        return answer


@asynccontextmanager
async def load(
    client: Client, customers: int, *, reads: float, events: float, probes: float
) -> AsyncIterator[Load]:
    """Read, record and do both at a rate, until the block ends.

    Args:
        client: Of the running services.
        customers: Whose events there are already.
        reads: Views read a second.
        events: Events recorded a second.
        probes: Customers a second who record three times, and read four answers after each.
    """
    told = Load(client, customers)
    rule = notification.PublishRuleRequest(definition=_RULE, published_by="bench")
    await client.notification.PublishRule(rule)
    async with running(told.read(reads), told.record(events), told.write_and_read(probes)):
        yield told


async def foldings(client: Client) -> list[tuple[str, str]]:
    """Return service and name of every projection that can be rebuilt."""
    return [
        (service, one.name)
        for service in SERVICES
        for one in await projections(client, service)
        if not one.is_reactor
    ]


async def projections(client: Client, service: str) -> Sequence[Projection]:
    """Return what a service says of its projections."""
    listed = await client.projections[service].ListProjections(api.ListProjectionsRequest())
    projections: Sequence[Projection] = listed.projections
    return projections


async def rebuild(client: Client, service: str, name: str, workers: int = 1) -> int:
    """Rebuild a projection and return its new generation once it follows."""
    request = api.RebuildProjectionRequest(projection=name, workers=workers)
    *_, last = [one async for one in client.projections[service].RebuildProjection(request)]
    assert last.stage == api.REBUILD_STAGE_FOLLOWING, last
    return int(last.generation)


async def compare(client: Client, service: str, name: str) -> api.CompareGenerationsResponse:
    """Compare the generation that follows with the one that answers."""
    request = api.CompareGenerationsRequest(projection=name)
    *_, last = [one async for one in client.projections[service].CompareGenerations(request)]
    assert last.finished
    return last


async def switch(client: Client, service: str, name: str) -> api.SwitchProjectionResponse:
    """Let the generation answer that was compared."""
    request = api.SwitchProjectionRequest(projection=name)
    switched: api.SwitchProjectionResponse = await client.projections[service].SwitchProjection(
        request
    )
    return switched


async def rebuilt_twice_and_rolled_back(
    load: Load, service: str, name: str, workers: int = 1, tell: Tell = lambda _: None
) -> int:
    """Rebuild, compare and switch a projection twice, then roll it back.

    Returns:
        How many rows were compared.
    """
    client, rows = load.client, 0
    for _ in range(2):
        tell(f"{service}/{name}: filling")
        load.doing = "fill"
        generation = await rebuild(client, service, name, workers)
        tell(f"{service}/{name}: comparing")
        load.doing = "compare"
        compared = await _until_ready(load, lambda: compare(client, service, name))
        differing = {one.table: one.differing_rows for one in compared.tables}
        assert not any(differing.values()), f"{service}/{name}: {compared}"
        rows += sum(one.live_rows for one in compared.tables)
        tell(f"{service}/{name}: switching")
        switched = await _in_a_moment(load, lambda: switch(client, service, name))
        assert switched.generation == generation
    request = api.RollBackProjectionRequest(projection=name)
    roll_back = client.projections[service].RollBackProjection
    back = await _in_a_moment(load, lambda: roll_back(request))
    assert back.previous == generation
    load.doing = "nothing"
    await _drop_retired(client, service, name)
    return rows


async def _drop_retired(client: Client, service: str, name: str) -> None:
    """Drop what is only kept to be rolled back to: in ten minutes nobody rebuilds everything."""
    (found,) = [one for one in await projections(client, service) if one.name == name]
    for one in found.generations:
        if one.state == GENERATION_STATE_RETIRED:
            request = api.DropGenerationRequest(projection=name, generation=one.generation)
            await client.projections[service].DropGeneration(request)


async def _in_a_moment(load: Load, call: Callable[[], Awaitable[Any]]) -> Any:
    """Do something that takes a moment; the time around it counts as it."""
    load.doing = "switch"
    await asyncio.sleep(_MOMENT_SECONDS)
    answer = await _until_ready(load, call)
    await asyncio.sleep(_MOMENT_SECONDS)
    return answer


async def _until_ready(load: Load, call: Callable[[], Awaitable[Any]]) -> Any:
    """Do what two generations have to meet for, again if they did not: a busy one may be late."""
    for _ in range(_MOST_REPEATS):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if CallFailed.of(error).reason != "GENERATION_NOT_READY":
                raise
        load.repeated += 1
        await asyncio.sleep(_MOMENT_SECONDS)
    return await call()


def _of(customer: int) -> ProfileReference:
    return ProfileReference(identity=made.crm_identity(customer))
