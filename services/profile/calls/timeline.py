"""The calls about what happened."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from libs.projection.config import Reader
from libs.rpc import page_tokens
from services.profile.calls.parts import PROJECTIONS, Calls, Context, micros
from services.profile.reading import Page, as_of, entry
from touchline.profile.v1 import profile_service_pb2 as api

_WATCHED_PAGE: Final = 200
_WATCH_SECONDS: Final = 60.0
_FIRST_ID: Final = bytes(16)
_UNSPECIFIED: Final = 0
_LARGEST_NUMBER: Final = 2**15 - 1


class TimelineCalls(Calls):
    """Lists what happened, and tells what happens."""

    async def ListTimelineEvents(  # noqa: N802 - gRPC names it
        self, request: api.ListTimelineEventsRequest, context: Context
    ) -> api.ListTimelineEventsResponse:
        """List what happened, newest first."""
        reader = await self._reader(request, context)
        size = page_tokens.page_size(request.page_size)
        kind, filters = "timeline/1", _filters(request, reader)
        page = _page(request, size + 1)
        if request.page_token:
            token = page_tokens.decode(request.page_token, kind, filters, int, bytes)
            page = _page(request, size + 1, token)
        profile = await self._profiles.find(reader, request.profile, "profile")
        degraded = self._degraded(reader, profile)
        touches = await self._profiles.page(reader, profile, page)
        response = api.ListTimelineEventsResponse(
            profile_id=profile.profile_id,
            entries=[entry(touch) for touch in touches[:size]],
            degraded_projections=degraded,
        )
        if len(touches) > size:
            last = touches[size - 1]
            response.next_page_token = page_tokens.encode(
                kind, filters, last.occurred_at_us, last.event_id
            )
        return response

    async def WatchTimeline(  # noqa: N802 - gRPC names it
        self, request: api.WatchTimelineRequest, context: Context
    ) -> AsyncIterator[api.WatchTimelineResponse]:
        """Tell what happens, in the order it is recorded, until the caller hangs up."""
        reader = self._reader_of(context)
        checkpoints, position = self._parts.checkpoints, request.after_position
        while True:
            reached = checkpoints.position(PROJECTIONS)
            # Looked up anew each time: the profile may have been merged meanwhile.
            profile = await self._profiles.find(reader, request.profile, "profile")
            touches = await self._profiles.recorded_between(
                reader, profile, position, reached, _WATCHED_PAGE
            )
            for touch in touches:
                yield api.WatchTimelineResponse(entry=entry(touch))
            if len(touches) == _WATCHED_PAGE:
                position = touches[-1].position
                continue
            position = max(position, reached)
            # When nothing happens it looks again, and hears of a caller that left.
            await checkpoints.moved_beyond(PROJECTIONS, position, _WATCH_SECONDS)


def _page(
    request: api.ListTimelineEventsRequest, limit: int, token: tuple[int, bytes] | None = None
) -> Page:
    page = Page(
        limit=limit,
        occurred_from_us=micros(request, "occurred_from") or 0,
        channels=_wanted(request.channels),
        types=_wanted(request.types),
    )
    before_us = micros(request, "occurred_before")
    if before_us is not None:
        page = replace(page, before=(before_us, _FIRST_ID))
    page = as_of(page, micros(request, "as_of"))
    return page if token is None else replace(page, before=min(token, page.before))


def _wanted(numbers: Sequence[int]) -> list[int] | None:
    """Return what a filter lets through, of what any release can have; None for everything."""
    if not numbers or _UNSPECIFIED in numbers:
        return None
    return [number for number in numbers if 0 < number <= _LARGEST_NUMBER]


def _filters(request: api.ListTimelineEventsRequest, reader: Reader) -> bytes:
    """Return what a page's successor must repeat."""
    same = api.ListTimelineEventsRequest()
    same.CopyFrom(request)
    for field in ("page_size", "page_token", "after_position"):
        same.ClearField(field)
    return reader.name.encode() + b"\0" + same.SerializeToString(deterministic=True)
