"""All there is of one customer, in the order an export tells it, in messages of bounded size."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

from libs.projection.profiles import Profile
from services.profile.domain import ATTRIBUTES_READ, Touch
from services.profile.reading import LAST_ID, LATEST, Page, Profiles, Reader, entry
from touchline.profile.v1.erasure_pb2 import AttributeValue, ExportedItem
from touchline.profile.v1.profile_service_pb2 import ExportProfileResponse
from touchline.times import timestamp_of

MOST_BYTES: Final = 1 << 20
"""A message has no more, unless a single item has."""
_PAGE: Final = 100  # of at most 256 KiB each
_BEGINNING: Final = (-1, bytes(16))
_FRAME_BYTES: Final = 8  # an item's tag and length, at most


def messages(items: Iterable[ExportedItem]) -> Iterator[ExportProfileResponse]:
    """Yield items in messages of at most MOST_BYTES."""
    message, size = ExportProfileResponse(), 0
    for item in items:
        more = item.ByteSize() + _FRAME_BYTES
        if message.items and size + more > MOST_BYTES:
            yield message
            message, size = ExportProfileResponse(), 0
        message.items.append(item)
        size += more
    if message.items:
        yield message


async def pages_of_values(
    profiles: Profiles, reader: Reader, profile: Profile, position: int
) -> AsyncIterator[list[ExportedItem]]:
    """Yield all that was observed of a profile's attributes up to a position, newest first.

    Args:
        profiles: Reads.
        reader: The tenant.
        profile: Whose attributes.
        position: Of the last event to read.

    Raises:
        CallError: VIEWS_UNAVAILABLE or STORE_UNAVAILABLE.
    """
    before, named = (LATEST, LAST_ID), set[str]()
    while True:
        page = Page(limit=_PAGE, before=before, types=ATTRIBUTES_READ)
        touches = await profiles.page(reader, profile, page)
        counted = [touch for touch in touches if touch.position <= position]
        yield [ExportedItem(attribute_value=one) for one in _values(counted, named)]
        if len(touches) < _PAGE:
            return
        before = _place(touches[-1])


async def pages_of_entries(
    profiles: Profiles, reader: Reader, profile: Profile, position: int
) -> AsyncIterator[list[ExportedItem]]:
    """Yield everything that happened up to a position, oldest first, those retracted too.

    Args:
        profiles: Reads.
        reader: The tenant.
        profile: Whose events.
        position: Of the last event to read.

    Raises:
        CallError: VIEWS_UNAVAILABLE or STORE_UNAVAILABLE.
    """
    after = _BEGINNING
    while True:
        touches = await profiles.oldest_first(reader, profile, after, position, _PAGE)
        yield [ExportedItem(entry=entry(touch)) for touch in touches]
        if len(touches) < _PAGE:
            return
        after = _place(touches[-1])


def _values(touches: Iterable[Touch], named: set[str]) -> Iterator[AttributeValue]:
    """Yield what events, newest first, say; `named` holds the attributes that were told already."""
    for touch in touches:
        event = touch.event
        for name, value in sorted(event.traits_observed.traits.items()):
            yield AttributeValue(
                name=name,
                value=value,
                event_id=event.event_id,
                occurred_at=timestamp_of(touch.occurred_at_us),
                recorded_at=timestamp_of(touch.recorded_at_us),
                source=event.source,
                actor_reference=event.actor.reference,
                current=name not in named,
            )
            named.add(name)


def _place(touch: Touch) -> tuple[int, bytes]:
    return touch.occurred_at_us, touch.event_id
