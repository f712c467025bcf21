"""Profiles as decisions and suggestions show them: their first identities, opened."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.eventstore.records import open_identity
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.profiles import views_errors
from libs.rpc import errors
from touchline.profile.v1.identities_pb2 import SuggestedProfile
from touchline.profile.v1.profile_pb2 import ProfileIdentity
from touchline.store.v1.store_pb2 import SealedIdentity

SHOWN: Final = 20
"""How many identities of a profile are shown."""

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Shown(NamedTuple):
    """A profile to show.

    Attributes:
        keys: Its identities in the order they were first seen, the root first.
        version: How often people decided about it.
    """

    keys: Sequence[bytes]
    version: int


async def open_identities(
    pool: asyncpg.Pool, store: StoreClient, reader: Reader, keys: Collection[bytes]
) -> dict[bytes, ProfileIdentity]:
    """Return identities by key, opened; those whose data keys were erased have no value.

    Raises:
        CallError: VIEWS_UNAVAILABLE or STORE_UNAVAILABLE.
    """
    async with views_errors():
        rows = await pool.fetch(_SQL["identities_among"], reader.tenant, list(keys))
    try:
        data_keys = await store.data_keys(reader.tenant, [row["identity_key"] for row in rows])
    except StoreError as error:
        raise errors.store_unavailable() from error
    return {
        key: ProfileIdentity(
            identity=open_identity(
                SealedIdentity(
                    identity_key=key, kind=kind, sealed_value=sealed_value, key_id=key_id
                ),
                data_keys,
            ),
            first_position=first_position,
            identity_key=key.hex(),
        )
        for key, kind, first_position, sealed_value, key_id in rows
    }


def first_keys(profiles: Collection[Shown]) -> set[bytes]:
    """Return the identities of some profiles that are shown."""
    return {key for profile in profiles for key in profile.keys[:SHOWN]}


def suggested(profile: Shown, opened: Mapping[bytes, ProfileIdentity]) -> SuggestedProfile:
    """Return a profile as it is shown.

    Args:
        profile: The profile.
        opened: At least those of its identities that are shown, by key.
    """
    return SuggestedProfile(
        profile_id=profile.keys[0].hex(),
        version=profile.version,
        identities=[opened[key] for key in profile.keys[:SHOWN] if key in opened],
        identity_count=len(profile.keys),
    )
