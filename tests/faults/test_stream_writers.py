"""Many writers of one stream, each with the version it expects, through two replicas and NATS."""

import asyncio
import random
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import pytest

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.server import serve_store
from tests.faults.seeds import seeded
from tests.servers import MakeDatabase, OwnNats
from tests.store import (
    DEFAULT,
    RECORDED,
    UNIT_REFUSED,
    VERSION_TAKEN,
    Line,
    build_store,
    open_line,
    said,
)
from touchline.store.v1.store_pb2 import AppendEvent, AppendRequest, AppendResponse, AppendUnit

STREAMS: Final = 4
WRITERS: Final = 32
ATTEMPTS: Final = 10_000

Append = Callable[[AppendRequest], Awaitable[AppendResponse]]


@dataclass(slots=True)
class Stream:
    """A stream as its writers see it.

    Attributes:
        stream_id: Its id.
        next: The version after the last that a writer knows to be taken.
        winners: Who was told to have taken a version: event ids.
    """

    stream_id: str
    next: int = 0
    winners: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass(slots=True)
class Told:
    """All that writers were told.

    Attributes:
        left: Attempts not yet made.
        outcomes: How many attempts ended so.
        refused: The ids of events that were not recorded.
    """

    left: int = ATTEMPTS
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: set[str] = field(default_factory=set)


async def write(append: Append, stream: Stream, told: Told, chance: random.Random) -> None:
    """Tries to take the next version, or the next two at once, until no attempt is left."""
    while told.left > 0:
        told.left -= 1
        # Now and then it knows only what it knew a while ago.
        first = max(0, stream.next - chance.choice((0, 0, 0, 1)))
        entries = [
            AppendEvent(event=said("x"), stream_id=stream.stream_id, stream_version=version)
            for version in range(first, first + chance.choice((1, 1, 1, 2)))
        ]
        request = AppendRequest(tenant="default", units=[AppendUnit(events=entries)])
        verdicts = (await append(request)).verdicts
        if {verdict.outcome for verdict in verdicts} == {RECORDED}:
            told.outcomes["won"] += 1
            for entry in entries:
                stream.winners[entry.stream_version].append(entry.event.event_id)
            stream.next = max(stream.next, entries[-1].stream_version + 1)
        else:
            told.outcomes["lost"] += 1
            # All or nothing, and for no other reason.
            assert {verdict.outcome for verdict in verdicts} <= {VERSION_TAKEN, UNIT_REFUSED}
            told.refused.update(entry.event.event_id for entry in entries)


@pytest.fixture
async def replicas(database_from_template: MakeDatabase) -> AsyncIterator[tuple[Line, Line]]:
    url = await database_from_template(build_store)
    async with open_line(url) as one, open_line(url) as other:
        yield one, other


async def test_32_writers_a_stream_find_one_winner_for_each_version(
    replicas: tuple[Line, Line], nats: OwnNats
) -> None:
    chance = seeded("writers")
    told = Told()
    streams = [Stream(str(uuid4())) for _ in range(STREAMS)]
    async with AsyncExitStack() as stack:
        ways = [directly(line) for line in replicas]
        for line in replicas:
            connection = await stack.enter_async_context(connect_nats(nats.url, "store"))
            append = served(line)
            await stack.enter_async_context(
                serve_store(connection, line.store, line.keyring, append, line.erases)
            )
        client = await stack.enter_async_context(connect_nats(nats.service_url, "service"))
        ways.append(StoreClient(client).append)
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                for number in range(WRITERS):
                    own = random.Random(chance.random())
                    group.create_task(write(ways[number % len(ways)], stream, told, own))

    assert told.outcomes.total() == ATTEMPTS
    sys.stdout.write(f"attempts: {dict(told.outcomes)}\n")
    one, _ = replicas
    rows = await one.owner(
        "SELECT stream_id::text, stream_version AS version, event_id::text FROM events"
        " ORDER BY stream_id, stream_version"
    )
    taken: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in rows:
        taken[row["stream_id"]].append((row["version"], row["event_id"]))
    for stream in streams:
        versions = [version for version, _ in taken[stream.stream_id]]
        assert versions == list(range(stream.next))  # no gap, no fork
        # Each version's winner is who was told so, and nobody else was.
        assert {version: [won] for version, won in taken[stream.stream_id]} == stream.winners
    assert not told.refused & {row["event_id"] for row in rows}
    assert (await one.verified()).problems == []
    assert min(told.outcomes["won"], told.outcomes["lost"]) > ATTEMPTS // 100


def directly(line: Line) -> Append:
    """Appends through a replica's own recorder, with those who do the same there."""

    async def append(request: AppendRequest) -> AppendResponse:
        return await line.recorder.append(DEFAULT, request, "")

    return append


def served(line: Line) -> Callable[[AppendRequest, str], Awaitable[AppendResponse]]:
    """Appends through a replica's recorder for whoever asks on NATS."""

    async def append(request: AppendRequest, traceparent: str) -> AppendResponse:
        return await line.recorder.append(DEFAULT, request, traceparent)

    return append
