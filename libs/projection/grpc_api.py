"""ProjectionService: how a service's projections stand, whether they are right, what is done."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg
import grpc

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.postgres.pool import UNREACHABLE
from libs.projection.erasing.calls import ErasingCalls
from libs.projection.generations.calls import GenerationCalls
from libs.projection.generations.pausing import PausingCalls
from libs.projection.generations.telling import Folds, Known, read_known, tell
from libs.projection.parking.calls import ParkingCalls
from libs.projection.runner import Runner
from libs.projection.verifying.calls import VerifyingCalls
from libs.projection.waiting import Checkpoints
from libs.rpc.tenants import Tenants
from touchline.projection.v1.projection_service_pb2 import (
    ListProjectionsRequest,
    ListProjectionsResponse,
)
from touchline.projection.v1.projection_service_pb2_grpc import (
    ProjectionServiceServicer,
    add_ProjectionServiceServicer_to_server,
)

_HEAD_SECONDS: Final = 0.5


class ProjectionService(
    VerifyingCalls,
    ParkingCalls,
    ErasingCalls,
    GenerationCalls,
    PausingCalls,
    ProjectionServiceServicer,
):
    """Implements touchline.projection.v1.ProjectionService; the proto is the contract.

    Its arguments are those of `registration`.
    """

    def __init__(
        self,
        folds: Folds,
        database_url: str,
        store: StoreClient,
        pool: asyncpg.Pool,
        tenants: Tenants,
        checkpoints: Checkpoints,
        checks: Mapping[str, str],
    ) -> None:
        self._folds = folds
        self._database_url = database_url
        self._store = store
        self._pool = pool
        self._tenants = tenants
        self._checkpoints = checkpoints
        self._checks = checks

    @property
    def _runners(self) -> Sequence[Runner]:
        return self._folds.runners

    async def ListProjections(  # noqa: N802 - gRPC names it
        self, request: ListProjectionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ListProjectionsResponse:
        """List the service's projections."""
        del request, context
        known = Known()
        with suppress(asyncpg.PostgresError, *UNREACHABLE):  # the rest this process knows itself
            known = await read_known(self._pool)
        # Copied: a service may start and stop projections while it runs.
        runners, projections = list(self._folds.runners), dict(self._folds.projections)
        head = max((one.state.head for one in runners), default=0) or await self._head_told()
        listed = [
            tell(one, [each for each in runners if each.projection.name == name], known, head)
            for name, one in sorted(projections.items())
        ]
        return ListProjectionsResponse(projections=listed)

    async def _head_told(self) -> int:
        """Return the store's head, for a process that folds nothing itself; 0 if it is away."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_HEAD_SECONDS):
                return (await self._store.head()).position
        return 0


def registration(
    folds: Folds,
    database_url: str,
    store: StoreClient,
    pool: asyncpg.Pool,
    tenants: Tenants,
    checkpoints: Checkpoints,
    checks: Mapping[str, str],
) -> Callable[[grpc.aio.Server], None]:
    """Return what adds the service to a server.

    Args:
        folds: What the service folds, as it is at each call.
        database_url: Its database, for a login that may create schemas there.
        store: History and data keys.
        pool: Connections to its database.
        tenants: Whose events are folded.
        checkpoints: How far the projections came, and have forgotten what was erased.
        checks: What looks for what is left of the erased in the service's own tables; see
            libs.projection.erasing.checking.
    """
    service = ProjectionService(
        *(folds, database_url, store, pool, tenants), checkpoints=checkpoints, checks=checks
    )
    return lambda server: add_ProjectionServiceServicer_to_server(service, server)
