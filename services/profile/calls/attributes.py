"""The calls about what was ever observed of customers."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from libs.eventstore.errors import StoreError
from libs.eventstore.records import event_id_bytes
from libs.projection.opening import open_events
from libs.projection.profiles import Profile, find_profile, views_errors
from libs.projection.projection import Recorded
from libs.rpc import errors, page_tokens
from services.profile.attributes import find_rows, value_key
from services.profile.calls.parts import PROJECTIONS, Calls, Context
from services.profile.domain import ATTRIBUTES_READ, Touch
from services.profile.domain.attributes import observed
from services.profile.reading import LAST_ID, LATEST, Page, Reader
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.erasure_pb2 import AttributeValue
from touchline.times import micros_of

_FOUND_FROM: Final = (*PROJECTIONS, "attributes")
_AT_ONCE: Final = 500
_MAX_NAME: Final = 128
_MAX_VALUE: Final = 4096


class AttributeCalls(Calls):
    """Lists what was observed of customers, and finds customers by it."""

    async def ListAttributeValues(  # noqa: N802 - gRPC names it
        self, request: api.ListAttributeValuesRequest, context: Context
    ) -> api.ListAttributeValuesResponse:
        """List all that was ever observed of a customer's attributes, newest first."""
        reader = await self._reader(request, context)
        size = page_tokens.page_size(request.page_size)
        kind, filters = "attribute-values/1", _same(request, reader)
        after: tuple[int, bytes, str] | None = None
        if request.page_token:
            after = page_tokens.decode(request.page_token, kind, filters, int, bytes, str)
        profile = await self._profiles.find(reader, request.profile, "profile")
        response = api.ListAttributeValuesResponse(profile_id=profile.profile_id)
        async for value in self._observed(reader, profile):
            if request.name not in ("", value.name):
                continue
            if after is not None and not _follows(value, after):
                continue
            if len(response.values) == size:
                last = response.values[-1]
                response.next_page_token = page_tokens.encode(
                    kind, filters, *_place(last), last.name
                )
                break
            response.values.append(value)
        return response

    async def FindProfiles(  # noqa: N802 - gRPC names it
        self, request: api.FindProfilesRequest, context: Context
    ) -> api.FindProfilesResponse:
        """Find profiles by the value of an attribute, also by one that no longer holds."""
        reader = await self._reader(request, context, _FOUND_FROM)
        _check(request)
        size = page_tokens.page_size(request.page_size)
        kind, filters = "found-profiles/1", _same(request, reader)
        before = (LATEST, LAST_ID)
        if request.page_token:
            before = page_tokens.decode(request.page_token, kind, filters, int, bytes)
        key = value_key(reader.identity_keys, request.name, request.value)
        async with views_errors():
            rows = await find_rows(self._parts.pool, reader.tenant, key, before, size + 1)
        opened = await self._opened([row.recorded for row in rows[:size]])
        response = api.FindProfilesResponse()
        for row, touch in zip(rows, opened, strict=False):
            if touch is None:
                continue  # erased since
            found = response.profiles.add(profile_id=row.root_key.hex())
            values = observed([touch], set())
            found.value.CopyFrom(next(one for one in values if one.name == request.name))
            last = await self._last(reader, row.root_key, request.name)
            found.value.current = last == found.value.event_id
        if len(rows) > size:
            response.next_page_token = page_tokens.encode(kind, filters, *rows[size - 1].place)
        return response

    async def _opened(self, events: Sequence[Recorded]) -> list[Touch | None]:
        """Return events as touches, opened; None for those that can't be any more.

        Raises:
            CallError: STORE_UNAVAILABLE.
        """
        try:
            opened = await open_events(self._parts.store, events)
        except StoreError as error:
            raise errors.store_unavailable() from error
        return [
            event
            and Touch(
                one.position,
                one.recorded_at_us,
                one.record.occurred_at_us,
                event,
                one.record.event_id,
            )
            for one, event in zip(events, opened, strict=True)
        ]

    async def _last(self, reader: Reader, root_key: bytes, name: str) -> str:
        """Return the event that a profile's attribute was observed by last."""
        async with views_errors():
            profile = await find_profile(self._parts.pool, reader.tenant, root_key)
        if profile is not None:
            async for value in self._observed(reader, profile):
                if value.name == name:
                    return value.event_id
        return ""

    async def _observed(self, reader: Reader, profile: Profile) -> AsyncIterator[AttributeValue]:
        """Yield everything that was observed of a profile, newest first."""
        before, later = (LATEST, LAST_ID), set[str]()
        while True:
            page = Page(limit=_AT_ONCE, before=before, types=ATTRIBUTES_READ)
            touches = await self._profiles.page(reader, profile, page)
            for value in observed(touches, later):
                yield value
            if len(touches) < _AT_ONCE:
                return
            before = (touches[-1].occurred_at_us, touches[-1].event_id)


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
