"""How long a page of a timeline takes to read."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from tests.bench.cpu import CpuMeter
from tests.bench.events import crm_identity
from tests.bench.figures import percentiles
from tests.bench.million import LARGEST
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.worker import Result, Spec, Tell, worker
from touchline.client import Client
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import ListTimelineEventsRequest

PAGE: Final = 50
_YEAR_SECONDS: Final = 365 * 24 * 3600


async def measure(report: Report, profile: str, scale: Scale) -> None:
    """Read pages of random profiles and of the largest one, one call after another."""
    report.heading(f"Timeline pages of {PAGE} with {scale.stored:,} events in the store")
    spec = {"target": profile, "customers": scale.customers, "pages": scale.pages}
    async with worker("pages", spec) as reader:
        meter = CpuMeter()
        told = await reader.result()
        cores = meter.cores()
    note = "each of another random profile, data keys not cached yet"
    report.add(*percentiles("page", told["first"], note, cores))
    report.add(*percentiles("page_again", told["again"], "the same pages, data keys cached"))
    note = f"random places of one profile of some {scale.largest:,} events"
    report.add(*percentiles("page_of_largest_profile", told["largest"], note))


@asynccontextmanager
async def pages(spec: Spec, _: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Read pages. Spec: target, customers, pages."""
    rng = random.Random(5)
    async with Client.connect(profile=spec["target"]) as client:

        async def taken(request: ListTimelineEventsRequest) -> float:
            start = time.perf_counter()
            answer = await client.profile.ListTimelineEvents(request)
            millis = (time.perf_counter() - start) * 1e3
            assert answer.entries
            return millis

        async def work() -> Result:
            drawn = rng.sample(range(1, spec["customers"]), spec["pages"] + 20)
            requests = [_request(customer) for customer in drawn]
            warming, requests = requests[:20], requests[20:]
            for request in warming:
                await taken(request)
            first = [await taken(request) for request in requests]
            again = [await taken(request) for request in requests]
            deep = [_somewhere(_request(LARGEST), rng) for _ in requests]
            return {
                "first": first,
                "again": again,
                "largest": [await taken(request) for request in deep],
            }

        yield work


def _request(customer: int) -> ListTimelineEventsRequest:
    reference = ProfileReference(identity=crm_identity(customer))
    return ListTimelineEventsRequest(profile=reference, page_size=PAGE)


def _somewhere(request: ListTimelineEventsRequest, rng: random.Random) -> ListTimelineEventsRequest:
    back = rng.randrange(_YEAR_SECONDS * 9 // 10)
    request.occurred_before.FromSeconds(int(time.time()) - back)
    return request
