"""A service whose views are paused, or not built for its release yet, tells its callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.projection.hosting import PROJECTION_SERVICE
from tests.customers import new_email, of, record, timeline, told
from tests.given import note
from tests.services import Touchline
from touchline.failures import CallFailed, readable_failures
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.profile_service_pb2 import DESCRIPTOR
from touchline.projection.v1.projection_pb2 import (
    GENERATION_STATE_SERVING,
    PROJECTION_STATE_PAUSED,
    Projection,
)
from touchline.projection.v1.projection_service_pb2 import (
    ListProjectionsRequest,
    PauseProjectionRequest,
    ResumeProjectionRequest,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PROFILE_SERVICE = DESCRIPTOR.services_by_name["ProfileService"].full_name


async def listed(touchline: Touchline) -> dict[str, Projection]:
    """What the profile service says of its projections, by name."""
    answer = await touchline.client.projections["profile"].ListProjections(ListProjectionsRequest())
    return {one.name: one for one in answer.projections}


async def health_of(touchline: Touchline) -> dict[str, int]:
    """The health of the profile service's process and of its services."""
    async with grpc.aio.insecure_channel(touchline.profile.listen) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return {
            name: (await stub.Check(_asked(name), wait_for_ready=True, timeout=20)).status
            for name in ("", PROFILE_SERVICE, PROJECTION_SERVICE)
        }


def _asked(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@asynccontextmanager
async def building_held_up(touchline: Touchline) -> AsyncIterator[None]:
    """Lets nobody make tables like the timeline's while the block runs."""
    connection = await asyncpg.connect(touchline.stores.views)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE timeline IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def test_given_a_paused_projection_then_reads_that_wait_are_told_so_and_others_answer(
    touchline: Touchline,
) -> None:
    client, who = touchline.client, new_email()
    last = await record(client, told(note("2024-01-01", "Before"), who))
    await timeline(client, who, last)
    projections = client.projections["profile"]
    await projections.PauseProjection(
        PauseProjectionRequest(projection="timeline", reason="a look at it")
    )
    paused = (await listed(touchline))["timeline"]
    assert (paused.state, paused.pause_reason) == (PROJECTION_STATE_PAUSED, "a look at it")
    await asyncio.sleep(1)  # every process has heard of it
    last = await record(client, told(note("2024-01-02", "After"), who))

    began = time.monotonic()
    request = api.ListTimelineEventsRequest(profile=of(who), after_position=last)
    with pytest.raises(CallFailed) as failed, readable_failures():
        await client.profile.ListTimelineEvents(request, timeout=20)
    assert time.monotonic() - began < 5
    assert failed.value.reason == "PROJECTION_PAUSED"
    assert failed.value.metadata == {"projection": "timeline"}
    assert [event.note_added.text for event in await timeline(client, who)] == ["Before"]

    await projections.ResumeProjection(ResumeProjectionRequest(projection="timeline"))
    assert [event.note_added.text for event in await timeline(client, who, last)] == [
        "After",
        "Before",
    ]


async def test_given_views_of_another_release_then_callers_are_told_until_its_own_are_built(
    touchline: Touchline, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, who = touchline.client, new_email()
    last = await record(client, *(told(note("2024-01-01", f"{n}"), who) for n in range(5)))
    await timeline(client, who, last)
    await touchline.profile.stop()
    # As if another release had folded it.
    await touchline.execute(
        touchline.stores.views,
        "UPDATE projection_generations SET fold_version = 99 WHERE projection = 'timeline'",
    )
    # The workers that it starts have its settings.
    for name, value in touchline.profile.environment.items():
        monkeypatch.setenv(name, value)
    async with building_held_up(touchline):
        starting = asyncio.create_task(touchline.profile.start())
        assert await health_of(touchline) == {
            "": NOT_SERVING,
            PROFILE_SERVICE: NOT_SERVING,
            PROJECTION_SERVICE: SERVING,
        }
        with pytest.raises(CallFailed) as failed, readable_failures():
            await client.profile.GetProfile(api.GetProfileRequest(profile=of(who)), timeout=1)
        assert failed.value.reason == "VIEWS_BUILDING"
        assert failed.value.metadata == {"projection": "timeline"}
        assert failed.value.retry_after

    await starting
    assert set((await health_of(touchline)).values()) == {SERVING}
    told_of = (await listed(touchline))["timeline"]
    assert [one.fold_version for one in told_of.generations] == [99, told_of.fold_version]
    assert told_of.generations[1].state == GENERATION_STATE_SERVING
    assert len(await timeline(client, who, last)) == 5
    last = await record(client, told(note("2024-01-02", "Goes on"), who))
    assert len(await timeline(client, who, last)) == 6
