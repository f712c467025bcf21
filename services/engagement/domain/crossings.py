"""When a score passes from one level into another: pure, and the same however often it is asked.

Nothing remembers levels. Whether an event moves a score over an edge follows from what counts just
before and just after it; whether a midnight does, from what counts then, on both days. So neither
the imported past nor a merge, another version of the model or a restart can look like a crossing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from services.engagement.domain.model import Model
from services.engagement.domain.scoring import DaySum, Scored

_Sums = defaultdict[tuple[int, int], int]


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
    sums: _Sums = defaultdict(int)
    for position, group in groupby(sorted(changes), attrgetter("position")):
        today = acting.get(position)
        before = None if today is None else _score(model, sums, today)
        for change in group:
            sums[change.rule, change.day] += change.weight
        if before is not None and today is not None:
            found += _crossing(model, position, before, _score(model, sums, today))
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
    return next(iter(_crossing(model, 0, before, after)), None)


def _score(model: Model, sums: _Sums, today: int) -> Scored:
    counted = [DaySum(rule, day, weight) for (rule, day), weight in sums.items()]
    return model.score(counted, today)


def _crossing(model: Model, position: int, before: Scored, after: Scored) -> list[Crossing]:
    levels = model.level_of(before.score), model.level_of(after.score)
    if levels[0] == levels[1]:
        return []
    return [Crossing(position, *levels, after.score, after.units > before.units)]
