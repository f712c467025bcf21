"""The nemesis: what goes wrong, when, and for how long; chosen by the seed."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Final

from tests.faults.cluster import INGESTION, MEMBERS, NATS, POSTGRES, PROJECTING, Cluster
from tests.faults.disk import Disk

FROZEN_SECONDS: Final = 10.0
_ROUTE_SECONDS: Final = (1.0, 5.0)
_FULL_SECONDS: Final = (2.0, 6.0)
_BETWEEN: Final = (0.5, 2.5)
_AT_ONCE: Final = 2
_RECOVERY_EVERY: Final = 8
_RECOVERY_SECONDS: Final = 6.0
_DOWN_SECONDS: Final = 8.0
"""For how long after a kill a process may be down: it starts anew, and others come back to it."""

Break = Callable[[Cluster, random.Random], Awaitable[None]]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that can go wrong.

    Attributes:
        kind: What it is, as it is counted.
        target: What it happens to.
        happen: Makes it happen, and ends it again.
        stops: The parts of the way of an append that it may stop.
    """

    kind: str
    target: str
    happen: Break
    stops: frozenset[str] = frozenset()


@dataclass(slots=True)
class Happened:
    """A fault that happened.

    Attributes:
        fault: Which one.
        began: When, in seconds of a clock that never jumps.
        ended: When it was over, or 0 while it lasts.
    """

    fault: Fault
    began: float
    ended: float = 0.0


@dataclass(slots=True)
class Nemesis:
    """Breaks a cluster, one thing or two at a time.

    Attributes:
        cluster: What it breaks.
        chance: Made from the seed; the order of faults is its, the moments are the machine's.
        tell: Told of each fault as it happens.
    """

    cluster: Cluster
    chance: random.Random
    tell: Tell
    happened: list[Happened] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """How many faults there were, by kind."""
        return Counter(one.fault.kind for one in self.happened)

    async def run(self, seconds: float) -> None:
        """Make faults happen for so long; when it returns they are over."""
        ends = time.monotonic() + seconds
        deck: list[Fault] = []
        under_way: set[asyncio.Task[None]] = set()
        try:
            number = 0
            while time.monotonic() < ends:
                if not deck:
                    deck = faults(self.cluster)
                    self.chance.shuffle(deck)
                number += 1
                if number % _RECOVERY_EVERY == 0:
                    await _all_over(under_way)
                    await asyncio.sleep(min(_RECOVERY_SECONDS, max(0.0, ends - time.monotonic())))
                under_way.add(asyncio.create_task(self._one(deck.pop())))
                await asyncio.sleep(self.chance.uniform(*_BETWEEN))
                while len(under_way) >= _AT_ONCE:
                    done, under_way = await asyncio.wait(
                        under_way, return_when=asyncio.FIRST_COMPLETED
                    )
                    _raise_failed(done)
        finally:
            await _all_over(under_way)

    async def _one(self, fault: Fault) -> None:
        happened = Happened(fault, time.monotonic())
        self.happened.append(happened)
        self.tell(f"{fault.kind}  {fault.target}")
        try:
            await fault.happen(self.cluster, self.chance)
        finally:
            happened.ended = time.monotonic()


def faults(cluster: Cluster) -> list[Fault]:
    """Return every fault once, and the frequent ones several times."""
    every = [
        *(_killing(member) for member in (*MEMBERS, *INGESTION, POSTGRES, NATS)),
        *(Fault("kill -9 of the relay leader", "", _kill_leader) for _ in range(3)),
        Fault("SIGSTOP of the relay leader", "", _freeze_leader),
        *(_freezing(member) for member in MEMBERS),
        *(Fault("nats store directory wiped", NATS, _lose_streams) for _ in range(2)),
        *(
            Fault(kind, route, partial(happen, route=route))
            for route in cluster.routes
            for kind, happen in _OF_ROUTES.items()
            if route.startswith("clients") or kind != _MID_REQUEST
        ),
    ]
    if cluster.disk is not None:
        full = partial(_fill, disk=cluster.disk)
        every += [Fault("disk full", POSTGRES, full, frozenset((POSTGRES,)))] * 3
    return every


