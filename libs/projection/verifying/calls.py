"""The call that verifies a projection."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import asyncpg
import grpc

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.postgres.pool import UNREACHABLE
from libs.projection.generations.telling import Folds
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
    """Compares a service's projections with copies folded anew; a part of ProjectionService."""

    _folds: Folds
    _database_url: str
    _store: StoreClient

    async def VerifyProjection(  # noqa: N802 - gRPC names it
        self, request: VerifyProjectionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[VerifyProjectionResponse]:
        """Fold a copy of a projection and compare it, telling the progress."""
        del context
        name = request.projection
        projection = self._folds.projections.get(name)
        if projection is None:
            raise errors.projection_not_found(name)
        if projection.copy() is None:
            raise errors.invalid_request([("projection", f"{name} {_REACTOR}")])
        runners = [one for one in self._folds.runners if one.projection.name == name]
        if any(one.state.state == PROJECTION_STATE_HALTED for one in runners):
            raise errors.projection_halted(name)
        states = verify_projection(projection, self._database_url, self._store)
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


def _response(state: ProjectionVerification) -> VerifyProjectionResponse:
    told = VerifyProjectionResponse(
        folded_events=state.folded, events=state.events, finished=state.finished
    )
    if state.finished:
        told.position = state.folded
        told.tables.extend(state.tables)
        told.parked_keys = state.parked
    return told
