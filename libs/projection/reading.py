"""Reads the line as projections fold it: stretches of events, from history and the feed."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from libs.eventstore.chain import Head, extend
from libs.eventstore.client import StoreClient
from libs.projection.batches import Batch
from libs.projection.continuity import Discontinuity, Fork
from libs.projection.partitions import ALL, Partitions
from libs.projection.projection import Recorded
from touchline.store.v1.store_pb2 import GetHistoryResponse

LONG_STRETCH: Final = 10_000
"""How many events one transaction may fold: long enough for COPY to pay."""


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

    def add(self, batch: Batch) -> None:
        """Add what a batch has beyond the end.

        Raises:
            Discontinuity: it does not continue the events.
        """
        known = batch.known_at(self.end)
        self.events += batch.recorded_after(self.end.position, self.partitions)
        self.hashes += batch.hashes[known:]
        self.end = max(self.end, batch.end, key=lambda head: head.position)

    def add_page(self, page: GetHistoryResponse) -> None:
        """Add what a page of history has beyond the end.

        Raises:
            Discontinuity: it does not continue the events.
        """
        if not page.batch.previous_chain:
            raise Fork(f"ends before position {page.batch.first - 1}")
        self.add(Batch(page.batch))

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
    while len(stretch.hashes) < LONG_STRETCH:
        page = await store.history(stretch.end.position, wanted)
        heard(page.head_position)
        stretch.add_page(page)
        if not page.batch.events or stretch.end.position >= page.head_position:
            break
    return stretch


def read_feed(
    start: Head, batches: Iterable[Batch], partitions: Partitions = ALL
) -> tuple[Stretch, Discontinuity | None]:
    """Return the events of batches after a place, and why they break off, if they do."""
    stretch = Stretch(start, partitions=partitions)
    try:
        for batch in batches:
            stretch.add(batch)
    except Discontinuity as broken:
        return stretch, broken
    return stretch, None