def longest_silence(
    acknowledged_at: Sequence[float], happened: Sequence[Happened], began: float, ended: float
) -> float:
    """Return the longest time without an acknowledgement while a way to append was open.

    Closed are the times of faults of what every append needs, PostgreSQL and its disk, and those in
    which each replica had a fault of its own, with a moment after them to come back.
    """
    closed = _closed(happened)
    times = [began, *sorted(one for one in acknowledged_at if began <= one <= ended), ended]
    longest = 0.0
    for start, end in pairwise(times):
        if not any(start < shut_end and end > shut_start for shut_start, shut_end in closed):
            longest = max(longest, end - start)
    return longest


def _closed(happened: Sequence[Happened]) -> list[tuple[float, float]]:
    spans: dict[str, list[tuple[float, float]]] = {}
    for one in happened:
        for part in one.fault.stops:
            spans.setdefault(part, []).append((one.began, one.ended + _DOWN_SECONDS))
    both = [
        (max(a_start, b_start), min(a_end, b_end))
        for a_start, a_end in spans.get(INGESTION[0], [])
        for b_start, b_end in spans.get(INGESTION[1], [])
        if a_start < b_end and b_start < a_end
    ]
    return [*spans.get(POSTGRES, []), *both]


def _killing(member: str) -> Fault:
    kind = (
        "kill -9 of a projection worker" if member in PROJECTING else f"kill -9 of {_kin(member)}"
    )

    async def happen(cluster: Cluster, _: random.Random) -> None:
        await cluster.kill(member)

    return Fault(kind, member, happen, frozenset((member,)))


def _freezing(member: str) -> Fault:
    async def happen(cluster: Cluster, _: random.Random) -> None:
        await _freeze(cluster, member)

    return Fault(f"SIGSTOP of {_kin(member)}", member, happen, frozenset((member,)))


def _kin(member: str) -> str:
    if member in PROJECTING:
        return "a projection worker"
    return {POSTGRES: "PostgreSQL", NATS: NATS}.get(member, "ingestion")


async def _kill_leader(cluster: Cluster, _: random.Random) -> None:
    leader = await cluster.leader()
    if leader is not None:
        await cluster.kill(leader)


async def _freeze_leader(cluster: Cluster, _: random.Random) -> None:
    leader = await cluster.leader()
    if leader is not None:
        await _freeze(cluster, leader)


async def _freeze(cluster: Cluster, member: str) -> None:
    cluster.signal(member, signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        cluster.signal(member, signal.SIGCONT)


async def _lose_streams(cluster: Cluster, _: random.Random) -> None:
    await cluster.lose_streams()


async def _fill(cluster: Cluster, chance: random.Random, *, disk: Disk) -> None:
    del cluster
    disk.fill(leaving_kb=chance.choice((64, 512, 4096)))
    try:
        await asyncio.sleep(chance.uniform(*_FULL_SECONDS))
    finally:
        disk.free()


async def _cut_in_request(cluster: Cluster, chance: random.Random, *, route: str) -> None:
    cluster.routes[route].cut_after(sent=chance.randrange(1, 20_000))
    await _until_cut(cluster, route)


async def _cut_in_reply(cluster: Cluster, chance: random.Random, *, route: str) -> None:
    cluster.routes[route].cut_after(received=chance.randrange(1, 4_000))
    await _until_cut(cluster, route)


async def _swallow(cluster: Cluster, chance: random.Random, *, route: str) -> None:
    cluster.routes[route].swallow()
    await asyncio.sleep(chance.uniform(*_ROUTE_SECONDS))
    cluster.routes[route].cut()


async def _hold(cluster: Cluster, chance: random.Random, *, route: str) -> None:
    cluster.routes[route].freeze()
    try:
        await asyncio.sleep(chance.uniform(*_ROUTE_SECONDS))
    finally:
        cluster.routes[route].resume()


async def _until_cut(cluster: Cluster, route: str) -> None:
    try:
        await asyncio.wait_for(cluster.routes[route].until_cut(), _ROUTE_SECONDS[1])
    except TimeoutError:
        cluster.routes[route].cut()


_MID_REQUEST: Final = "connection cut mid-request"
_OF_ROUTES: Final[dict[str, Callable[..., Awaitable[None]]]] = {
    _MID_REQUEST: _cut_in_request,
    "connection cut mid-reply": _cut_in_reply,
    "replies lost, then cut": _swallow,
    "connection frozen": _hold,
}


async def _all_over(under_way: "set[asyncio.Task[None]]") -> None:
    if under_way:
        done, _ = await asyncio.wait(under_way)
        under_way.clear()
        _raise_failed(done)


def _raise_failed(done: "set[asyncio.Task[None]]") -> None:
    for one in done:
        one.result()
