"""From what was counted to a score, exactly.

A rule's points at a time are the sum over UTC days of the day's weights, at most the day cap, times
2^(-age / half-life), at most the total cap; a score is the sum over its rules. docs/scoring.md has
the formula and the reasons.

All of it is integers: weights and caps are thousandths of a point, and a factor of decay is a whole
number of 2^-60. So a sum is the same in whatever order it is made, here and in PostgreSQL, and only
the end is rounded, once. A **unit** is 2^-60 of a thousandth of a point.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

DAY_US: Final = 86_400_000_000
THOUSAND: Final = 1_000
ONE: Final = 1 << 60
"""The factor of what has not decayed; it fits in a bigint."""

_DAY_NS: Final = 86_400_000_000_000
# Beyond it 2^-x rounds to no unit.
_CACHED_HALF_LIVES: Final = 64
_FADED_HALF_LIVES: Final = 61


@dataclass(frozen=True, slots=True)
class Terms:
    """The numbers of a rule.

    Attributes:
        weight: What one event gives, in thousandths, not 0.
        half_life_ns: After how many nanoseconds points are worth half; None: never.
        day_cap: What one UTC day gives at most, in thousandths; None: no limit.
        total_cap: What the rule gives at most, in thousandths; None: no limit.
    """

    weight: int
    half_life_ns: int | None = None
    day_cap: int | None = None
    total_cap: int | None = None


class DaySum(NamedTuple):
    """What a rule's events of one UTC day add up to, before caps.

    Attributes:
        rule: The rule's place in the model.
        day: Days since 1970.
        weight: The sum in thousandths.
    """

    rule: int
    day: int
    weight: int


@dataclass(frozen=True, slots=True)
class DayPoints:
    """What a rule gives for one UTC day.

    Attributes:
        weight: What its events add up to, in thousandths.
        capped: The same, at most the day cap.
        age_days: How old the day is.
        factor: What is left of it by its age, in 2^-60.
    """

    weight: int
    capped: int
    age_days: int
    factor: int


@dataclass(frozen=True, slots=True)
class RulePoints:
    """What a rule gives.

    Attributes:
        terms: Its numbers.
        days: What it gives for each day, by days since 1970.
        units: What it gives before its total cap.
        capped_units: What it gives.
        uncapped_units: What it would give without both caps.
    """

    terms: Terms
    days: dict[int, DayPoints]
    units: int
    capped_units: int
    uncapped_units: int

    @property
    def points(self) -> float:
        """What it gives, in points."""
        return points_of(self.capped_units)

    @property
    def uncapped_points(self) -> float:
        """What it would give without its caps, in points."""
        return points_of(self.uncapped_units)

    @property
    def events(self) -> int:
        """How many events count."""
        return sum(day.weight for day in self.days.values()) // self.terms.weight

    def decayed(self, day: int) -> float:
        """Return one event's weight after decay and before caps, in points."""
        return points_of(self.terms.weight * self.days[day].factor)

    def share(self, day: int) -> float:
        """Return what one event of a day gives, in points: its part of both caps, pro rata."""
        of = self.days[day]
        if not self.units:
            return 0.0
        share = self.terms.weight * of.capped * of.factor * self.capped_units
        # Python divides integers of any size with one rounding.
        return share / (of.weight * self.units * THOUSAND * ONE)


@dataclass(frozen=True, slots=True)
class Scored:
    """A score, and what each rule gives to it, in the model's order."""

    rules: tuple[RulePoints, ...]

    @property
    def units(self) -> int:
        """The score in units, exactly."""
        return sum(rule.capped_units for rule in self.rules)

    @property
    def score(self) -> float:
        """The score in points."""
        return points_of(self.units)


def day_of(at_us: int) -> int:
    """Return the UTC day of a time in microseconds since 1970, as days since then."""
    return at_us // DAY_US


def points_of(units: int) -> float:
    """Return units as points, rounded once."""
    return units / (THOUSAND * ONE)


