"""Suggestions: pairs of profiles that only a person can call one, as people see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from libs.eventstore.client import StoreClient
from libs.identity.graph import Edge
from libs.identity.keys import KEY_BYTES
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.profiles import profile_versions, views_errors
from libs.projection.projection import Connection
from libs.projection.suggestions import Order, Suggestion, links_between, list_suggestions
from services.profile.identities.asking import Checking
from services.profile.identities.explaining import Linked, Telling
from services.profile.identities.showing import Shown, first_keys, open_identities, suggested
from touchline.profile.v1.identities_pb2 import LINK_EFFECT_CLASHES, MergeSuggestion

_SHOWN_LINKS: Final = 20
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class _Pair:
    """A suggestion: its profiles, the first of the links between them, and how many there are."""

    left: Shown
    right: Shown
    links: Sequence[Edge]
    link_count: int


def suggestion_id(one: bytes, other: bytes) -> str:
    """Return the name of the suggestion that two profiles, by their roots, are one."""
    return (min(one, other) + max(one, other)).hex()


def roots_of(suggestion_id: str, checking: Checking) -> tuple[bytes, bytes]:
    """Return the roots of the profiles of a suggestion; empty when it names none."""
    try:
        roots = bytes.fromhex(suggestion_id)
    except ValueError:
        roots = b""
    if len(roots) != 2 * KEY_BYTES:
        told = f"is no suggestion's id: it has {4 * KEY_BYTES} hexadecimal digits"
        checking.wrong("suggestion_id", told)
    return roots[:KEY_BYTES], roots[KEY_BYTES:]


async def page_of(
    pool: asyncpg.Pool,
    store: StoreClient,
    reader: Reader,
    root: bytes | None,
    after: Order,
    limit: int,
) -> tuple[list[MergeSuggestion], Order | None]:
    """Return a page of suggestions, the strongest evidence first, and where it ends.

    Args:
        pool: Connections to the service's database.
        store: Gives the data keys that open identities and events.
        reader: Whose they are.
        root: Only those of the profile with this root; None for all.
        after: Where the page before ended.
        limit: How many at most.

    Returns:
        The suggestions, and where the next page begins; None when there is none.

    Raises:
        CallError: VIEWS_UNAVAILABLE or STORE_UNAVAILABLE.
    """
    async with (
        views_errors(),
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        found = await list_suggestions(
            connection, reader.tenant, root=root, after=after, limit=limit + 1
        )
        page = found[:limit]
        pairs = await _pairs(connection, reader.tenant, page)
    end = page[-1].order if len(found) > limit else None
    return await _opened(pool, store, reader, pairs), end


async def _pairs(
    connection: Connection, tenant: int, suggestions: Sequence[Suggestion]
) -> list[_Pair]:
    roots = {root for one in suggestions for root in (one.left_root, one.right_root)}
    versions = await profile_versions(connection, tenant, roots)
    members: dict[bytes, list[bytes]] = {root: [] for root in roots}
    for root, key in await connection.fetch(_SQL["members"], tenant, list(roots)):
        members[root].append(key)
    pairs = []
    for one in suggestions:
        left, right = (
            Shown(members[root], versions[root]) for root in (one.left_root, one.right_root)
        )
        links, count = await links_between(
            connection, tenant, left.keys, right.keys, limit=_SHOWN_LINKS
        )
        pairs.append(_Pair(left, right, links, count))
    return pairs


async def _opened(
    pool: asyncpg.Pool, store: StoreClient, reader: Reader, pairs: Sequence[_Pair]
) -> list[MergeSuggestion]:
    shown = [profile for pair in pairs for profile in (pair.left, pair.right)]
    opened = await open_identities(pool, store, reader, first_keys(shown))
    clashing = [Linked(edge, LINK_EFFECT_CLASHES) for pair in pairs for edge in pair.links]
    links = iter(await Telling(pool, store, reader).links(clashing))
    return [
        MergeSuggestion(
            suggestion_id=suggestion_id(pair.left.keys[0], pair.right.keys[0]),
            left=suggested(pair.left, opened),
            right=suggested(pair.right, opened),
            links=[next(links) for _ in pair.links],
            link_count=pair.link_count,
        )
        for pair in pairs
    ]
