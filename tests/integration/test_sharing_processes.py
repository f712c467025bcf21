"""`python -m services.profile --roles project`, started beside the service, shares its work."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.customers import new_email, record, timeline, told
from tests.given import note
from tests.services import Touchline
from touchline.projection.v1.projection_pb2 import PROJECTION_STATE_LIVE, Projection
from touchline.projection.v1.projection_service_pb2 import ListProjectionsRequest

TAKEN_OVER_SECONDS = 10.0


@asynccontextmanager
async def worker(touchline: Touchline, roles: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs another process of the profile service until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.profile", "--roles", roles),
        env={**os.environ, **touchline.profile.environment},
    )
    try:
        yield process
        assert process.returncode is None or process.returncode < 0
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def listed(touchline: Touchline) -> dict[str, Projection]:
    """What the profile service says of its projections, by name."""
    answer = await touchline.client.projections["profile"].ListProjections(ListProjectionsRequest())
    return {one.name: one for one in answer.projections}


def workers_of(projection: Projection) -> list[str]:
    """Which process has each range of the generation that answers."""
    return [one.worker for one in projection.generations[-1].ranges]


def is_shared_with(process: asyncio.subprocess.Process, projection: Projection) -> bool:
    """Whether two processes have its ranges, of which this is one; nobody has what is split off."""
    workers = set(workers_of(projection))
    return len(workers) == 2 and any(one.endswith(f":{process.pid}") for one in workers)


async def until(touchline: Touchline, holds: Callable[[dict[str, Projection]], bool]) -> None:
    """Returns once the projections are as a test wants them."""
    async with asyncio.timeout(30):
        while not holds(await listed(touchline)):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)


async def tell(touchline: Touchline) -> int:
    """Records a note of each of some customers, whoever folds them."""
    events = [told(note("2024-01-01", "Called"), new_email()) for _ in range(20)]
    return await record(touchline.client, *events)


async def test_given_a_second_process_then_it_shares_and_is_replaced_when_it_is_killed(
    touchline: Touchline,
) -> None:
    who = new_email()
    alone = {name: workers_of(one) for name, one in (await listed(touchline)).items()}
    assert len(set(alone["timeline"])) == 1
    async with worker(touchline, "project") as process:
        await until(touchline, lambda now: is_shared_with(process, now["timeline"]))
        await until(
            touchline, lambda now: all(one.state == PROJECTION_STATE_LIVE for one in now.values())
        )
        last = await record(touchline.client, told(note("2024-01-01", "Shared"), who))
        assert len(await timeline(touchline.client, who, last)) == 1
        await tell(touchline)
        process.kill()
        await process.wait()
        killed = time.monotonic()
        last = await tell(touchline)
        assert len(await timeline(touchline.client, who, last)) == 1
        assert time.monotonic() - killed < TAKEN_OVER_SECONDS


async def test_given_a_process_that_leaves_in_order_then_nobody_waits_for_it(
    touchline: Touchline,
) -> None:
    who = new_email()
    async with worker(touchline, "project,react") as process:
        await until(touchline, lambda now: is_shared_with(process, now["timeline"]))
    left = time.monotonic()
    last = await record(touchline.client, told(note("2024-01-01", "Alone"), who))
    assert len(await timeline(touchline.client, who, last)) == 1
    assert time.monotonic() - left < 3
    # In the end one process has all of it in one range.
    await until(touchline, lambda now: len(workers_of(now["timeline"])) == 1)
