"""Amounts, times and texts as a person writes them."""

import unicodedata
from datetime import UTC, datetime, timedelta, tzinfo

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.rendering import palette
from touchline.events.v1 import facts_pb2 as facts

SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
WITHOUT_CENTS = frozenset({"JPY", "KRW", "CLP", "ISK", "VND"})
MICROS = 1_000_000

CHANNELS = {
    facts.CHANNEL_UNSPECIFIED: "",
    facts.CHANNEL_PHONE: "phone",
    facts.CHANNEL_EMAIL: "email",
    facts.CHANNEL_CHAT: "chat",
    facts.CHANNEL_SMS: "SMS",
    facts.CHANNEL_SOCIAL: "social",
    facts.CHANNEL_COMMUNITY: "community",
    facts.CHANNEL_WEB: "web",
    facts.CHANNEL_APP: "app",
    facts.CHANNEL_IN_PERSON: "in person",
    facts.CHANNEL_POSTAL: "letter",
}


def money(amount: facts.Money) -> str:
    """Returns an amount such as `€ 1,249.00`, rounded half up to the currency's usual digits."""
    digits = 0 if amount.currency_code in WITHOUT_CENTS else 2
    unit = MICROS // 10**digits
    whole, rest = divmod((abs(amount.micros) + unit // 2) // unit, 10**digits)
    cents = f".{rest:02d}" if digits else ""
    sign = "-" if amount.micros < 0 and (whole or rest) else ""
    name = SYMBOLS.get(amount.currency_code, plain(amount.currency_code))
    return f"{sign}{name} {whole:,}{cents}"


def duration(seconds: int) -> str:
    """Returns a duration such as `45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds} s"
    minutes = (seconds + 30) // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def local(stamp: Timestamp, zone: tzinfo | None) -> datetime:
    """Returns a timestamp in a time zone; None: this machine's."""
    return datetime.fromtimestamp(stamp.seconds, tz=UTC).astimezone(zone)


def day(moment: datetime) -> str:
    """Returns a day such as `Tue 3 Nov 2026`."""
    return f"{moment:%a} {moment.day} {moment:%b} {moment.year}"


def date(moment: datetime, now: datetime) -> str:
    """Returns a date such as `3 Nov`, with the year unless it is this year."""
    year = "" if moment.year == now.year else f" {moment.year}"
    return f"{moment.day} {moment:%b}{year}"


def when(moment: datetime, now: datetime) -> str:
    """Returns a time such as `today 17:00` or `3 Nov 17:00`."""
    near = {0: "today", -1: "yesterday", 1: "tomorrow"}
    return f"{near.get(_days(moment, now), date(moment, now))} {moment:%H:%M}"


def distance(moment: datetime, now: datetime) -> str:
    """Returns how far a day is, such as `yesterday`, `12 days ago` or `in 3 days`."""
    days = _days(moment, now)
    near = {0: "today", -1: "yesterday", 1: "tomorrow"}
    far = f"{-days:,} days ago" if days < 0 else f"in {days:,} days"
    return near.get(days, far)


def span(first: datetime, last: datetime, now: datetime) -> str:
    """Returns two dates as one span, such as `22 Sep - 3 Nov`, or one date when they are equal."""
    if first.date() == last.date():
        return date(first, now)
    return f"{date(first, now)} {palette.DASH} {date(last, now)}"


def age(moment: datetime, now: datetime) -> str:
    """Returns how long ago something was, such as `now`, `40 s ago` or `3 h ago`."""
    passed = now - moment
    if passed < timedelta(seconds=1):
        return "now"
    if passed < timedelta(minutes=1):
        return f"{passed.seconds} s ago"
    if passed < timedelta(hours=1):
        return f"{passed.seconds // 60} min ago"
    if passed < timedelta(days=1):
        return f"{passed.seconds // 3600} h ago"
    return f"{passed.days:,} d ago"


def ahead(moment: datetime, now: datetime) -> str:
    """Returns how far off a time is, such as `in 40 s`, `in 3 h` or, when it is past, `3 h ago`."""
    if moment <= now:
        return age(moment, now)
    off = age(now, moment).removesuffix(" ago")
    return off if off == "now" else f"in {off}"


def count(number: int, noun: str) -> str:
    """Returns a number with its noun, such as `1 event` or `1,289 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def plain(text: str) -> str:
    """Returns a text on one line without anything that could steer a terminal.

    What customers write reaches the screen: escape sequences and characters that turn the writing
    direction are dropped, white space is folded.
    """
    kept = (" " if char.isspace() else char for char in text)
    return " ".join("".join(char for char in kept if unicodedata.category(char)[0] != "C").split())


def clip(text: str, limit: int) -> str:
    """Returns a text of at most `limit` characters, cut at a word and marked by an ellipsis."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1].rstrip()
    head, space, _ = cut.rpartition(" ")
    whole = head if space and len(head) > limit // 2 else cut
    return whole.rstrip(" ,.;:") + "…"


def human(identifier: str) -> str:
    """Returns an identifier such as `job_change` as words: `Job change`."""
    words = plain(identifier.replace("_", " ").replace("-", " "))
    return words[:1].upper() + words[1:]


def named(values: EnumDescriptor, number: int, prefix: str) -> str:
    """Returns an enum's value in words: its name without a prefix, an unknown one by its number."""
    value = values.values_by_number.get(number)
    if value is None:
        return str(number)
    return value.name.removeprefix(prefix).lower().replace("_", " ") if number else ""


def _days(moment: datetime, now: datetime) -> int:
    return (moment.date() - now.date()).days
