"""The functions that expressions have besides those of CEL; docs/expressions.md lists them all."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from libs.expressions.formatting import shown

EARTH_RADIUS_KM: Final = 6371.0088
"""The mean radius R1 = (2a + b) / 3 of the Earth as the IUGG defines it, on the GRS 80 ellipsoid.

Source: H. Moritz, Geodetic Reference System 1980, Journal of Geodesy 74 (2000), p. 128-133.
"""


_NO_LOCATION: Final = "an event has no location"
_DIGITS: Final = "round takes 0 to 9 digits"

REASONS: Final = (_NO_LOCATION, _DIGITS)
"""Why functions fail, where the reason holds nothing of an event."""


def great_circle_km(
    latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float
) -> float:
    """Return the shortest way over the Earth's surface between two places.

    The Earth is taken as a sphere, which is off by at most 0.6 %.

    Args:
        latitude_a: Degrees north of the one place.
        longitude_a: Degrees east of the one place.
        latitude_b: Degrees north of the other.
        longitude_b: Degrees east of the other.

    Returns:
        Kilometres, by the haversine formula (R. W. Sinnott, Virtues of the Haversine, Sky and
        Telescope 68 (1984), p. 159), which holds for close places too.
    """
    north_a, north_b = math.radians(latitude_a), math.radians(latitude_b)
    half_north = math.sin((north_b - north_a) / 2)
    half_east = math.sin(math.radians(longitude_b - longitude_a) / 2)
    chord = half_north**2 + math.cos(north_a) * math.cos(north_b) * half_east**2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))


def distance_km(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Return how far apart two events happened, in kilometres.

    Raises:
        ValueError: One of them has no location.
    """
    return great_circle_km(*_place(a), *_place(b))


def speed_kmh(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Return how fast somebody had to travel to be at both events, in kilometres an hour.

    Returns:
        The distance over the time between them, whichever came first. At one moment: infinite, or 0
        when they happened at one place, too.

    Raises:
        ValueError: One of them has no location.
    """
    distance = distance_km(a, b)
    hours_between = abs((b["at"] - a["at"]) / timedelta(hours=1))
    if hours_between:
        return distance / float(hours_between)
    return math.inf if distance else 0.0


def _place(event: Mapping[str, Any]) -> tuple[float, float]:
    location = event.get("location")
    if location is None:
        raise ValueError(_NO_LOCATION)
    return location["latitude"], location["longitude"]


def rounded(number: float, digits: int = 0) -> float:
    """Return a number with at most so many digits after the point, halves away from zero.

    Args:
        number: The number; integers become doubles.
        digits: From 0 to 9.

    Raises:
        ValueError: The digits are out of range.
    """
    if not 0 <= digits <= 9:
        raise ValueError(_DIGITS)
    if not math.isfinite(number):
        return float(number)
    scaled = abs(number) * 10**digits
    return math.copysign(math.floor(scaled + 0.5) / 10**digits, number)


def _in_zone(at: datetime, zone: str) -> datetime:
    return at.astimezone(ZoneInfo(zone))


def _joined(values: list[Any], between: str = ", ") -> str:
    return between.join(shown(value) for value in values)


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "distance_km": distance_km,
        "speed_kmh": speed_kmh,
        "seconds": lambda span: span / timedelta(seconds=1),
        "minutes": lambda span: span / timedelta(minutes=1),
        "hours": lambda span: span / timedelta(hours=1),
        "days": lambda span: span / timedelta(days=1),
        "hour_in": lambda at, zone: _in_zone(at, zone).hour,
        "weekday_in": lambda at, zone: _in_zone(at, zone).isoweekday(),
        "date_in": lambda at, zone: _in_zone(at, zone).date().isoformat(),
        "round": rounded,
        "abs": abs,
        "sum": lambda numbers: float(sum(numbers)),
        "min": min,
        "max": max,
        "lower": lambda text: text.lower(),
        "upper": lambda text: text.upper(),
        "trim": lambda text: text.strip(),
        "join": _joined,
        "text": lambda value: shown(value),
    }
)
"""By name, how expressions call them."""

ARGUMENTS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        **dict.fromkeys(("distance_km", "speed_kmh", "hour_in", "weekday_in", "date_in"), (2, 2)),
        **dict.fromkeys(("seconds", "minutes", "hours", "days", "abs", "sum", "text"), (1, 1)),
        **dict.fromkeys(("lower", "upper", "trim", "size"), (1, 1)),
        **dict.fromkeys(("round", "join"), (1, 2)),
        **dict.fromkeys(("min", "max"), (1, 1)),
        **dict.fromkeys(("int", "uint", "double", "string", "duration", "timestamp"), (1, 1)),
        **dict.fromkeys(("contains", "startsWith", "endsWith", "matches"), (2, 2)),
        **dict.fromkeys(("getFullYear", "getMonth", "getDate", "getDayOfMonth"), (1, 1)),
        **dict.fromkeys(("getDayOfWeek", "getDayOfYear", "getHours", "getMinutes"), (1, 1)),
        **dict.fromkeys(("getSeconds", "getMilliseconds", "has"), (1, 1)),
    }
)
"""Every function there is, CEL's own too: how many arguments it takes at least and at most.

What stands before the point counts: `a.contains(b)` has two.
"""
