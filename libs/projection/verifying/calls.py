"""The call that verifies a projection."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final

import asyncpg
import grpc

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.postgres.pool import UNREACHABLE
from libs.projection.runner import Runner
from libs.projection.verifying.comparing import ProjectionVerification, verify_projection
from libs.projection.verifying.copying import Unverifiable
from libs.rpc import errors
from touchline.projection.v1.projection_pb2 import PROJECTION_STATE_HALTED
from touchline.projection.v1.projection_service_pb2 import (
    VerifyProjectionRequest,
    VerifyProjectionResponse,
)

_REACTOR: Final = "acts on what it folds, and only one may: it is not folded twice"


class VerifyingCalls:
    """Compares a service's projections with copies folded anew.

    Args:
        runners: The service's.
        database_url: Their database, for a login that may create schemas there.
        store: History and data keys.
    """

    def __init__(self, runners: Sequence[Runner], database_url: str, store: StoreClient) -> None:
        self._runners = runners
        self._database_url = database_url
        self._store = store

    async def VerifyProjection(  # noqa: N802 - gRPC names it
        self, request: VerifyProjectionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[VerifyProjectionResponse]:
        """Fold a copy of a projection and compare it, telling the progress."""
        del context
        name = request.projection
        runner = next((one for one in self._runners if one.projection.name == name), None)
        if runner is None:
            raise errors.projection_not_found(name)
        if is_reactor(runner):
            raise errors.invalid_request([("projection", f"{name} {_REACTOR}")])
        if runner.state.state == PROJECTION_STATE_HALTED:
            raise errors.projection_halted(name)
        states = verify_projection(runner.projection, self._database_url, self._store)
        found: ProjectionVerification | None = None
        try:
            async with aclosing(states):
                async for state in states:
                    if state.finished:
                        found = state
                    else:
                        yield _response(state)
            # Once the copy is removed, so that who has the result can verify the next at once.
            if found is not None:
                yield _response(found)
        except Unverifiable as error:
            raise errors.projection_unverifiable(name, str(error)) from error
        except StoreError as error:
            raise errors.store_unavailable() from error
        except (asyncpg.DiskFullError, *UNREACHABLE) as error:
            raise errors.views_unavailable() from error


def is_reactor(runner: Runner) -> bool:
    """Tell whether a runner's projection acts, so that no other may fold what it folds."""
    return runner.projection.copy() is None


def _response(state: ProjectionVerification) -> VerifyProjectionResponse:
    told = VerifyProjectionResponse(
        folded_events=state.folded, events=state.events, finished=state.finished
    )
    if state.finished:
        told.position = state.folded
        told.tables.extend(state.tables)
        told.parked_keys = state.parked
    return told
