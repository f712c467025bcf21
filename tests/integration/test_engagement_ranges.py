"""What counts is the same, whether one fold counts it or a range of customers each: invariant 7."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random

import asyncpg
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client as NatsClient

from libs.eventstore.client import StoreClient
from libs.projection.partitions import ALL, Partitions, divided
from libs.projection.projection import Recorded
from services.engagement.domain.model import compile_model
from services.engagement.scores import TABLES, Scores, Scoring
from tests.lines import KINDS, TENANT, Told, lines, project, recorded, undone
from tests.servers import SharedPostgres
from tests.services import new_scores
from touchline.engagement.v1.engagement_pb2 import ModelDefinition
from touchline.events.v1.event_pb2 import EVENT_TYPE_PROFILE_ERASED

MODEL = compile_model(
    text_format.Parse(
        """name: 'm'
        rules { name: 'fading' weight: 1.001 half_life { seconds: 100000 } }
        rules { name: 'capped' weight: -2 day_cap: 3 total_cap: 5 }""",
        ModelDefinition(),
    )
)
SCORING = Scoring(7, TENANT, 1, MODEL)
ANOTHER_TENANT = TENANT + 1
DAY_US = 86_400_000_000
Rows = dict[str, list[str]]


@pytest.fixture(scope="module")
async def connection(servers: SharedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with empty tables; tests leave them empty."""
    connection = await asyncpg.connect(await new_scores(servers))
    yield connection
    await connection.close()


@st.composite
def erased_lines(draw: st.DrawFn) -> list[Recorded]:
    """Lines on which some are erased, for ever or of some days, and of which some is another's."""
    line = draw(lines())
    for number in range(draw(st.integers(0, 3))):
        erased = st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5, unique=True)
        told = Told(1_000 + number, erases=tuple(draw(erased)))
        line.insert(draw(st.integers(0, len(line))), told)
    events = recorded(line)
    for event in events:
        event.record.tenant = draw(st.sampled_from([TENANT, TENANT, TENANT, ANOTHER_TENANT]))
        if event.record.type == EVENT_TYPE_PROFILE_ERASED:
            first, last = sorted(draw(st.tuples(st.integers(0, 5), st.integers(0, 5))))
            event.record.erasure.occurred_from_us = first * DAY_US
            event.record.erasure.occurred_before_us = last * DAY_US
    return events


def fold() -> Scores:
    """A fold that remembers nothing, as each range's is."""
    return Scores(SCORING, StoreClient(NatsClient()))  # never asked: no rule has a condition


async def fold_apart(
    connection: asyncpg.Connection,
    events: Sequence[Recorded],
    ranges: Sequence[Partitions],
    random: Random,
) -> None:
    """Folds each range in stretches of its own, now one and now another, however far apart."""
    folds, places = [fold() for _ in ranges], [0] * len(ranges)
    while behind := [n for n, place in enumerate(places) if place < len(events)]:
        one = random.choice(behind)
        end = places[one] + random.randint(1, len(events))
        if own := ranges[one].own(events[places[one] : end]):
            await project(connection, folds[one], own)
        places[one] = end


async def rows_of(connection: asyncpg.Connection) -> Rows:
    """Every row as ordered text."""
    found = {}
    for table in TABLES:
        rows = await connection.fetch(f"SELECT t::text AS said FROM {table} t")
        found[table] = sorted(row["said"] for row in rows)
    return found


@settings(max_examples=60, deadline=None)
@given(
    events=erased_lines(),
    parts=st.sampled_from([2, 4, 32]),
    whole=st.integers(0, 12),
    seed=st.integers(0, 10**6),
)
async def test_given_any_ranges_in_any_stretches_then_the_rows_are_those_of_one_fold(
    connection: asyncpg.Connection, events: list[Recorded], parts: int, whole: int, seed: int
) -> None:
    async with undone(connection):
        await project(connection, fold(), events)
        expected = await rows_of(connection)
    async with undone(connection):
        # Up to somewhere nothing was divided.
        await project(connection, fold(), ALL.own(events[:whole]))
        await fold_apart(connection, events[whole:], divided(parts), Random(seed))
        assert await rows_of(connection) == expected


async def test_given_an_erasure_of_customers_of_all_ranges_then_each_is_erased_once_and_alone(
    connection: asyncpg.Connection,
) -> None:
    names = sorted(KINDS)
    line = [Told(number, (name,)) for number, name in enumerate(names, 1)]
    line += [Told(100, erases=tuple(names[:-1])), Told(101, (names[0],))]
    async with undone(connection):
        await fold_apart(connection, recorded(line), divided(4), Random(5))
        found = await rows_of(connection)
    # Who was not erased, and who came back, by each of both rules.
    assert len(found["contributions"]) == len(found["day_sums"]) == 2 * len(MODEL.rules)
    assert len(found["score_erasures"]) == len(names) - 1
