"""The call that looks for what is left of somebody who was erased."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import grpc

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.projection.erasing.checking import look_for
from libs.projection.erasing.erasures import Erasure, erasures_among
from libs.projection.profiles import views_errors
from libs.projection.projection import decode
from libs.projection.runner import Runner
from libs.projection.waiting import Behind, Checkpoints
from libs.rpc import errors
from libs.rpc.deadlines import remaining
from libs.rpc.tenants import DEFAULT_TENANT, Tenant, Tenants
from touchline.projection.v1.projection_service_pb2 import (
    CheckErasureRequest,
    CheckErasureResponse,
)


class ErasingCalls:
    """Tells what is left of the erased in a service; a part of ProjectionService."""

    _runners: Sequence[Runner]
    _pool: asyncpg.Pool
    _store: StoreClient
    _tenants: Tenants
    _checkpoints: Checkpoints
    _checks: Mapping[str, str]

    async def CheckErasure(  # noqa: N802 - gRPC names it
        self, request: CheckErasureRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> CheckErasureResponse:
        """Wait until an erasure is folded, then look for what is left."""
        tenant = self._tenants.named(request.tenant or DEFAULT_TENANT)
        if request.position < 1:
            raise errors.invalid_request([("position", "is missing; EraseProfile answers with it")])
        try:
            erasure = await self._erasure_at(tenant, request.position)
            names = sorted(runner.projection.name for runner in self._runners)
            await self._checkpoints.wait(names, request.position, remaining(context))
            async with views_errors():
                found = await look_for(self._pool, self._store, erasure, tenant.name, self._checks)
        except StoreError as error:
            raise errors.store_unavailable() from error
        except Behind as error:
            if error.halt_reason:
                raise errors.projection_halted(error.projection) from error
            raise errors.projection_behind(
                error.projection, error.position, request.position
            ) from error
        positions = {name: self._checkpoints.position((name,)) for name in names}
        return CheckErasureResponse(positions=positions, checks=found)

    async def _erasure_at(self, tenant: Tenant, position: int) -> Erasure:
        page = (await self._store.history(position - 1)).batch
        events = decode(position, page.events[:1])
        erasures = erasures_among(events, {tenant.number})
        if not erasures:
            told = "is of no erasure of this tenant; EraseProfile answers with it"
            raise errors.invalid_request([("position", told)])
        return erasures[0]
