"""A batch of the line: what comes next of it, by chain and never by number alone."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property

from google.protobuf.message import DecodeError

from libs.eventstore.chain import Head, extend
from libs.projection.continuity import Damaged, Fork, Gap
from libs.projection.partitions import ALL, Partitions
from libs.projection.projection import Recorded, decode
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent, RecordedEvent


class Batch:
    """Successive events, checked against their chain and parsed once, however many fold them.

    Args:
        packed: As it came, on the feed or as a page of history; it is not changed from now on.
    """

    def __init__(self, packed: EventBatch) -> None:
        self._packed = packed
        self._recorded: dict[Partitions, Sequence[Recorded]] = {}

    @property
    def end(self) -> Head:
        """Where it ends."""
        return Head(self._packed.store_id, self._packed.last, self._packed.chain)

    @cached_property
    def events(self) -> Sequence[PackedEvent]:
        """All of its events."""
        return list(self._packed.events)

    @cached_property
    def hashes(self) -> Sequence[bytes]:
        """The content hash of each event."""
        return [event.content_hash for event in self.events]

    def known_at(self, place: Head) -> int:
        """Return how many of its events a place on the line has behind it.

        Raises:
            Gap: it starts later.
            Fork: it has another store id or another chain there.
            Damaged: its events are not those its chain covers.
        """
        packed = self._packed
        if place.store_id and packed.store_id != place.store_id:
            raise Fork(f"comes from store {packed.store_id.hex()}, not {place.store_id.hex()}")
        if packed.last - packed.first + 1 != len(self.events):
            raise Damaged(f"says {packed.first} to {packed.last} and has {len(self.events)} events")
        if packed.first > place.position + 1:
            raise Gap(f"starts at {packed.first}, after {place.position}")
        known = min(place.position - packed.first + 1, len(self.events))
        if packed.last >= place.position:
            chain = extend(packed.previous_chain, self.hashes[:known])
            if chain != place.chain:
                raise Fork(f"has another chain at position {place.position}")
        if self._covered != packed.chain:
            raise Damaged(
                f"has events from {packed.first} to {packed.last} that its chain does not cover"
            )
        return known

    def recorded_after(self, position: int, partitions: Partitions = ALL) -> Sequence[Recorded]:
        """Return the events after a position that a range folds.

        Raises:
            Damaged: the record of one can't be read.
        """
        recorded = self._recorded.get(partitions)
        if recorded is None:
            recorded = self._recorded[partitions] = self._parsed(partitions)
        return recorded[bisect_right(recorded, position, key=lambda event: event.position) :]

    @cached_property
    def _covered(self) -> bytes:
        return extend(self._packed.previous_chain, self.hashes)

    def _parsed(self, partitions: Partitions) -> Sequence[Recorded]:
        first, parse = self._packed.first, RecordedEvent.FromString
        try:
            if partitions.are_all:
                return decode(first, self.events)
            # The records of others are not even parsed: that is what makes sharing pay.
            return partitions.own(
                [
                    Recorded(position, event.recorded_at_us, parse(record := event.record), record)
                    for position, event in enumerate(self.events, first)
                    if partitions.concern(event)
                ]
            )
        except DecodeError as error:
            raise Damaged(
                f"has an event between {first} and {self._packed.last} whose record can't be read"
            ) from error
