"""Batches leave no trace in the rows, nor do ranges; the order of arrival none in what they say.

Invariants 8 and 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.postgres.pool import open_pool
from libs.projection.batches import Batch
from libs.projection.checkpoints import Ownership
from libs.projection.folding import Folding
from libs.projection.generations.generation import Generation
from libs.projection.generations.meeting import meeting
from libs.projection.generations.records import generations, introduce
from libs.projection.identity_graph import IdentityGraph
from libs.projection.partitions import ALL, Partitions, divided
from libs.projection.projection import Connection, Recorded
from libs.projection.reading import Stretch
from libs.projection.sharing.dividing import split
from libs.projection.timeline import Timeline
from tests.lines import (
    KINDS,
    Told,
    batch_sizes,
    batches_of,
    groups,
    lines,
    project,
    recorded,
    undone,
)
from tests.servers import SharedPostgres
from tests.services import new_views

TABLES = (
    *("timeline", "timeline_retractions"),
    *(table.name for table in IdentityGraph.tables),
)
Rows = dict[str, list[str]]


@pytest.fixture(scope="module")
async def connection(servers: SharedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with empty views; tests leave them empty."""
    connection = await asyncpg.connect(await new_views(servers))
    yield connection
    await connection.close()


async def rows_after(
    connection: asyncpg.Connection, line: Sequence[Told], sizes: Sequence[int] = ()
) -> Rows:
    """Every row of both projections as ordered text, after a line in batches of some sizes."""
    async with undone(connection):
        for projection in (IdentityGraph(), Timeline()):
            await project(connection, projection, recorded(line), sizes)
        return {table: await _texts(connection, f"SELECT * FROM {table}") for table in TABLES}


async def meaning_after(connection: asyncpg.Connection, line: Sequence[Told]) -> Rows:
    """What rows say beside when they arrived: positions, recorded times and what follows them."""
    async with undone(connection):
        for projection in (IdentityGraph(), Timeline()):
            await project(connection, projection, recorded(line))
        roots = await connection.fetch("SELECT identity_key, root_key FROM identities")
        said = {
            "timeline": "SELECT tenant, owner_key, occurred_at_us, event_id, type, channel, "
            "direction, record FROM timeline",
            "retractions": "SELECT DISTINCT tenant, owner_key, event_id FROM timeline_retractions",
            "edges": "SELECT tenant, a_key, b_key, owner_key, strength, occurred_at_us, event_id "
            "FROM identity_edges",
            "identities": "SELECT tenant, identity_key, kind, namespace_key FROM identities",
        }
        meaning = {name: await _texts(connection, query) for name, query in said.items()}
    return {**meaning, "people": sorted(" ".join(sorted(group)) for group in groups(roots))}


async def _texts(connection: asyncpg.Connection, query: str) -> list[str]:
    rows = await connection.fetch(f"SELECT q::text AS said FROM ({query}) q")
    return sorted(row["said"] for row in rows)


@settings(max_examples=40, deadline=None)
@given(line=lines(), sizes=batch_sizes, other_sizes=batch_sizes)
async def test_given_any_batches_then_the_rows_are_the_same_byte_for_byte(
    connection: asyncpg.Connection, line: list[Told], sizes: list[int], other_sizes: list[int]
) -> None:
    one_by_one = await rows_after(connection, line, [1] * len(line))
    assert len(one_by_one["timeline"]) == len(line)
    for batches in (sizes, other_sizes, []):
        assert await rows_after(connection, line, batches) == one_by_one


async def test_given_batches_so_long_that_they_are_copied_then_the_rows_are_the_same(
    connection: asyncpg.Connection,
) -> None:
    random = Random(7)
    line = [
        Told(number, tuple(random.sample(sorted(KINDS), random.randint(1, 3))), number % 5)
        for number in range(1, 301)
    ]
    short = await rows_after(connection, line, [20] * 15)
    assert await rows_after(connection, line, [64, 1, 100]) == short
    assert await rows_after(connection, line) == short


@settings(max_examples=40, deadline=None)
@given(line=lines(), seed=st.integers())
async def test_given_any_order_of_arrival_then_the_rows_say_the_same(
    connection: asyncpg.Connection, line: list[Told], seed: int
) -> None:
    shuffled = list(line)
    Random(seed).shuffle(shuffled)
    assert await meaning_after(connection, shuffled) == await meaning_after(connection, line)


