"""The calls that rebuild, compare, switch, roll back and drop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any, Final

import asyncpg
import grpc

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.projection.generations import switching
from libs.projection.generations.comparing import Comparison, compare
from libs.projection.generations.generation import Generation, State
from libs.projection.generations.keeping import RETIRED_FOR
from libs.projection.generations.meeting import NotMet
from libs.projection.generations.records import generations
from libs.projection.generations.telling import Folds, Known, indexed, named, read_known
from libs.projection.profiles import views_errors
from libs.projection.projection import Projection
from libs.rpc import errors
from touchline.projection.v1.projection_service_pb2 import (
    REBUILD_STAGE_CATCHING_UP,
    REBUILD_STAGE_FILLING,
    REBUILD_STAGE_FOLLOWING,
    REBUILD_STAGE_INDEXING,
    CompareGenerationsRequest,
    CompareGenerationsResponse,
    DropGenerationRequest,
    DropGenerationResponse,
    RebuildProjectionRequest,
    RebuildProjectionResponse,
    RollBackProjectionRequest,
    RollBackProjectionResponse,
    SwitchProjectionRequest,
    SwitchProjectionResponse,
)

Context = grpc.aio.ServicerContext[Any, Any]

_WORKERS: Final = (1, 2, 4, 8)
_LOOK_SECONDS: Final = 0.2
_HEAD_SECONDS: Final = 1.0
_REACTOR: Final = "acts on what it folds, and only one may: it is not rebuilt"


class GenerationCalls:
    """Sees to the generations of a service's projections; a part of ProjectionService."""

    _folds: Folds
    _database_url: str
    _store: StoreClient
    _pool: asyncpg.Pool

    async def RebuildProjection(  # noqa: N802 - gRPC names it
        self, request: RebuildProjectionRequest, context: Context
    ) -> AsyncIterator[RebuildProjectionResponse]:
        """Begin a generation, or find the one that is being built, and tell how it goes."""
        del context
        projection = self._rebuildable(request.projection)
        if request.workers not in (0, *_WORKERS):
            raise errors.invalid_request([("workers", "must be 1, 2, 4 or 8; 0 is 1")])
        async with views_errors():
            begun = (
                await self._one(projection, 0, "that is being built", ("filling", "following"))
                if request.watch
                else await self._begin(projection, request.workers or 1)
            )
        head = begun.fill_to
        while True:
            async with views_errors():
                known = await read_known(self._pool)
                told = await self._progress(projection, begun, known, head)
            yield told
            if told.stage == REBUILD_STAGE_FOLLOWING:
                return
            await asyncio.sleep(_LOOK_SECONDS)
            head = max(head, await self._head())

    async def CompareGenerations(  # noqa: N802 - gRPC names it
        self, request: CompareGenerationsRequest, context: Context
    ) -> AsyncIterator[CompareGenerationsResponse]:
        """Compare a generation with the one that answers, and remember how they compare."""
        del context
        projection = self._rebuildable(request.projection)
        async with views_errors():
            serving = await self._one(projection, 0, "that answers", ("serving",))
            wanted: tuple[State, ...] = (
                ("following", "retired") if request.generation else ("following",)
            )
            other = await self._one(
                projection, request.generation, "to compare with the one that answers", wanted
            )
        states = compare(
            *(self._pool, self._database_url, self._store, serving, other), projection.tables
        )
        found: Comparison | None = None
        yield CompareGenerationsResponse(serving=serving.id, generation=other.id)
        try:
            async with views_errors(), aclosing(states):
                async for found in states:
                    if not found.finished:
                        yield _compared(serving, other, found)
            if found is not None and found.finished:
                async with views_errors():
                    await switching.remember(
                        self._pool, other.id, found.position, found.differing_rows
                    )
                yield _compared(serving, other, found)
        except NotMet as error:
            raise _not_met(other, error) from error
        except StoreError as error:
            raise errors.store_unavailable() from error
        except asyncpg.DiskFullError as error:
            raise errors.views_unavailable() from error

    async def SwitchProjection(  # noqa: N802 - gRPC names it
        self, request: SwitchProjectionRequest, context: Context
    ) -> SwitchProjectionResponse:
        """Let a generation answer that was found equal, or whose differences are accepted."""
        del context
        projection = self._rebuildable(request.projection)
        async with views_errors():
            serving = await self._one(projection, 0, "that answers", ("serving",))
            other = await self._one(projection, request.generation, "to switch to", ("following",))
            equal = other.compared_position and not other.differing_rows
            if not equal and not request.accept_differences:
                differing = other.differing_rows if other.compared_position else None
                raise errors.generations_differ(projection.name, other.id, differing)
            switched = await self._switch(
                serving, other, "following", past_halt=request.accept_differences
            )
            retired = await self._one(projection, serving.id, "", ("retired",))
        told = SwitchProjectionResponse(**switched._asdict())
        if retired.retired_at is not None:
            told.roll_back_until.FromDatetime(retired.retired_at + RETIRED_FOR)
        return told

    async def RollBackProjection(  # noqa: N802 - gRPC names it
        self, request: RollBackProjectionRequest, context: Context
    ) -> RollBackProjectionResponse:
        """Let the generation answer again that did before."""
        del context
        projection = self._rebuildable(request.projection)
        async with views_errors():
            serving = await self._one(projection, 0, "that answers", ("serving",))
            before = await self._one(projection, 0, "to roll back to", ("retired",))
            switched = await self._switch(serving, before, "retired")
        return RollBackProjectionResponse(**switched._asdict())

    async def DropGeneration(  # noqa: N802 - gRPC names it
        self, request: DropGenerationRequest, context: Context
    ) -> DropGenerationResponse:
        """Drop a generation that does not answer."""
        del context
        projection = self._rebuildable(request.projection)
        if request.generation < 1:
            raise errors.invalid_request([("generation", "is missing; ListProjections names them")])
        async with views_errors():
            its = [one for one in await self._its(projection) if one.id == request.generation]
            if not its:
                raise errors.generation_not_found(projection.name, request.generation, "")
            await switching.heard(self._pool, request.generation)
            try:
                dropped = await switching.drop(self._pool, its[0], projection.tables)
            except asyncpg.LockNotAvailableError as error:
                why = "Somebody reads its tables just now. Try again."
                raise errors.generation_not_ready(
                    *(projection.name, its[0].id, its[0].state, why)
                ) from error
            if not dropped:
                why = "It answers. Switch to another generation first."
                raise errors.generation_not_ready(projection.name, its[0].id, "serving", why)
        return DropGenerationResponse()

    def _rebuildable(self, name: str) -> Projection:
        found = named(self._folds, name)
        if found.copy() is None:
            raise errors.invalid_request([("projection", f"{name} {_REACTOR}")])
        return found

    async def _its(self, projection: Projection) -> list[Generation]:
        """Return the generations of a projection that this release can read."""
        return [
            one
            for one in await generations(self._pool)
            if one.projection == projection.name and one.fold_version == projection.fold_version
        ]

    async def _one(
        self, projection: Projection, named: int, what: str, states: tuple[State, ...]
    ) -> Generation:
        """Return the latest generation in some states, or the one that is named, if it is in them.

        Raises:
            CallError: GENERATION_NOT_FOUND or GENERATION_NOT_READY.
        """
        its = await self._its(projection)
        if named:
            its = [one for one in its if one.id == named]
            if its and its[0].state not in states:
                raise errors.generation_not_ready(
                    *(projection.name, named, its[0].state),
                    f"It has to be {' or '.join(states)}. ListProjections says how it stands.",
                )
        found = [one for one in its if one.state in states]
        if not found:
            raise errors.generation_not_found(projection.name, named, what)
        return max(found, key=lambda one: (one.retired_at or one.begun_at, one.id))

    async def _begin(self, projection: Projection, workers: int) -> Generation:
        try:
            return await switching.begin(self._pool, projection, workers, await self._head())
        except switching.UnderWay as error:
            raise errors.rebuild_under_way(projection.name, error.generation) from error
        except asyncpg.DiskFullError as error:
            raise errors.views_unavailable() from error

    async def _switch(
        self, serving: Generation, other: Generation, state: State, *, past_halt: bool = False
    ) -> switching.Switched:
        try:
            return await switching.switch(self._pool, serving, other, state, past_halt=past_halt)
        except NotMet as error:
            raise _not_met(other, error) from error

    async def _head(self) -> int:
        """Return the store's head; 0 while it does not answer."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_HEAD_SECONDS):
                return (await self._store.head()).position
        return 0

    async def _progress(
        self, projection: Projection, begun: Generation, known: Known, head: int
    ) -> RebuildProjectionResponse:
        its = known.generations[projection.name]
        now = next((one for one in its if one.id == begun.id), None)
        if now is None or now.state == "failed":
            why = now.failure if now else "Somebody dropped it."
            raise errors.generation_not_ready(projection.name, begun.id, "failed", why)
        ranges = known.ranges[now.id]
        positions = [one.checkpoint.position for one in ranges]
        told = RebuildProjectionResponse(
            generation=now.id,
            stage=REBUILD_STAGE_FILLING,
            folded_events=sum(positions) // max(len(positions), 1),
            events=max(head, *positions, 0),
            workers=sum(one.leased for one in ranges),
            waits_for=now.waits_for,
        )
        if projection.name in known.pauses:
            told.waits_for = "the projection is paused"
        if now.state == "filling":
            share = await indexed(self._pool, now)
            if share is not None:
                told.stage, told.indexed = REBUILD_STAGE_INDEXING, share
            return told
        answering = [one.id for one in its if one.state == "serving"]
        ahead = max((known.position(one) for one in answering), default=0)
        follows = ranges and all(one.leased for one in ranges) and min(positions) >= ahead
        told.stage = REBUILD_STAGE_FOLLOWING if follows else REBUILD_STAGE_CATCHING_UP
        return told


def _compared(
    serving: Generation, other: Generation, found: Comparison
) -> CompareGenerationsResponse:
    return CompareGenerationsResponse(
        serving=serving.id,
        generation=other.id,
        position=found.position,
        tables=found.tables,
        table_count=found.table_count,
        finished=found.finished,
    )


def _not_met(generation: Generation, error: NotMet) -> errors.CallError:
    return errors.generation_not_ready(
        generation.projection, generation.id, generation.state, str(error)
    )
