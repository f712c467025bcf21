"""Publishes the line on the feed: one leader at a time, by lease and epoch."""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client as NatsClient

from libs.eventstore import feed
from libs.eventstore.chain import Head
from libs.eventstore.errors import StoreError
from libs.eventstore.feed.end import Restart, end_of_feed, restart_feed
from libs.eventstore.feed.handed import Handed
from libs.eventstore.feed.lease import Held, RelayLease
from libs.eventstore.store import Appended, EventStore
from libs.eventstore.traces import traceparents_of
from libs.telemetry import messaging
from touchline.store.v1.store_pb2 import EventBatch

LEASE: Final = timedelta(seconds=3)
RENEW_SECONDS: Final = 1.0
# Who leads looks at NATS before it renews, so it must hear soon that it is cut off.
_NATS_SECONDS: Final = 2.0
# Who could not lead lets the others try first: they ask once in RENEW_SECONDS.
_STANDS_BACK: Final = 1.5
_HAND_OVER_SECONDS: Final = 0.002

_log = structlog.get_logger("relay")


@dataclass(slots=True)
class RelayState:
    """What the relay of this process says of itself.

    Attributes:
        position: The last position on the feed, as this process last knew it.
        problem: Why it can't publish, and what to do. Empty: nothing is wrong, or another leads.
        leads_until: By the monotonic clock, when it stops to lead unless it renews its lease.
    """

    position: int = 0
    problem: str = ""
    leads_until: float = 0.0

    @property
    def leads(self) -> bool:
        """Whether it publishes."""
        return time.monotonic() < self.leads_until


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
        self._store = store
        self._jetstream = connection.jetstream(timeout=_NATS_SECONDS)
        self._lease = RelayLease(pool, holder)
        self._feed_replicas = feed_replicas
        self._handed = Handed()
        self._woken = asyncio.Event()
        self._heard = 0
        self._last = feed.Place(0, "")
        self.state = RelayState()

    def hand_over(self, appended: Appended) -> None:
        """Take what this process just appended, so that it need not be read back."""
        if self.state.leads:  # nobody else publishes it from here
            self._handed.add(appended)
        self._woken.set()

    def wake(self, position: int) -> None:
        """Hear that the line goes up to a position, whichever process appended there."""
        self._heard = max(self._heard, position)
        self._woken.set()

    async def run(self) -> None:
        """Lead whenever the lease can be had, for ever; run it as a task."""
        while True:
            pause = RENEW_SECONDS
            try:
                # Who can't reach NATS must not keep the others from leading.
                await feed.find_stream(self._jetstream)
                held = await self._lease.take(LEASE, problem=self.state.problem or None)
                if held is None:
                    self.state.problem = ""
                else:
                    await self._lead(held)
            except (StoreError, nats.errors.Error, OSError, TimeoutError) as error:
                await self._interrupted(error)
                pause *= _STANDS_BACK
            self.state.leads_until = 0.0
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        self.state.leads_until = 0.0
        await self._lease.release()

    async def restart_feed(self) -> Restart:
        """Begin the feed anew if it does not continue the store, whether this relay leads or not.

        Raises:
            FeedUnavailable: NATS does not answer or refuses, or another process is at it.
            StoreUnavailable: the store's database can't be reached.
        """
        return await restart_feed(self._jetstream, self._store, self._feed_replicas)

    async def _interrupted(self, error: Exception) -> None:
        """Say what is wrong and give the lease back: another process may fare better."""
        self.state.leads_until = 0.0
        problem = str(error)
        if not isinstance(error, StoreError):
            problem = (
                f"NATS does not take what the relay publishes ({problem or type(error).__name__}). "
                "Is it running, and has its disk room? The relay tries again by itself."
            )
        if problem != self.state.problem:
            _log.warning("relay interrupted", reason=problem)
        self.state.problem = problem
        await self._lease.release(problem)

    async def _lead(self, held: Held) -> None:
        end = await self._begin(held)
        self._heard = max(self._heard, (await self._store.head()).position)
        self.state.problem = ""
        self.state.leads_until = held.until
        _log.info("relay leads", position=end.position, epoch=held.epoch)
        renewed = time.monotonic()
        while True:
            self.state.position = end.position
            if not self.state.leads or time.monotonic() - renewed > RENEW_SECONDS:
                if not await self._renewed(end):
                    return
                renewed = time.monotonic()
            batch = await self._next(end)
            if batch is None:
                await self._wait()
            elif (batch.store_id, batch.previous_chain) != (end.store_id, end.chain):
                _log.warning("the line does not continue the feed", position=end.position)
                return
            elif self.state.leads:
                if not await self._publish(batch):
                    return
                end = Head(batch.store_id, batch.last, batch.chain)

    async def _begin(self, held: Held) -> Head:
        """Find where the feed ends, and shut out whoever led before."""
        stream = await feed.find_stream(self._jetstream)
        if stream is None:
            stream = await feed.ensure_stream(self._jetstream, self._feed_replicas)
        # Read after the stream's last sequence: what is published in between is noticed.
        end = await end_of_feed(self._jetstream, self._store)
        await feed.ensure_stream(self._jetstream, self._feed_replicas)  # not another store's
        self._last = await feed.begin_leading(self._jetstream, held.epoch, stream.state.last_seq)
        return end

    async def _renewed(self, end: Head) -> bool:
        """Renew the lease if the feed is as it was left; False: begin again, or let another."""
        stream = await feed.find_stream(self._jetstream)
        if stream is None or stream.state.last_seq != self._last.sequence:
            _log.warning("the feed is not as the relay left it", position=end.position)
            return False
        held = await self._lease.take(LEASE, position=end.position, problem="")
        if held is None:
            _log.warning("relay lost its lease", position=end.position)
            return False
        self.state.leads_until = held.until
        return held.store_id == end.store_id

    async def _next(self, end: Head) -> EventBatch | None:
        batch = self._handed.after(end)
        if batch is None and self._heard > end.position:
            # The database tells of an append before the process that made it can hand it over.
            await asyncio.sleep(_HAND_OVER_SECONDS)
            batch = self._handed.after(end) or await self._next_stored(end)
        return batch

    async def _next_stored(self, end: Head) -> EventBatch | None:
        page = await self._store.history(end.position)
        return page if page.events else None

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), RENEW_SECONDS)
        except TimeoutError:  # a notification may be lost with its connection
            self._heard = (await self._store.head()).position
        self._woken.clear()

    async def _publish(self, batch: EventBatch) -> bool:
        """Publish a batch right after what was last; False: it is no longer last."""
        name, data = feed.message_id(batch), batch.SerializeToString()
        own = {feed.MESSAGE_ID: name, feed.DIGEST: feed.digest_of(data)}
        try:
            with messaging.send(feed.SUBJECT, traceparents_of(batch), messages=len(batch.events)):
                headers = own | self._last.expected()
                acknowledged = await self._jetstream.publish(
                    feed.SUBJECT,
                    data,
                    headers=messaging.headers_with_trace(headers),
                    stream=feed.STREAM,
                )
        except nats.js.errors.BadRequestError as error:
            # Another leader began, or somebody else published: look at what is there.
            _log.info("relay starts over from the end of the feed", reason=error.description)
            return False
        self._last = feed.Place(acknowledged.seq, name)
        return not acknowledged.duplicate
