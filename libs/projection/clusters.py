"""Clusters of the identity graph as they are read: to decide who is who, to explain it, and as of.

A cluster is all that edges connect, those that join nothing included. What it says is the pure fold
of libs.identity.graph; so what a decision would change is known before it is made:

    cluster = await read_cluster(pool, tenant, [left.root, right.root])
    apart = cluster.fold(revoked=[merge.event_id], cuts=[Cut(merge.left, merge.right)])
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from libs.identity.decisions import cuts_of, joined_edges, people_of
from libs.identity.graph import Cut, Edge, GraphFold, Node, clash_label, decided_edges, fold
from libs.identity.kinds import Strength
from libs.postgres.queries import load_queries
from libs.projection.identity_graph.reaching import reach
from libs.projection.projection import Connection

NOW: Final = 2**63 - 1
"""As of this time, in microseconds since 1970, everything counts that is there."""

_LAST: Final = b"\xff" * 16
_SQL: Final = load_queries(Path(__file__).with_name("clusters.sql"))


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about who is who.

    Attributes:
        event_id: Of the decision's event, 16 bytes.
        kind: A number of `touchline.events.v1.IdentityDecisionKind`.
        owner_key: The event's owner.
        occurred_at_us: When it was decided, in microseconds since 1970 UTC.
        recorded_at_us: When the store accepted it, likewise.
        position: Its place on the line.
        left: The keys of one side.
        right: The keys of the other.
        joined: The keys of the identities that it says are one person.
        holds: Whether nothing retracted it and nothing but merges revoked it, and these left
            something that it says.
        merged: Of each merge that revoked it the keys of the identities. These it keeps apart no
            more; apart from that it holds.
    """

    event_id: bytes
    kind: int
    owner_key: bytes
    occurred_at_us: int
    recorded_at_us: int
    position: int
    left: tuple[bytes, ...]
    right: tuple[bytes, ...]
    joined: tuple[bytes, ...]
    holds: bool
    merged: tuple[tuple[bytes, ...], ...] = ()

    @property
    def cut(self) -> Cut | None:
        """What it was to keep apart; None of a merge."""
        return next(iter(cuts_of(self.kind, self.left, self.right)), None)

    @property
    def cuts(self) -> list[Cut]:
        """What it keeps apart, if it holds."""
        return cuts_of(self.kind, self.left, self.right, self.merged)

    @property
    def taken_back(self) -> bool:
        """Whether it says nothing any more: it does not hold, or keeps nobody apart any more."""
        return not self.holds or (self.cut is not None and not self.cuts)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """What it joins, if it holds."""
        when = self.occurred_at_us, self.event_id
        return joined_edges(self.kind, self.right, self.joined, *when)

    @property
    def people(self) -> list[frozenset[bytes]]:
        """The identities among which no label clashes, if it holds."""
        return people_of(self.kind, self.left, self.right, self.joined)


@dataclass(frozen=True, slots=True)
class Cluster:
    """All that says who is who among some identities.

    Attributes:
        nodes: The identities, in the order they were first seen.
        links: Of each pair that was seen together the first edge that counts, in no order.
        decisions: All that name one of the identities, in the order of their positions; also those
            that hold no more.
    """

    nodes: tuple[Node, ...]
    links: tuple[Edge, ...]
    decisions: tuple[Decision, ...]

    def holding(self, revoked: Collection[bytes] = ()) -> tuple[Decision, ...]:
        """Return the decisions that hold, apart from some, by event id."""
        return tuple(one for one in self.decisions if one.holds and one.event_id not in revoked)

    def fold(
        self,
        *,
        revoked: Collection[bytes] = (),
        joined: Sequence[bytes] = (),
        cuts: Iterable[Cut] = (),
    ) -> GraphFold:
        """Return who is who, or who would be if one more decision were made.

        Args:
            revoked: Decisions that it would revoke, by event id.
            joined: Identities that it would join: the first with each of the others. Without cuts
                that is a merge: of the profiles that these are in no labels would clash, and what
                is revoked holds but for keeping these apart. With cuts it joins on each side.
            cuts: What it would keep apart.
        """
        more = list(cuts)
        if not joined or more:
            return self._fold(self.holding(revoked), _parts(joined, more), more)
        merged = _members(self._fold(self.holding(), [], []), joined)
        holding = [
            replace(one, merged=(*one.merged, tuple(merged))) if one.event_id in revoked else one
            for one in self.holding()
        ]
        return self._fold(holding, [joined], [], [merged])

    def _fold(
        self,
        holding: Iterable[Decision],
        joined: Iterable[Sequence[bytes]],
        cuts: Iterable[Cut],
        people: Iterable[Collection[bytes]] = (),
    ) -> GraphFold:
        """Fold with some decisions, and what one more says."""
        edges, apart, persons = [*self.links], [*cuts], [*people]
        for one in holding:
            edges += one.edges
            apart += one.cuts
            persons += one.people
        for keys in joined:
            edges += decided_edges(keys, NOW, _LAST)
        return fold(self.nodes, edges, apart, persons)


