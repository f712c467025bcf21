"""The call that tells all there is of one customer."""

from collections.abc import AsyncIterator
from typing import Final

from libs.projection.config import Reader
from libs.projection.profiles import Profile, erased_among, views_errors
from libs.rpc import errors
from services.profile.calls.consents import CONSENTS_FROM, ConsentCalls
from services.profile.calls.explaining import ExplainingCalls
from services.profile.calls.parts import Context
from services.profile.calls.profiles import ProfileCalls
from services.profile.exporting import messages, pages_of_entries, pages_of_values
from services.profile.reading import LATEST
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.erasure_pb2 import ExportedItem, ExportEnd
from touchline.profile.v1.profile_pb2 import ProfileReference

_MOST_TRIES: Final = 10
_MOST_LINKS: Final = 500


class ExportCalls(ProfileCalls, ExplainingCalls, ConsentCalls):
    """Tells all there is of one customer, as the calls about parts of it tell them."""

    async def ExportProfile(  # noqa: N802 - gRPC names it
        self, request: api.ExportProfileRequest, context: Context
    ) -> AsyncIterator[api.ExportProfileResponse]:
        """Tell all there is of one customer, up to one position."""
        reader = await self._reader(request, context)
        profile, position, who, allowed = await self._at_rest(request, reader, context)
        for message in messages(who):
            yield message
        entries = 0
        async for page in pages_of_values(self._profiles, reader, profile, position):
            for message in messages(page):
                yield message
        for message in messages(allowed):
            yield message
        async for page in pages_of_entries(self._profiles, reader, profile, position):
            entries += len(page)
            for message in messages(page):
                yield message
        # What was read after an erasure would tell of nothing; and so would the whole.
        await self._refuse_erased(reader, profile)
        end = ExportedItem(end=ExportEnd(entries=entries, position=position))
        yield api.ExportProfileResponse(items=[end])

    async def _at_rest(
        self, request: api.ExportProfileRequest, reader: Reader, context: Context
    ) -> tuple[Profile, int, list[ExportedItem], list[ExportedItem]]:
        """Return a profile, a position, and who they are and what they allow there.

        It is read again if something happens to them meanwhile.
        """
        tries = 0
        while True:
            tries += 1
            position = max(self._parts.checkpoints.position([name]) for name in CONSENTS_FROM)
            await self._folded(CONSENTS_FROM, position, context)
            profile = await self._profiles.find(reader, request.profile, "profile")
            await self._refuse_erased(reader, profile)
            who = await self._who(profile, position, context)
            allowed = await self._what_is_allowed(profile, position, context)
            again = await self._profiles.find(reader, request.profile, "profile")
            new = await self._profiles.recorded_between(reader, profile, position, LATEST, 1)
            if (again == profile and not new) or tries == _MOST_TRIES:
                return profile, position, who, allowed

    async def _who(self, profile: Profile, position: int, context: Context) -> list[ExportedItem]:
        reference = ProfileReference(profile_id=profile.profile_id)
        who = api.GetProfileRequest(profile=reference, after_position=position)
        items = [ExportedItem(profile=(await self.GetProfile(who, context)).profile)]
        why = api.ExplainIdentitiesRequest(
            profile=reference, page_size=_MOST_LINKS, after_position=position
        )
        verdicts = list[ExportedItem]()
        while True:
            page = await self.ExplainIdentities(why, context)
            items += [ExportedItem(link=one) for one in page.links]
            verdicts += [ExportedItem(verdict=one) for one in page.verdicts]
            if not page.next_page_token:
                return items + verdicts
            why.page_token = page.next_page_token

    async def _what_is_allowed(
        self, profile: Profile, position: int, context: Context
    ) -> list[ExportedItem]:
        reference = ProfileReference(profile_id=profile.profile_id)
        request = api.ListConsentsRequest(profile=reference, after_position=position)
        told = await self.ListConsents(request, context)
        consents = [ExportedItem(consent=one) for one in told.consents]
        return consents + [ExportedItem(preference=one) for one in told.preferences]

    async def _refuse_erased(self, reader: Reader, profile: Profile) -> None:
        """Refuse a profile of which nothing is left.

        Raises:
            CallError: PROFILE_ERASED.
        """
        async with views_errors():
            erased = await erased_among(self._parts.pool, reader.tenant, profile.keys)
        if len(erased) == len(profile.keys):
            raise errors.profile_erased(max(one.position for one in erased))
