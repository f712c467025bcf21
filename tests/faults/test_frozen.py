"""Whoever is frozen, in whatever step: the others' appends go on within two seconds.

Frozen are, at random instants and overlapping: two replicas that take part in everything, one that
is just starting, a gRPC client in the middle of a call and a NATS client in the middle of a
request. Measured are the appends of callers of a replica that is not frozen, and of services that
ask over NATS, where a frozen replica may hear the request.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import grpc
import pytest

from libs.embedded import Child, Process, create_database, database_url_for, start
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.tasks import running
from tests.events import an_event
from tests.faults.frozen import frozen, go_on
from tests.faults.seeds import seeded
from tests.ingesting import SECRETS, record_batch, verified
from tests.ports import free_address
from tests.servers import OwnNats, OwnPostgres
from touchline.client import Client
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_RECORDED
from touchline.store.v1.store_pb2 import AppendEvent, AppendRequest, AppendUnit

ROOT: Final = Path(__file__).parents[2]
FROZEN_SECONDS: Final = 3.0
FREEZES: Final = 30
LONGEST_SECONDS: Final = 2.0
FREEZING_SECONDS: Final = 24.0
CONTROL_SECONDS: Final = 5.0
CALLERS: Final = 4


@dataclass(slots=True)
class Measured:
    """How long appends took, in seconds, and what was acknowledged: event ids."""

    seconds: list[float] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Place:
    """The servers, and how processes on them start."""

    database_url: str
    nats: OwnNats

    def ingestion(self, address: str) -> Child:
        """A replica that listens on an address."""
        told = {
            **SECRETS,
            "TOUCHLINE_DATABASE_URL": self.database_url,
            "TOUCHLINE_NATS_URL": self.nats.url,
            "TOUCHLINE_LISTEN": address,
            "TOUCHLINE_LOG": "json",
        }
        return _python("ingestion", "services.ingestion", env=told)

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[tuple[Process, str]]:
        """Runs a replica until the block ends; yields it and its address."""
        address = free_address()
        process = await start(self.ingestion(address))
        try:
            async with asyncio.timeout(60):
                while not any("ingestion serves" in line for line in process.lines):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            yield process, address
        finally:
            await _ended(process)

    @asynccontextmanager
    async def caller(self, way: str, where: str) -> AsyncIterator[Process]:
        """Runs a caller in a process of its own until the block ends."""
        process = await start(_python("caller", "tests.faults.caller", way, where))
        try:
            yield process
        finally:
            await _ended(process)


@pytest.fixture
async def place(own_postgres: OwnPostgres, nats: OwnNats) -> Place:
    await create_database(own_postgres.url, "events")
    return Place(database_url_for(own_postgres.url, "events"), nats)


async def keep_recording(client: Client, measured: Measured) -> None:
    """Records one event after another through one replica, each of a new customer, for ever."""
    while True:
        events = [an_event(email=f"{time.monotonic_ns()}@example.com")]
        began = time.monotonic()
        (verdict,) = await record_batch(client, events)
        measured.seconds.append(time.monotonic() - began)
        assert verdict.outcome == OUTCOME_RECORDED
        measured.acknowledged.append(verdict.event_id)
        await asyncio.sleep(0.005)


async def keep_appending(client: StoreClient, measured: Measured) -> None:
    """Does the same as a service does: over NATS, where any replica may hear it."""
    while True:
        event = an_event(email=f"{time.monotonic_ns()}@example.org")
        units = [AppendUnit(events=[AppendEvent(event=event)])]
        began = time.monotonic()
        answer = await client.append(AppendRequest(tenant="default", units=units))
        measured.seconds.append(time.monotonic() - began)
        # It may have been recorded by a replica that froze before it answered.
        assert answer.verdicts[0].position
        measured.acknowledged.append(event.event_id)
        await asyncio.sleep(0.005)


async def keep_busy(address: str) -> None:
    """Gives a replica that will be frozen something to be in the middle of, for ever."""
    async with Client.connect(address) as client:
        while True:
            events = [an_event(email=f"{time.monotonic_ns()}@example.net") for _ in range(50)]
            with suppress(grpc.aio.AioRpcError):
                await record_batch(client, events)
            await asyncio.sleep(0.02)


async def freeze_again_and_again(
    process: Process, chance: random.Random, freezes: list[str]
) -> None:
    """Freezes a process at random instants, for ever."""
    while True:
        await asyncio.sleep(chance.uniform(0.2, 1.2))
        freezes.append(process.child.name)
        await frozen(process.pid, FROZEN_SECONDS)


async def freeze_starts(place: Place, chance: random.Random, freezes: list[str]) -> None:
    """Freezes replicas at random instants of their start, one after the other, for ever."""
    while True:
        process = await start(place.ingestion(free_address()))
        try:
            await asyncio.sleep(chance.uniform(0.3, 2.5))
            freezes.append("starting")
            await frozen(process.pid, FROZEN_SECONDS)
        finally:
            await process.kill()


@dataclass(frozen=True, slots=True)
class Scene:
    """Everybody runs.

    Attributes:
        client: Of the replica that is never frozen.
        measured: By the way in which it is asked.
        victims: Whom to freeze.
    """

    client: Client
    measured: dict[str, Measured]
    victims: list[Process]

    async def longest(self, seconds: float) -> dict[str, float]:
        """Forgets what was measured, and returns the longest append of the next seconds."""
        for one in self.measured.values():
            one.seconds.clear()
        await asyncio.sleep(seconds)
        return {name: round(max(one.seconds), 3) for name, one in self.measured.items()}


@asynccontextmanager
async def scene(place: Place) -> AsyncIterator[Scene]:
    """Runs everybody until the block ends."""
    async with AsyncExitStack() as stack:
        _, address = await stack.enter_async_context(place.replica())
        victims, busy = [], []
        for _ in range(2):
            process, other = await stack.enter_async_context(place.replica())
            victims.append(process)
            busy.append(keep_busy(other))
        for way, where in (("grpc", address), ("nats", place.nats.service_url)):
            victims.append(await stack.enter_async_context(place.caller(way, where)))
        client = await stack.enter_async_context(Client.connect(address))
        connection = await stack.enter_async_context(
            connect_nats(place.nats.service_url, "measured")
        )
        store = StoreClient(connection)
        measured = {"gRPC": Measured(), "NATS": Measured()}
        callers = [keep_recording(client, measured["gRPC"]) for _ in range(CALLERS)]
        callers += [keep_appending(store, measured["NATS"]) for _ in range(CALLERS)]
        async with running(*callers, *busy):
            await asyncio.sleep(1)
            yield Scene(client, measured, victims)


async def test_a_frozen_replica_or_client_holds_up_nobody_else(place: Place) -> None:
    chance = seeded("frozen")
    freezes: list[str] = []
    async with scene(place) as everybody:
        control = await everybody.longest(CONTROL_SECONDS)
        freezing = [
            freeze_again_and_again(one, random.Random(chance.random()), freezes)
            for one in everybody.victims
        ]
        freezing.append(freeze_starts(place, random.Random(chance.random()), freezes))
        async with running(*freezing):
            longest = await everybody.longest(FREEZING_SECONDS)
        whole = await verified(everybody.client)
    acknowledged = [one for way in everybody.measured.values() for one in way.acknowledged]
    sys.stdout.write(
        f"{len(freezes)} freezes of {FROZEN_SECONDS:g} s; {len(acknowledged)} appends; the longest "
        f"in seconds: {longest}; without freezes: {control}\n"
    )
    assert len(freezes) >= FREEZES
    for way, seconds in longest.items():
        # A machine that is slow by itself is no fault of who was frozen.
        assert seconds < max(LONGEST_SECONDS, 4 * control[way]), way
    assert list(whole.problems) == []
    await is_recorded_once(place.database_url, acknowledged)


async def is_recorded_once(database_url: str, event_ids: list[str]) -> None:
    """Checks that all that was acknowledged is there, each once."""
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT event_id::text FROM events")
    await connection.close()
    stored = [row["event_id"] for row in rows]
    assert len(stored) == len(set(stored))
    assert len(event_ids) == len(set(event_ids))
    assert set(event_ids) <= set(stored)


async def _ended(process: Process) -> None:
    go_on([process.pid])
    await process.kill()


def _python(name: str, module: str, *arguments: str, env: dict[str, str] | None = None) -> Child:
    return Child(
        name=name,
        argv=(sys.executable, "-m", module, *arguments),
        env={**os.environ, **(env or {})},
        cwd=ROOT,
    )
