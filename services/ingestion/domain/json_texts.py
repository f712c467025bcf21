"""Reads JSON that callers sent as text, strictly.

What two readers could take for different things is refused. What is said of a text never repeats
anything in it.
"""

import json
from decimal import Decimal
from typing import Final

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 100
MAX_EXPONENT: Final = 300
"""Any number up to there is one to an expression too, whose numbers are doubles."""


class Unreadable(Exception):
    """A text is not the JSON it has to be. The message follows the name of a field."""


def is_too_large(text: str) -> bool:
    """Tell whether a text has more than 64 KiB."""
    return len(text) > MAX_BYTES or (not text.isascii() and len(text.encode()) > MAX_BYTES)


def too_large() -> str:
    """Say that a text has more than 64 KiB."""
    return f"has more than {MAX_BYTES:,} bytes; shorten or split it"


def read_json(text: str, most: int | None = None) -> object:
    """Return what a text says; numbers with a point or exponent as Decimal, so that none changes.

    Args:
        text: The text.
        most: How many values it may have, those within others included. Default: any number.

    Raises:
        Unreadable: it is larger than 64 KiB, no JSON, nested more than 32 deep, names a property
            twice, or has too many values or a number or text that others could not read.
    """
    if is_too_large(text):
        raise Unreadable(too_large())
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_decimal,
            parse_constant=_no_number,
        )
    except json.JSONDecodeError as error:
        raise Unreadable(f"is not JSON, from character {error.pos + 1:,} on") from None
    except RecursionError:
        raise Unreadable(_too_deep()) from None
    if _count(value, 1) > (most or MAX_BYTES):
        raise Unreadable(f"has more than {most:,} values; send fewer, or split it")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("names a property twice; readers disagree on which one counts")
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise Unreadable(_too_long())
    return int(digits)


def _decimal(digits: str) -> Decimal:
    if len(digits) > MAX_DIGITS:
        raise Unreadable(_too_long())
    number = Decimal(digits)
    if number and abs(number.adjusted()) > MAX_EXPONENT:
        raise Unreadable(f"has a number beyond 1e±{MAX_EXPONENT}")
    return number


def _no_number(_: str) -> object:
    raise Unreadable("has NaN or Infinity, which are not JSON")


def _count(value: object, depth: int) -> int:
    """Return how many values there are in one, itself included, and look at each."""
    if isinstance(value, str):
        _check_text(value)
    if not isinstance(value, dict | list):
        return 1
    if depth > MAX_DEPTH:
        raise Unreadable(_too_deep())
    if isinstance(value, dict):
        for name in value:
            _check_text(name)
    inner = value.values() if isinstance(value, dict) else value
    return 1 + sum(_count(one, depth + 1) for one in inner)


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unreadable("has half of a surrogate pair, which is no Unicode") from None


def _too_deep() -> str:
    return f"is nested more than {MAX_DEPTH} deep"


def _too_long() -> str:
    return f"has a number of more than {MAX_DIGITS} characters; send it as text"
