"""Who is one person, folded batch by batch into tables, equals the fold of all edges at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.projection.identity_graph import IdentityGraph
from tests.lines import (
    Told,
    batch_sizes,
    groups,
    lines,
    people_by_reference,
    project,
    recorded,
    undone,
)
from tests.servers import SharedPostgres
from tests.services import new_views

SOME = settings(max_examples=50, deadline=None)


@pytest.fixture(scope="module")
async def connection(servers: SharedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with the graph's empty tables; tests leave them empty."""
    connection = await asyncpg.connect(await new_views(servers))
    yield connection
    await connection.close()


async def people(
    connection: asyncpg.Connection, line: Sequence[Told], sizes: Sequence[int] = ()
) -> set[frozenset[str]]:
    """Who is one person after a line, folded in batches of some sizes."""
    async with undone(connection):
        await project(connection, IdentityGraph(), recorded(line), sizes)
        return groups(await connection.fetch("SELECT identity_key, root_key FROM identities"))


def apart(*names: str) -> set[frozenset[str]]:
    return {frozenset({name}) for name in names}


@SOME
@given(line=lines(), sizes=batch_sizes)
async def test_given_any_line_in_any_batches_then_people_are_those_of_the_reference(
    connection: asyncpg.Connection, line: list[Told], sizes: list[int]
) -> None:
    assert await people(connection, line, sizes) == people_by_reference(line)


@SOME
@given(line=lines(), sizes=batch_sizes, data=st.data())
async def test_given_one_graph_that_aborts_in_between_then_people_are_those_of_the_reference(
    connection: asyncpg.Connection, line: list[Told], sizes: list[int], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(line)), label="committed before the abort")
    graph, events = IdentityGraph(), recorded(line)
    async with undone(connection):
        await project(connection, graph, events[:cut], sizes)
        async with undone(connection):
            await project(connection, graph, events[cut:])
        graph.aborted()
        await project(connection, graph, events[cut:], sizes)
        found = groups(await connection.fetch("SELECT identity_key, root_key FROM identities"))
    assert found == people_by_reference(line)


LINK = Told(1, ("anna@", "+49"), at=2)
LATER = Told(2, ("anna@", "+49"), at=3)
EARLIER = Told(3, ("anna@", "+49"), at=1)
TAKEN_BACK = Told(9, ("anna@",), at=4, retracts=1)
TOGETHER = {frozenset({"anna@", "+49"})}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ([LINK], TOGETHER),
        ([LINK, TAKEN_BACK], apart("anna@", "+49")),
        ([TAKEN_BACK, LINK], apart("anna@", "+49")),
        ([LINK, TAKEN_BACK, LATER], TOGETHER),
        ([LINK, LATER, TAKEN_BACK], TOGETHER),
        ([TAKEN_BACK, LATER, LINK], TOGETHER),
        ([TAKEN_BACK, LINK, LATER], TOGETHER),
        ([EARLIER, LINK, TAKEN_BACK], TOGETHER),
        ([LINK, Told(9, ("anna@", "+49"), retracts=1)], apart("anna@", "+49")),
        ([LINK, Told(9, ("ben@",), retracts=1)], {*TOGETHER, frozenset({"ben@"})}),
        ([LINK, TAKEN_BACK, Told(10, ("anna@",), retracts=9)], apart("anna@", "+49")),
    ],
    ids=[
        *("a link", "taken back", "taken back first", "seen again later", "seen twice"),
        *("first taken back, then again", "taken back first, then again", "seen before too"),
        *("taken back with both names", "taken back by a stranger", "a retraction is final"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "one by one"])
async def test_given_a_link_that_is_taken_back_then_what_is_left_decides(
    connection: asyncpg.Connection, line: list[Told], found: set[frozenset[str]], at_once: bool
) -> None:
    assert await people(connection, line, [] if at_once else [1] * len(line)) == found


async def test_given_a_shared_tablet_then_it_goes_with_the_first_until_that_is_taken_back(
    connection: asyncpg.Connection,
) -> None:
    ben, anna = Told(2, ("ben@", "tablet"), at=2), Told(1, ("anna@", "tablet"), at=1)
    taken_back = Told(3, ("anna@",), at=3, retracts=1)

    assert await people(connection, [ben]) == {frozenset({"ben@", "tablet"})}
    assert await people(connection, [ben, anna], [1]) == {
        frozenset({"anna@", "tablet"}),
        frozenset({"ben@"}),
    }
    assert await people(connection, [ben, anna, taken_back], [1, 1]) == {
        frozenset({"ben@", "tablet"}),
        frozenset({"anna@"}),
    }


async def test_given_two_strong_identities_of_one_kind_then_nothing_joins_them(
    connection: asyncpg.Connection,
) -> None:
    line = [
        Told(1, ("anna@", "+49"), at=1),
        Told(2, ("ben@", "+44"), at=1),
        Told(3, ("crm:1", "+49"), at=2),
        Told(4, ("crm:1", "ben@"), at=3),
        Told(5, ("anna@", "ben@"), at=4),
        Told(6, ("@anna", "anna@"), at=5),
        Told(7, ("ben@", "@anna"), at=6),
    ]
    assert await people(connection, line, [2, 2]) == {
        frozenset({"anna@", "+49", "crm:1", "@anna"}),
        frozenset({"ben@", "+44"}),
    }


async def test_given_another_tenant_then_its_links_are_its_own(
    connection: asyncpg.Connection,
) -> None:
    async with undone(connection):
        graph = IdentityGraph()
        ours, theirs = recorded([Told(1, ("anna@",)), Told(2, ("+49",))]), recorded([LINK, LATER])
        for event in theirs:
            event.record.tenant = 2
        await project(connection, graph, [*ours, *theirs], [1, 2])
        rows = await connection.fetch("SELECT tenant, identity_key, root_key FROM identities")
    of_tenant = {n: groups(row[1:] for row in rows if row["tenant"] == n) for n in (1, 2)}
    assert of_tenant == {1: apart("anna@", "+49"), 2: TOGETHER}
