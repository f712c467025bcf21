"""Whose an identity is, from the tables of the identity graph.

What is needed to decide who is who is read by libs.projection.clusters and .suggestions.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from libs.identity.keys import KEY_BYTES, IdentityKeys
from libs.identity.normalise import IdentityError
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.clusters import read_cluster
from libs.projection.projection import Connection
from libs.rpc import errors
from touchline.events.v1.identity_pb2 import Identity
from touchline.profile.v1.profile_pb2 import ProfileReference

_SQL: Final = {
    **load_queries(Path(__file__).with_name("queries.sql")),
    **load_queries(Path(__file__).with_name("clusters.sql")),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile: the key of its first identity, and the keys of all of them."""

    root: bytes
    keys: tuple[bytes, ...]

    @property
    def profile_id(self) -> str:
        """Its name outside: 32 hexadecimal digits."""
        return self.root.hex()


@dataclass(frozen=True, slots=True)
class ErasedIdentity:
    """An identity whose values can't be read: its data key was deleted, and it has no newer one.

    Attributes:
        key: The identity key.
        position: Of the erasure.
        recorded_at_us: When the store accepted that, in microseconds since 1970 UTC.
    """

    key: bytes
    position: int
    recorded_at_us: int


async def find_profile(
    database: asyncpg.Pool | Connection, tenant: int, key: bytes
) -> Profile | None:
    """Return the profile of an identity; None when nothing was recorded of it.

    Args:
        database: Connections to the database of the identity graph.
        tenant: The tenant's number.
        key: The identity key, 16 bytes.
    """
    rows = await database.fetch(_SQL["graph_profile"], tenant, key)
    if not rows:
        return None
    return Profile(rows[0]["root_key"], tuple(row["identity_key"] for row in rows))


async def profile_as_of(
    database: asyncpg.Pool | Connection, tenant: int, key: bytes, as_of_us: int
) -> Profile | None:
    """Return the profile of an identity as it was; None when nothing was ever recorded of it.

    Only what had occurred and was recorded by then counts. An identity that was not known by then
    is a profile of its own, without events.

    Args:
        database: Connections to the database of the identity graph.
        tenant: The tenant's number.
        key: The identity key, 16 bytes.
        as_of_us: In microseconds since 1970 UTC.
    """
    cluster = await read_cluster(database, tenant, [key], as_of_us=as_of_us)
    components = cluster.fold().components
    if (root := components.get(key)) is None:
        return None
    return Profile(root, tuple(node.key for node in cluster.nodes if components[node.key] == root))


async def profile_versions(
    database: asyncpg.Pool | Connection, tenant: int, roots: Collection[bytes]
) -> dict[bytes, int]:
    """Return how often people decided about each of some profiles, by root; 0 for never.

    Args:
        database: Connections to the database of the identity graph.
        tenant: The tenant's number.
        roots: The profiles' roots.
    """
    rows = await database.fetch(_SQL["versions"], tenant, list(roots))
    return dict.fromkeys(roots, 0) | {row["root_key"]: row["version"] for row in rows}


async def profile_version(database: asyncpg.Pool | Connection, tenant: int, root: bytes) -> int:
    """Return how often people decided about a profile; 0 for never."""
    return (await profile_versions(database, tenant, [root]))[root]


async def erased_among(
    database: asyncpg.Pool | Connection, tenant: int, keys: Collection[bytes]
) -> list[ErasedIdentity]:
    """Return those of some identities that were erased and have not come back.

    Args:
        database: Connections to the database of the identity graph.
        tenant: The tenant's number.
        keys: Identity keys, 16 bytes each.
    """
    rows = await database.fetch(_SQL["erased_among"], tenant, list(keys))
    return [ErasedIdentity(*row) for row in rows]


async def referred_profile(
    database: asyncpg.Pool | Connection,
    tenant: int,
    identity_keys: IdentityKeys,
    reference: ProfileReference,
    path: str,
) -> Profile:
    """Return the profile that a caller's reference leads to.

    Args:
        database: Connections to the database of the identity graph.
        tenant: The tenant's number.
        identity_keys: What names the tenant's identities.
        reference: The caller's.
        path: The reference's field in the request.

    Raises:
        CallError: INVALID_REQUEST naming the field below `path`, PROFILE_NOT_FOUND or
            VIEWS_UNAVAILABLE.
    """
    if reference.HasField("profile_id"):
        key = _key_of(reference.profile_id, f"{path}.profile_id")
    elif reference.HasField("identity"):
        key = identity_key(identity_keys, reference.identity, f"{path}.identity")
    else:
        raise errors.invalid_request([(path, "is missing; give a profile_id or an identity")])
    async with views_errors():
        profile = await find_profile(database, tenant, key)
    if profile is None:
        raise errors.profile_not_found()
    return profile


def identity_key(identity_keys: IdentityKeys, identity: Identity, path: str) -> bytes:
    """Return the key of an identity as a caller writes it.

    Raises:
        CallError: INVALID_REQUEST naming the field below `path`.
    """
    try:
        return identity_keys.identify(identity).key
    except IdentityError as error:
        raise errors.invalid_request([(f"{path}.{error.field}", error.description)]) from error


@asynccontextmanager
async def views_errors() -> AsyncIterator[None]:
    """Turn what the database driver raises into what a caller can act on.

    Raises:
        CallError: VIEWS_UNAVAILABLE.
    """
    try:
        yield
    except UNREACHABLE as error:
        raise errors.views_unavailable() from error


def _key_of(profile_id: str, path: str) -> bytes:
    try:
        key = bytes.fromhex(profile_id)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise errors.invalid_request([(path, "is no profile id: it has 32 hexadecimal digits")])
    return key
