"""The append function decides as a slow and obvious program would."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.eventstore.records import Row
from tests.servers import MakeDatabase
from tests.store import (
    CONFLICT,
    DUPLICATE,
    RECORDED,
    UNIT_REFUSED,
    VERSION_TAKEN,
    Line,
    build_store,
    open_line,
    row,
)

Verdict = tuple[int, int | None]


@dataclass(slots=True)
class ObviousLine:
    """Keeps rows in a list and looks through all of them for everything."""

    head: int
    rows: list[tuple[int, Row]] = field(default_factory=list)

    def append(self, units: Sequence[Sequence[Row]]) -> list[Verdict]:
        return [verdict for unit in units for verdict in self._append_unit(unit)]

    def _append_unit(self, unit: Sequence[Row]) -> list[Verdict]:
        taken: list[Row] = []
        verdicts = [self._decide(one, taken) for one in unit]
        if len(taken) < len(unit):
            refused = (UNIT_REFUSED, None)
            return [refused if verdict == (RECORDED, None) else verdict for verdict in verdicts]
        placed = [*enumerate(unit, self.head + 1)]
        self.rows += placed
        self.head += len(unit)
        return [(RECORDED, position) for position, _ in placed]

    def _decide(self, one: Row, taken: list[Row]) -> Verdict:
        for position, other in self.rows:
            if (other.tenant, other.event_id) == (one.tenant, one.event_id):
                same = other.content_hash == one.content_hash
                return (DUPLICATE if same else CONFLICT), position
        if any((other.tenant, other.event_id) == (one.tenant, one.event_id) for other in taken):
            return CONFLICT, None
        if one.stream_id is not None:
            place = (one.tenant, one.stream_id, one.stream_version)
            for other in [*taken, *(other for _, other in self.rows)]:
                if (other.tenant, other.stream_id, other.stream_version) == place:
                    return VERSION_TAKEN, None
        taken.append(one)
        return RECORDED, None


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store), pool_size=1) as line:
        yield line


_STREAMS = st.none() | st.tuples(st.integers(1, 2), st.integers(1, 3))
# Few ids, contents and versions, so that they meet; a pair of tenants for each example alone.
_EVENTS = st.tuples(st.integers(1, 7), st.sampled_from("ab"), st.integers(0, 1), _STREAMS)
_UNITS = st.lists(_EVENTS, min_size=1, max_size=4)
_FACTS = st.tuples(st.integers(1, 12), st.sampled_from("ab"), st.integers(0, 1), st.none())
_CALL = st.lists(_UNITS, min_size=1, max_size=5) | st.lists(
    _FACTS.map(lambda fact: [fact]), min_size=1, max_size=8
)
_CALLS = st.lists(_CALL, min_size=1, max_size=4)
_tenants = count(1, 2)


@given(calls=_CALLS)
@settings(
    max_examples=250,
    deadline=None,
    # The line is shared on purpose: an example starts where the one before it ended.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_every_verdict_is_the_obvious_one(
    line: Line, calls: list[list[list[tuple[int, str, int, tuple[int, int] | None]]]]
) -> None:
    first_tenant = next(_tenants)
    obvious = ObviousLine((await line.store.head()).position)
    for call in calls:
        units = [
            [
                row(number, content, tenant=first_tenant + tenant, stream=stream)
                for number, content, tenant, stream in unit
            ]
            for unit in call
        ]
        assert await line.append(*units) == obvious.append(units)
    assert (await line.store.head()).position == obvious.head
