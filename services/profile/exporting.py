"""All there is of one customer, in the order an export tells it, in messages of bounded size."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

from libs.projection.config import Reader
from libs.projection.profiles import Profile
from services.profile.domain import ATTRIBUTES_READ, Touch
from services.profile.domain.attributes import observed
from services.profile.reading import LAST_ID, LATEST, Page, Profiles, entry
from touchline.profile.v1.erasure_pb2 import ExportedItem
from touchline.profile.v1.profile_service_pb2 import ExportProfileResponse

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
        yield [ExportedItem(attribute_value=one) for one in observed(counted, named)]
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


def _place(touch: Touch) -> tuple[int, bytes]:
    return touch.occurred_at_us, touch.event_id
