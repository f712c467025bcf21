"""The call that looks for what is left of somebody who was erased."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import grpc

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.projection.erasing.checking import look_for
from libs.projection.erasing.erasures import Erasure, erasures_among
from libs.projection.profiles import views_errors
from libs.projection.projection import decode
from libs.projection.waiting import Checkpoints, waiting_errors
from libs.rpc import errors
from libs.rpc.deadlines import remaining
from libs.rpc.tenants import DEFAULT_TENANT, Tenant, Tenants
from touchline.projection.v1.projection_service_pb2 import (
    CheckErasureRequest,
    CheckErasureResponse,
)


class ErasingCalls:
    """Tells what is left of the erased in a service; a part of ProjectionService."""

    _pool: asyncpg.Pool
    _store: StoreClient
    _tenants: Tenants
    _checkpoints: Checkpoints
    _checks: Mapping[str, str]

    async def CheckErasure(  # noqa: N802 - gRPC names it
        self, request: CheckErasureRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> CheckErasureResponse:
        """Wait until every generation has folded an erasure, then look for what is left."""
        tenant = self._tenants.named(request.tenant or DEFAULT_TENANT)
        if request.position < 1:
            raise errors.invalid_request([("position", "is missing; EraseProfile answers with it")])
        try:
            erasure = await self._erasure_at(tenant, request.position)
            with waiting_errors(request.position):
                positions = await self._checkpoints.wait_for_all(
                    request.position, remaining(context)
                )
            async with views_errors():
                found = await look_for(self._pool, self._store, erasure, tenant.name, self._checks)
        except StoreError as error:
            raise errors.store_unavailable() from error
        return CheckErasureResponse(positions=positions, checks=found)

    async def _erasure_at(self, tenant: Tenant, position: int) -> Erasure:
        page = (await self._store.history(position - 1)).batch
        events = decode(position, page.events[:1])
        erasures = erasures_among(events, {tenant.number})
        if not erasures:
            told = "is of no erasure of this tenant; EraseProfile answers with it"
            raise errors.invalid_request([("position", told)])
        return erasures[0]
