"""When a score passes from one level into another: pure, and the same however often it is asked.

Nothing remembers levels. Whether an event moves a score over an edge follows from what counts just
before and just after it; whether a midnight does, from what counts then, on both days. So neither
the imported past nor a merge, another version of the model or a restart can look like a crossing.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from services.engagement.domain.model import Model
from services.engagement.domain.scoring import DaySum, Tally, points_of


class Change(NamedTuple):
    """What a position on the line changes of what counts for one profile.

    Attributes:
        position: The event's; 0 for all that counted before the first event of interest.
        rule: The rule's place in the model.
        day: The UTC day it counts for, in days since 1970.
        weight: By how much, in thousandths.
    """

    position: int
    rule: int
    day: int
    weight: int


class Crossing(NamedTuple):
    """A score that passed from one level into another.

    Attributes:
        position: The position of the event that moved it; 0 for a midnight.
        from_level: The level before; empty below every level.
        to_level: The level after.
        score: The score after, in points.
        rising: Whether it rose.
    """

    position: int
    from_level: str
    to_level: str
    score: float
    rising: bool


def crossings(model: Model, changes: Iterable[Change], acting: Mapping[int, int]) -> list[Crossing]:
    """Return where a profile's score crosses a level.

    Args:
        model: By what it is scored.
        changes: All that counts for the profile up to the last of the events, in any order.
        acting: The events that may act: the day each was recorded on, by position. What other
            positions change moves the score silently.
    """
    found = []
    tally = Tally(model.terms, min(acting.values(), default=0))
    for position, group in groupby(sorted(changes), attrgetter("position")):
        acts = position in acting
        if acts:
            tally.turn(acting[position])
        before = tally.units
        for change in group:
            tally.add(DaySum(change.rule, change.day, change.weight))
        if acts:
            found += _crossing(model, position, before, tally.units)
    return found


def midnight_crossing(model: Model, sums: Iterable[DaySum], today: int) -> Crossing | None:
    """Return how the midnight with which a day begins moved a score over an edge, if it did.

    Args:
        model: By what it is scored.
        sums: What counted at that midnight.
        today: The day, in days since 1970.
    """
    counted = list(sums)
    before, after = model.score(counted, today - 1), model.score(counted, today)
    return next(iter(_crossing(model, 0, before.units, after.units)), None)


def _crossing(model: Model, position: int, before: int, after: int) -> list[Crossing]:
    """Return how a score passed into another level, if it did, by its units before and after."""
    score = points_of(after)
    levels = model.level_of(points_of(before)), model.level_of(score)
    return [Crossing(position, *levels, score, after > before)] if levels[0] != levels[1] else []