def age_of(day: int, today: int) -> int:
    """Return how many whole days old a UTC day is; a day to come is as new as today."""
    return max(0, today - day)


def factor(half_life_ns: int | None, age_days: int) -> int:
    """Return 2^(-age / half-life) as a whole number of 2^-60."""
    if half_life_ns is None:
        return ONE
    return _decayed(half_life_ns, age_days)


@lru_cache(maxsize=100_000)
def _decayed(half_life_ns: int, age_days: int) -> int:
    half_lives = age_days * _DAY_NS / half_life_ns
    return round(2.0**-half_lives * ONE) if half_lives < _FADED_HALF_LIVES else 0


@lru_cache(maxsize=_CACHED_HALF_LIVES)  # the same ones all day, for every read and sweep
def factors(half_life_ns: int, oldest: int) -> tuple[int, ...]:
    """Return the factors of all ages in days, from 0 on, that leave anything, up to the oldest."""
    faded = _FADED_HALF_LIVES * half_life_ns // _DAY_NS + 1
    return tuple(factor(half_life_ns, age) for age in range(min(faded, oldest) + 1))


def score(terms: Sequence[Terms], sums: Iterable[DaySum], today: int) -> Scored:
    """Return the score of what was counted.

    Args:
        terms: The rules' numbers, in the model's order.
        sums: What was counted; one rule and day may come several times, such as once for each of a
            profile's identities.
        today: The day the score is of, in days since 1970.
    """
    by_rule: list[dict[int, int]] = [{} for _ in terms]
    for rule, day, weight in sums:
        days = by_rule[rule]
        days[day] = days.get(day, 0) + weight
    return Scored(
        tuple(_rule_points(rule, days, today) for rule, days in zip(terms, by_rule, strict=True))
    )


class Tally:
    """The score of a day, kept while what counts changes: adding to it does not look at the rest.

    It is what `score` says of all that was added, to the last unit: integers have no order.

    Args:
        terms: The rules' numbers, in the model's order.
        today: The day, in days since 1970.
    """

    def __init__(self, terms: Sequence[Terms], today: int) -> None:
        self._terms = terms
        self._today = today
        self._sums: list[dict[int, int]] = [{} for _ in terms]
        # What each rule gives, before its total cap.
        self._units = [0] * len(terms)

    @property
    def units(self) -> int:
        """The score in units."""
        told = zip(self._terms, self._units, strict=True)
        return sum(_capped(units, _total_cap(terms)) for terms, units in told)

    def add(self, counted: DaySum) -> None:
        """Add what counts besides, or take it away."""
        rule, day, weight = counted
        terms, days = self._terms[rule], self._sums[rule]
        before = days.get(day, 0)
        after = days[day] = before + weight
        more = _capped(after, terms.day_cap) - _capped(before, terms.day_cap)
        self._units[rule] += more * factor(terms.half_life_ns, age_of(day, self._today))

    def turn(self, today: int) -> None:
        """Let it be the score of a day, whichever it was of."""
        if today == self._today:
            return
        self._today = today
        self._units = [
            sum(
                _capped(weight, terms.day_cap) * factor(terms.half_life_ns, age_of(day, today))
                for day, weight in days.items()
            )
            for terms, days in zip(self._terms, self._sums, strict=True)
        ]


def _rule_points(terms: Terms, sums: dict[int, int], today: int) -> RulePoints:
    days = {}
    for day, weight in sums.items():
        if weight:
            age = age_of(day, today)
            left = factor(terms.half_life_ns, age)
            days[day] = DayPoints(weight, _capped(weight, terms.day_cap), age, left)
    units = sum(day.capped * day.factor for day in days.values())
    return RulePoints(
        terms=terms,
        days=days,
        units=units,
        capped_units=_capped(units, _total_cap(terms)),
        uncapped_units=sum(day.weight * day.factor for day in days.values()),
    )


def _total_cap(terms: Terms) -> int | None:
    return None if terms.total_cap is None else terms.total_cap * ONE


def _capped(value: int, cap: int | None) -> int:
    return value if cap is None else max(-cap, min(cap, value))
