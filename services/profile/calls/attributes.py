"""The calls about what was ever observed of customers."""

from typing import Final

from libs.eventstore.records import event_id_bytes
from libs.projection.config import Reader
from libs.projection.profiles import Profile, views_errors
from libs.rpc import errors, page_tokens
from services.profile.attributes import (
    AttributeValues,
    Place,
    events_of,
    find_profiles,
    last_events,
)
from services.profile.calls.parts import PROJECTIONS, Calls, Context
from services.profile.domain import ATTRIBUTES_READ, Touch
from services.profile.domain.attributes import observed
from services.profile.reading import LAST_ID, LATEST, Page
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.erasure_pb2 import AttributeValue
from touchline.times import micros_of

_READ_FROM: Final = (*PROJECTIONS, AttributeValues.name)
_AT_ONCE: Final = 100
_MAX_NAME: Final = 128
_MAX_VALUE: Final = 4096


class AttributeCalls(Calls):
    """Lists what was observed of customers, and finds customers by it."""

    async def ListAttributeValues(  # noqa: N802 - gRPC names it
        self, request: api.ListAttributeValuesRequest, context: Context
    ) -> api.ListAttributeValuesResponse:
        """List all that was ever observed of a customer's attributes, newest first."""
        reader = await self._reader(request, context, _READ_FROM)
        size = page_tokens.page_size(request.page_size)
        kind, filters = "attribute-values/1", _same(request, reader)
        after = (LATEST, LAST_ID, "")
        if request.page_token:
            after = page_tokens.decode(request.page_token, kind, filters, int, bytes, str)
        profile = await self._profiles.find(reader, request.profile, "profile")
        values = await self._values(reader, profile, request.name, after, size + 1)
        response = api.ListAttributeValuesResponse(
            profile_id=profile.profile_id, values=values[:size]
        )
        names = {value.name for value in response.values}
        async with views_errors():
            last = await last_events(self._parts.pool, reader, profile.keys, names)
        for value in response.values:
            value.current = last.get(value.name) == event_id_bytes(value.event_id)
        if len(values) > size:
            end = response.values[-1]
            response.next_page_token = page_tokens.encode(kind, filters, *_place(end), end.name)
        return response

    async def FindProfiles(  # noqa: N802 - gRPC names it
        self, request: api.FindProfilesRequest, context: Context
    ) -> api.FindProfilesResponse:
        """Find profiles by the value of an attribute, also by one that no longer holds."""
        reader = await self._reader(request, context, _READ_FROM)
        _check(request)
        size = page_tokens.page_size(request.page_size)
        kind, filters = "found-profiles/1", _same(request, reader)
        before = (LATEST, LAST_ID)
        if request.page_token:
            before = page_tokens.decode(request.page_token, kind, filters, int, bytes)
        async with views_errors():
            found, more = await find_profiles(
                self._parts.pool, reader, request.name, request.value, before, size
            )
        there = [(one, one.recorded) for one in found if one.recorded is not None]
        touches = await self._profiles.opened(
            reader, [recorded for _, recorded in there], identities=False
        )
        response = api.FindProfilesResponse()
        for (one, _), touch in zip(there, touches, strict=True):
            for value in observed([touch], set()):
                if value.name == request.name:
                    value.current = one.current
                    response.profiles.add(profile_id=one.root_key.hex(), value=value)
        if more is not None:
            response.next_page_token = page_tokens.encode(kind, filters, *more)
        return response

    async def _values(
        self, reader: Reader, profile: Profile, name: str, after: tuple[int, bytes, str], most: int
    ) -> list[AttributeValue]:
        """Return what was observed of an attribute, or of all, from a place on, newest first."""
        values = list[AttributeValue]()
        # The event of the place itself may say more, of names that come later.
        before = after[0], _id_after(after[1])
        while len(values) < most:
            touches = await self._touches(reader, profile, name, before)
            for touch in touches:
                values += [
                    value
                    for value in observed([touch], set())
                    if name in ("", value.name) and _follows(value, after)
                ]
            if len(touches) < _AT_ONCE:
                break
            before = (touches[-1].occurred_at_us, touches[-1].event_id)
        return values[:most]

    async def _touches(
        self, reader: Reader, profile: Profile, name: str, before: Place
    ) -> list[Touch]:
        """Return the next events that observed an attribute, or any, opened, newest first."""
        if not name:
            page = Page(limit=_AT_ONCE, before=before, types=ATTRIBUTES_READ)
            return await self._profiles.page(reader, profile, page, identities=False)
        async with views_errors():
            events = await events_of(self._parts.pool, reader, profile.keys, name, before, _AT_ONCE)
        return await self._profiles.opened(reader, events, identities=False)


def _id_after(event_id: bytes) -> bytes:
    return min(int.from_bytes(event_id) + 1, 2**128 - 1).to_bytes(16)


def _place(value: AttributeValue) -> tuple[int, bytes]:
    return micros_of(value.occurred_at), event_id_bytes(value.event_id)


def _follows(value: AttributeValue, after: tuple[int, bytes, str]) -> bool:
    """Tell whether a value comes later in the list than a place: the newest come first."""
    occurred_at_us, event_id, name = after
    place, last = _place(value), (occurred_at_us, event_id)
    return place < last or (place == last and value.name > name)


def _check(request: api.FindProfilesRequest) -> None:
    wrong = []
    if not 1 <= len(request.name) <= _MAX_NAME:
        wrong.append(("name", f"must have 1 to {_MAX_NAME} characters"))
    if not 1 <= len(request.value.strip()) <= _MAX_VALUE:
        wrong.append(("value", f"must have 1 to {_MAX_VALUE:,} characters that are no spaces"))
    if wrong:
        raise errors.invalid_request(wrong)


def _same(
    request: api.ListAttributeValuesRequest | api.FindProfilesRequest, reader: Reader
) -> bytes:
    """Return what a page's successor must repeat."""
    same = type(request)()
    same.CopyFrom(request)  # type: ignore[arg-type]  # it is of its own type
    for field in ("page_size", "page_token", "after_position"):
        same.ClearField(field)
    return reader.name.encode() + b"\0" + same.SerializeToString(deterministic=True)
