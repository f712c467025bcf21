"""The projection of who is who: identities, what links them, and the profile each belongs to.

Automatic links are a fold, not events; the same fold runs in every service that needs profiles. The
rule is libs.identity.graph's. Only the clusters that a batch touches are folded again.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.lru import LruCache
from libs.identity.graph import Edge, Node, clash_label, edges_of, fold
from libs.postgres.queries import load_queries
from libs.projection.projection import Connection, Recorded, Table, of_customers
from libs.projection.writing import add_rows
from touchline.store.v1.store_pb2 import SealedIdentity

_CACHED: Final = 200_000
_EDGE_COLUMNS: Final = (
    *("tenant", "a_key", "b_key", "owner_key", "strength", "occurred_at_us", "event_id"),
)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))

Pair = tuple[int, bytes, bytes]


@dataclass(slots=True)
class _Batch:
    """What a batch says of identities that is not known yet."""

    # With the positions of the first event of each, and of the event that has its sealed value.
    identities: dict[tuple[int, bytes], tuple[int, int, SealedIdentity]] = field(
        default_factory=dict
    )
    edges: list[tuple[int, bytes, Edge]] = field(default_factory=list)
    retractions: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    changed: defaultdict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    firsts: dict[bytes, set[Pair]] = field(default_factory=dict)


class IdentityGraph:
    """Folds envelopes into identities and profiles; see libs.projection.projection.Projection."""

    name = "identity_graph"
    fold_version = 1
    tables = (Table("identities"), Table("identity_edges"), Table("identity_retractions"))

    def __init__(self) -> None:
        # What is in the tables already and need not be asked or written again: identities with the
        # data key that sealed their value, and the first edge of each pair.
        self._known: dict[tuple[int, bytes], bytes] = {}
        self._first_seen: LruCache[Pair, tuple[int, bytes]] = LruCache(_CACHED)

    def copy(self) -> "IdentityGraph":
        """The same fold, remembering nothing."""
        return IdentityGraph()

    def aborted(self) -> None:
        """Forget what was remembered of events that were not committed."""
        self._known.clear()
        self._first_seen = LruCache(_CACHED)

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Envelopes say all it needs."""

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add what events say, and fold the clusters that it changes."""
        batch = self._collect(of_customers(events))
        if batch.identities:
            for tenant, key in await _add_identities(connection, batch):
                batch.changed[tenant].add(key)
        if batch.edges:
            await _add_edges(connection, batch)
        if batch.retractions:
            for tenant, a_key, b_key in await _add_retractions(connection, batch):
                batch.changed[tenant] |= {a_key, b_key}
                self._first_seen.forget((tenant, a_key, b_key))
        for event_id in await _retracted_among(connection, batch.firsts):
            # It is no edge, so the next one of its pair is the first.
            for pair in batch.firsts[event_id]:
                self._first_seen.forget(pair)
        for tenant, keys in sorted(batch.changed.items()):
            await _refold(connection, tenant, keys)

    def _collect(self, events: Sequence[Recorded]) -> _Batch:
        batch, known = _Batch(), self._known
        if len(known) > _CACHED:
            known.clear()
        for event in events:
            record = event.record
            tenant, identities = record.tenant, record.identities
            for sealed in identities:
                name = (tenant, sealed.identity_key)
                if known.get(name) != sealed.key_id:
                    known[name] = sealed.key_id
                    first_position, *_ = batch.identities.get(name, (event.position,))
                    batch.identities[name] = (first_position, event.position, sealed)
            # A retraction names whom its event concerned, and may not link what that one linked.
            if len(identities) > 1 and not record.retracts:
                seen = [(sealed.identity_key, sealed.kind) for sealed in identities]
                for edge in edges_of(seen, record.occurred_at_us, record.event_id):
                    batch.edges.append((tenant, record.owner_key, edge))
                    self._note_change(batch, tenant, edge)
            if record.retracts:
                batch.retractions.append((tenant, record.retracts, record.owner_key))
        return batch

    def _note_change(self, batch: _Batch, tenant: int, edge: Edge) -> None:
        # An edge that is later than another of its pair changes nothing.
        pair, order = (tenant, edge.a, edge.b), (edge.occurred_at_us, edge.event_id)
        first = self._first_seen.get(pair)
        if first is None or order < first:
            self._first_seen.put(pair, order)
            batch.changed[tenant] |= {edge.a, edge.b}
            batch.firsts.setdefault(edge.event_id, set()).add(pair)


async def _add_identities(connection: Connection, batch: _Batch) -> list[tuple[int, bytes]]:
    """Add identities, and return those that turn out to have been seen earlier than was known.

    An event that is folded late, after its owner was parked, may name a profile anew; and the rows
    are those that a fold in the order of the line would give.
    """
    rows = sorted(
        (tenant, key, one.kind, one.namespace_key, first, one.sealed_value, one.key_id, sealed_at)
        for (tenant, key), (first, sealed_at, one) in batch.identities.items()
    )
    earlier = await connection.fetch(_SQL["graph_add_identities"], *zip(*rows, strict=True))
    return [tuple(row) for row in earlier]


async def _add_edges(connection: Connection, batch: _Batch) -> None:
    rows = [
        (tenant, e.a, e.b, owner, e.strength, e.occurred_at_us, UUID(e.event_id))
        for tenant, owner, e in batch.edges
    ]
    insert = _SQL["graph_add_edges"]
    await add_rows(connection, "identity_edges", _EDGE_COLUMNS, rows, insert)


async def _add_retractions(connection: Connection, batch: _Batch) -> list[Pair]:
    """Add tombstones, and return the pairs that the retracted events linked."""
    tenants, event_ids, owners = (list(column) for column in zip(*batch.retractions, strict=True))
    columns = tenants, [UUID(event_id) for event_id in event_ids], owners
    await connection.execute(_SQL["graph_add_retractions"], *columns)
    return [tuple(row) for row in await connection.fetch(_SQL["graph_edges_of_events"], *columns)]


async def _retracted_among(connection: Connection, event_ids: Collection[bytes]) -> list[bytes]:
    if not event_ids:
        return []
    uuids = [UUID(event_id) for event_id in sorted(event_ids)]
    rows = await connection.fetch(_SQL["graph_retracted_among"], uuids)
    return [row["event_id"].bytes for row in rows]


async def _refold(connection: Connection, tenant: int, keys: set[bytes]) -> None:
    rows = await connection.fetch(_SQL["graph_cluster"], tenant, sorted(keys))
    nodes = [
        Node(key, clash_label(kind, namespace_key), first_position)
        for key, kind, namespace_key, first_position, _ in rows
    ]
    edges = await connection.fetch(_SQL["graph_cluster_edges"], tenant, [n.key for n in nodes])
    components = fold(
        nodes, (Edge(a, b, strength, at, event_id.bytes) for a, b, strength, at, event_id in edges)
    ).components
    moved = sorted(
        (key, components[key]) for key, _, _, _, root_key in rows if components[key] != root_key
    )
    if moved:
        await connection.execute(_SQL["graph_move"], tenant, *zip(*moved, strict=True))
