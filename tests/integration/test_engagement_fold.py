"""What counts, folded into real tables: invariants 8 and 9, and reads against plain Python."""

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
from libs.projection.identity_graph import IdentityGraph
from libs.projection.projection import Recorded
from libs.projection.serving import Serving
from services.engagement.domain.model import compile_model
from services.engagement.domain.scoring import DAY_US, DaySum, Scored, day_of
from services.engagement.reading import Moment, Ranked, Scorings
from services.engagement.scores import Scores, Scoring
from tests.lines import (
    KINDS,
    TENANT,
    Told,
    batch_sizes,
    key_of,
    lines,
    people_by_reference,
    project,
    recorded,
    undone,
)
from tests.servers import SharedPostgres
from tests.services import new_scores
from touchline.engagement.v1.engagement_pb2 import ModelDefinition

MODEL = compile_model(
    text_format.Parse(
        """name: 'm'
        rules { name: 'fading' weight: 1.001 half_life { seconds: 100000 } }
        rules { name: 'capped' weight: 2 day_cap: 3 total_cap: 5 half_life { seconds: 300000 } }
        rules { name: 'lasting' weight: 0.5 total_cap: 2 }
        rules { name: 'bad' weight: -0.7 day_cap: 1 total_cap: 1.5 half_life { seconds: 86400 } }
        rules { name: 'orders' weight: 9 on { types: EVENT_TYPE_ORDER_CHANGED } }""",
        ModelDefinition(),
    )
)
SCORING = Scoring(7, TENANT, 1, MODEL)
COUNTING = (0, 1, 2, 3)
"""The rules that count the notes of which lines are made."""

TODAY = 6
Rows = dict[str, list[str]]


