"""What a touchline.events.v1.EventFilter lets through, by what an event's envelope says."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_AGGREGATE_CHANGED,
    EVENT_TYPE_AGGREGATE_SNAPSHOT,
    EVENT_TYPE_DELIVERY_ATTEMPTED,
    EVENT_TYPE_NOTIFICATION_DECIDED,
    EVENT_TYPE_NOTIFICATION_READ,
    EVENT_TYPE_SCORE_CROSSED,
    EventType,
)
from touchline.events.v1.facts_pb2 import (
    VISIBILITY_PRIVATE,
    VISIBILITY_UNSPECIFIED,
    Channel,
    Direction,
    Visibility,
)
from touchline.events.v1.filter_pb2 import EventFilter
from touchline.store.v1.store_pb2 import RecordedEvent

_UNSPECIFIED: Final = 0

OF_SERVICES: Final = frozenset(
    {
        EVENT_TYPE_AGGREGATE_CHANGED,
        EVENT_TYPE_AGGREGATE_SNAPSHOT,
        EVENT_TYPE_SCORE_CROSSED,
        EVENT_TYPE_NOTIFICATION_DECIDED,
        EVENT_TYPE_DELIVERY_ATTEMPTED,
        EVENT_TYPE_NOTIFICATION_READ,
    }
)
"""The types that only Touchline's own services record."""

OF_CALLERS: Final = frozenset(EventType.values()) - OF_SERVICES - {_UNSPECIFIED}
"""The types that callers record: what an empty filter lets through."""

_ENUMS: Final = (
    ("types", EventType),
    ("channels", Channel),
    ("directions", Direction),
    ("visibilities", Visibility),
)


class Filter(NamedTuple):
    """A filter, ready to be asked. None lets everything through.

    Attributes:
        types: Event types.
        channels: Channels.
        directions: Directions.
        visibilities: Visibilities.
    """

    types: frozenset[int]
    channels: frozenset[int] | None
    directions: frozenset[int] | None
    visibilities: frozenset[int] | None

    def passes(self, record: RecordedEvent) -> bool:
        """Tell whether an event passes, which takes nothing but its envelope."""
        return (
            record.type in self.types
            and (self.channels is None or record.channel in self.channels)
            and (self.directions is None or record.direction in self.directions)
            and (self.visibilities is None or record.visibility in self.visibilities)
        )


def compile_filter(filter_: EventFilter) -> Filter:
    """Return a filter that `filter_violations` finds nothing wrong with, ready to be asked."""
    types, visibilities = _wanted(filter_.types), _wanted(filter_.visibilities)
    if visibilities is not None and VISIBILITY_PRIVATE in visibilities:
        visibilities |= {VISIBILITY_UNSPECIFIED}
    return Filter(
        types=OF_CALLERS if types is None else types,
        channels=_wanted(filter_.channels),
        directions=_wanted(filter_.directions),
        visibilities=visibilities,
    )


def filter_violations(filter_: EventFilter, path: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a filter: field path and description.

    Args:
        filter_: The caller's.
        path: The filter's field in the request, such as `definition.rules[0].on`.
    """
    for name, enum in _ENUMS:
        known: Any = enum
        for index, number in enumerate(getattr(filter_, name)):
            if number not in known.values():
                yield f"{path}.{name}[{index}]", f"is {number}, which this release does not know"


def _wanted(numbers: Sequence[int]) -> frozenset[int] | None:
    if not numbers or _UNSPECIFIED in numbers:
        return None
    return frozenset(numbers)