def _parts(joined: Sequence[bytes], cuts: Iterable[Cut]) -> list[Sequence[bytes]]:
    """Return keys by the side of cuts on which they are."""
    parts = [joined]
    for right in (frozenset(cut.right) for cut in cuts):
        parts = [
            [k for k in keys if (k in right) is is_right]
            for keys in parts
            for is_right in (False, True)
        ]
    return parts


def _members(folded: GraphFold, keys: Iterable[bytes]) -> frozenset[bytes]:
    """Return the identities of the profiles that some identities are in."""
    roots = {folded.components[key] for key in keys if key in folded.components}
    return frozenset(key for key, root in folded.components.items() if root in roots)


async def read_cluster(
    database: asyncpg.Pool | Connection,
    tenant: int,
    keys: Collection[bytes],
    *,
    as_of_us: int | None = None,
) -> Cluster:
    """Return the clusters of some identities, as one; what is unknown of them is left out.

    Args:
        database: Connections to the database of the identity graph. With a pool it is read in one
            snapshot; with a connection in the caller's.
        tenant: The tenant's number.
        keys: Identity keys, 16 bytes each.
        as_of_us: Only what had occurred and was recorded by then, in microseconds since 1970 UTC.
            Its time is that of reading every edge, not one of each pair. Default: all.
    """
    at = NOW if as_of_us is None else as_of_us
    past = as_of_us is not None
    async with _snapshot(database) as connection:
        reached, links = await reach(connection, tenant, keys, ever=past)
        rows = await connection.fetch(_SQL["nodes"], tenant, list(reached))
        nodes = tuple(
            Node(key, clash_label(kind, namespace_key), first_position)
            for key, kind, namespace_key, first_position in rows
        )
        found = [node.key for node in nodes]
        if past:
            links = list(
                map(edge_of, await connection.fetch(_SQL["links_as_of"], tenant, found, at))
            )
        decisions = await _decisions(connection, tenant, found, at)
    seen = tuple(link for link in links if link.strength != Strength.DECIDED)
    return Cluster(nodes, seen, tuple(decisions))


async def count_events(
    database: asyncpg.Pool | Connection,
    tenant: int,
    pairs: Collection[tuple[bytes, bytes]],
    *,
    as_of_us: int | None = None,
) -> dict[tuple[bytes, bytes], int]:
    """Return how many events say of each pair of identities that they were seen together.

    Args:
        database: Connections to the database of the identity graph.
        tenant: The tenant's number.
        pairs: As in an edge, the smaller key first.
        as_of_us: As in read_cluster.
    """
    if not pairs:
        return {}
    smaller, larger = (list(keys) for keys in zip(*pairs, strict=True))
    at = NOW if as_of_us is None else as_of_us
    rows = await database.fetch(_SQL["count_events"], tenant, smaller, larger, at)
    return {(row["a_key"], row["b_key"]): row["events"] for row in rows}


def edge_of(row: asyncpg.Record) -> Edge:
    """Return the edge that a row of a_key, b_key, strength, occurred_at_us, event_id says."""
    a, b, strength, occurred_at_us, event_id, *_ = row
    return Edge(a, b, strength, occurred_at_us, event_id.bytes)


async def _decisions(
    connection: Connection, tenant: int, keys: Sequence[bytes], at: int
) -> list[Decision]:
    """Return the decisions that name any of some identities, in the order of their positions.

    In several queries: a plan that was made while a table was empty would read all of it for each
    decision.
    """
    named = await connection.fetch(_SQL["decisions_naming"], tenant, keys)
    if not named:
        return []
    these = tenant, [row["event_id"] for row in named], at
    rows = await connection.fetch(_SQL["decisions"], *these)
    retracted = {tuple(row) for row in await connection.fetch(_SQL["retractions"], *these)}
    merges: defaultdict[UUID, list[UUID]] = defaultdict(list)
    revoked = set[UUID]()
    for event_id, by, by_merge in await connection.fetch(_SQL["revocations"], *these):
        if by_merge:
            merges[event_id].append(by)
        else:
            revoked.add(event_id)
    merged = await _merged_keys(connection, tenant, merges.values())
    decisions = [
        Decision(
            event_id.bytes,
            *(kind, owner, occurred, recorded, position),
            *(tuple(left), tuple(right), tuple(joined)),
            holds=event_id not in revoked and (event_id, owner) not in retracted,
            merged=tuple(merged[merge] for merge in merges[event_id] if merge in merged),
        )
        for event_id, kind, owner, occurred, recorded, position, left, right, joined in rows
    ]
    # Found out once, since every fold asks: what was merged stays merged.
    return [
        replace(one, holds=False) if one.taken_back and not one.joined else one for one in decisions
    ]


async def _merged_keys(
    connection: Connection, tenant: int, merges: Iterable[Collection[UUID]]
) -> dict[UUID, tuple[bytes, ...]]:
    """Return the identities of merges, by event."""
    ids = list({merge for some in merges for merge in some})
    if not ids:
        return {}
    rows = await connection.fetch(_SQL["merged_keys"], tenant, ids)
    return {row["event_id"]: tuple(row["merged_keys"]) for row in rows}


@asynccontextmanager
async def _snapshot(database: asyncpg.Pool | Connection) -> AsyncIterator[Connection]:
    if not isinstance(database, asyncpg.Pool):
        yield database
        return
    async with (
        database.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection
