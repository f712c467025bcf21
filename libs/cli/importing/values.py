"""From text to the value of a field: text, enums, numbers, times and money, exactly.

A converter takes text that isn't empty and raises ValueError with the reason, which completes a
sentence such as `column "date" …` and never quotes the text.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from functools import lru_cache
from math import isfinite
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.importing.errors import Place, suggestion
from touchline.events.v1.facts_pb2 import Money

Convert = Callable[[str], Any]

OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": (),
    "enum": (),
    "truth": (),
    "integer": ("decimal", "thousands"),
    "number": ("decimal", "thousands"),
    "timestamp": ("format", "time_zone"),
    "money": ("currency", "decimal", "thousands"),
}
"""The kinds of field a mapping can fill from text, with the options of each."""

_MICROS = Decimal(1_000_000)
_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEPT = 1 << 14  # values whose conversion is remembered: dates and amounts repeat

_F = FieldDescriptor
_KINDS = {
    _F.TYPE_STRING: "text",
    _F.TYPE_ENUM: "enum",
    _F.TYPE_BOOL: "truth",
    _F.TYPE_DOUBLE: "number",
    _F.TYPE_FLOAT: "number",
    _F.TYPE_INT32: "integer",
    _F.TYPE_INT64: "integer",
    _F.TYPE_UINT32: "integer",
    _F.TYPE_UINT64: "integer",
}
_RANGES = {
    _F.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    _F.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    _F.TYPE_UINT32: (0, (1 << 32) - 1),
    _F.TYPE_UINT64: (0, (1 << 64) - 1),
}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def kind_of(field: FieldDescriptor) -> str | None:
    """Return the kind of a field's value, a key of OPTIONS; None for any other message."""
    if field.type == _F.TYPE_MESSAGE:
        names = {Timestamp.DESCRIPTOR.full_name: "timestamp", Money.DESCRIPTOR.full_name: "money"}
        return names.get(message_type(field).full_name)
    return _KINDS.get(field.type)


def message_type(field: FieldDescriptor) -> Descriptor:
    """Return the type of a field that holds a message."""
    return cast("Descriptor", field.message_type)


def converter(field: FieldDescriptor, options: Mapping[str, Any], place: Place) -> Convert | None:
    """Return what turns text into the field's value; None when text is the value.

    Money whose currency is a column of its own needs `money_converter`.

    Raises:
        MappingError: An option can't be what it is.
    """
    kind = kind_of(field)
    if kind == "enum":
        return _enum_converter(cast("EnumDescriptor", field.enum_type))
    if kind == "truth":
        return _truth
    if kind == "money":
        return _one_currency(money_converter(options, place), options.get("currency"), place)
    if kind == "timestamp":
        return lru_cache(_KEPT)(_timestamp_converter(options, place))
    if kind == "integer":
        return lru_cache(_KEPT)(_integer_converter(_RANGES[field.type], _plain(options, place)))
    if kind == "number":
        return _number_converter(_plain(options, place))
    return None


def money_converter(options: Mapping[str, Any], place: Place) -> Callable[[str, str], Money]:
    """Return what turns an amount and an ISO 4217 code into Money, exact to the micro."""
    plain = _plain(options, place)

    def money(text: str, currency: str) -> Money:
        code = currency.upper()
        if not _CURRENCY.fullmatch(code):
            raise ValueError("has a currency that is no ISO 4217 code, such as USD")
        return Money(currency_code=code, micros=_micros(plain(text)))

    return lru_cache(_KEPT)(money)


def short_names(enum: EnumDescriptor) -> dict[str, int]:
    """Return the values of an enum by the short names a mapping uses, such as `placed`."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {
        value.name.removeprefix(prefix).lower(): value.number
        for value in enum.values
        if value.number
    }


def _one_currency(convert: Callable[[str, str], Money], currency: Any, place: Place) -> Convert:
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency.upper()):
        raise place.at("currency").error('must be an ISO 4217 code, such as "USD", or a column')
    return lambda text: convert(text, currency)


def _enum_converter(enum: EnumDescriptor) -> Convert:
    names = short_names(enum)
    full = {value.name.lower(): value.number for value in enum.values if value.number}
    numbers = {**full, **names}

    def number(text: str) -> int:
        found = numbers.get(text.lower().replace(" ", "_").replace("-", "_"))
        if found is None:
            known = ", ".join(names)
            raise ValueError(f"is none of {known}; translate it with map = {{…}}")
        return found

    return number


def _truth(text: str) -> bool:
    found = _TRUTH.get(text.lower())
    if found is None:
        raise ValueError("is neither true nor false")
    return found


def _plain(options: Mapping[str, Any], place: Place) -> Callable[[str], Decimal]:
    mark = options.get("decimal", ".")
    thousands = options.get("thousands", "")
    if mark not in (".", ","):
        raise place.at("decimal").error('must be "." or ","')
    if not isinstance(thousands, str) or len(thousands) > 1 or thousands == mark:
        raise place.at("thousands").error("must be one character that is not the decimal mark")

    def decimal(text: str) -> Decimal:
        if thousands:
            text = text.replace(thousands, "")
        if mark == ",":
            # A point that is no thousands mark must stay one that makes the number invalid.
            text = text.replace(".", "x").replace(",", ".")
        if not _NUMBER.fullmatch(text):
            raise ValueError("is no number")
        return Decimal(text)

    return decimal


def _integer_converter(bounds: tuple[int, int], plain: Callable[[str], Decimal]) -> Convert:
    lowest, highest = bounds

    def integer(text: str) -> int:
        value = plain(text)
        if not lowest <= value <= highest:
            raise ValueError(f"is not between {lowest} and {highest}")
        if value != value.to_integral_value():
            raise ValueError("is no whole number")
        return int(value)

    return integer


def _number_converter(plain: Callable[[str], Decimal]) -> Convert:
    def number(text: str) -> float:
        value = float(plain(text))
        if not isfinite(value):
            raise ValueError("is too large")
        return value

    return number


def _micros(amount: Decimal) -> int:
    try:
        micros = _EXACT.multiply(amount, _MICROS)
    except DecimalException:
        raise ValueError("has too many digits for an amount") from None
    if abs(micros) >= 1 << 63:
        raise ValueError("is too large for an amount")
    if micros != micros.to_integral_value():
        raise ValueError("has more than 6 decimals, and an amount is never rounded")
    return int(micros)


def _timestamp_converter(options: Mapping[str, Any], place: Place) -> Convert:
    patterns = options.get("format", "iso")
    if not isinstance(patterns, list):
        return _one_format(patterns, options, place)
    converters = [_one_format(pattern, options, place) for pattern in patterns]
    if not converters:
        raise place.at("format").error("names no format; leave it out for ISO 8601")

    def timestamp(text: str) -> Any:
        for convert in converters[:-1]:
            with suppress(ValueError):
                return convert(text)
        return converters[-1](text)

    return timestamp


def _one_format(pattern: Any, options: Mapping[str, Any], place: Place) -> Convert:
    if not isinstance(pattern, str) or not (
        pattern in ("iso", "unix", "unix_ms") or "%" in pattern
    ):
        known = ("iso", "unix", "unix_ms")
        close = suggestion(pattern, known) if isinstance(pattern, str) else ""
        raise place.at("format").error(
            f'must be "iso", "unix", "unix_ms" or a pattern such as "%Y-%m-%d %H:%M".{close}'
        )
    zone = _zone(options.get("time_zone"), place.at("time_zone"))
    if pattern.startswith("unix"):
        return _unix_converter(1_000_000 if pattern == "unix" else 1_000)
    if pattern != "iso" and zone is None and "%z" not in pattern:
        raise place.error('needs time_zone = "UTC" or another, since the format has no offset')

    def timestamp(text: str) -> Timestamp:
        try:
            when = (
                datetime.fromisoformat(text)
                if pattern == "iso"
                else datetime.strptime(text, pattern)
            )
        except ValueError:
            told = "ISO 8601" if pattern == "iso" else pattern
            raise ValueError(f"is no time in the form {told}") from None
        if when.tzinfo is None:
            if zone is None:
                raise ValueError("has no offset from UTC; set time_zone")
            when = when.replace(tzinfo=zone)
        return _timestamp(when)

    return timestamp


def _zone(name: Any, place: Place) -> tzinfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, TypeError, LookupError):
        raise place.error('must be an IANA time zone, such as "Europe/Vienna" or "UTC"') from None


def _timestamp(when: datetime) -> Timestamp:
    try:
        since: timedelta = when - _EPOCH
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999") from None
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def _unix_converter(micros_per_unit: int) -> Convert:
    plain = _plain({}, Place(""))

    def timestamp(text: str) -> Timestamp:
        value = plain(text)
        if abs(value) > 10**15:
            raise ValueError("is outside the years 1 to 9999")
        micros = int(value * micros_per_unit)
        if not -62_135_596_800_000_000 <= micros <= 253_402_300_799_999_999:
            raise ValueError("is outside the years 1 to 9999")
        return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1_000)

    return timestamp
