"""What was said of consents: the same rows in any batches, the same words in any order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random

import asyncpg
import pytest
from hypothesis import given, settings

from libs.projection.consents import Consents
from libs.projection.projection import Recorded
from tests.lines import Told, batch_sizes, key_of, lines, project, recorded, undone
from tests.servers import SharedPostgres
from tests.services import new_views
from touchline.events.v1.event_pb2 import EVENT_TYPE_CONSENT_CHANGED, EVENT_TYPE_PREFERENCE_CHANGED

COUNTING = """
    SELECT DISTINCT c.identity_key, c.event_id, c.record FROM consents c
    WHERE NOT EXISTS (
        SELECT FROM consent_retractions r
        WHERE r.tenant = c.tenant AND r.owner_key = c.owner_key AND r.event_id = c.event_id)
"""


@pytest.fixture(scope="module")
async def connection(servers: SharedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with empty views; tests leave them empty."""
    connection = await asyncpg.connect(await new_views(servers))
    yield connection
    await connection.close()


def words(line: Sequence[Told]) -> list[Recorded]:
    """The line; every event that takes nothing back is a word, but each fifth."""
    events = recorded(line)
    for event, told in zip(events, line, strict=True):
        if told.retracts is None and told.number % 5:
            event.record.type = (
                EVENT_TYPE_CONSENT_CHANGED if told.number % 2 else EVENT_TYPE_PREFERENCE_CHANGED
            )
    return [one._replace(record_bytes=one.record.SerializeToString()) for one in events]


async def texts(
    connection: asyncpg.Connection, query: str, line: Sequence[Told], sizes: Sequence[int] = ()
) -> list[str]:
    """What a query finds after a line came in batches of some sizes; nothing stays."""
    async with undone(connection):
        await project(connection, Consents(), words(line), sizes)
        rows = await connection.fetch(f"SELECT q::text AS said FROM ({query}) q")
    return sorted(row["said"] for row in rows)


@settings(max_examples=20, deadline=None)
@given(line=lines(), sizes=batch_sizes)
async def test_given_any_batches_then_the_rows_are_the_same(
    connection: asyncpg.Connection, line: list[Told], sizes: list[int]
) -> None:
    for table in ("consents", "consent_retractions"):
        query = f"SELECT * FROM {table}"
        assert await texts(connection, query, line, sizes) == await texts(connection, query, line)


@settings(max_examples=20, deadline=None)
@given(line=lines())
async def test_given_any_order_of_arrival_then_the_same_words_count(
    connection: asyncpg.Connection, line: list[Told]
) -> None:
    shuffled = Random(len(line)).sample(line, len(line))
    counting = await texts(connection, COUNTING, line)
    assert await texts(connection, COUNTING, shuffled) == counting
    taken_back = {(told.retracts, told.names[0]) for told in line if told.retracts is not None}
    expected = sum(
        len(told.names)
        for told in line
        if told.retracts is None
        and told.number % 5
        and (told.number, told.names[0]) not in taken_back
    )
    assert len(counting) == expected


async def test_given_a_retraction_before_its_word_then_only_the_owners_counts(
    connection: asyncpg.Connection,
) -> None:
    stranger, owner = Told(8, ("tablet",), retracts=7), Told(9, ("anna@",), retracts=7)
    word = Told(7, ("anna@", "tablet"))
    assert len(await texts(connection, COUNTING, [stranger, word])) == 2
    assert await texts(connection, COUNTING, [owner, word]) == []
    async with undone(connection):
        await project(connection, Consents(), words([word]))
        rows = await connection.fetch("SELECT identity_key FROM consents")
    assert {row["identity_key"] for row in rows} == {key_of("anna@"), key_of("tablet")}
