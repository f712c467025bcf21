"""Times of day and time zones as rules write them, and what is wrong with those that are not."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

import holidays

from touchline.notification.v1.notification_pb2 import BusinessHours, QuietHours

Violation = tuple[str, str]
"""The path of a field, and what is wrong with it."""

MINUTES_OF_DAY: Final = 24 * 60
MAX_INTERVALS: Final = 70
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_WEEKDAYS: Final = range(1, 8)
_ZONE: Final = "is not an IANA time zone; write it as Europe/Vienna"


def minute_of_day(text: str) -> int:
    """Return a time of day such as `09:30` in minutes since midnight; `24:00` is the day's end.

    Raises:
        ValueError: it is written otherwise.
    """
    if text == "24:00":
        return MINUTES_OF_DAY
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("is not a time of day; write it as 09:30")
    return 60 * int(found[1]) + int(found[2])


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        ValueError: there is none of this name.
    """
    # Its own error differs with the name's form, and it would read a path as a file.
    if name not in _zones():
        raise ValueError(_ZONE)
    return ZoneInfo(name)


def quiet_hours_violations(quiet: QuietHours, path: str) -> list[Violation]:
    """Return what is wrong with quiet hours, below the path of their field."""
    found = _zone_violations(quiet.time_zone, path)
    start, start_violations = _minute(getattr(quiet, "from"), f"{path}.from")
    end, end_violations = _minute(quiet.to, f"{path}.to")
    found += start_violations + end_violations
    if MINUTES_OF_DAY in (start, end):
        found.append((path, "starts or ends at 24:00; write 00:00"))
    elif start is not None and start == end:
        found.append((path, "starts and ends at the same time; leave quiet hours out"))
    return found


def business_hours_violations(hours: BusinessHours, path: str) -> list[Violation]:
    """Return what is wrong with business hours, below the path of their field."""
    found = _zone_violations(hours.time_zone, path)
    count = len(hours.intervals)
    if not 1 <= count <= MAX_INTERVALS:
        found.append((f"{path}.intervals", f"has {count} entries; give 1 to {MAX_INTERVALS}"))
    spans: list[tuple[int, int, int, str]] = []
    for index, interval in enumerate(hours.intervals):
        at = f"{path}.intervals[{index}]"
        start, start_violations = _minute(getattr(interval, "from"), f"{at}.from")
        end, end_violations = _minute(interval.to, f"{at}.to")
        found += start_violations + end_violations
        if interval.weekday not in _WEEKDAYS:
            found.append((f"{at}.weekday", "is not 1 (Monday) to 7"))
        elif start is not None and end is not None:
            spans.append((interval.weekday, start, end, at))
    return found + _span_violations(spans) + _holiday_violations(hours, path)


def _minute(text: str, path: str) -> tuple[int | None, list[Violation]]:
    if not text:
        return None, [(path, "is missing; write it as 09:30")]
    try:
        return minute_of_day(text), []
    except ValueError as error:
        return None, [(path, str(error))]


def _zone_violations(name: str, path: str) -> list[Violation]:
    try:
        zone_of(name)
    except ValueError as error:
        told = str(error) if name else "is missing; write it as Europe/Vienna"
        return [(f"{path}.time_zone", told)]
    return []


def _span_violations(spans: Iterable[tuple[int, int, int, str]]) -> list[Violation]:
    found: list[Violation] = []
    last_day = last_end = 0
    for day, start, end, path in sorted(spans):
        if end <= start:
            found.append((f"{path}.to", "is not after `from`; split what passes midnight"))
            continue
        if day == last_day and start < last_end:
            found.append((path, "overlaps another interval of its day"))
        last_day, last_end = day, max(end, last_end if day == last_day else 0)
    return found


def _holiday_violations(hours: BusinessHours, path: str) -> list[Violation]:
    country, subdivision = hours.holidays_country, hours.holidays_subdivision
    if not country:
        told = "is given without a country; give holidays_country as well"
        return [(f"{path}.holidays_subdivision", told)] if subdivision else []
    subdivisions = _countries().get(country)
    if subdivisions is None:
        told = "is no country whose public holidays are known; write ISO 3166, as DE"
        return [(f"{path}.holidays_country", told)]
    if subdivision and subdivision not in subdivisions:
        return [(f"{path}.holidays_subdivision", f"is no subdivision of {country} with holidays")]
    return []


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


@lru_cache(maxsize=1)
def _countries() -> dict[str, list[str]]:
    return holidays.list_supported_countries()
