"""Where the feed ends on the store's line, and how one that ends elsewhere is begun anew."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext

from libs.eventstore import feed
from libs.eventstore.chain import Head, Lineage, extend
from libs.eventstore.errors import FeedForked, FeedUnavailable
from libs.eventstore.store import EventStore, database_errors
from libs.postgres.queries import load_queries
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent

WAY_OUT: Final = (
    "Nothing is published, and nothing is lost: projections read history instead. Make sure that "
    "NATS and the database belong together; if they do, `touchline feed restart` removes the "
    "stream, and the feed begins anew at the store's head."
)
_SQL: Final = load_queries(Path(__file__).with_name("relay.sql"))


@dataclass(frozen=True, slots=True)
class Restart:
    """What became of the wish to begin a feed anew.

    Attributes:
        restarted: Whether it was removed; False: it continues the store and was left as it is.
        position: The position after which it begins, or up to which it had come.
    """

    restarted: bool
    position: int


async def end_of_feed(jetstream: JetStreamContext, store: EventStore) -> Head:
    """Return where the feed ends; one without batches ends at the store's head.

    The last batch must be this store's and hold, byte for byte, the events that the store has in
    their places.

    Raises:
        FeedForked: it does not; the text says how, and what to do.
        StoreUnavailable: the store's database can't be reached.
        nats.errors.Error, TimeoutError: NATS does not answer.
    """
    lineage = await store.lineage()
    try:
        last = await feed.last_batch(jetstream)
    except DecodeError as error:
        raise _forked("ends with a message that is no batch of events") from error
    if last is None:
        return lineage.head
    if last.store_id != lineage.head.store_id:
        raise _forked(_foreign(last, lineage))
    chain = await store.chain_at(last.last)
    if chain is None:
        head = (await store.head()).position
        raise _forked(
            f"ends at position {last.last}, and this store already at {head}, as after the restore "
            "of a backup that did not get a store id of its own"
        )
    if chain != last.chain:
        raise _forked(f"ends at position {last.last} with another past than this store's")
    if not await _holds_what_is_stored(last, store):
        raise _forked(
            f"ends with a damaged batch: its events {last.first} to {last.last} are not those that "
            "the store has there"
        )
    return Head(last.store_id, last.last, last.chain)


async def restart_feed(jetstream: JetStreamContext, store: EventStore, replicas: int) -> Restart:
    """Remove a feed that does not continue the store, and begin it anew at the head.

    Any process may do so, whether its relay leads or not; one at a time does.

    Raises:
        FeedUnavailable: NATS does not answer or refuses, or another process or store is at it.
        StoreUnavailable: the store's database can't be reached.
    """
    async with database_errors(), store.pool.acquire() as connection, connection.transaction():
        if not await connection.fetchval(_SQL["lock_feed_restart"]):
            raise FeedUnavailable("the feed is being begun anew by another process already")
        try:
            return await _restart(jetstream, store, replicas)
        except FeedForked as error:
            raise FeedUnavailable(
                "it was removed, and at once somebody else published on it: "
                f"{str(error).rstrip('.')}"
            ) from error
        except (nats.errors.Error, TimeoutError) as error:
            raise FeedUnavailable(
                f"the stream {feed.STREAM} can't be looked at or removed "
                f"({type(error).__name__}): NATS is away, or does not let ingestion's user do it"
            ) from error


async def _restart(jetstream: JetStreamContext, store: EventStore, replicas: int) -> Restart:
    if await feed.find_stream(jetstream) is None:
        return Restart(False, (await store.head()).position)  # the leader makes it in a moment
    try:
        end = await end_of_feed(jetstream, store)
    except FeedForked:
        await jetstream.delete_stream(feed.STREAM)
    else:
        return Restart(False, end.position)
    # The leader made it in between; or the server can't yet, and the leader makes it in a moment.
    with suppress(nats.js.errors.BadRequestError, nats.js.errors.ServerError):
        await feed.ensure_stream(jetstream, replicas)
    return Restart(True, (await end_of_feed(jetstream, store)).position)


def _forked(how: str) -> FeedForked:
    return FeedForked(f"the stream {feed.STREAM} {how}. {WAY_OUT}")


def _foreign(last: EventBatch, lineage: Lineage) -> str:
    ancestor = lineage.ancestor(last.store_id)
    if ancestor is None:
        return f"ends at position {last.last} of another store than this one, {last.store_id.hex()}"
    return (
        f"ends at position {last.last} of another store than this one: of the store "
        f"{last.store_id.hex()}, from whose backup, up to position {ancestor.position}, this one "
        "was restored"
    )


async def _holds_what_is_stored(batch: EventBatch, store: EventStore) -> bool:
    hashes = [event.content_hash for event in batch.events]
    if batch.last - batch.first + 1 != len(hashes) or batch.first < 1:
        return False
    if extend(batch.previous_chain, hashes) != batch.chain:
        return False
    stored: list[PackedEvent] = []
    while len(stored) < len(hashes):
        page = await store.history(batch.first - 1 + len(stored))
        if not page.events:
            return False
        stored += page.events
    return stored[: len(hashes)] == list(batch.events)
