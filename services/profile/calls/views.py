"""The call that shows a customer as somebody sees them."""

import time
from typing import Final

from libs.consents import CONSENT, Standing, standing
from libs.projection.profiles import Profile
from libs.rpc import errors
from services.profile.calls.consents import CONSENTS_FROM, ConsentCalls
from services.profile.calls.parts import Context, micros
from services.profile.domain import SHOW_CONSENTS, VIEWS, Shown, show
from services.profile.reading import Page, as_of
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1 import views_pb2

MAX_FOLDED: Final = 5000


class ViewCalls(ConsentCalls):
    """Shows customers as the departments, and they themselves, see them."""

    async def GetView(  # noqa: N802 - gRPC names it
        self, request: api.GetViewRequest, context: Context
    ) -> api.GetViewResponse:
        """Show a customer as a department, or the customer, sees them."""
        reader = await self._reader(request, context, CONSENTS_FROM)
        view = VIEWS.get(request.view)
        if view is None:
            raise errors.invalid_request([("view", "is missing; give one of ViewKind")])
        profile = await self._profiles.find(reader, request.profile, "profile")
        degraded = self._degraded(reader, profile, CONSENTS_FROM)
        as_of_us = micros(request, "as_of")
        page = as_of(Page(limit=MAX_FOLDED + 1, types=view.reads), as_of_us)
        touches = await self._profiles.page(reader, profile, page, identities=False)
        now_us = time.time_ns() // 1000 if as_of_us is None else as_of_us
        consents: list[Standing] = []
        if request.view in SHOW_CONSENTS:
            said = await self._said(reader, profile, as_of_us, degraded)
            consents = standing(said.words, profile.keys, CONSENT)
        shown = show(request.view, touches[:MAX_FOLDED], now_us, consents)
        response = _response(profile, shown, truncated=len(touches) > MAX_FOLDED)
        response.degraded_projections.extend(degraded)
        return response


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
