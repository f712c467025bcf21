"""Clusters of the identity graph as they are read: to decide who is who, to explain it, and as of.

A cluster is all that edges connect, those that join nothing included. What it says is the pure fold
of libs.identity.graph; so what a decision would change is known before it is made:

    cluster = await read_cluster(pool, tenant, [left.root, right.root])
    apart = cluster.fold(revoked=[merge.event_id], cuts=[Cut(merge.left, merge.right)])
"""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from libs.identity.graph import Cut, Edge, GraphFold, Node, clash_label, decided_edges, fold
from libs.postgres.queries import load_queries
from libs.projection.projection import Connection
from touchline.events.v1.decisions_pb2 import IDENTITY_DECISION_KIND_MERGED

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
        holds: Whether nothing revoked or retracted it.
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

    @property
    def cut(self) -> Cut | None:
        """What it keeps apart, if it holds; None of a merge."""
        if self.kind == IDENTITY_DECISION_KIND_MERGED or not self.left or not self.right:
            return None
        return Cut(self.left, self.right)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """What it joins, if it holds."""
        return decided_edges(self.joined, self.occurred_at_us, self.event_id)


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
            joined: Identities that it would join: the first with each of the others.
            cuts: What it would keep apart.
        """
        holding = self.holding(revoked)
        edges = [*self.links, *decided_edges(joined, NOW, _LAST)]
        edges += [edge for one in holding for edge in one.edges]
        apart = [*cuts, *(cut for one in holding if (cut := one.cut) is not None)]
        return fold(self.nodes, edges, apart)


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
        rows = await connection.fetch(_SQL["reached"], tenant, sorted(keys), past)
        nodes = tuple(
            Node(key, clash_label(kind, namespace_key), first_position)
            for key, kind, namespace_key, first_position in rows
        )
        found = [node.key for node in nodes]
        links = (
            await connection.fetch(_SQL["links_as_of"], tenant, found, at)
            if past
            else await connection.fetch(_SQL["links"], tenant, found)
        )
        decisions = await connection.fetch(_SQL["decisions"], tenant, found, at)
    return Cluster(nodes, tuple(map(edge_of, links)), tuple(map(_decision_of, decisions)))


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


def _decision_of(row: asyncpg.Record) -> Decision:
    event_id, kind, owner, occurred, recorded, position, left, right, joined, holds = row
    sides = tuple(left), tuple(right), tuple(joined)
    return Decision(event_id.bytes, kind, owner, occurred, recorded, position, *sides, holds)


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
