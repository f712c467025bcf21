"""How far each range of each generation came, as this process has heard."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class RangeKey(NamedTuple):
    """A range of partitions of a generation, by its first partition."""

    generation: int
    first_partition: int


class Place(NamedTuple):
    """Where a range is, and why it halted, or nothing."""

    position: int
    halt_reason: str = ""


class Look(NamedTuple):
    """What was known when somebody began to look at the table.

    Attributes:
        told: How often each range's position had been told.
        listening: How often listening had begun.
    """

    told: Mapping[RangeKey, int]
    listening: int


class Positions:
    """Takes in what is told of positions, and what the table says.

    What is told moves a range forward only: a notification may be older than what was looked up.
    The table moves it back as well, when its projection folds anew. A range that was split while
    nobody listened is known by looking alone, so between the beginning of listening and the first
    look thereafter nothing that is told moves anything.

    Attributes:
        moved: Set, and another put in its place, whenever something may have moved.
    """

    def __init__(self) -> None:
        self.moved = asyncio.Event()
        self._places: dict[int, dict[int, Place]] = {}
        self._told: defaultdict[RangeKey, int] = defaultdict(int)
        self._listening = 0
        self._early: list[tuple[RangeKey, int]] | None = None

    def of(self, generation: int) -> int:
        """Return the position that all ranges of a generation have reached."""
        ranges = self._places.get(generation)
        return min(place.position for place in ranges.values()) if ranges else 0

    def halt_reason(self, generation: int) -> str:
        """Return why one of a generation's ranges stands still, or nothing."""
        ranges = self._places.get(generation, {}).values()
        return next((place.halt_reason for place in ranges if place.halt_reason), "")

    def ranges(self) -> frozenset[RangeKey]:
        """Return the ranges that there are."""
        return frozenset(
            RangeKey(generation, first)
            for generation, ranges in self._places.items()
            for first in ranges
        )

    def begin_listening(self) -> None:
        """Note that from now on every notification comes, and that earlier ones were lost."""
        self._listening += 1
        self._early = []

    def hear(self, key: RangeKey, position: int) -> bool:
        """Take in a notification; False when it says less than is known."""
        self._told[key] += 1
        if self._early is not None:
            self._early.append((key, position))
            return True
        known = self._places.get(key.generation, {}).get(key.first_partition, Place(0))
        if position < known.position:
            return False
        self._places.setdefault(key.generation, {})[key.first_partition] = Place(position)
        self._move()
        return True

    def begin_look(self) -> Look:
        """Return what `looked` needs; call it before the table is read."""
        return Look(dict(self._told), self._listening)

    def looked(self, look: Look, rows: Iterable[tuple[RangeKey, Place]]) -> None:
        """Take in all ranges as the table says; what was told meanwhile is newer.

        Args:
            look: From before the table was read.
            rows: Every range that there is.
        """
        found: dict[int, dict[int, Place]] = {}
        for key, place in rows:
            found.setdefault(key.generation, {})[key.first_partition] = place
        for key, count in self._told.items():
            known = self._places.get(key.generation, {}).get(key.first_partition)
            if known is not None and count != look.told.get(key, 0):
                found.setdefault(key.generation, {})[key.first_partition] = known
        self._places = found
        if look.listening == self._listening and self._early is not None:
            early, self._early = self._early, None
            for key, position in early:
                self.hear(key, position)
        self._told = defaultdict(
            int, {key: n for key, n in self._told.items() if key.generation in found}
        )
        self._move()

    def _move(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()
