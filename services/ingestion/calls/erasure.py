"""The call that looks for what is left of an erased customer."""

from libs.eventstore.errors import StoreFull, StoreUnavailable
from libs.rpc import errors
from services.ingestion.calls.parts import Calls, Context, call_error
from services.ingestion.checking import left_of
from touchline.ingestion.v1 import ingestion_service_pb2 as api


class ErasureCalls(Calls):
    """Looks for what is left."""

    async def CheckErasure(  # noqa: N802 - gRPC names it
        self, request: api.CheckErasureRequest, context: Context
    ) -> api.CheckErasureResponse:
        """Look for what is left in the store and in this process."""
        parts, tenant = self._parts, self._parts.tenant_of(context)
        try:
            checks = await left_of(
                parts.store, parts.keyring, parts.quarantine, tenant.sealed, request.position
            )
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        if checks is None:
            told = "is not that of an erasure; give the position in the erasure's certificate"
            raise errors.invalid_request([("position", told)])
        return api.CheckErasureResponse(checks=checks)
