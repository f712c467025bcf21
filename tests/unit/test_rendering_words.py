"""Amounts, times and texts as a person writes them."""

from datetime import datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from libs.cli.rendering import words
from tests.terminal import NOW
from touchline.events.v1.facts_pb2 import Money


@pytest.mark.parametrize(
    ("currency", "micros", "said"),
    [
        ("EUR", 1_249_000_000, "€ 1,249.00"),
        ("EUR", 11_770_000, "€ 11.77"),
        ("USD", -5_500_000, "-$ 5.50"),
        ("EUR", -1, "€ 0.00"),
        ("CHF", 5_000, "CHF 0.01"),
        ("JPY", 1_500_000_000, "¥ 1,500"),
        ("EUR", 0, "€ 0.00"),
    ],
)
def test_money(currency: str, micros: int, said: str) -> None:
    assert words.money(Money(currency_code=currency, micros=micros)) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (719, "12 min"),
        (3_599, "1 h"),
        (12_000, "3 h 20 min"),
        (4_294_967_295, "1,193,046 h 28 min"),
    ],
)
def test_durations(seconds: int, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("days", "when", "distance"),
    [
        (0, "today 15:20", "today"),
        (-1, "yesterday 15:20", "yesterday"),
        (1, "tomorrow 15:20", "tomorrow"),
        (-12, "22 Oct 15:20", "12 days ago"),
        (3, "6 Nov 15:20", "in 3 days"),
        (-400, "29 Sep 2025 15:20", "400 days ago"),
    ],
)
def test_times_are_told_from_where_the_reader_stands(days: int, when: str, distance: str) -> None:
    moment = NOW + timedelta(days=days)
    assert words.when(moment, NOW) == when
    assert words.distance(moment, NOW) == distance


def test_a_timestamp_is_told_in_the_readers_time_zone() -> None:
    zone = timezone(timedelta(hours=9))
    stamp = Timestamp(seconds=int(NOW.timestamp()))
    assert words.local(stamp, zone) == datetime(2026, 11, 4, 0, 20, tzinfo=zone)
    assert words.day(words.local(stamp, zone)) == "Wed 4 Nov 2026"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "now"), (0.2, "now"), (40, "40 s ago"), (150, "2 min ago"), (7_300, "2 h ago")],
)
def test_ages(seconds: float, said: str) -> None:
    assert words.age(NOW - timedelta(seconds=seconds), NOW) == said


@given(st.text(), st.integers(2, 50))
def test_a_clipped_text_is_never_longer_and_a_plain_one_steers_nothing(
    text: str, limit: int
) -> None:
    plain = words.plain(text)
    assert len(words.clip(plain, limit)) <= limit
    assert plain.isprintable() or plain == "" or not set(plain) & set(map(chr, range(32)))
    assert "\x1b" not in plain
    assert "\n" not in plain


def test_identifiers_become_words_and_counts_agree() -> None:
    assert words.human("job_change") == "Job change"
    assert words.count(1, "event") == "1 event"
    assert words.count(1289, "event") == "1,289 events"
