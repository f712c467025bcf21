"""What a decision is made on: the graph around the profiles that a caller names."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from libs.eventstore.client import StoreClient
from libs.identity.graph import GraphFold
from libs.postgres.queries import load_queries
from libs.projection.clusters import Cluster, read_cluster
from libs.projection.config import Reader
from libs.projection.profiles import erased_among, profile_versions, views_errors
from libs.projection.projection import Connection
from libs.projection.waiting import Checkpoints
from libs.rpc import errors
from services.profile.identities.asking import Named, Wish
from services.profile.identities.showing import Shown, open_identities
from touchline.events.v1.identity_pb2 import Identity

GRAPH: Final = ("identity_graph",)
"""What decisions are made from."""

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))

Unknown = Callable[[], errors.CallError]
"""The error of a name that leads to no profile."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a decision is made on.

    Attributes:
        cluster: All that says who is who around the named profiles.
        fold: What it says.
        versions: Of profiles with these roots, as the graph knows them.
        profiles: The identities of each named profile in their order, its root first.
        erased: Positions of erasures by those of these identities that were erased.
        position: The graph had folded everything up to it.
        decided: The roots of the profiles about which the decision with the caller's decision_id
            was; none when the graph knows no such decision.
    """

    cluster: Cluster
    fold: GraphFold
    versions: Mapping[bytes, int]
    profiles: Sequence[tuple[bytes, ...]]
    erased: Mapping[bytes, int]
    position: int
    decided: Sequence[bytes]

    @property
    def roots(self) -> list[bytes]:
        """The roots of the named profiles, and of those that were decided about."""
        named = (profile[0] for profile in self.profiles)
        return list(dict.fromkeys([*named, *self.decided]))


class Graph:
    """Reads the graph for those who decide.

    Args:
        pool: Connections to its database.
        store: Gives the data keys that open identities.
        checkpoints: Tells how far it is.
    """

    def __init__(self, pool: asyncpg.Pool, store: StoreClient, checkpoints: Checkpoints) -> None:
        self._pool = pool
        self._store = store
        self._checkpoints = checkpoints

    async def see(
        self, reader: Reader, named: Sequence[Named], wish: Wish, unknown: Unknown
    ) -> Seen:
        """Return all that a decision about some profiles needs.

        Raises:
            CallError: a profile is not known, or the database can't be reached.
        """
        tenant, keys = reader.tenant, [one.key for one in named]
        position = self._checkpoints.position(GRAPH)
        async with views_errors(), self._snapshot() as connection:
            cluster = await read_cluster(connection, tenant, keys)
            fold = cluster.fold()
            if not all(key in fold.components for key in keys):
                raise unknown()
            around = [node.key for node in cluster.nodes]
            versions = await profile_versions(connection, tenant, around)
            profiles = [_members(cluster, fold, key) for key in keys]
            concerned = {key for profile in profiles for key in profile}
            erased = await erased_among(connection, tenant, concerned)
            decided = await _decided_about(connection, tenant, wish)
        positions = {one.key: one.position for one in erased}
        return Seen(cluster, fold, versions, profiles, positions, position, decided)

    async def owner(self, reader: Reader, seen: Seen) -> Identity:
        """Return the first identity of the profile that was named first that was not erased.

        Raises:
            CallError: PROFILE_ERASED, of any of the profiles.
        """
        for profile in seen.profiles:
            if all(key in seen.erased for key in profile):
                raise errors.profile_erased(max(seen.erased[key] for key in profile))
        owner = next(key for key in seen.profiles[0] if key not in seen.erased)
        opened = await open_identities(self._pool, self._store, reader, [owner])
        identity = opened[owner].identity
        if not identity.value:
            raise errors.profile_erased(seen.position)  # a moment ago
        return identity

    async def standing(self, reader: Reader, event_id: str) -> tuple[int, list[Shown]]:
        """Return the position of a decision, and the profiles that it named as they are now.

        Returns:
            Position 0 and nothing when the graph does not know it yet.

        Raises:
            CallError: VIEWS_UNAVAILABLE.
        """
        tenant = reader.tenant
        async with views_errors(), self._snapshot() as connection:
            row = await connection.fetchrow(_SQL["decision"], tenant, event_id)
            if row is None:
                return 0, []
            position, left, right = row
            cluster = await read_cluster(connection, tenant, [*left, *right])
            fold = cluster.fold()
            roots = list(dict.fromkeys(fold.components[key] for key in (*left, *right)))
            versions = await profile_versions(connection, tenant, roots)
        return position, [Shown(_members(cluster, fold, root), versions[root]) for root in roots]

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


async def _decided_about(connection: Connection, tenant: int, wish: Wish) -> list[bytes]:
    """Return the first identity of each side of the decision that has the caller's id."""
    if not wish.event_id:
        return []
    row = await connection.fetchrow(_SQL["decision"], tenant, wish.event_id)
    return [] if row is None else [keys[0] for keys in row[1:] if keys]


def _members(cluster: Cluster, fold: GraphFold, key: bytes) -> tuple[bytes, ...]:
    """Return the identities of the profile that has one, its root first."""
    root = fold.components[key]
    return tuple(node.key for node in cluster.nodes if fold.components[node.key] == root)
