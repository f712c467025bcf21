"""Begins the generations that this release folds and the database does not have."""

from collections.abc import Iterable
from contextlib import suppress

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.projection.checkpoints import RangeState
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import introduce
from libs.projection.generations.switching import UnderWay, begin
from libs.projection.projection import Projection

_log = structlog.get_logger("crew")


async def introduce_new(
    pool: asyncpg.Pool, folds: Iterable[Projection], ranges: Iterable[RangeState]
) -> bool:
    """Begin the first generation of each projection of which nothing is folded; tell if any is so.

    Args:
        pool: Connections to the database.
        folds: What this process folds.
        ranges: Every range that there is.
    """
    have = {one.projection for one in ranges}
    new = [one for one in folds if one.name not in have]
    for one in new:
        await introduce(pool, one.name, one.fold_version)
    return bool(new)


async def begin_versions(
    pool: asyncpg.Pool,
    store: StoreClient,
    folds: Iterable[Projection],
    known: Iterable[Generation],
) -> None:
    """Begin to build each view that only other releases have folded.

    One that failed to be built is not tried again by itself: somebody has to look why.

    Args:
        pool: Connections to the database, for a login that may create schemas there.
        store: Says how much there is to fold.
        folds: What this process folds.
        known: Every generation that there is.

    Raises:
        StoreError: the store can't be reached.
    """
    have = {(one.projection, one.fold_version) for one in known}
    for one in folds:
        if (one.name, one.fold_version) in have or one.copy() is None:
            continue
        head = await store.head()
        with suppress(UnderWay):  # another process of this release was first
            begun = await begin(pool, one, 1, head.position)
            _log.info("view is built for this release", projection=one.name, generation=begun.id)
