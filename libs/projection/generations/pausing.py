"""The calls that pause and resume."""

import asyncio
from typing import Any, Final

import asyncpg
import grpc

from libs.projection.generations import switching
from libs.projection.generations.telling import Folds, Known, named, read_known
from libs.projection.profiles import views_errors
from libs.rpc import errors
from touchline.projection.v1.projection_service_pb2 import (
    PauseProjectionRequest,
    PauseProjectionResponse,
    ResumeProjectionRequest,
    ResumeProjectionResponse,
)

Context = grpc.aio.ServicerContext[Any, Any]

_MOST_REASON: Final = 500
# A process that is frozen does not hear of a pause; it can't write either once its lease is over.
_STOPPED_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.05


class PausingCalls:
    """Has a service's projections folded, or not; a part of ProjectionService."""

    _folds: Folds
    _pool: asyncpg.Pool

    async def PauseProjection(  # noqa: N802 - gRPC names it
        self, request: PauseProjectionRequest, context: Context
    ) -> PauseProjectionResponse:
        """Have nobody fold a projection until it is resumed."""
        del context
        name = named(self._folds, request.projection).name
        if len(request.reason) > _MOST_REASON:
            told = f"has more than {_MOST_REASON} characters"
            raise errors.invalid_request([("reason", told)])
        async with views_errors():
            await switching.pause(self._pool, name, request.reason)
            known = await self._stopped(name)
        serving = [one for one in known.generations[name] if one.state == "serving"]
        return PauseProjectionResponse(position=known.position(serving[-1].id) if serving else 0)

    async def ResumeProjection(  # noqa: N802 - gRPC names it
        self, request: ResumeProjectionRequest, context: Context
    ) -> ResumeProjectionResponse:
        """Have a projection folded again."""
        del context
        name = named(self._folds, request.projection).name
        async with views_errors():
            await switching.resume(self._pool, name)
        return ResumeProjectionResponse()

    async def _stopped(self, name: str) -> Known:
        """Return what is known of projections once nobody folds this one, or soon in any case."""
        end = asyncio.get_running_loop().time() + _STOPPED_SECONDS
        while True:
            known = await read_known(self._pool)
            its = [one.id for one in known.generations[name] if one.state == "serving"]
            folded = any(each.leased for one in its for each in known.ranges[one])
            if not folded or asyncio.get_running_loop().time() > end:
                return known
            await asyncio.sleep(_LOOK_SECONDS)
