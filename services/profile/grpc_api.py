"""The profile service as its callers see it."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from libs.projection.profiles import Profile, identity_key
from libs.projection.waiting import Behind, Checkpoints
from libs.rpc import errors, page_tokens
from libs.rpc.deadlines import remaining
from libs.rpc.tenants import Tenants
from services.profile.domain import ATTRIBUTES_READ, VIEWS, Shown, attributes, show
from services.profile.reading import LAST_ID, Page, Profiles, Reader, entry
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1 import views_pb2
from touchline.profile.v1.profile_pb2 import Profile as ProfileMessage
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2_grpc import ProfileServiceServicer
from touchline.times import micros_of, timestamp_of

# Every read waits for both: what happened, and to whom.
PROJECTIONS: Final = ("identity_graph", "timeline")
MAX_FOLDED: Final = 5000
_MAX_ATTRIBUTE_EVENTS: Final = 5000
_WATCHED_PAGE: Final = 200
_WATCH_SECONDS: Final = 60.0
_FIRST_ID: Final = bytes(16)
_UNSPECIFIED: Final = 0
_LARGEST_NUMBER: Final = 2**15 - 1
_LAST_SECOND: Final = 253_402_300_799

Context = grpc.aio.ServicerContext[Any, Any]


class _AfterPosition(Protocol):
    @property
    def after_position(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of; `__main__` puts it together."""

    profiles: Profiles
    checkpoints: Checkpoints
    tenants: Tenants
    readers: dict[int, Reader]


class ProfileService(ProfileServiceServicer):
    """Implements touchline.profile.v1.ProfileService; the proto is the contract."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._profiles = parts.profiles

    async def ResolveProfile(  # noqa: N802 - gRPC names it
        self, request: api.ResolveProfileRequest, context: Context
    ) -> api.ResolveProfileResponse:
        """Find the profile of an identity."""
        reader = await self._reader(request, context)
        identity_key(reader.identity_keys, request.identity, "identity")
        reference = ProfileReference(identity=request.identity)
        profile = await self._profiles.find(reader, reference, "identity")
        return api.ResolveProfileResponse(profile_id=profile.profile_id)

    async def GetProfile(  # noqa: N802 - gRPC names it
        self, request: api.GetProfileRequest, context: Context
    ) -> api.GetProfileResponse:
        """Say who a customer is."""
        reader = await self._reader(request, context)
        profile = await self._profiles.find(reader, request.profile, "profile")
        degraded = self._degraded(reader, profile)
        page = Page(limit=_MAX_ATTRIBUTE_EVENTS, types=ATTRIBUTES_READ)
        touches = await self._profiles.page(reader, profile, page)
        first_us, last_us, count = await self._profiles.span(reader, profile)
        message = ProfileMessage(
            profile_id=profile.profile_id,
            alias_profile_ids=sorted(key.hex() for key in profile.keys if key != profile.root),
            identities=await self._profiles.identities(reader, profile),
            attributes=attributes(touches),
            event_count=count,
            degraded_projections=degraded,
        )
        if first_us is not None and last_us is not None:
            message.first_contact_at.CopyFrom(timestamp_of(first_us))
            message.last_contact_at.CopyFrom(timestamp_of(last_us))
        return api.GetProfileResponse(profile=message)

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
            with suppress(Behind):  # nothing happened: look again, and hear of a caller that left
                await checkpoints.wait(PROJECTIONS, position + 1, _WATCH_SECONDS)

    async def GetView(  # noqa: N802 - gRPC names it
        self, request: api.GetViewRequest, context: Context
    ) -> api.GetViewResponse:
        """Show a customer as a department, or the customer, sees them."""
        reader = await self._reader(request, context)
        view = VIEWS.get(request.view)
        if view is None:
            raise errors.invalid_request([("view", "is missing; give one of ViewKind")])
        profile = await self._profiles.find(reader, request.profile, "profile")
        degraded = self._degraded(reader, profile)
        as_of = _micros(request, "as_of")
        page = _as_of(Page(limit=MAX_FOLDED + 1, types=view.reads), as_of)
        touches = await self._profiles.page(reader, profile, page)
        now_us = time.time_ns() // 1000 if as_of is None else as_of
        shown = show(request.view, touches[:MAX_FOLDED], now_us)
        response = _response(profile, shown, truncated=len(touches) > MAX_FOLDED)
        response.degraded_projections.extend(degraded)
        return response

    async def GetPopulation(  # noqa: N802 - gRPC names it
        self, request: api.GetPopulationRequest, context: Context
    ) -> api.GetPopulationResponse:
        """Count the tenant's profiles, identities and events."""
        reader = await self._reader(request, context)
        profiles, identities, events = await self._profiles.population(reader)
        return api.GetPopulationResponse(profiles=profiles, identities=identities, events=events)

    async def ListProfiles(  # noqa: N802 - gRPC names it
        self, request: api.ListProfilesRequest, context: Context
    ) -> api.ListProfilesResponse:
        """List the tenant's profiles, in the order of their ids."""
        reader = await self._reader(request, context)
        size = page_tokens.page_size(request.page_size)
        after, kind, filters = b"", "profiles/1", reader.name.encode()
        if request.page_token:
            (after,) = page_tokens.decode(request.page_token, kind, filters, bytes)
        ids = await self._profiles.profile_ids(reader, after, size + 1)
        response = api.ListProfilesResponse(profile_ids=ids[:size])
        if len(ids) > size:
            last = bytes.fromhex(ids[size - 1])
            response.next_page_token = page_tokens.encode(kind, filters, last)
        return response

    async def _reader(self, request: _AfterPosition, context: Context) -> Reader:
        """Return the call's tenant once everything up to `after_position` is folded."""
        reader = self._reader_of(context)
        if request.after_position < 0:
            raise errors.invalid_request([("after_position", "must be 0 or a position")])
        try:
            await self._parts.checkpoints.wait(
                PROJECTIONS, request.after_position, remaining(context)
            )
        except Behind as error:
            if error.halt_reason:
                raise errors.projection_halted(error.projection) from error
            raise errors.projection_behind(
                error.projection, error.position, request.after_position
            ) from error
        return reader

    def _degraded(self, reader: Reader, profile: Profile) -> list[str]:
        """Return what every read waits for and lacks events of the profile, of whatever time."""
        return self._parts.checkpoints.degraded(PROJECTIONS, reader.tenant, profile.keys)

    def _reader_of(self, context: Context) -> Reader:
        return self._parts.readers[self._parts.tenants.tenant_of(context).number]


