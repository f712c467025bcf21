"""How long it takes to merge and un-merge profiles, and to read one of very many identities."""

import asyncio
import random
import time
from typing import Final

from tests.bench import projections
from tests.bench.cpu import CpuMeter
from tests.bench.events import crm_identity, event_of
from tests.bench.figures import percentiles
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.stage import Stage
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_DEVICE, Identity
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.profile_pb2 import ProfileReference

PAGE: Final = 50
IDENTITIES: Final = (2, 100, 2000)
_SMALL_EVENTS: Final = 20
_PER_IDENTITY: Final = 5
_WARMING: Final = 5
_BATCH: Final = 1000
_MANY: Final = 8_000_000  # the customers with so many identities
_PAIRS: Final = 7_000_000  # those who are merged


async def measure(report: Report, stage: Stage, scale: Scale) -> None:
    """Merge two profiles and take that back, again and again; then read pages of large profiles."""
    report.heading(
        "Who is who",
        f"Two profiles of {_SMALL_EVENTS} and of {scale.largest:,} events each are merged and "
        "un-merged in turn, each decision asked for once the one before it is folded.",
    )
    async with stage.run("ingestion") as ingestion:
        async with Client.connect(ingestion) as client:
            head = await _record(client, report, scale)
        async with (
            projections.caught_up(stage, head) as profile,
            Client.connect(ingestion, profile) as client,
        ):
            for pair, events in enumerate((_SMALL_EVENTS, scale.largest)):
                await _decisions(report, client, pair, events, scale)
            for number, identities in enumerate(IDENTITIES):
                await _pages(report, client, number, identities, scale)


async def _record(client: Client, report: Report, scale: Scale) -> int:
    rng, head = random.Random(11), 0
    events = [_SMALL_EVENTS, _SMALL_EVENTS, scale.largest, scale.largest]
    total = sum(events) + _PER_IDENTITY * sum(IDENTITIES)
    done = 0
    with report.progress("recording", total, "events") as advance:
        for number, count in enumerate(events):
            for start in range(0, count, _BATCH):
                size = min(_BATCH, count - start)
                batch = [event_of(_PAIRS + number, rng) for _ in range(size)]
                head = (await client.record(batch))[-1].position
                done += size
                advance(done)
        for number, identities in enumerate(IDENTITIES):
            events_of = _of_many(number, identities, rng)
            for start in range(0, len(events_of), _BATCH):
                batch = events_of[start : start + _BATCH]
                head = (await client.record(batch))[-1].position
                done += len(batch)
                advance(done)
    return head


def _of_many(number: int, identities: int, rng: random.Random) -> list[Event]:
    """Return events of one customer, some under each of many devices."""
    events = []
    for device in range(identities - 1):
        for n in range(_PER_IDENTITY):
            event = event_of(_MANY + number, rng)
            del event.identities[1:]
            seen = Identity(kind=IDENTITY_KIND_DEVICE, value=f"bench-{number}-{device}")
            if n:  # the first links them, and the others are the device's own
                del event.identities[:]
            event.identities.append(seen)
            events.append(event)
    return events


async def _decisions(report: Report, client: Client, pair: int, events: int, scale: Scale) -> None:
    one, other = (_decided(_PAIRS + 2 * pair + side) for side in (0, 1))
    because = {"decided_by": "bench", "reason": "To see how long it takes."}
    merges, unmerges, meter = list[float](), list[float](), CpuMeter()
    for _ in range(scale.decisions + _WARMING):
        merge = api.MergeProfilesRequest(left=one, right=other, **because)  # type: ignore[arg-type]
        start = time.perf_counter()
        merged = (await client.profile.MergeProfiles(merge)).result
        merges.append((time.perf_counter() - start) * 1e3)
        await _folded(client, one, merged.position)
        unmerge = api.UnmergeProfilesRequest(
            profile=one,
            merge_event_id=merged.event_id,
            **because,  # type: ignore[arg-type]
        )
        start = time.perf_counter()
        unmerged = (await client.profile.UnmergeProfiles(unmerge)).result
        unmerges.append((time.perf_counter() - start) * 1e3)
        assert len(unmerged.profiles) == 2
        await _folded(client, one, unmerged.position)
    cores = meter.cores()
    size = "small" if events == _SMALL_EVENTS else "large"
    note = f"two profiles of {events:,} events each, decided about {2 * len(merges)} times"
    report.add(*percentiles(f"merge_{size}", merges[_WARMING:], note, cores))
    report.add(*percentiles(f"unmerge_{size}", unmerges[_WARMING:], note))


async def _pages(
    report: Report, client: Client, number: int, identities: int, scale: Scale
) -> None:
    reference = ProfileReference(identity=crm_identity(_MANY + number))
    profile = (await client.profile.GetProfile(api.GetProfileRequest(profile=reference))).profile
    assert len(profile.identities) == identities
    request = api.ListTimelineEventsRequest(profile=reference, page_size=PAGE)
    taken = list[float]()
    for _ in range(scale.pages // 4 + _WARMING):
        start = time.perf_counter()
        await client.profile.ListTimelineEvents(request)
        taken.append((time.perf_counter() - start) * 1e3)
    note = f"the first {PAGE} of {profile.event_count:,} events of a profile of {identities:,}"
    name = f"page_of_{identities}_identities"
    report.add(*percentiles(name, taken[_WARMING:], f"{note} identities"))


async def _folded(client: Client, one: api.DecidedProfile, position: int) -> None:
    asked = api.ResolveProfileRequest(identity=one.profile.identity, after_position=position)
    await client.profile.ResolveProfile(asked)
    await asyncio.sleep(0.005)


def _decided(customer: int) -> api.DecidedProfile:
    return api.DecidedProfile(profile=ProfileReference(identity=crm_identity(customer)))
