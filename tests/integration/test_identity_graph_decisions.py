"""Merges, un-merges, suggestions, erasures in tables: as by the book, in any order of arrival."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.postgres.queries import load_queries
from libs.projection import clusters
from libs.projection.clusters import Cluster, count_events, read_cluster
from libs.projection.identity_graph import IdentityGraph, reaching
from libs.projection.profiles import (
    erased_among,
    find_profile,
    profile_as_of,
    profile_version,
    profile_versions,
)
from libs.projection.suggestions import links_between, list_suggestions
from tests.lines import (
    TENANT,
    Decides,
    Told,
    groups,
    key_of,
    project,
    recorded,
    recorded_at_us,
    undone,
)
from tests.servers import SharedPostgres
from tests.services import new_views
from tests.who import MERGED, REJECTED, UNMERGED, Answer, Link, histories, who_is_who

SOME = settings(max_examples=25, deadline=None)
GRAPH_QUERIES = Path(reaching.__file__).with_name("queries.sql")
CLUSTER_QUERIES = Path(clusters.__file__).with_name("clusters.sql")
A_DAY_LATER = 10**15 // 86_400_000_000 + 1
"""A day by which everything in a line is recorded."""


@pytest.fixture(scope="module")
async def connection(servers: SharedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with the graph's empty tables; tests leave them empty."""
    connection = await asyncpg.connect(await new_views(servers))
    yield connection
    await connection.close()


def name_of(key: bytes) -> str:
    return key.rstrip(b".").decode()


async def answer_of(connection: asyncpg.Connection) -> Answer:
    """Who is one person, and who is suggested to be, by the tables."""
    people = groups(await connection.fetch("SELECT identity_key, root_key FROM identities"))
    suggested = {}
    for one in await list_suggestions(connection, TENANT):
        link = one.link
        pair = frozenset(
            next(person for person in people if name_of(root) in person)
            for root in (one.left_root, one.right_root)
        )
        ends = name_of(link.a), name_of(link.b)
        suggested[pair] = Link(link.strength, link.occurred_at_us, link.event_id, *ends)
    return Answer(frozenset(people), suggested)


