"""Which channels a notice uses, and why not the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import example
from hypothesis import given as any_of
from hypothesis import strategies as st

from libs.consents import Said
from services.notification.domain.calendars import minute_of_day, zone_of
from services.notification.domain.channels import MINUTE_US, Addressee, considered, quiet_until
from tests.given import KEY, consent, us, words
from tests.ruling import CUSTOMER, TEAM, notice
from touchline.events.v1.decisions_pb2 import ChannelVerdict, ConsideredChannel
from touchline.notification.v1.notification_pb2 import Notice, QuietHours
from touchline.times import micros_of

ALL = [f"NOTIFICATION_CHANNEL_{name}" for name in ("INBOX", "EMAIL", "WEBHOOK")]
NIGHT = {"from": "22:00", "to": "07:00", "time_zone": "Europe/Vienna"}
REACHED = Addressee(known=True, email=True, webhook=True)


def verdicts(
    said: dict[str, Any], addressee: Addressee, now: str = "2026-03-02 12:00", *, smtp: bool = True
) -> list[tuple[str, str]]:
    return [
        (ChannelVerdict.Name(one.verdict).removeprefix("CHANNEL_VERDICT_").lower(), one.reason)
        for one in look(said, addressee, now, smtp=smtp)
    ]


def look(
    said: dict[str, Any], addressee: Addressee, now: str, *, smtp: bool = True
) -> list[ConsideredChannel]:
    definition = ParseDict(said, Notice())
    return considered(definition, addressee, us(now), email_is_set_up=smtp)


def test_a_notice_without_channels_goes_to_the_inbox() -> None:
    ((verdict, reason),) = verdicts(notice(), Addressee())
    assert (verdict, reason) == ("chosen", "every recipient has an inbox")


def test_every_channel_that_can_be_used_is() -> None:
    found = verdicts(notice(channels=ALL), REACHED)
    assert [verdict for verdict, _ in found] == ["chosen"] * 3


@pytest.mark.parametrize(
    ("said", "addressee", "smtp", "reasons"),
    [
        (notice(TEAM, channels=ALL), Addressee(), True, ["PutRecipient"] * 2),
        (notice(TEAM, channels=ALL), Addressee(known=True), True, ["email address", "no URL"]),
        (notice(TEAM, channels=ALL), REACHED, False, ["TOUCHLINE_SMTP_URL", "is known"]),
        (
            notice(CUSTOMER, channels=ALL),
            Addressee(customer=True),
            True,
            ["the customer's email address", "no webhooks"],
        ),
    ],
    ids=["unknown recipient", "no addresses", "no server", "a customer without an address"],
)
def test_what_can_not_be_used_is_skipped_and_said(
    said: dict[str, Any], addressee: Addressee, smtp: bool, reasons: list[str]
) -> None:
    inbox, *others = verdicts(said, addressee, smtp=smtp)
    assert inbox[0] == "chosen"
    for (verdict, reason), expected in zip(others, reasons, strict=True):
        assert verdict == ("chosen" if expected == "is known" else "skipped")
        assert expected in reason


@pytest.mark.parametrize(
    ("changes", "inbox", "email"),
    [
        ([], "suppressed", "suppressed"),
        ([("2026-01-01", "news", "granted")], "chosen", "chosen"),
        ([("2026-01-01", "calls", "granted")], "suppressed", "suppressed"),
        ([("2026-01-01", "news", "granted", "email")], "suppressed", "chosen"),
        (
            [("2026-01-01", "news", "granted"), ("2026-01-02", "news", "withdrawn", "email")],
            "chosen",
            "suppressed",
        ),
        (
            [("2026-01-02", "news", "withdrawn"), ("2026-01-01", "news", "granted")],
            "suppressed",
            "suppressed",
        ),
    ],
    ids=["none", "granted", "another", "for email", "not for email", "withdrawn, told first"],
)
def test_what_the_customer_does_not_allow_is_suppressed(
    changes: list[Any], inbox: str, email: str
) -> None:
    said = Said((KEY,), tuple(words(*[consent(*change) for change in changes])))
    addressee = Addressee(customer=True, email=True, said=said, identity_key=KEY)
    found = verdicts(notice(CUSTOMER, purpose="news", channels=ALL[:2]), addressee)
    assert [verdict for verdict, _ in found] == [inbox, email]
    assert all("news" in reason for _, reason in found)


def test_quiet_hours_defer_emails_and_webhooks_and_not_the_inbox() -> None:
    said = notice(channels=ALL, quiet_hours=NIGHT)
    assert [verdict for verdict, _ in verdicts(said, REACHED)] == ["chosen"] * 3
    found = look(said, REACHED, "2026-03-02 22:30")
    assert [one.verdict for one in found] == [1, 2, 2]
    assert not found[0].HasField("not_before")
    assert micros_of(found[1].not_before) == us("2026-03-03 06:00")
    assert found[1].reason == (
        "quiet hours from 22:00 to 07:00 in Europe/Vienna: waits until 2026-03-03 06:00 UTC"
    )


@pytest.mark.parametrize(
    ("quiet", "now", "until"),
    [
        (NIGHT, "2026-03-02 20:59", "2026-03-02 20:59"),
        (NIGHT, "2026-03-02 21:00", "2026-03-03 06:00"),
        (NIGHT, "2026-03-03 05:59", "2026-03-03 06:00"),
        (NIGHT, "2026-03-28 22:00", "2026-03-29 05:00"),
        (NIGHT, "2026-10-24 22:00", "2026-10-25 06:00"),
        ({**NIGHT, "to": "02:30"}, "2026-03-29 00:10", "2026-03-29 01:00"),
        ({**NIGHT, "to": "02:30"}, "2026-10-25 00:10", "2026-10-25 00:30"),
        ({**NIGHT, "from": "12:00", "to": "13:30"}, "2026-03-02 11:00", "2026-03-02 12:30"),
    ],
    ids=[
        *("before", "at the start", "after midnight", "spring", "autumn"),
        *("an end that never comes", "an end that comes twice", "noon"),
    ],
)
def test_quiet_hours_end_by_the_clock_on_the_wall(
    quiet: dict[str, str], now: str, until: str
) -> None:
    assert quiet_until(ParseDict(quiet, QuietHours()), us(now)) == us(until)


_TIMES = st.integers(0, 24 * 60 - 1).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
_NOW = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
_ZONES = st.sampled_from(
    ["Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]
)


@any_of(_TIMES, _TIMES, _ZONES, _NOW)
@example("02:00", "02:30", "Australia/Lord_Howe", datetime(2026, 4, 4, 15, 10, tzinfo=UTC))
def test_the_first_moment_that_is_not_quiet_is_found(
    start: str, end: str, zone: str, now: datetime
) -> None:
    if start == end:
        return
    quiet = ParseDict({"from": start, "to": end, "time_zone": zone}, QuietHours())
    now_us = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    until_us = quiet_until(quiet, now_us)

    def is_quiet(at_us: int) -> bool:
        at = datetime.fromtimestamp(at_us / 1e6, zone_of(zone))
        minute = 60 * at.hour + at.minute
        first, last = minute_of_day(start), minute_of_day(end)
        return first <= minute < last or (last < first and (minute >= first or minute < last))

    assert not is_quiet(until_us)
    assert until_us == now_us or all(is_quiet(at) for at in (now_us, until_us - MINUTE_US // 2))
    assert until_us - now_us <= 25 * 60 * MINUTE_US
