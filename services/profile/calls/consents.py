"""The call about what customers allow and like."""

from typing import Final

from libs.consents import CONSENT, PREFERENCE, Said, standing
from libs.eventstore.errors import StoreError
from libs.projection.config import Reader
from libs.projection.consents import Consents, words_of
from libs.projection.profiles import Profile, views_errors
from libs.rpc import errors
from services.profile.calls.parts import PROJECTIONS, Calls, Context, micros
from services.profile.domain.consents import consent_states, preference_states
from touchline.profile.v1 import profile_service_pb2 as api

CONSENTS_FROM: Final = (*PROJECTIONS, Consents.name)
"""What consents are read from."""


class ConsentCalls(Calls):
    """Says what customers allow, forbid and like."""

    async def ListConsents(  # noqa: N802 - gRPC names it
        self, request: api.ListConsentsRequest, context: Context
    ) -> api.ListConsentsResponse:
        """Say what a customer allows, forbids and likes, and what decides."""
        reader = await self._reader(request, context, CONSENTS_FROM)
        as_of_us = micros(request, "as_of")
        profile = await self._profiles.find(reader, request.profile, "profile")
        if as_of_us is not None:
            profile = await self._profiles.find_as_of(reader, profile.root, as_of_us)
        degraded = self._degraded(reader, profile, CONSENTS_FROM)
        said = await self._said(reader, profile, as_of_us, degraded)
        known = await self._profiles.identities(reader, profile)
        identities = {bytes.fromhex(one.identity_key): one for one in known}
        consents = standing(said.words, profile.keys, CONSENT)
        preferences = standing(said.words, profile.keys, PREFERENCE)
        return api.ListConsentsResponse(
            profile_id=profile.profile_id,
            consents=consent_states(consents, identities),
            preferences=preference_states(preferences, identities),
            degraded_projections=degraded,
        )

    async def _said(
        self, reader: Reader, profile: Profile, as_of_us: int | None, degraded: list[str]
    ) -> Said:
        """Return what was said for a profile, as of a time.

        Args:
            reader: The tenant.
            profile: Whose.
            as_of_us: In microseconds since 1970; None for now.
            degraded: What the answer says it lacks; where more was said than is read, the
                projection is added.

        Raises:
            CallError: VIEWS_UNAVAILABLE or STORE_UNAVAILABLE.
        """
        parts = self._parts
        try:
            async with views_errors():
                said = await words_of(
                    parts.pool, parts.store, reader.tenant, profile.keys, as_of_us
                )
        except StoreError as error:
            raise errors.store_unavailable() from error
        if not said.whole and Consents.name not in degraded:
            degraded.append(Consents.name)
        return said