async def rows(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """Every row as ordered text."""
    found = {}
    for table in IdentityGraph.tables:
        texts = await connection.fetch(f"SELECT t::text AS said FROM {table.name} t")
        found[table.name] = sorted(row["said"] for row in texts)
    return found


async def project_late(
    connection: asyncpg.Connection, line: Sequence[Told], random: Random
) -> None:
    """Fold the events in parts of any size and order, each part after an attempt that aborts."""
    events, graph = recorded(line), IdentityGraph()
    random.shuffle(events)
    while events:
        size = random.randint(1, 5)
        part, events = sorted(events[:size]), events[size:]
        async with undone(connection):
            await project(connection, graph, part)
        graph.aborted()  # as whoever refolds what was parked does
        await project(connection, graph, part)
        graph.aborted()


@SOME
@given(line=histories(erasures=True), random=st.randoms(use_true_random=False))
async def test_given_any_history_in_any_order_of_arrival_then_it_is_as_by_the_book(
    connection: asyncpg.Connection, line: list[Told], random: Random
) -> None:
    async with undone(connection):
        await project(connection, IdentityGraph(), recorded(line), [3, 1, 4])
        in_order = await rows(connection)
        assert await answer_of(connection) == who_is_who(line)
    async with undone(connection):
        await project_late(connection, line, random)
        assert await rows(connection) == in_order


@SOME
@given(line=histories(days=(1, 2, A_DAY_LATER)), part=st.floats(0, 1))
async def test_given_a_time_then_profiles_are_those_of_what_had_happened_and_was_recorded(
    connection: asyncpg.Connection, line: list[Told], part: float
) -> None:
    at = recorded_at_us(round(part * len(line)))
    async with undone(connection):
        await project(connection, IdentityGraph(), recorded(line))
        for one_at in (at, None):
            answer = who_is_who(line, one_at)
            keys = [key_of(name) for person in answer.people for name in person]
            cluster = await read_cluster(connection, TENANT, keys, as_of_us=one_at)
            assert groups(cluster.fold().components.items()) == answer.people
        for person in who_is_who(line, at).people:
            for name in person:
                found = await profile_as_of(connection, TENANT, key_of(name), at)
                assert found is not None
                assert {name_of(key) for key in found.keys} == person


ANNA, BEN = ("anna@", "+49"), ("ben@", "+44")
FACTS = [
    *(Told(1, ANNA), Told(2, BEN), Told(3, ("anna@", "tablet"), 2), Told(4, ("ben@", "tablet"), 3)),
    Told(5, ("ben@", "tablet"), 4),
]


def says(number: int, decides: Decides) -> Told:
    return Told(number, ("anna@",), 9, decides=decides)


MERGE = says(50, Decides(MERGED, (*ANNA, "tablet"), BEN, ("anna@", "ben@")))
UNMERGE = says(51, Decides(UNMERGED, (*ANNA, "tablet"), BEN, (), (50,)))


async def cluster_of(connection: asyncpg.Connection, name: str) -> Cluster:
    return await read_cluster(connection, TENANT, [key_of(name)])


async def test_given_a_family_tablet_then_one_suggestion_tells_of_both_and_what_links_them(
    connection: asyncpg.Connection,
) -> None:
    async with undone(connection):
        again = Told(6, ("+44", "tablet"), 5)
        await project(connection, IdentityGraph(), recorded([*FACTS, again]))
        [one] = await list_suggestions(connection, TENANT)
        left, right = [
            await find_profile(connection, TENANT, key) for key in (one.left_root, one.right_root)
        ]
        assert left is not None
        assert right is not None
        links, count = await links_between(connection, TENANT, left.keys, right.keys, limit=1)
        assert (links, count) == ([one.link], 2)
        pair = (one.link.a, one.link.b)
        assert await count_events(connection, TENANT, [pair]) == {pair: 2}
        for root in (left.root, right.root):
            assert await list_suggestions(connection, TENANT, root=root) == [one]
        assert await list_suggestions(connection, TENANT, after=one.order) == []
        assert await list_suggestions(connection, TENANT, root=key_of("nobody")) == []


async def test_given_a_merge_and_an_unmerge_then_versions_count_and_no_suggestion_is_left(
    connection: asyncpg.Connection,
) -> None:
    async with undone(connection):
        graph, events = IdentityGraph(), recorded([*FACTS, MERGE, UNMERGE])
        anna, ben = key_of("anna@"), key_of("ben@")
        await project(connection, graph, events[:-1])
        assert len((await answer_of(connection)).people) == 1
        assert await profile_versions(connection, TENANT, [anna, ben]) == {anna: 6, ben: 6}
        assert await profile_version(connection, TENANT, key_of("+49")) == 0
        await project(connection, graph, events[-1:])
        answer = await answer_of(connection)
        assert answer == Answer(frozenset({frozenset({*ANNA, "tablet"}), frozenset(BEN)}), {})
        merge, unmerge = (await cluster_of(connection, "ben@")).decisions
        assert (merge.holds, unmerge.holds) == (False, True)
        assert [merge.position, unmerge.position] == [6, 7]


async def test_given_a_rejected_suggestion_that_is_merged_all_the_same_then_it_is_taken_back(
    connection: asyncpg.Connection,
) -> None:
    rejected = says(50, Decides(REJECTED, (*ANNA, "tablet"), BEN))
    joined = Decides(MERGED, (*ANNA, "tablet"), BEN, ("anna@", "ben@"), (50,))
    async with undone(connection):
        await project(connection, IdentityGraph(), recorded([*FACTS, rejected]), [1, 1, 1])
        assert await answer_of(connection) == Answer(
            frozenset({frozenset({*ANNA, "tablet"}), frozenset(BEN)}), {}
        )
        events = recorded([*FACTS, rejected, says(51, joined)])
        await project(connection, IdentityGraph(), events[-1:])
        assert len((await answer_of(connection)).people) == 1
        was, merge = (await cluster_of(connection, "ben@")).decisions
        assert (was.taken_back, merge.taken_back) == (True, False)


async def test_given_a_side_that_is_elsewhere_then_what_is_joined_there_excuses_nobody_here(
    connection: asyncpg.Connection,
) -> None:
    """Nothing links the handle with the phones, and it is no part of their cluster."""
    merge = says(50, Decides(MERGED, ("+49",), ("+44",), ("+49", "+44")))
    apart = says(51, Decides(UNMERGED, ("+49", "+44"), ("@anna",), ("+49", "@anna")))
    line = [Told(1, ("+49", "+44")), merge, apart, Told(90, ("anna@",), 9, retracts=50)]
    async with undone(connection):
        await project(connection, IdentityGraph(), recorded(line))
        answer = await answer_of(connection)
        assert {frozenset({"+49"}), frozenset({"+44"})} <= answer.people
        assert answer == who_is_who(line)


async def test_given_an_erased_customer_then_their_values_and_suggestions_go_until_they_return(
    connection: asyncpg.Connection,
) -> None:
    erased, back = Told(60, erases=BEN), Told(61, ("+44",), 7)
    values = "SELECT identity_key FROM identities WHERE sealed_value <> '' OR key_id <> ''"
    async with undone(connection):
        events = recorded([*FACTS, erased, back])
        graph = IdentityGraph()
        await project(connection, graph, events[:-1])
        left = {name_of(row["identity_key"]) for row in await connection.fetch(values)}
        assert left == {*ANNA, "tablet"}
        assert await list_suggestions(connection, TENANT) == []
        found = await erased_among(connection, TENANT, [*map(key_of, (*ANNA, *BEN))])
        assert {(name_of(one.key), one.position) for one in found} == {(name, 6) for name in BEN}
        await project(connection, graph, events[-1:])
        assert len(await list_suggestions(connection, TENANT)) == 1
        [gone] = await erased_among(connection, TENANT, [*map(key_of, BEN)])
        assert (name_of(gone.key), gone.recorded_at_us) == ("ben@", recorded_at_us(6))


async def test_given_an_erasure_of_any_kind_then_whoever_listens_is_told_once_it_is_committed(
    servers: SharedPostgres,
) -> None:
    url = await new_views(servers)
    connection, told = await asyncpg.connect(url), list[str]()
    await connection.add_listener("touchline_erased", lambda *heard: told.append(heard[2]))
    [fact, erased] = recorded([Told(1, ANNA), Told(60, erases=ANNA)])
    erased.record.erasure.occurred_before_us = 10
    async with connection.transaction():
        await project(connection, IdentityGraph(), [fact, erased])
        assert told == []
    await connection.execute("SELECT 1")
    assert told == ["touchline_erased"]
    assert await erased_among(connection, TENANT, [key_of("anna@")]) == []
    await connection.close()


async def test_given_hundreds_of_identities_of_one_customer_then_they_are_one_profile(
    connection: asyncpg.Connection,
) -> None:
    async with undone(connection):
        cards = [f"card {number}" for number in range(300)]
        events = recorded([Told(1, ("crm:1", "tablet"))])
        more = recorded(Told(n, ("crm:1", "cookie"), 2) for n in range(2, 302))
        for card, one in zip(cards, more, strict=True):
            one.record.identities[1].identity_key = key_of(card)
        await project(connection, IdentityGraph(), [*events, *more], [100, 50])
        profile = await find_profile(connection, TENANT, key_of("tablet"))
        assert profile is not None
        assert len(profile.keys) == 302
        assert len((await cluster_of(connection, "tablet")).fold().joining) == 301


async def test_given_tables_that_were_small_then_no_plan_is_kept_that_reads_all_of_them(
    connection: asyncpg.Connection,
) -> None:
    kept, of_clusters = (load_queries(path) for path in (GRAPH_QUERIES, CLUSTER_QUERIES))
    keys = [key_of("crm:1"), key_of("tablet")]
    async with undone(connection):
        await project(connection, IdentityGraph(), recorded([Told(1, ("crm:1", "tablet"))]))
        await connection.execute("ANALYZE identities, identity_links")
        await cluster_of(connection, "tablet")
        for query, more in (
            (kept["neighbours"], (False,)),
            (kept["cluster"], ()),
            (of_clusters["nodes"], ()),
        ):
            told = f"EXPLAIN (GENERIC_PLAN) {query}"
            plan = [line for (line,) in await connection.fetch(told, TENANT, keys, *more)]
            assert not [line for line in plan if "Seq Scan" in line]