@pytest.fixture(scope="module")
async def pool(servers: SharedPostgres) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database of views that are folded and committed."""
    async with open_pool(await new_views(servers), application="arrival", size=20) as pool:
        yield pool


class Turn(NamedTuple):
    """What happens before and while a batch is folded.

    Attributes:
        split: Which of the ranges is split before it; None: none is.
        held_after: After how many of its events all are held for a moment; None: they are not.
    """

    split: int | None
    held_after: int | None


turns = st.lists(
    st.builds(Turn, st.none() | st.integers(0, 7), st.none() | st.integers(0, 4)), max_size=4
)


@settings(max_examples=30, deadline=None)
@given(line=lines(), sizes=batch_sizes, parts=st.sampled_from([1, 2, 16]), turns=turns)
async def test_given_any_ranges_that_are_split_held_and_met_then_the_rows_are_the_same(
    pool: asyncpg.Pool, line: list[Told], sizes: list[int], parts: int, turns: list[Turn]
) -> None:
    await pool.execute("TRUNCATE timeline, timeline_retractions, projection_generations CASCADE")
    ranges = await Ranges.introduced(pool, divided(parts))
    for number, batch in enumerate(batches_of(recorded(line), sizes)):
        turn = dict(enumerate(turns)).get(number, Turn(None, None))
        if turn.split is not None:
            await ranges.split(turn.split)
        if turn.held_after is not None:
            await ranges.hold(batch.end.position - len(batch.events) + turn.held_after)
        async with asyncio.TaskGroup() as group:
            group.create_task(ranges.meet(recorded(line)))
            for partitions, folding in ranges.foldings.items():
                group.create_task(
                    fold_one(folding, Stretch(folding.at, partitions=partitions), batch)
                )
    assert await read_timeline(pool) == entries(recorded(line))
    (place,) = {folding.at for folding in ranges.foldings.values()}
    assert place.position == len(line)


async def fold_one(folding: Folding, stretch: Stretch, batch: Batch) -> None:
    """Folds what a range has of a batch."""
    stretch.add(batch)
    await folding.fold(stretch)


def entries(events: Sequence[Recorded]) -> list[tuple[int, bytes]]:
    """What a timeline of events has."""
    return [(event.position, event.record_bytes) for event in events]


async def read_timeline(database: asyncpg.Pool | Connection) -> list[tuple[int, bytes]]:
    rows = await database.fetch("SELECT position, record FROM timeline ORDER BY position")
    return [(row["position"], row["record"]) for row in rows]


@dataclass
class Ranges:
    """Ranges of a timeline, all of one process."""

    pool: asyncpg.Pool
    generation: Generation
    owner: UUID
    foldings: dict[Partitions, Folding]

    @staticmethod
    async def introduced(pool: asyncpg.Pool, partitions: Sequence[Partitions]) -> Ranges:
        """A new timeline in so many ranges."""
        await introduce(pool, Timeline.name, Timeline.fold_version)
        (generation,) = await generations(pool)
        ranges = Ranges(pool, generation, uuid4(), {})
        await ranges.take(ALL)
        while len(ranges.foldings) < len(partitions):
            for place in reversed(range(len(ranges.foldings))):
                await ranges.split(place)
        assert set(ranges.foldings) == set(partitions)
        return ranges

    async def take(self, partitions: Partitions) -> None:
        """Claims a range."""
        ownership = Ownership(self.pool, self.generation, partitions, self.owner)
        claimed = await ownership.claim()
        assert claimed
        self.foldings[partitions] = folding = Folding(Timeline(), self.pool, ownership)
        await folding.begin(claimed)

    async def split(self, place: int) -> None:
        """Splits a range, and takes both halves."""
        whole = sorted(self.foldings)[place % len(self.foldings)]
        if whole.first < whole.last:
            assert await split(self.pool, self.generation.id, whole, self.owner)
            del self.foldings[whole]
            for half in whole.halves:
                await self.take(half)

    async def hold(self, position: int) -> None:
        """Holds all ranges at a position for a moment, as one does who then dies."""
        await self.pool.execute(
            "UPDATE projection_checkpoints SET held_at = $1, "
            "held_until = clock_timestamp() + interval '30 ms'",
            position,
        )

    async def meet(self, events: Sequence[Recorded]) -> None:
        """Meets all ranges, and finds in the tables what is on the line up to there."""
        async with (
            meeting(self.pool, [self.generation.id], within=4) as position,
            self.pool.acquire() as connection,
        ):
            assert await read_timeline(connection) == entries(events[:position])
