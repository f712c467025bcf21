"""The nemesis: what goes wrong, when, and for how long; chosen by the seed."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from tests.faults.cluster import INGESTION, MEMBERS, NATS, POSTGRES, PROJECTING, Cluster

FROZEN_SECONDS: Final = 10.0
_ROUTE_SECONDS: Final = (1.0, 5.0)
_FULL_SECONDS: Final = (3.0, 6.0)
_BETWEEN: Final = (0.3, 1.6)
_AT_ONCE: Final = 2
_RECOVERY_EVERY: Final = 8
_RECOVERY_SECONDS: Final = 6.0
_DOWN_SECONDS: Final = 8.0
"""For how long after a kill a process may be down: it starts anew, and others come back to it."""

LEADER: Final = "the relay leader"
"""Stands for whichever ingestion process relays when the fault happens."""

Break = Callable[[Cluster, random.Random, str], Awaitable[None]]
Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that can go wrong.

    Attributes:
        kind: What it is, as it is counted.
        target: What it happens to: a process, a route, or the relay leader.
        happen: Makes it happen to the target, and ends it again.
    """

    kind: str
    target: str
    happen: Break


@dataclass(slots=True)
class Happened:
    """A fault that happened.

    Attributes:
        kind: What it was.
        target: What it happened to; of the relay leader, which process that was.
        began: When, in seconds of a clock that never jumps.
        ended: When it was over, or 0 while it lasts.
    """

    kind: str
    target: str
    began: float
    ended: float = 0.0


@dataclass(slots=True)
class Nemesis:
    """Breaks a cluster, one thing or two at a time.

    Attributes:
        cluster: What it breaks.
        chance: Made from the seed; the order of faults is its, the moments are the machine's.
        tell: Told of each fault as it happens.
        only: What the kind of each fault must contain.
    """

    cluster: Cluster
    chance: random.Random
    tell: Tell
    only: str = ""
    happened: list[Happened] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """How many faults there were, by kind."""
        return Counter(one.kind for one in self.happened)

    async def run(self, seconds: float) -> None:
        """Make faults happen for so long; when it returns they are over."""
        ends, deck, number = time.monotonic() + seconds, list[Fault](), 0
        under_way: dict[asyncio.Task[None], str] = {}
        try:
            while time.monotonic() < ends:
                if not deck:
                    deck = [one for one in faults(self.cluster) if self.only in one.kind]
                    if not deck:
                        raise ValueError(f"no fault that can happen here is named {self.only!r}")
                    self.chance.shuffle(deck)
                number += 1
                if number % _RECOVERY_EVERY == 0:
                    await _all_over(under_way)
                    await asyncio.sleep(min(_RECOVERY_SECONDS, max(0.0, ends - time.monotonic())))
                fault = deck.pop()
                while len(under_way) >= _AT_ONCE or fault.target in under_way.values():
                    await _one_over(under_way)
                under_way[asyncio.create_task(self._one(fault))] = fault.target
                await asyncio.sleep(self.chance.uniform(*_BETWEEN))
        finally:
            await _all_over(under_way)

    async def _one(self, fault: Fault) -> None:
        target = await self.cluster.leader() if fault.target == LEADER else fault.target
        if target is None:
            return  # nobody leads just now
        happened = Happened(fault.kind, target, time.monotonic())
        self.happened.append(happened)
        self.tell(fault.kind, target)
        try:
            await fault.happen(self.cluster, self.chance, target)
        finally:
            happened.ended = time.monotonic()


def faults(cluster: Cluster) -> list[Fault]:
    """Return every fault once, and the frequent ones several times."""
    every = [
        *(Fault(_KILLED[one], one, _kill) for one in (*MEMBERS, *INGESTION, POSTGRES, NATS)),
        *(Fault(f"kill -9 of {LEADER}", LEADER, _kill) for _ in range(3)),
        *(Fault(_FROZEN[one], one, _freeze) for one in MEMBERS),
        Fault(f"SIGSTOP of {LEADER}", LEADER, _freeze),
        *(Fault("nats store directory wiped", NATS, _lose_streams) for _ in range(2)),
        *(
            Fault(kind, route, happen)
            for route in cluster.routes
            for kind, happen in _OF_ROUTES.items()
            if route.startswith("clients") or kind != _MID_REQUEST
        ),
    ]
    if cluster.disk is not None:
        every += [Fault("disk full", POSTGRES, _fill)] * 3
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
        spans.setdefault(_on_the_way(one.target), []).append((one.began, one.ended + _DOWN_SECONDS))
    both = [
        (max(a_start, b_start), min(a_end, b_end))
        for a_start, a_end in spans.get(INGESTION[0], [])
        for b_start, b_end in spans.get(INGESTION[1], [])
        if a_start < b_end and b_start < a_end
    ]
    return [*spans.get(POSTGRES, []), *both]


def _on_the_way(target: str) -> str:
    """Return what an append needs and a fault of this target may stop; appends need no NATS."""
    start, _, end = target.partition("→")
    if start == "clients":
        return end
    return "" if end == "nats" else start


async def _kill(cluster: Cluster, _: random.Random, target: str) -> None:
    await cluster.kill(target)


async def _freeze(cluster: Cluster, _: random.Random, target: str) -> None:
    cluster.signal(target, signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        cluster.signal(target, signal.SIGCONT)


async def _lose_streams(cluster: Cluster, _: random.Random, __: str) -> None:
    await cluster.lose_streams()


async def _fill(cluster: Cluster, chance: random.Random, _: str) -> None:
    assert cluster.disk is not None
    cluster.disk.fill(leaving_kb=chance.choice((0, 64, 512)))
    try:
        await asyncio.sleep(chance.uniform(*_FULL_SECONDS))
    finally:
        cluster.disk.free()


async def _cut_in_request(cluster: Cluster, chance: random.Random, route: str) -> None:
    cluster.routes[route].cut_after(sent=chance.randrange(1, 20_000))
    await _until_cut(cluster, route)


async def _cut_in_reply(cluster: Cluster, chance: random.Random, route: str) -> None:
    cluster.routes[route].cut_after(received=chance.randrange(1, 4_000))
    await _until_cut(cluster, route)


async def _swallow(cluster: Cluster, chance: random.Random, route: str) -> None:
    cluster.routes[route].swallow()
    await asyncio.sleep(chance.uniform(*_ROUTE_SECONDS))
    cluster.routes[route].cut()


async def _hold(cluster: Cluster, chance: random.Random, route: str) -> None:
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
_OF_ROUTES: Final[dict[str, Break]] = {
    _MID_REQUEST: _cut_in_request,
    "connection cut mid-reply": _cut_in_reply,
    "replies lost, then cut": _swallow,
    "connection frozen": _hold,
}


_KIN: Final = {
    POSTGRES: "PostgreSQL",
    NATS: NATS,
    **dict.fromkeys(INGESTION, "ingestion"),
    **dict.fromkeys(PROJECTING, "a projection worker"),
}
_KILLED: Final = {member: f"kill -9 of {kin}" for member, kin in _KIN.items()}
_FROZEN: Final = {member: f"SIGSTOP of {kin}" for member, kin in _KIN.items()}


async def _one_over(under_way: "dict[asyncio.Task[None], str]") -> None:
    done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
    for one in done:
        del under_way[one]
        one.result()


async def _all_over(under_way: "dict[asyncio.Task[None], str]") -> None:
    while under_way:
        await _one_over(under_way)
