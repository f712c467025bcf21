"""Publishes the line on the feed: one leader at a time, by lease and epoch."""

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client as NatsClient

from libs.eventstore import feed
from libs.eventstore.chain import Head
from libs.eventstore.errors import FeedForked, StoreError
from libs.eventstore.store import Appended, EventStore, database_errors, pack
from libs.eventstore.traces import traceparents_of
from libs.postgres.queries import load_queries
from libs.telemetry import messaging
from touchline.store.v1.store_pb2 import EventBatch

LEASE: Final = timedelta(seconds=3)
RENEW_SECONDS: Final = 1.0
# Appends handed over and not yet published; more are read back from the store instead.
_HANDED_EVENTS: Final = 10_000
_HAND_OVER_SECONDS: Final = 0.002
_MERGED_BYTES: Final = 384 * 1024

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("relay")


@dataclass(slots=True)
class RelayState:
    """What the relay says of itself: whether it leads, and the last position on the feed."""

    leads: bool = False
    position: int = 0


class Relay:
    """Keeps the feed a copy of the line's end.

    Args:
        pool: Connections to the store's database.
        store: Where history is read from.
        connection: To NATS.
        holder: Names this process.
        feed_replicas: On how many servers of a NATS cluster the feed is kept.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        store: EventStore,
        connection: NatsClient,
        holder: UUID,
        *,
        feed_replicas: int = 1,
    ) -> None:
        self._pool = pool
        self._store = store
        self._jetstream = connection.jetstream(timeout=5)
        self._holder = holder
        self._feed_replicas = feed_replicas
        self._handed: deque[Appended] = deque()
        self._handed_events = 0
        self._woken = asyncio.Event()
        self._heard = 0
        self._leads_until = 0.0
        self._expected: dict[str, str] = {}
        self.state = RelayState()

    def hand_over(self, appended: Appended) -> None:
        """Take what this process just appended, so that it need not be read back."""
        if self._handed_events + len(appended.rows) > _HANDED_EVENTS:
            self._handed.clear()
            self._handed_events = 0
        self._handed.append(appended)
        self._handed_events += len(appended.rows)
        self._woken.set()

    def wake(self, position: int) -> None:
        """Hear that the line goes up to a position, whichever process appended there."""
        self._heard = max(self._heard, position)
        self._woken.set()

    async def run(self) -> None:
        """Lead whenever the lease can be had, for ever; run it as a task."""
        while True:
            try:
                if await self._renew():
                    await self._lead()
            except (StoreError, nats.errors.Error, OSError, TimeoutError) as error:
                _log.warning("relay interrupted", reason=str(error) or type(error).__name__)
            self.state.leads = False
            await asyncio.sleep(RENEW_SECONDS)

    async def stop(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        self.state.leads = False
        with suppress(StoreError, asyncpg.PostgresError):
            async with database_errors():
                await self._pool.execute(_SQL["release_relay_lease"], self._holder)

    async def _renew(self) -> bool:
        asked = time.monotonic()
        async with database_errors():
            epoch = await self._pool.fetchval(_SQL["take_relay_lease"], self._holder, LEASE)
        if epoch is not None:
            # Counted from before the question: never longer than the database thinks.
            self._leads_until = asked + LEASE.total_seconds()
        return epoch is not None

    async def _lead(self) -> None:
        await feed.ensure_stream(self._jetstream, self._feed_replicas)
        end = await self._feed_end()
        self._heard = max(self._heard, (await self._store.head()).position)
        self.state.leads = True
        _log.info("relay leads", position=end.position)
        renewed = time.monotonic()
        while True:
            if time.monotonic() - renewed > RENEW_SECONDS:
                if not await self._renew():
                    _log.warning("relay lost its lease", position=end.position)
                    return
                renewed = time.monotonic()
            self.state.position = end.position
            batch = await self._next(end)
            if batch is None:
                await self._wait()
            elif time.monotonic() < self._leads_until:
                end = await self._publish(batch)

    async def _feed_end(self) -> Head:
        """Return where the feed ends; a feed without events starts at the line's head."""
        head = await self._store.head()
        last = await feed.last_batch(self._jetstream)
        if last is None:
            # New, lost, or everything aged out: its sequence tells whether another leader writes.
            sequence = (await self._jetstream.stream_info(feed.STREAM)).state.last_seq
            self._expected = {feed.EXPECTED_LAST_SEQUENCE: str(sequence)}
            return head
        chain = await self._store.chain_at(last.last)
        if last.store_id != head.store_id or chain != last.chain:
            raise FeedForked(
                f"the stream {feed.STREAM} ends at position {last.last} of another store than this "
                f"one. Delete the stream if it is not needed: the feed then starts at this store's "
                f"head, and projections read what they miss from history."
            )
        self._expected = {feed.EXPECTED_LAST_MESSAGE_ID: feed.message_id(last)}
        return Head(last.store_id, last.last, last.chain)

    async def _next(self, end: Head) -> EventBatch | None:
        batch = self._next_handed(end)
        if batch is None and self._heard > end.position:
            # The database tells of an append before the process that made it can hand it over.
            await asyncio.sleep(_HAND_OVER_SECONDS)
            batch = self._next_handed(end) or await self._next_stored(end)
        return batch

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), RENEW_SECONDS)
        except TimeoutError:  # a notification may be lost with its connection
            self._heard = (await self._store.head()).position
        self._woken.clear()

    def _next_handed(self, end: Head) -> EventBatch | None:
        batch: EventBatch | None = None
        size = 0
        while self._handed:
            appended = self._handed[0]
            position = end.position if batch is None else batch.last
            if appended.previous_position > position:
                break  # something in between was appended elsewhere: read it from the store
            self._handed.popleft()
            self._handed_events -= len(appended.rows)
            if appended.previous_position < position:
                continue  # it is on the feed already
            packed = pack(end.store_id, appended)
            size += sum(len(row.record) for row in appended.rows)
            if batch is None and len(packed) == 1:
                batch = packed[0]
            elif batch is not None and len(packed) == 1 and size < _MERGED_BYTES:
                batch.events.extend(packed[0].events)
                batch.last, batch.chain = packed[0].last, packed[0].chain
            else:
                self._handed.appendleft(appended)
                self._handed_events += len(appended.rows)
                break
        return batch

    async def _next_stored(self, end: Head) -> EventBatch | None:
        page = await self._store.history(end.position)
        return page if page.events else None

    async def _publish(self, batch: EventBatch) -> Head:
        name = feed.message_id(batch)
        try:
            with messaging.send(feed.SUBJECT, traceparents_of(batch), messages=len(batch.events)):
                headers = {feed.MESSAGE_ID: name, **self._expected}
                acknowledged = await self._jetstream.publish(
                    feed.SUBJECT,
                    batch.SerializeToString(),
                    headers=messaging.headers_with_trace(headers),
                    stream=feed.STREAM,
                )
        except nats.js.errors.BadRequestError as error:
            # Another leader published, or an earlier try arrived after all: see what is there.
            _log.info("relay starts over from the end of the feed", reason=error.description)
            return await self._feed_end()
        if acknowledged.duplicate:
            return await self._feed_end()
        self._expected = {feed.EXPECTED_LAST_MESSAGE_ID: name}
        return Head(batch.store_id, batch.last, batch.chain)