@pytest.fixture(scope="module")
async def connection(servers: SharedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with empty tables; tests leave them empty."""
    connection = await asyncpg.connect(await new_scores(servers))
    yield connection
    await connection.close()


async def fold(
    connection: asyncpg.Connection, events: Sequence[Recorded], sizes: Sequence[int] = ()
) -> None:
    store = StoreClient(NatsClient())  # never asked: no rule has a condition
    await project(connection, Scores(SCORING, store), events, sizes)


async def rows_after(
    connection: asyncpg.Connection, line: Sequence[Told], sizes: Sequence[int] = ()
) -> Rows:
    """Every row as ordered text, after a line in batches of some sizes."""
    tables = ("contributions", "day_sums", "score_retractions")
    return await _rows_of(
        connection, line, {name: f"SELECT * FROM {name}" for name in tables}, sizes
    )


async def meaning_after(connection: asyncpg.Connection, line: Sequence[Told]) -> Rows:
    """What rows say beside when they arrived."""
    said = {
        "contributions": "SELECT owner_key, event_id, rule, occurred_at_us FROM contributions",
        "day_sums": "SELECT * FROM day_sums",
        "retractions": "SELECT owner_key, event_id FROM score_retractions",
    }
    return await _rows_of(connection, line, said)


async def _rows_of(
    connection: asyncpg.Connection,
    line: Sequence[Told],
    queries: dict[str, str],
    sizes: Sequence[int] = (),
) -> Rows:
    async with undone(connection):
        await fold(connection, recorded(line), sizes)
        found = {
            name: await connection.fetch(f"SELECT q::text AS said FROM ({query}) q")
            for name, query in queries.items()
        }
    return {name: sorted(row["said"] for row in rows) for name, rows in found.items()}


@settings(max_examples=40, deadline=None)
@given(line=lines(), sizes=batch_sizes, other_sizes=batch_sizes)
async def test_given_any_batches_then_the_rows_are_the_same_byte_for_byte(
    connection: asyncpg.Connection, line: list[Told], sizes: list[int], other_sizes: list[int]
) -> None:
    one_by_one = await rows_after(connection, line, [1] * len(line))
    counted = sum(told.retracts is None for told in line)
    assert len(one_by_one["contributions"]) == counted * len(COUNTING)
    for batches in (sizes, other_sizes, []):
        assert await rows_after(connection, line, batches) == one_by_one


async def test_given_batches_so_long_that_they_are_copied_then_the_rows_are_the_same(
    connection: asyncpg.Connection,
) -> None:
    line = a_long_line()
    short = await rows_after(connection, line, [7] * 50)
    assert await rows_after(connection, line, [100, 1, 90]) == short
    assert await rows_after(connection, line) == short


@settings(max_examples=40, deadline=None)
@given(line=lines(), seed=st.integers())
async def test_given_any_order_of_arrival_then_the_rows_say_the_same(
    connection: asyncpg.Connection, line: list[Told], seed: int
) -> None:
    shuffled = list(line)
    Random(seed).shuffle(shuffled)
    assert await meaning_after(connection, shuffled) == await meaning_after(connection, line)


@settings(max_examples=40, deadline=None)
@given(line=lines(), as_of=st.none() | st.integers(0, 10 * DAY_US), lowest=st.booleans())
async def test_given_any_line_then_each_profile_scores_what_plain_python_says(
    connection: asyncpg.Connection, line: list[Told], as_of: int | None, lowest: bool
) -> None:
    people = [keys_of(names) for names in people_by_reference(line)]
    expected = {
        root_of(line, keys): MODEL.score(sums_by_reference(line, keys, as_of), TODAY)
        for keys in people
    }
    async with undone(connection):
        events = at_times(line)
        await project(connection, IdentityGraph(), events)
        await fold(connection, events)
        read = Scorings(connection, Serving())
        for keys in people:
            scored = expected[root_of(line, keys)]
            moment = Moment() if as_of is None else Moment(as_of, as_of)
            sums = await read.sums_then(SCORING, sorted(keys), moment)
            assert MODEL.score(sums, TODAY) == scored
            if as_of is None:
                assert MODEL.score(await read.sums_now(SCORING, sorted(keys)), TODAY) == scored
        ranked = await every_page(read, as_of, lowest=lowest)
    assert ranked == in_order(expected, lowest=lowest)


def at_times(line: Sequence[Told]) -> list[Recorded]:
    """The line, with half a day between two recordings."""
    return [one._replace(recorded_at_us=one.position * DAY_US // 2) for one in recorded(line)]


def keys_of(names: frozenset[str]) -> frozenset[bytes]:
    return frozenset(key_of(name) for name in names)


def root_of(line: Sequence[Told], people: frozenset[bytes]) -> bytes:
    """A profile's first identity, and of those that came together the one with the lowest key."""
    together = [sorted(people & keys_of(frozenset(told.names))) for told in line]
    return next(keys[0] for keys in together if keys)


def sums_by_reference(
    line: Sequence[Told], people: frozenset[bytes], as_of: int | None
) -> list[DaySum]:
    """What counts, by looking at every event."""
    seen = [
        told
        for position, told in enumerate(line, 1)
        if as_of is None or position * DAY_US // 2 <= as_of
    ]
    taken_back = {(told.retracts, told.names[0]) for told in seen if told.retracts is not None}
    return [
        DaySum(rule, day_of(told.occurred_at_us), MODEL.rules[rule].terms.weight)
        for told in seen
        if told.retracts is None
        and (told.number, told.names[0]) not in taken_back
        and (as_of is None or told.occurred_at_us <= as_of)
        and key_of(told.names[0]) in people
        for rule in COUNTING
    ]


def in_order(scores: dict[bytes, Scored], *, lowest: bool) -> list[Ranked]:
    """Profiles for whom something counts, by score and then by id."""
    sign = -1 if lowest else 1
    ranked = [
        Ranked(root, sign * scored.units)
        for root, scored in scores.items()
        if any(rule.days for rule in scored.rules)
    ]
    return sorted(ranked, key=lambda one: (-one.rank, one.root))


async def every_page(read: Scorings, as_of: int | None, *, lowest: bool) -> list[Ranked]:
    """All profiles by score, two to a page."""
    found: list[Ranked] = []
    while True:
        after = found[-1] if found else None
        page = await read.ranked(SCORING, TODAY, as_of, lowest=lowest, after=after, limit=2)
        if not page:
            return found
        found += page


def a_long_line() -> list[Told]:
    """300 events of which every fifth is taken back, before or after it comes."""
    random = Random(7)
    line = [
        Told(number, tuple(random.sample(sorted(KINDS), random.randint(1, 3))), number % 5)
        for number in range(1, 301)
    ]
    line += [Told(1_000 + n, line[n].names, 1, line[n].number) for n in range(0, 300, 5)]
    random.shuffle(line)
    return line
