"""Reads the whole feed and says whether it is the end of the store's line."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from libs.eventstore import feed
from libs.eventstore.chain import Head, extend
from libs.eventstore.errors import StoreUnavailable
from libs.eventstore.store import EventStore
from libs.eventstore.verification import MAX_PROBLEMS
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent

# Messages asked for at once: at most 16 MiB of them, and enough for small ones to come fast.
_FETCHED: Final = 32
_SILENT_SECONDS: Final = 10.0
# After so many events others get the processor.
_YIELD_EVENTS: Final = 1000


@dataclass(slots=True)
class FeedVerification:
    """How far the verification of a feed came, and what it found.

    Attributes:
        head: The store's head when it began.
        batches: How many messages the feed had when it began.
        checked_batches: How many of them were read.
        checked_events: How many events these hold.
        first: The position of the feed's first event; 0 when it is empty.
        last: The position of the last event read; 0 when it is empty.
        problems: What is wrong, in words, at most a hundred of them.
        finished: Whether it was read to the end.
    """

    head: int
    batches: int
    checked_batches: int = 0
    checked_events: int = 0
    first: int = 0
    last: int = 0
    problems: list[str] = field(default_factory=list)
    finished: bool = False

    def report(self, problem: str) -> None:
        """Note what is wrong; beyond the first hundred it adds nothing."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


async def verify_feed(connection: NatsClient, store: EventStore) -> AsyncIterator[FeedVerification]:
    """Yield the state of a verification as it goes on; the last one is finished.

    Reads every message that was there at the beginning. Each must be a batch, named after where it
    ends, of this store; continue the one before it; hold the events that its chain covers; and
    these must be, byte for byte, the events that the store has in their places. That the feed is
    behind the head is no fault: it follows.

    Raises:
        StoreUnavailable: NATS or the store's database can't be reached.
    """
    jetstream = connection.jetstream(timeout=_SILENT_SECONDS)
    batches, last_sequence = await _end_of(jetstream)
    head = await store.head()  # asked for last: the feed may not be ahead of it
    state = FeedVerification(head.position, batches=batches)
    if batches:
        checks = _Checks(store, head, state)
        async for messages in _messages(jetstream, last_sequence):
            unrested = 0
            for message in messages:
                unrested += await checks.check(message)
                if unrested > _YIELD_EVENTS:
                    unrested = 0
                    await asyncio.sleep(0)
            yield state
    state.finished = True
    yield state


async def _end_of(jetstream: JetStreamContext) -> tuple[int, int]:
    """Return how many batches the feed has, and the sequence of the stream's last message."""
    try:
        state = (await jetstream.stream_info(feed.STREAM, subjects_filter=feed.SUBJECT)).state
    except nats.js.errors.NotFoundError:  # the relay makes it: a feed that is not there is empty
        return 0, 0
    except (TimeoutError, OSError, nats.errors.Error) as error:
        raise _unreadable(error) from error
    return (state.subjects or {}).get(feed.SUBJECT, 0), state.last_seq