def _page(
    request: api.ListTimelineEventsRequest, limit: int, token: tuple[int, bytes] | None = None
) -> Page:
    page = Page(
        limit=limit,
        occurred_from_us=_micros(request, "occurred_from") or 0,
        channels=_wanted(request.channels),
        types=_wanted(request.types),
    )
    before_us = _micros(request, "occurred_before")
    if before_us is not None:
        page = replace(page, before=(before_us, _FIRST_ID))
    page = _as_of(page, _micros(request, "as_of"))
    return page if token is None else replace(page, before=min(token, page.before))


def _wanted(numbers: Sequence[int]) -> list[int] | None:
    """Return what a filter lets through, of what any release can have; None for everything."""
    if not numbers or _UNSPECIFIED in numbers:
        return None
    return [number for number in numbers if 0 < number <= _LARGEST_NUMBER]


def _as_of(page: Page, as_of_us: int | None) -> Page:
    """Return a page of what had both occurred and been recorded by a time."""
    if as_of_us is None:
        return page
    return replace(page, before=min(page.before, (as_of_us, LAST_ID)), recorded_by_us=as_of_us)


def _micros(request: api.ListTimelineEventsRequest | api.GetViewRequest, field: str) -> int | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # callers name fields of theirs
        return None
    time_: Timestamp = getattr(request, field)
    if not 0 <= time_.seconds <= _LAST_SECOND:
        raise errors.invalid_request([(field, "is before 1970 or after 9999")])
    return micros_of(time_)


def _filters(request: api.ListTimelineEventsRequest, reader: Reader) -> bytes:
    """Return what a page's successor must repeat."""
    same = api.ListTimelineEventsRequest()
    same.CopyFrom(request)
    for field in ("page_size", "page_token", "after_position"):
        same.ClearField(field)
    return reader.name.encode() + b"\0" + same.SerializeToString(deterministic=True)


def _response(profile: Profile, shown: Shown, *, truncated: bool) -> api.GetViewResponse:
    response = api.GetViewResponse(profile_id=profile.profile_id, truncated=truncated)
    match shown:
        case views_pb2.SalesView():
            response.sales.CopyFrom(shown)
        case views_pb2.ServiceView():
            response.service.CopyFrom(shown)
        case views_pb2.MarketingView():
            response.marketing.CopyFrom(shown)
        case views_pb2.CustomerView():
            response.customer.CopyFrom(shown)
    return response
