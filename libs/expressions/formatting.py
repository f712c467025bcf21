"""How values look to readers of a message."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from libs.expressions.errors import EvaluationError

MAX_SHOWN: Final = 2_000
"""How many characters of one value are shown; the rest is cut off."""

_NODES: Final = 200
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def shown(value: object) -> str:
    """Return a value as a reader sees it.

    Args:
        value: What an expression gave.

    Returns:
        Text as it is; doubles with two digits after the point, those below 1 with two significant
        ones; times in UTC to the second; durations in their two largest units; yes or no; lists
        with commas. At most MAX_SHOWN characters.

    Raises:
        EvaluationError: It is a map, an event or bytes, which have no look.
    """
    text = _shown(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case float():
            return _number(value)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case timedelta():
            return _span(value)
        case list():
            items = [_shown(item) for item in value[:_NODES]]
            return ", ".join(items + ["…"] * (len(value) > _NODES))
    raise EvaluationError(
        f"{_kind(value)} can't be shown: name what is to be shown of it, such as a field"
    )


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "-infinite" if value < 0 else "infinite"
    if abs(value) >= 1e15 or 0 < abs(value) < 1e-4:
        return f"{value:.2e}"
    digits = 2 if abs(value) >= 1 or not value else 1 - math.floor(math.log10(abs(value)))
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _span(value: timedelta) -> str:
    seconds = round(abs(value) / timedelta(seconds=1))
    parts = []
    rest = seconds
    for unit, length in _UNITS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}")
    sign = "-" if value < timedelta() and parts else ""
    return sign + (" ".join(parts[:2]) or "0 s")


def _kind(value: Any) -> str:
    return "a map" if isinstance(value, Mapping) else f"a value of type {type(value).__name__}"
