"""The call that erases customers."""

from dataclasses import replace

from libs.projection.config import Reader
from libs.projection.profiles import find_profile, views_errors
from libs.rpc import errors
from services.profile.calls.parts import Calls, Context
from services.profile.erasing import erase, wish_of
from touchline.profile.v1 import profile_service_pb2 as api

_GRAPH = ("identity_graph",)


class ErasingCalls(Calls):
    """Erases customers, or what happened to them in a time."""

    async def EraseProfile(  # noqa: N802 - gRPC names it
        self, request: api.EraseProfileRequest, context: Context
    ) -> api.EraseProfileResponse:
        """Delete the keys of a customer, for ever."""
        wish = wish_of(request)
        reader = await self._reader(request, context, _GRAPH)
        profile_id = ""
        if wish.keys:
            async with views_errors():
                found = await find_profile(self._parts.pool, reader.tenant, wish.keys[0])
            profile_id = found.profile_id if found else ""
        else:
            profile_id, keys = await self._meant(reader, request)
            wish = replace(wish, keys=keys)
        erased = await erase(self._parts.pool, self._parts.store, reader, wish, profile_id)
        return api.EraseProfileResponse(erased=erased)

    async def _meant(
        self, reader: Reader, request: api.EraseProfileRequest
    ) -> tuple[str, tuple[bytes, ...]]:
        """Return the id and the identities of the profile that is to be erased.

        Raises:
            CallError: PROFILE_MERGED_AWAY, or as `Profiles.find`.
        """
        profile = await self._profiles.find(reader, request.profile, "profile")
        named = request.profile.profile_id.lower()
        if named not in ("", profile.profile_id):
            raise errors.profile_merged_away(named, profile.profile_id)
        return profile.profile_id, profile.keys
