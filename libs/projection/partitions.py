"""Ranges of partitions: which customers' events a checkpoint is of."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from libs.identity.keys import PARTITIONS, partition_of
from libs.projection.projection import Recorded
from touchline.events.v1.event_pb2 import EVENT_TYPE_PROFILE_ERASED
from touchline.store.v1.store_pb2 import PackedEvent, RecordedEvent


class Partitions(NamedTuple):
    """Successive partitions, from the first to the last.

    A range is all partitions, or a half of a range: so two that were split can be merged again.
    """

    first: int
    last: int

    @property
    def are_all(self) -> bool:
        """Whether no event is anybody else's."""
        return self == ALL

    @property
    def halves(self) -> tuple["Partitions", "Partitions"]:
        """Both halves of at least two partitions."""
        middle = (self.first + self.last) // 2
        return Partitions(self.first, middle), Partitions(middle + 1, self.last)

    @property
    def sibling(self) -> "Partitions":
        """The other half of the range that this one was split from."""
        size = self.last - self.first + 1
        first = self.first ^ size
        return Partitions(first, first + size - 1)

    def has(self, owner_key: bytes) -> bool:
        """Tell whether a customer's events belong to the range."""
        return self.first <= partition_of(owner_key) <= self.last

    def concern(self, event: PackedEvent) -> bool:
        """Tell whether a fold of the range folds an event, before its record is parsed."""
        return self.first <= event.partition <= self.last or event.type == EVENT_TYPE_PROFILE_ERASED

    def own(self, events: Sequence[Recorded]) -> Sequence[Recorded]:
        """Return the events that a fold of the range folds, in their order.

        An erasure concerns customers of many ranges: each gets it with its own identities only.
        """
        if self.are_all:
            return events
        own = list[Recorded]()
        for event in events:
            if event.record.type == EVENT_TYPE_PROFILE_ERASED:
                own.append(self._own_erasure(event))
            elif event.record.owner_key and self.has(event.record.owner_key):
                own.append(event)
        return own

    def _own_erasure(self, event: Recorded) -> Recorded:
        record = RecordedEvent()
        record.CopyFrom(event.record)
        own = [key for key in record.erasure.identity_keys if self.has(key)]
        record.erasure.identity_keys[:] = own
        return event._replace(record=record)


ALL: Final = Partitions(0, PARTITIONS - 1)
"""Every partition there is."""


def divided(parts: int) -> list[Partitions]:
    """Return all partitions in so many ranges of one size.

    Args:
        parts: A power of two, at most 64.
    """
    size = PARTITIONS // parts
    return [Partitions(first, first + size - 1) for first in range(0, PARTITIONS, size)]
