"""Merge suggestions as they are read: pairs of profiles that only a person can call one."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from libs.identity.graph import Edge
from libs.postgres.queries import load_queries
from libs.projection.clusters import edge_of
from libs.projection.projection import Connection

_SQL: Final = load_queries(Path(__file__).with_name("clusters.sql"))

Order = tuple[int, int, bytes, bytes]
"""Where a suggestion stands among all: strength, occurred_at_us and the two keys of its link."""

BEGINNING: Final[Order] = (0, 0, b"", b"")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Two profiles that would be one if they had no two strong identities of one kind.

    Attributes:
        left_root: The root of one, the smaller key.
        right_root: The root of the other.
        link: The first of the links between them by the rule of the graph.
    """

    left_root: bytes
    right_root: bytes
    link: Edge

    @property
    def order(self) -> Order:
        """Where it stands; the next page begins after it."""
        link = self.link
        return link.strength, link.occurred_at_us, link.a, link.b


async def list_suggestions(
    database: asyncpg.Pool | Connection,
    tenant: int,
    *,
    root: bytes | None = None,
    after: Order = BEGINNING,
    limit: int = 50,
) -> list[Suggestion]:
    """Return a page of suggestions, the strongest first; each pair of profiles comes once.

    Args:
        database: Connections to the database of the identity graph.
        tenant: The tenant's number.
        root: Only those of the profile with this root. Default: all.
        after: The `order` of the last one of the page before.
        limit: How many at most.
    """
    if root is None:
        rows = await database.fetch(_SQL["suggestions"], tenant, *after, limit)
    else:
        rows = await database.fetch(_SQL["suggestions_of"], tenant, *after, limit, root)
    return [_suggestion_of(row) for row in rows]


async def links_between(
    database: asyncpg.Pool | Connection,
    tenant: int,
    left: Collection[bytes],
    right: Collection[bytes],
    *,
    limit: int = 20,
) -> tuple[list[Edge], int]:
    """Return what was seen together of two profiles, the strongest first, and how many there are.

    Args:
        database: Connections to the database of the identity graph.
        tenant: The tenant's number.
        left: The identity keys of one profile.
        right: Those of the other.
        limit: How many at most to return; all are counted.
    """
    rows = await database.fetch(_SQL["links_between"], tenant, list(left), list(right), limit)
    return [edge_of(row) for row in rows], rows[0]["links"] if rows else 0


def _suggestion_of(row: asyncpg.Record) -> Suggestion:
    left_root, right_root, strength, occurred_at_us, a, b, event_id = row
    link = Edge(a, b, strength, occurred_at_us, event_id.bytes)
    return Suggestion(left_root, right_root, link)
