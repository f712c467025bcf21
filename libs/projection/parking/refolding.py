"""Folds the events of parked keys again, once somebody asked for it.

Whoever drives the projection does so, between two stretches of the line: nobody else writes its
tables meanwhile, its checkpoint stands still, and no event of the key can come to wait behind its
back. Each transaction folds some of what waits and moves the row's position past it; it commits in
the epoch of this process or not at all, as every other of the projection does. What was parked is
then what it would have been, since no view depends on the order in which customers are folded.
"""

from collections.abc import AsyncIterator

import structlog

from libs.eventstore.chain import Head
from libs.eventstore.client import StoreClient
from libs.eventstore.records import event_id_text
from libs.projection.continuity import Fork
from libs.projection.folding import Folding
from libs.projection.parking import Key, error_text, is_outage
from libs.projection.projection import Connection, Recorded, decode

_AT_ONCE = 1000
_log = structlog.get_logger("projection")


async def refold_asked(folding: Folding, store: StoreClient) -> None:
    """Fold what was asked for again; what fails stays parked, with its new error.

    Args:
        folding: Of the projection that this process drives.
        store: Has the events.

    Raises:
        LostLease: the projection is another process's.
        Fork: the store is not the one that was folded, and its events are not those that wait.
        Exception: an outage; what was asked for is still to be done.
    """
    while (asked := await folding.parked.next_to_refold()) is not None:
        await _check_line(folding.at, store)
        key, position = asked
        # What the fold remembers is in the order of the line, and these events come later.
        folding.projection.aborted()
        try:
            if await _refold(folding, store, key, position):
                await _unpark(folding, key)
        finally:
            folding.projection.aborted()


async def _check_line(at: Head, store: StoreClient) -> None:
    """Make sure that the store's history has the checkpoint, with all that it has folded before."""
    page = (await store.history(at.position)).batch
    if (page.store_id, page.previous_chain) != (at.store_id, at.chain):
        raise Fork(f"does not continue position {at.position}")


async def _refold(folding: Folding, store: StoreClient, key: Key, position: int) -> bool:
    """Fold what waits of a key, from a position up to the checkpoint; False if it fails again."""
    async for events in _waiting(folding, store, key, position):
        done, at_once = 0, len(events)
        while done < len(events):
            part = events[done : done + at_once]
            try:
                await _fold(folding, key, part)
            except Exception as error:
                if is_outage(error):
                    raise
                if at_once == 1:
                    await _fail_again(folding, part[0], error)
                    return False
                at_once = max(1, len(part) // 2)
            else:
                done += len(part)
    return True


async def _waiting(
    folding: Folding, store: StoreClient, key: Key, position: int
) -> AsyncIterator[list[Recorded]]:
    events = list[Recorded]()
    tenant, owner_key = key
    up_to = folding.checkpoint.position
    async for one in store.events_of_keys(tenant, [owner_key], up_to, after=position - 1):
        events += decode(one.position, [one.event])
        if len(events) >= _AT_ONCE:
            yield events
            events = []
    if events:
        yield events


async def _fold(folding: Folding, key: Key, events: list[Recorded]) -> None:
    async def note(connection: Connection) -> bool:
        next_at = events[-1].position + 1
        await folding.parked.refolded(connection, key, next_at, len(events))
        return await folding.still_ours(connection)

    await folding.write(events, note)


async def _unpark(folding: Folding, key: Key) -> None:
    async def note(connection: Connection) -> bool:
        await folding.parked.unpark(connection, key)
        return await folding.still_ours(connection)

    await folding.write([], note)
    folding.parked.was_unparked(key)
    _log.info("parked events are folded", projection=folding.projection.name)


async def _fail_again(folding: Folding, event: Recorded, error: Exception) -> None:
    async def note(connection: Connection) -> bool:
        await folding.parked.failed_again(connection, event, error)
        return await folding.still_ours(connection)

    await folding.write([], note)
    _log.error(
        "events stay parked",
        projection=folding.projection.name,
        position=event.position,
        event_id=event_id_text(event.record.event_id),
        error=error_text(error),
    )
