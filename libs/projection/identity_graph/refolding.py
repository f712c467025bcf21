"""Folds clusters again, and writes what changed: whose an identity is, and what is suggested."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from libs.identity.decisions import cuts_of, people_of
from libs.identity.graph import Cut, Edge, GraphFold, Node, clash_label, fold
from libs.postgres.queries import load_queries
from libs.projection.identity_graph.reaching import reach
from libs.projection.projection import Connection

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))

_Suggestion = tuple[bytes, bytes, int, int, bytes, bytes, UUID]
"""A row of merge_suggestions without its tenant."""


async def refold(connection: Connection, tenant: int, keys: Collection[bytes]) -> None:
    """Fold the clusters of some identities again.

    Args:
        connection: Whose transaction reads and writes.
        tenant: The tenant's number.
        keys: At least one of each component that may be another now.
    """
    reached, edges = await reach(connection, tenant, keys)
    rows = await connection.fetch(_SQL["cluster"], tenant, sorted(reached))
    nodes = [
        Node(key, clash_label(kind, namespace_key), first_position)
        for key, kind, namespace_key, first_position, *_ in rows
    ]
    names = [node.key for node in nodes]
    decided = any(row["is_decided"] for row in rows)
    cuts, people = await _decided(connection, tenant, names) if decided else ([], [])
    folded = fold(nodes, edges, cuts, people)
    components = folded.components
    moved = sorted(
        (row["identity_key"], components[row["identity_key"]])
        for row in rows
        if components[row["identity_key"]] != row["root_key"]
    )
    if moved:
        await connection.execute(_SQL["move"], tenant, *zip(*moved, strict=True))
    await _suggest(connection, tenant, rows, folded)


async def _decided(
    connection: Connection, tenant: int, keys: Sequence[bytes]
) -> tuple[list[Cut], list[frozenset[bytes]]]:
    """Return what decisions that hold say of a cluster: who is two people, and who is one."""
    rows = await connection.fetch(_SQL["cluster_decisions"], tenant, keys)
    merges = {merge for row in rows for merge in row["merges"]}
    found = await connection.fetch(_SQL["merged_keys"], tenant, list(merges)) if merges else []
    merged = {row["event_id"]: row["merged_keys"] for row in found}
    cuts, people = list[Cut](), list[frozenset[bytes]]()
    for kind, left, right, joined, revoked_by in rows:
        cuts += cuts_of(kind, left, right, [merged[merge] for merge in revoked_by])
        people += people_of(kind, left, right, joined)
    return cuts, people


async def _suggest(
    connection: Connection, tenant: int, rows: Sequence[Record], folded: GraphFold
) -> None:
    """Bring the suggestions between the profiles of a cluster up to date."""
    suggested = [row["identity_key"] for row in rows if row["is_suggested"]]
    found = set[_Suggestion]()
    if suggested:
        known = await connection.fetch(_SQL["cluster_suggestions"], tenant, suggested)
        found = {tuple(row) for row in known}
    wanted = _wanted(rows, folded) if folded.clashing else set()
    if gone := sorted(found - wanted):
        pairs = [list(column) for column in zip(*gone, strict=True)][:2]
        await connection.execute(_SQL["drop_suggestions"], tenant, *pairs)
    if new := sorted(wanted - found):
        columns: list[Any] = [list(column) for column in zip(*new, strict=True)]
        await connection.execute(_SQL["put_suggestions"], tenant, *columns)


def _wanted(rows: Sequence[Record], folded: GraphFold) -> set[_Suggestion]:
    """Return one suggestion for each pair of profiles that clash, by the first edge between them.

    Nobody can tell whether two are one when nothing of one of them can be read any more.
    """
    components = folded.components
    readable = {components[row["identity_key"]] for row in rows if row["is_open"]}
    first: dict[tuple[bytes, bytes], Edge] = {}
    for edge in folded.clashing:
        left, right = sorted((components[edge.a], components[edge.b]))
        if left in readable and right in readable:
            first.setdefault((left, right), edge)
    return {
        (*pair, edge.strength, edge.occurred_at_us, edge.a, edge.b, UUID(edge.event_id))
        for pair, edge in first.items()
    }
