"""Writes what a batch says of identities into the tables, and tells what that changes."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from asyncpg.pgproto.pgproto import UUID

from libs.identity.decisions import joined_edges
from libs.identity.graph import Edge
from libs.postgres.queries import load_queries
from libs.projection.identity_graph.collecting import Batch, Name, Pair, sides_of
from libs.projection.projection import Connection
from libs.projection.writing import add_rows

_EDGE_COLUMNS: Final = (
    *("tenant", "a_key", "b_key", "owner_key", "strength", "occurred_at_us", "event_id"),
    "recorded_at_us",
)
_KEY_COLUMNS: Final = ("tenant", "identity_key", "event_id", "side")
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


async def add_identities(connection: Connection, batch: Batch) -> list[Name]:
    """Add identities, and return those whose clusters that changes.

    An event that is folded late, after its owner was parked, may name a profile anew; and the rows
    are those that a fold in the order of the line would give. Besides these: who came back after an
    erasure, and whom a decision named before.
    """
    rows = sorted(
        (tenant, key, one.kind, one.namespace_key, first, one.sealed_value, one.key_id, sealed_at)
        for (tenant, key), (first, sealed_at, one) in batch.identities.items()
    )
    changed = await connection.fetch(_SQL["add_identities"], *_columns(rows))
    return [tuple(row) for row in changed]


async def add_erasures(connection: Connection, batch: Batch) -> None:
    """Blank what was erased, and have this service's processes forget its keys."""
    if batch.erasures:
        rows = sorted((*name, *when) for name, when in batch.erasures.items())
        await connection.execute(_SQL["add_erasures"], *_columns(rows))
        await connection.execute(_SQL["blank_identities"], *_columns(rows)[:3])
    await connection.execute(_SQL["tell_of_erasures"])


async def add_edges(connection: Connection, batch: Batch) -> None:
    """Add every edge, once for each event that says it."""
    rows = [
        (tenant, e.a, e.b, owner, e.strength, e.occurred_at_us, UUID(e.event_id), recorded)
        for tenant, owner, recorded, e in batch.edges
    ]
    await add_rows(connection, "identity_edges", _EDGE_COLUMNS, rows, _SQL["add_edges"])


async def add_decisions(connection: Connection, batch: Batch) -> None:
    """Add what people decided, where it is found, what it revokes, and the profiles' versions."""
    decided: list[tuple[Any, ...]] = []
    named: list[tuple[int, bytes, UUID, int]] = []
    versions: dict[Name, int] = {}
    for event in batch.decisions:
        record, one = event.record, event.record.identity_decision
        event_id = UUID(record.event_id)
        sides = list(one.left_keys), list(one.right_keys), list(one.joined_keys)
        when = record.occurred_at_us, event.recorded_at_us, event.position
        decided.append((record.tenant, event_id, one.kind, record.owner_key, *when, *sides))
        named += [(record.tenant, key, event_id, side) for key, side in sides_of(one)]
        for profile in one.profiles:
            name = (record.tenant, profile.root_key)
            versions[name] = max(profile.version, versions.get(name, 0))
    await connection.executemany(_SQL["add_decisions"], decided)
    if named:
        insert = _SQL["add_decision_keys"]
        await add_rows(connection, "identity_decision_keys", _KEY_COLUMNS, named, insert)
    if versions:
        counted = sorted((*name, version) for name, version in versions.items())
        await connection.execute(_SQL["add_versions"], *_columns(counted))
    revoked = [
        (tenant, UUID(event_id), UUID(by), *how) for tenant, event_id, by, *how in batch.revocations
    ]
    if revoked:
        await connection.execute(_SQL["add_revocations"], *_columns(revoked))


async def add_retractions(connection: Connection, batch: Batch) -> set[Pair]:
    """Add tombstones, and return the pairs that the retracted events linked."""
    rows = [
        (tenant, UUID(event_id), owner, recorded)
        for tenant, event_id, owner, recorded in batch.retractions
    ]
    await connection.execute(_SQL["add_retractions"], *_columns(rows))
    pairs = await connection.fetch(_SQL["pairs_of_events"], *_columns(rows)[:3])
    return {tuple(pair) for pair in pairs}


async def decisions_undone(
    connection: Connection, batch: Batch
) -> AsyncIterator[tuple[int, set[bytes], tuple[Edge, ...]]]:
    """Yield tenant, identity keys and edges of each decision that the batch revokes or retracts."""
    names = {(tenant, event_id) for tenant, event_id, *_ in batch.revocations}
    names |= {(tenant, event_id) for tenant, event_id, *_ in batch.retractions}
    if not names:
        return
    rows = [(tenant, UUID(event_id)) for tenant, event_id in sorted(names)]
    for row in await connection.fetch(_SQL["decisions_named"], *_columns(rows)):
        joined = joined_edges(row["kind"], row["right_keys"], row["joined_keys"], 0, b"")
        yield row["tenant"], {*row["left_keys"], *row["right_keys"]}, joined


async def retracted_firsts(connection: Connection, batch: Batch) -> set[Pair]:
    """Return the pairs whose first edge was retracted before it arrived."""
    event_ids = sorted({edge.event_id for edge in batch.firsts.values()})
    uuids = [UUID(event_id) for event_id in event_ids]
    rows = await connection.fetch(_SQL["retracted_among"], uuids)
    retracted = {row["event_id"].bytes for row in rows}
    return {pair for pair, edge in batch.firsts.items() if edge.event_id in retracted}


async def link_first(connection: Connection, batch: Batch, but: Collection[Pair]) -> list[Pair]:
    """Link the pairs of a batch by their first edges; return those that were not, or by later ones.

    Args:
        connection: Whose transaction writes.
        batch: What was seen.
        but: Pairs of which other edges may be the first.
    """
    rows = [
        (*pair, edge.strength, edge.occurred_at_us, UUID(edge.event_id))
        for pair, edge in sorted(batch.firsts.items())
        if pair not in but
    ]
    return await _linked(connection, "link_first", rows)


async def link_anew(connection: Connection, pairs: Iterable[Pair]) -> list[Pair]:
    """Link pairs by the first of all edges that count; return those that this changes."""
    return await _linked(connection, "link_anew", sorted(pairs))


async def _linked(connection: Connection, query: str, rows: Sequence[Sequence[Any]]) -> list[Pair]:
    if not rows:
        return []
    return [tuple(pair) for pair in await connection.fetch(_SQL[query], *_columns(rows))]


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
