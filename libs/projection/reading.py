"""Reads the line as projections fold it: stretches of events, from history and the feed."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import nats.errors
import structlog
from google.protobuf.message import DecodeError

from libs.eventstore import feed
from libs.eventstore.chain import Head, extend
from libs.eventstore.client import StoreClient
from libs.eventstore.errors import DamagedBatch
from libs.projection.continuity import Damaged, Discontinuity, Fork, head_of, next_events
from libs.projection.partitions import ALL, Partitions
from libs.projection.projection import Recorded, decode
from libs.telemetry import messaging, tracing
from touchline.store.v1.store_pb2 import EventBatch, GetHistoryResponse, PackedEvent, RecordedEvent

IDLE_SECONDS: Final = 1.0
# How many events one transaction may fold: long enough for COPY to pay.
_LONG_STRETCH: Final = 10_000
_log = structlog.get_logger("projection")


@dataclass(slots=True)
class Stretch:
    """Successive events of the line, and where they end.

    Attributes:
        end: The place of the last one; that where they begin, while there are none.
        events: Those that are folded: all, or those of a range of partitions.
        hashes: The content hash of each event, also of those that are not folded.
        partitions: Whose events are folded.
    """

    end: Head
    events: list[Recorded] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    partitions: Partitions = ALL

    def add(self, batch: EventBatch) -> None:
        """Add what a batch has beyond the end.

        Raises:
            Discontinuity: it does not continue the events.
        """
        following = next_events(self.end, batch)
        self.events += _decoded(self.end.position + 1, following, self.partitions)
        self.hashes += [event.content_hash for event in following]
        self.end = max(self.end, head_of(batch), key=lambda head: head.position)

    def add_page(self, page: GetHistoryResponse) -> None:
        """Add what a page of history has beyond the end.

        Raises:
            Discontinuity: it does not continue the events.
        """
        if not page.batch.previous_chain:
            raise Fork(f"ends before position {page.batch.first - 1}")
        self.add(page.batch)

    def cut(self, start: Head, position: int) -> tuple["Stretch", "Stretch"]:
        """Return what is up to a position, and what comes after it.

        Args:
            start: The place after which the events begin.
            position: One of theirs, or that of `start`.
        """
        count = position - start.position
        hashes = self.hashes[:count]
        between = Head(self.end.store_id, position, extend(start.chain, hashes))
        folded = bisect_right(self.events, position, key=lambda event: event.position)
        return (
            Stretch(between, self.events[:folded], hashes, self.partitions),
            Stretch(self.end, self.events[folded:], self.hashes[count:], self.partitions),
        )

    def halves(self, start: Head) -> tuple["Stretch", "Stretch"]:
        """Return both halves of at least two folded events that begin after a place."""
        return self.cut(start, self.events[len(self.events) // 2 - 1].position)


@dataclass(slots=True)
class Arrived:
    """What has come on the feed: batches, and the traces that sent them."""

    batches: list[EventBatch] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)


async def read_history(
    store: StoreClient, start: Head, heard: Callable[[int], None], partitions: Partitions = ALL
) -> Stretch:
    """Return the events after a place, at most some ten thousand; none at the head.

    Args:
        store: Answers.
        start: After where.
        heard: Told the position of the head.
        partitions: Whose events are folded.

    Raises:
        StoreError: it can't be read now.
        Discontinuity: history does not continue the place.
    """
    # Decoded here already: the database writes what came before meanwhile.
    stretch = Stretch(start, partitions=partitions)
    wanted = None if partitions.are_all else partitions
    while len(stretch.hashes) < _LONG_STRETCH:
        page = await store.history(stretch.end.position, wanted)
        heard(page.head_position)
        stretch.add_page(page)
        if not page.batch.events or stretch.end.position >= page.head_position:
            break
    return stretch


def read_feed(
    start: Head, batches: Iterable[EventBatch], partitions: Partitions = ALL
) -> tuple[Stretch, Discontinuity | None]:
    """Return the events of batches after a place, and why they break off, if they do."""
    stretch = Stretch(start, partitions=partitions)
    try:
        for batch in batches:
            stretch.add(batch)
    except Discontinuity as broken:
        return stretch, broken
    return stretch, None


async def arriving(subscription: Any, seconds: float = IDLE_SECONDS) -> Arrived:
    """Return what has arrived on the feed, waiting a moment for the first."""
    arrived = Arrived()
    events = 0
    try:
        message = await subscription.next_msg(timeout=seconds)
        while True:
            try:
                batch = feed.batch_in(message.data, message.headers)
            except DamagedBatch as error:  # it leaves a gap, and history fills it
                _log.warning("feed message is damaged", reason=str(error))
            else:
                arrived.batches.append(batch)
                events += len(batch.events)
                if tracing.is_exporting():
                    arrived.senders.append(messaging.traceparent_in(message.headers))
            if events >= _LONG_STRETCH or not subscription.pending_msgs:
                return arrived
            message = await subscription.next_msg(timeout=IDLE_SECONDS)
    except (TimeoutError, nats.errors.TimeoutError):
        return arrived


def _decoded(
    first_position: int, events: Sequence[PackedEvent], partitions: Partitions
) -> Sequence[Recorded]:
    parse = RecordedEvent.FromString
    try:
        if partitions.are_all:
            return decode(first_position, events)
        # The records of others are not even parsed: that is what makes sharing pay.
        return partitions.own(
            [
                Recorded(position, event.recorded_at_us, parse(record := event.record), record)
                for position, event in enumerate(events, first_position)
                if partitions.concern(event)
            ]
        )
    except DecodeError as error:
        last = first_position + len(events) - 1
        raise Damaged(
            f"has an event between {first_position} and {last} whose record can't be read"
        ) from error
