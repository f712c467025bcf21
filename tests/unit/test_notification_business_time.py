"""Business time against a clock that is looked at minute by minute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import holidays
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notification.domain.business_time import NeverDue, due_at
from services.notification.domain.calendars import business_hours_violations
from touchline.notification.v1.notification_pb2 import BusinessHours, BusinessInterval

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def opening(weekday: int, opens: str, closes: str) -> BusinessInterval:
    return BusinessInterval(**{"weekday": weekday, "from": opens, "to": closes})  # type: ignore[arg-type]


def hours(
    *intervals: BusinessInterval, zone: str = "Europe/Berlin", country: str = "", part: str = ""
) -> BusinessHours:
    return BusinessHours(
        time_zone=zone, intervals=intervals, holidays_country=country, holidays_subdivision=part
    )


def weekdays(*spans: tuple[str, str], zone: str = "Europe/Berlin") -> BusinessHours:
    """Monday to Friday, each day alike."""
    return hours(*[opening(day, *span) for day in range(1, 6) for span in spans], zone=zone)


def at(local: str, zone: str = "Europe/Berlin") -> int:
    """Microseconds since 1970 of a wall clock; `~` in front for the second time it shows that."""
    told = datetime.fromisoformat(local.removeprefix("~")).replace(tzinfo=ZoneInfo(zone))
    return round(told.replace(fold=int(local.startswith("~"))).timestamp()) * 1_000_000


OFFICE = weekdays(("09:00", "12:00"), ("13:00", "17:00"))


@pytest.mark.parametrize(
    ("start", "within", "due"),
    [
        ("2026-03-03 09:30", HOUR, "2026-03-03 10:30"),
        ("2026-03-03 11:30", HOUR, "2026-03-03 13:30"),  # over lunch
        ("2026-03-03 11:00", HOUR, "2026-03-03 12:00"),  # as it closes, not as it opens
        ("2026-03-03 12:00", HOUR, "2026-03-03 14:00"),
        ("2026-03-03 03:00", HOUR, "2026-03-03 10:00"),
        ("2026-03-06 16:30", HOUR, "2026-03-09 09:30"),  # over the weekend
        ("2026-03-07 12:00", HOUR, "2026-03-09 10:00"),
        ("2026-03-03 09:00", 35 * HOUR, "2026-03-09 17:00"),  # a week
        ("2026-03-03 16:59:59.999999", 1, "2026-03-03 17:00"),
    ],
)
def test_business_time_runs_while_the_business_is_open(start: str, within: int, due: str) -> None:
    began = datetime.fromisoformat(start)
    start_us = at(str(began.replace(microsecond=0))) + began.microsecond
    assert due_at(start_us, within, OFFICE) == at(due)


def test_without_hours_it_is_time() -> None:
    assert due_at(17, HOUR, None) == 17 + HOUR


def test_public_holidays_of_a_subdivision_have_no_business_time() -> None:
    bavaria = hours(*OFFICE.intervals, country="DE", part="BY")
    prussia = hours(*OFFICE.intervals, country="DE", part="BE")
    eve = at("2026-01-05 16:00")  # before Epiphany, a holiday in Bavaria only
    assert due_at(eve, 2 * HOUR, bavaria) == at("2026-01-07 10:00")
    assert due_at(eve, 2 * HOUR, prussia) == at("2026-01-06 10:00")


def test_an_interval_on_a_day_that_loses_an_hour_is_an_hour_shorter() -> None:
    nights = hours(*[opening(day, "01:00", "05:00") for day in range(1, 8)])
    start = at("2026-03-29 00:00")  # 02:00 becomes 03:00
    assert due_at(start, 3 * HOUR, nights) == at("2026-03-29 05:00")
    assert due_at(start, 3 * HOUR + 1, nights) == at("2026-03-30 01:00") + 1


def test_an_interval_on_a_day_that_gains_an_hour_is_an_hour_longer() -> None:
    nights = hours(*[opening(day, "01:00", "05:00") for day in range(1, 8)])
    start = at("2026-10-25 00:00")  # 03:00 becomes 02:00
    assert due_at(start, 5 * HOUR, nights) == at("2026-10-25 05:00")


def test_an_interval_in_the_repeated_hour_comes_twice_and_one_in_the_skipped_hour_never() -> None:
    half = hours(opening(7, "02:15", "02:45"))
    assert due_at(at("2026-10-25 00:00"), 45 * MINUTE, half) == at("~2026-10-25 02:30")
    assert due_at(at("2026-03-29 00:00"), 45 * MINUTE, half) == at("2026-04-12 02:30")


def test_a_day_that_its_time_zone_skipped_has_no_business_time() -> None:
    samoa = hours(*[opening(day, "00:00", "24:00") for day in range(1, 8)], zone="Pacific/Apia")
    fridays = hours(opening(5, "09:00", "10:00"), zone="Pacific/Apia")
    before = at("2011-12-29 23:00", "Pacific/Apia")
    assert due_at(before, 2 * HOUR, samoa) == at("2011-12-31 01:00", "Pacific/Apia")
    assert due_at(before, HOUR, fridays) == at("2012-01-06 10:00", "Pacific/Apia")


def test_what_does_not_come_within_ten_years_is_said() -> None:
    minute = hours(opening(1, "09:00", "09:01"))
    assert due_at(at("2026-03-02 08:00"), MINUTE, minute) == at("2026-03-02 09:01")
    with pytest.raises(NeverDue, match="ask for less"):
        due_at(at("2026-03-02 08:00"), DAY, minute)


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "UTC")
"""One changes by half an hour, and one at midnight."""


@st.composite
def business(draw: st.DrawFn) -> BusinessHours:
    """Hours of up to three intervals on each of some days."""
    intervals = []
    for weekday in draw(st.sets(st.integers(1, 7), min_size=3)):
        marks = sorted(draw(st.sets(st.integers(0, 96), min_size=2, max_size=6)))
        for opens, closes in zip(marks[::2], marks[1::2], strict=False):
            intervals.append(opening(weekday, clock(opens * 15), clock(closes * 15)))
    country, part = draw(st.sampled_from([("", ""), ("DE", "BY"), ("US", "")]))
    zone = draw(st.sampled_from(ZONES))
    return hours(*draw(st.permutations(intervals)), zone=zone, country=country, part=part)


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def by_the_minute(start_us: int, within_us: int, wanted: BusinessHours) -> int:
    """Looks at the wall clock at every minute."""
    zone = ZoneInfo(wanted.time_zone)
    days_off: Sequence[object] = ()
    if wanted.holidays_country:
        days_off = holidays.country_holidays(  # type: ignore[assignment]
            wanted.holidays_country, subdiv=wanted.holidays_subdivision or None
        )
    open_at = {
        (interval.weekday, minute)
        for interval in wanted.intervals
        for minute in range(minute_of(getattr(interval, "from")), minute_of(interval.to))
    }
    now, left = start_us, within_us
    while True:
        wall = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now)).astimezone(zone)
        if (wall.isoweekday(), wall.hour * 60 + wall.minute) in open_at and (
            wall.date() not in days_off
        ):
            left -= MINUTE
        now += MINUTE
        if left <= 0:
            return now


def minute_of(text: str) -> int:
    hour, minute = map(int, text.split(":"))
    return hour * 60 + minute


STARTS = st.sampled_from(
    # Around changes of clocks, and a Christmas.
    ["2026-03-27", "2026-03-07", "2026-10-24", "2026-10-31", "2026-04-04", "2026-12-24"]
)


@settings(max_examples=60, deadline=None)
@given(business(), STARTS, st.integers(0, 3 * 24 * 60), st.integers(1, 20 * 60))
def test_business_time_is_what_the_wall_clock_says(
    wanted: BusinessHours, day: str, later: int, minutes: int
) -> None:
    start = at(day, "UTC") + later * MINUTE
    expected = by_the_minute(start, minutes * MINUTE, wanted)
    assert due_at(start, minutes * MINUTE, wanted) == expected
    # What passes in two parts passes in one.
    if minutes > 1:
        half = due_at(start, minutes // 2 * MINUTE, wanted)
        assert due_at(half, (minutes - minutes // 2) * MINUTE, wanted) == expected


def test_hours_without_fault_have_no_violations() -> None:
    assert business_hours_violations(OFFICE, "hours") == []
    sundays = hours(opening(7, "00:00", "24:00"), country="DE", part="BY")
    assert business_hours_violations(sundays, "hours") == []


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (hours(opening(1, "09:00", "17:00"), zone="Mars/Olympus"), "time_zone"),
        (hours(opening(1, "09:00", "17:00"), zone=""), "time_zone"),
        (hours(opening(1, "09:00", "17:00"), zone="Europe"), "time_zone"),
        (hours(opening(1, "09:00", "17:00"), zone="../etc/passwd"), "time_zone"),
        (hours(), "intervals"),
        (hours(*[opening(1, "09:00", "09:01")] * 71), "intervals"),
        (hours(opening(0, "09:00", "17:00")), "intervals[0].weekday"),
        (hours(opening(1, "09:00", "17:00"), opening(8, "09:00", "17:00")), "intervals[1].weekday"),
        (hours(opening(1, "9:00", "17:00")), "intervals[0].from"),
        (hours(opening(1, "24:00", "24:00")), "intervals[0].to"),
        (hours(opening(1, "09:00", "24:01")), "intervals[0].to"),
        (hours(opening(1, "09:00", "09:00")), "intervals[0].to"),
        (hours(opening(5, "22:00", "06:00")), "intervals[0].to"),
        (hours(opening(1, "09:00", "13:00"), opening(1, "12:59", "17:00")), "intervals[1]"),
        (hours(opening(1, "09:00", "17:00"), country="XX"), "holidays_country"),
        (hours(opening(1, "09:00", "17:00"), country="Germany"), "holidays_country"),
        (hours(opening(1, "09:00", "17:00"), country="DE", part="XX"), "holidays_subdivision"),
        (hours(opening(1, "09:00", "17:00"), part="BY"), "holidays_subdivision"),
    ],
)
def test_what_is_wrong_with_hours_is_said_by_field(wrong: BusinessHours, path: str) -> None:
    found = business_hours_violations(wrong, "hours")
    assert f"hours.{path}" in [field for field, _ in found]
    assert all(description for _, description in found)
