"""Business time: the time that passes while a business is open.

A business is open at an instant when the clock on its wall then shows a time within an interval of
that weekday, and the day is no public holiday. So where daylight saving begins within an interval,
the interval is an hour shorter, and where it ends, an hour longer; an interval within the skipped
hour never comes, and one within the repeated hour comes twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

import holidays

from services.notification.domain.calendars import minute_of_day, zone_of
from touchline.notification.v1.notification_pb2 import BusinessHours, BusinessInterval

HORIZON_DAYS: Final = 3660
"""How far ahead business time is looked for, in days: some ten years."""

_SECOND_US: Final = 1_000_000
_MINUTE: Final = 60
_DAY: Final = 86_400
_DAY_US: Final = _DAY * _SECOND_US
_EPOCH: Final = date(1970, 1, 1)
# Calendars and days are few: a company has some, and looks some weeks ahead.
_CALENDARS: Final = 256
_DAYS: Final = 16_384


class NeverDue(ValueError):
    """So much business time does not come within ten years of those hours."""


@dataclass(frozen=True, slots=True)
class _Calendar:
    """Business hours, made ready.

    Attributes:
        zone: The wall clock's.
        weekdays: By Python's weekday, the open (from, to) in seconds since midnight, in order.
        holidays: Days that have none.
    """

    zone: tzinfo
    weekdays: tuple[tuple[tuple[int, int], ...], ...]
    holidays: holidays.HolidayBase | None


def due_at(start_us: int, within_us: int, hours: BusinessHours | None) -> int:
    """Return when so much business time has passed since a start.

    It is the first such instant: what is due when the business closes is due then, not when it
    opens again. Business time that starts while it is closed counts from the next opening.

    Args:
        start_us: In microseconds since 1970 UTC.
        within_us: How much, in microseconds, more than 0.
        hours: When it runs, without violations (see calendars). None: always.

    Raises:
        NeverDue: so much does not come within ten years.
    """
    if hours is None:
        return start_us + within_us
    left = within_us
    name = hours.SerializeToString(deterministic=True)
    for opens, closes in _openings(name, start_us):
        opened = max(opens, start_us)
        if opened >= closes:
            continue
        if left <= closes - opened:
            return opened + left
        left -= closes - opened
    raise NeverDue(
        "so much business time does not come within ten years of these hours: ask for less, or "
        "open longer"
    )


def _openings(name: bytes, start_us: int) -> Iterator[tuple[int, int]]:
    """Yield when the business opens and closes, in order, from the day of the start on."""
    first = start_us // _DAY_US
    for day in range(first, first + HORIZON_DAYS):
        yield from _openings_of(name, day)


@lru_cache(maxsize=_DAYS)
def _openings_of(name: bytes, day: int) -> tuple[tuple[int, int], ...]:
    """Return the openings within a UTC day, which is numbered from 1970, in microseconds.

    A UTC day has one offset, or two with a change between: a local day may not come at all.
    """
    calendar = _calendar(name)
    start, end = day * _DAY, (day + 1) * _DAY
    before, after = _offset(calendar.zone, start), _offset(calendar.zone, end - 1)
    if before == after:
        found = _open_between(calendar, start, end, before)
    else:
        change = _change(calendar.zone, start, end - 1)
        found = _open_between(calendar, start, change, before)
        found += _open_between(calendar, change, end, after)
    return tuple((opens * _SECOND_US, closes * _SECOND_US) for opens, closes in found)


def _open_between(calendar: _Calendar, start: int, end: int, offset: int) -> list[tuple[int, int]]:
    """Return the openings in [start, end), seconds since 1970 in which the offset is one."""
    found = []
    for number in range((start + offset) // _DAY, (end - 1 + offset) // _DAY + 1):
        day = _EPOCH + timedelta(days=number)
        intervals = calendar.weekdays[day.weekday()]
        if not intervals or (calendar.holidays is not None and day in calendar.holidays):
            continue
        midnight = number * _DAY - offset
        for opens, closes in intervals:
            opened, closed = max(midnight + opens, start), min(midnight + closes, end)
            if opened < closed:
                found.append((opened, closed))
    return found


def _offset(zone: tzinfo, second: int) -> int:
    """Return how many seconds the zone is ahead of UTC."""
    ahead = datetime.fromtimestamp(second, zone).utcoffset() or timedelta()
    return round(ahead.total_seconds())


def _change(zone: tzinfo, start: int, end: int) -> int:
    """Return the first second of the offset at `end`; at `start` there is another."""
    before = _offset(zone, start)
    while end - start > 1:
        middle = (start + end) // 2
        if _offset(zone, middle) == before:
            start = middle
        else:
            end = middle
    return end


@lru_cache(maxsize=_CALENDARS)
def _calendar(name: bytes) -> _Calendar:
    hours = BusinessHours.FromString(name)
    weekdays: list[list[tuple[int, int]]] = [[] for _ in range(7)]
    for interval in hours.intervals:
        weekdays[interval.weekday - 1].append(_seconds_of(interval))
    return _Calendar(
        zone_of(hours.time_zone),
        tuple(tuple(sorted(intervals)) for intervals in weekdays),
        _holidays(hours.holidays_country, hours.holidays_subdivision),
    )


def _seconds_of(interval: BusinessInterval) -> tuple[int, int]:
    opens = minute_of_day(getattr(interval, "from"))  # a word of Python's
    return opens * _MINUTE, minute_of_day(interval.to) * _MINUTE


def _holidays(country: str, subdivision: str) -> holidays.HolidayBase | None:
    if not country:
        return None
    return holidays.country_holidays(country, subdiv=subdivision or None)
