"""Batches leave no trace in the rows, and the order of arrival none in what they say.

Invariants 8 and 9.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.projection.identity_graph import IdentityGraph
from libs.projection.timeline import Timeline
from tests.lines import KINDS, Told, batch_sizes, groups, lines, project, recorded, undone
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
