"""The calls about who customers are."""

from typing import Final

from libs.projection.config import Reader
from libs.projection.profiles import identity_key
from libs.rpc import page_tokens
from services.profile.calls.parts import Calls, Context, micros
from services.profile.domain import ATTRIBUTES_READ, attributes
from services.profile.reading import Page, as_of
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.profile_pb2 import Profile as ProfileMessage
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.times import timestamp_of

_MAX_ATTRIBUTE_EVENTS: Final = 5000


class ProfileCalls(Calls):
    """Says who customers are, and how many there are."""

    async def ResolveProfile(  # noqa: N802 - gRPC names it
        self, request: api.ResolveProfileRequest, context: Context
    ) -> api.ResolveProfileResponse:
        """Find the profile of an identity."""
        reader = await self._reader(request, context)
        identity_key(reader.identity_keys, request.identity, "identity")
        reference = ProfileReference(identity=request.identity)
        profile = await self._profiles.find(reader, reference, "identity")
        version = await self._profiles.version(reader, profile)
        return api.ResolveProfileResponse(profile_id=profile.profile_id, version=version)

    async def GetProfile(  # noqa: N802 - gRPC names it
        self, request: api.GetProfileRequest, context: Context
    ) -> api.GetProfileResponse:
        """Say who a customer is."""
        reader = await self._reader(request, context)
        as_of_us = micros(request, "as_of")
        profile = await self._profiles.find(reader, request.profile, "profile")
        asked = _key_of(request.profile, reader)
        if as_of_us is not None:
            profile = await self._profiles.find_as_of(reader, asked, as_of_us)
        degraded = self._degraded(reader, profile)
        page = as_of(Page(limit=_MAX_ATTRIBUTE_EVENTS + 1, types=ATTRIBUTES_READ), as_of_us)
        touches = await self._profiles.page(reader, profile, page, identities=False)
        first_us, last_us, count = await self._profiles.span(reader, profile, as_of_us)
        message = ProfileMessage(
            profile_id=profile.profile_id,
            alias_profile_ids=sorted(key.hex() for key in profile.keys if key != profile.root),
            identities=await self._profiles.identities(reader, profile),
            attributes=attributes(touches[:_MAX_ATTRIBUTE_EVENTS]),
            attributes_truncated=len(touches) > _MAX_ATTRIBUTE_EVENTS,
            event_count=count,
            degraded_projections=degraded,
            version=await self._profiles.version(reader, profile),
        )
        if first_us is not None and last_us is not None:
            message.first_contact_at.CopyFrom(timestamp_of(first_us))
            message.last_contact_at.CopyFrom(timestamp_of(last_us))
        erased_at_us = await self._profiles.erased_at(reader, profile)
        if erased_at_us is not None:
            message.erased_at.CopyFrom(timestamp_of(erased_at_us))
        by_alias = request.profile.HasField("profile_id") and asked != profile.root
        return api.GetProfileResponse(profile=message, asked_by_alias=by_alias)

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


def _key_of(reference: ProfileReference, reader: Reader) -> bytes:
    """Return the identity key that a reference, which is right, comes to."""
    if reference.HasField("profile_id"):
        return bytes.fromhex(reference.profile_id)
    return identity_key(reader.identity_keys, reference.identity, "profile.identity")
