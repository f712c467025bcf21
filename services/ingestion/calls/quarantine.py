"""The calls about events that were rejected and are kept."""

from typing import Final

from libs.eventstore.errors import StoreFull, StoreUnavailable
from libs.rpc import page_tokens
from services.ingestion.calls.parts import Calls, Context, call_error
from touchline.ingestion.v1 import ingestion_service_pb2 as api

_NEWEST: Final = 2**62


class QuarantineCalls(Calls):
    """Lists what was rejected."""

    async def ListRejectedEvents(  # noqa: N802 - gRPC names it
        self, request: api.ListRejectedEventsRequest, context: Context
    ) -> api.ListRejectedEventsResponse:
        """List rejected events, newest first."""
        tenant = self._parts.tenant_of(context)
        size = page_tokens.page_size(request.page_size)
        before, kind, filters = _NEWEST, "rejected/1", tenant.tenant.name.encode()
        if request.page_token:
            (before,) = page_tokens.decode(request.page_token, kind, filters, int)
        try:
            page, more = await self._parts.quarantine.list(tenant.sealed, before, size)
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        response = api.ListRejectedEventsResponse(rejected_events=page)
        if more:
            response.next_page_token = page_tokens.encode(kind, filters, page[-1].rejected_id)
        return response