async def _messages(jetstream: JetStreamContext, last_sequence: int) -> AsyncIterator[list[Msg]]:
    """Yield the messages of the feed in their order, some at a time."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=3 * _SILENT_SECONDS,
        mem_storage=True,
        num_replicas=1,
    )
    subscription: Any = None
    try:
        subscription = await jetstream.pull_subscribe(
            feed.SUBJECT, stream=feed.STREAM, config=config
        )
        rest = True
        while rest:
            messages = await subscription.fetch(_FETCHED, timeout=_SILENT_SECONDS)
            last = messages[-1].metadata
            rest = last.sequence.stream < last_sequence and last.num_pending > 0
            yield [one for one in messages if one.metadata.sequence.stream <= last_sequence]
    except (TimeoutError, OSError, nats.errors.Error) as error:
        raise _unreadable(error) from error
    finally:
        with suppress(TimeoutError, OSError, nats.errors.Error):
            if subscription is not None:
                await subscription.unsubscribe()


def _unreadable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"the feed can't be read ({type(error).__name__}): NATS is away, or the stream "
        f"{feed.STREAM} was removed meanwhile"
    )


class _Checks:
    """Checks one message after the other against the one before it and against the store."""

    def __init__(self, store: EventStore, head: Head, state: FeedVerification) -> None:
        self._store = store
        self._head = head
        self._state = state
        self._place: Head | None = None  # where the last batch that could be read ended
        self._page = EventBatch()

    async def check(self, message: Msg) -> int:
        """Check a message, and return how many events it has."""
        state, sequence = self._state, message.metadata.sequence.stream
        state.checked_batches += 1
        try:
            batch = EventBatch.FromString(message.data)
        except DecodeError:
            state.report(f"message {sequence} is no batch of events")
            return 0
        state.checked_events += len(batch.events)
        state.first = state.first or batch.first
        state.last = batch.last
        which = f"message {sequence} ({_span(batch.first, batch.last)})"
        if (message.headers or {}).get(feed.MESSAGE_ID) != feed.message_id(batch):
            state.report(f"{which} is not named after where it ends")
        if batch.store_id != self._head.store_id:
            state.report(f"{which} comes from another store, {batch.store_id.hex()}")
            return len(batch.events)
        await self._check_place(which, batch)
        await self._check_events(which, batch)
        self._place = Head(batch.store_id, batch.last, batch.chain)
        return len(batch.events)

    async def _check_place(self, which: str, batch: EventBatch) -> None:
        """Check that a batch continues what is before it, and ends where its events do."""
        report, place = self._state.report, self._place
        if place is None:
            before = await self._store.chain_at(batch.first - 1) if batch.first > 0 else None
            place = Head(batch.store_id, batch.first - 1, before or b"")
        if batch.first > place.position + 1:
            missing = _span(place.position + 1, batch.first - 1)
            report(f"{missing} missing before {which}")
        elif batch.first <= place.position:
            report(f"{which} begins before event {place.position}, where the one before it ended")
        elif batch.previous_chain != place.chain:
            report(f"{which} does not continue the chain at event {place.position}")
        if batch.last - batch.first + 1 != len(batch.events):
            report(f"{which} holds {len(batch.events)} of them")
        chain = extend(batch.previous_chain, [event.content_hash for event in batch.events])
        if chain != batch.chain:
            report(f"{which} has events that its chain does not cover")

    async def _check_events(self, which: str, batch: EventBatch) -> None:
        """Check that a batch has the store's events."""
        stored = await self._stored(batch.first, len(batch.events))
        if stored == list(batch.events):
            return
        for position, (told, kept) in enumerate(
            zip(batch.events, stored, strict=False), batch.first
        ):
            if told != kept:
                names = " and ".join(_differences(told, kept))
                self._state.report(f"event {position} has another {names} than in the store")
        if len(stored) < len(batch.events):
            end = batch.first + len(stored) - 1
            self._state.report(f"{which} goes on after event {end}, where the store ends")

    async def _stored(self, first: int, count: int) -> list[PackedEvent]:
        """Return the store's events from a position on, as many as there are of so many."""
        events: list[PackedEvent] = []
        position = max(first, 1)
        while len(events) < count:
            if not self._page.first <= position <= self._page.last:
                self._page = await self._store.history(position - 1)
                if not self._page.events:
                    break
            start = position - self._page.first
            taken: Sequence[PackedEvent] = self._page.events[start : start + count - len(events)]
            events += taken
            position += len(taken)
        return events


def _span(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first} to {last}"


def _differences(told: PackedEvent, kept: PackedEvent) -> list[str]:
    names = ("partition", "type", "recorded_at_us", "content_hash", "record")
    differing = [name for name in names if getattr(told, name) != getattr(kept, name)]
    return differing or ["serialisation"]
