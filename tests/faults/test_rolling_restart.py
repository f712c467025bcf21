"""Rolling updates under load: with the shipped client no call fails.

Each service runs twice, on one PostgreSQL and one nats-server, and callers know both addresses. A
process is told to stop, drains, and starts again on its port; once it says that it serves, the turn
comes to the other one. Everybody calls on meanwhile.

Where a process is killed instead, calls that were under way in it go to the other one. Only the few
commands that would refuse what they did themselves can't be sent again (RetryDelivery,
CorrectRejectedEvent, and of ProjectionService RebuildProjection, SwitchProjection,
RollBackProjection and DropGeneration): these may fail with UNAVAILABLE, and whoever called looks
what became of it; tests/integration/test_rpc_repeating.py. None of them is called here, so no call
fails either.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.faults.cluster import Cluster, open_cluster, serves
from tests.faults.restarting import Callers, calling
from tests.waiting import until
from touchline.client import Client
from touchline.client.channels import Replica
from touchline.failures import CallFailed

SERVICES = ("ingestion", "profile", "engagement", "notification")
LETTERS = "ab"


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    replicas = [f"{service}-{letter}" for service in SERVICES for letter in LETTERS]
    async with open_cluster(tmp_path_factory.mktemp("cluster"), None, replicas) as cluster:
        yield cluster


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Calls that a process did not answer, by the reason; the client repeats them."""
    counted: Counter[str] = Counter()
    told = Replica.told

    def counting(self: Replica, failure: CallFailed | None) -> None:
        if failure is not None:
            counted[failure.reason or failure.code.name] += 1
        told(self, failure)

    monkeypatch.setattr(Replica, "told", counting)
    return counted


@asynccontextmanager
async def callers_of(cluster: Cluster, name: str) -> AsyncIterator[Callers]:
    both: Any = {
        service: ",".join(cluster.addresses[f"{service}-{letter}"] for letter in LETTERS)
        for service in SERVICES
    }
    async with Client.connect(**both) as client, calling(client, name) as callers:
        yield callers


async def restart(cluster: Cluster, member: str, how: signal.Signals) -> None:
    """Ends a process, which is started again by itself, and returns once it serves."""
    supervised, before = cluster.members[member], cluster.members[member].restarts
    cluster.signal(member, how)
    await until(lambda: supervised.restarts > before, within=60)
    assert await serves(cluster.addresses[member])


async def roll(cluster: Cluster, service: str, rounds: int) -> None:
    """What a rolling update does."""
    for _ in range(rounds):
        for letter in LETTERS:
            await restart(cluster, f"{service}-{letter}", signal.SIGTERM)


async def nothing_was_noticed(callers: Callers) -> None:
    noted, declined = list(callers.noted), list(callers.declined)
    await until(lambda: set(noted) <= set(callers.entries))
    await until(lambda: set(declined) <= set(callers.causes))
    assert not callers.failed
    assert not callers.wrong
    positions = [position for position, _ in callers.entries]
    assert positions == sorted(set(positions))
    assert max(Counter(callers.causes).values()) == 1
    assert min(callers.published.values()) > 1


def figures(callers: Callers, repeated: Counter[str]) -> str:
    """What calls took, for whoever runs this with -s."""
    lines = [
        f"{what:14} {len(millis):6,} calls  p50 {at(millis, 0.5):6.0f} ms  "
        f"p99 {at(millis, 0.99):6.0f} ms  longest {max(millis):6.0f} ms"
        for what, millis in sorted(callers.millis.items())
    ]
    return "\n".join(("", *lines, f"repeated: {dict(repeated) or 'none'}"))


def at(millis: Sequence[float], share: float) -> float:
    return sorted(millis)[int(share * (len(millis) - 1))]


async def test_no_call_fails_while_each_process_of_each_service_is_restarted_twice(
    cluster: Cluster, repeated: Counter[str]
) -> None:
    async with callers_of(cluster, "restarts") as callers:
        # As when all of a release is rolled out: of each service one process at a time.
        await asyncio.gather(*(roll(cluster, service, rounds=2) for service in SERVICES))
        await nothing_was_noticed(callers)
    print(figures(callers, repeated))  # noqa: T201 - for whoever runs it with -s


async def test_no_call_fails_while_one_process_of_each_service_is_killed(
    cluster: Cluster, repeated: Counter[str]
) -> None:
    async with callers_of(cluster, "kills") as callers:
        await asyncio.sleep(1)
        killed = (restart(cluster, f"{service}-a", signal.SIGKILL) for service in SERVICES)
        await asyncio.gather(*killed)
        await nothing_was_noticed(callers)
    print(figures(callers, repeated))  # noqa: T201 - for whoever runs it with -s
