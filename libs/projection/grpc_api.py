"""ProjectionService: how far a service's projections came, whether they are right, what is left."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import grpc

from libs.eventstore.client import StoreClient
from libs.postgres.pool import UNREACHABLE
from libs.projection.checkpoints import RangeState, read_ranges
from libs.projection.erasing.calls import ErasingCalls
from libs.projection.parking import count_parked
from libs.projection.parking.calls import ParkingCalls
from libs.projection.runner import Runner
from libs.projection.verifying.calls import VerifyingCalls, is_reactor
from libs.projection.waiting import Checkpoints
from libs.rpc.tenants import Tenants
from touchline.projection.v1.projection_pb2 import (
    PROJECTION_STATE_HALTED,
    PROJECTION_STATE_WAITING,
    Projection,
)
from touchline.projection.v1.projection_service_pb2 import (
    ListProjectionsRequest,
    ListProjectionsResponse,
)
from touchline.projection.v1.projection_service_pb2_grpc import (
    ProjectionServiceServicer,
    add_ProjectionServiceServicer_to_server,
)


class ProjectionService(VerifyingCalls, ParkingCalls, ErasingCalls, ProjectionServiceServicer):
    """Implements touchline.projection.v1.ProjectionService; the proto is the contract.

    Its arguments are those of `registration`.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        database_url: str,
        store: StoreClient,
        pool: asyncpg.Pool,
        tenants: Tenants,
        checkpoints: Checkpoints,
        checks: Mapping[str, str],
    ) -> None:
        super().__init__(runners, database_url, store)
        self._pool = pool
        self._tenants = tenants
        self._checkpoints = checkpoints
        self._checks = checks

    async def ListProjections(  # noqa: N802 - gRPC names it
        self, request: ListProjectionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ListProjectionsResponse:
        """List the service's projections."""
        del request, context
        parked, committed = dict[int, int](), dict[str, RangeState]()
        with suppress(asyncpg.PostgresError, *UNREACHABLE):  # the rest this process knows itself
            parked = await count_parked(self._pool)
            committed = {one.projection: one for one in await read_ranges(self._pool)}
        # Sorted at each call: a service may start and stop projections while it runs.
        running = sorted(self._runners, key=lambda runner: runner.projection.name)
        listed = [_projection(one, committed.get(one.projection.name), parked) for one in running]
        return ListProjectionsResponse(projections=listed)


def registration(
    runners: Sequence[Runner],
    database_url: str,
    store: StoreClient,
    pool: asyncpg.Pool,
    tenants: Tenants,
    checkpoints: Checkpoints,
    checks: Mapping[str, str],
) -> Callable[[grpc.aio.Server], None]:
    """Return what adds the service to a server.

    Args:
        runners: The service's, as they run at each call.
        database_url: Their database, for a login that may create schemas there.
        store: History and data keys.
        pool: Connections to their database.
        tenants: Whose events they fold.
        checkpoints: How far they came, and have forgotten what was erased.
        checks: What looks for what is left of the erased in the service's own tables; see
            libs.projection.erasing.checking.
    """
    service = ProjectionService(
        *(runners, database_url, store, pool, tenants), checkpoints=checkpoints, checks=checks
    )
    return lambda server: add_ProjectionServiceServicer_to_server(service, server)


def _projection(
    runner: Runner, committed: RangeState | None, parked: Mapping[int, int]
) -> Projection:
    checkpoint, halt_reason = runner.checkpoint, runner.state.halt_reason
    state = runner.state.state
    if committed is not None and not runner.state.owns:
        # Another process folds it, or did until just now, and only the database knows how far.
        checkpoint, halt_reason = committed.checkpoint, committed.halt_reason
        state = PROJECTION_STATE_HALTED if halt_reason else PROJECTION_STATE_WAITING
    told = Projection(
        name=runner.projection.name,
        position=checkpoint.position,
        chain=checkpoint.chain,
        store_id=checkpoint.store_id,
        head_position=max(runner.state.head, checkpoint.position),
        fold_version=runner.projection.fold_version,
        state=state,
        halt_reason=halt_reason,
        parked_keys=parked.get(committed.generation, 0) if committed else 0,
        is_reactor=is_reactor(runner),
    )
    if runner.state.committed_at:
        told.committed_at.FromNanoseconds(int(runner.state.committed_at * 1e9))
    return told
