"""Generations of tests: a line, a process that folds, its ProjectionService, and who fills."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast
from uuid import uuid4

import asyncpg
import grpc
import pytest

from libs.embedded import create_database, database_url_for
from libs.eventstore.client import StoreClient
from libs.postgres.pool import open_pool
from libs.projection.generations.ahead import Sizes
from libs.projection.generations.generation import Generation
from libs.projection.generations.worker import run_worker
from libs.projection.grpc_api import ProjectionService
from libs.projection.projection import Projection
from libs.rpc.errors import CallError
from tests.aggregates import Lent, build_stores, lent_line
from tests.filling import generation_named
from tests.servers import SharedPostgres, start_nats
from tests.services import mint_store
from tests.sharing import Member, member
from tests.store import DEFAULT, TENANTS, email, said
from touchline.projection.v1 import projection_pb2
from touchline.projection.v1 import projection_service_pb2 as api

# The calls under test don't look at it.
CALL = cast("grpc.aio.ServicerContext[Any, Any]", None)
LEASE = timedelta(seconds=1)

T = TypeVar("T")


@asynccontextmanager
async def new_line(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lent]:
    """Gives a new line with its relay."""
    own = await start_nats(tmp_path_factory.mktemp("generations_nats"))
    name = f"generations_{uuid4().hex}"
    await create_database(servers.url, name, await servers.template(build_stores))
    url = database_url_for(servers.url, name)
    await mint_store(url)
    async with lent_line(url, own) as line:
        yield line
    await own.stop()


async def tell(lent: Lent, *customers: str) -> int:
    """Records an event of each customer in one request, and returns the last position."""
    return (await lent.line.record(*(said("Hi", who=[email(one)]) for one in customers)))[
        -1
    ].position


def key_of(customer: str) -> bytes:
    """A customer's identity key."""
    return DEFAULT.identity_keys.identify(email(customer)).key


@dataclass(slots=True)
class Desk:
    """A process that folds, and what an operator asks of it.

    Attributes:
        url: Its database.
        pool: Connections that find what is in public.
        store: History.
        process: What folds.
        service: What is asked.
    """

    url: str
    pool: asyncpg.Pool
    store: StoreClient
    process: Member
    service: ProjectionService

    async def fill(self, generation: int, fold: Projection, near: int = 0) -> None:
        """Does what a worker process does, with a fold that may differ from the service's."""

        async def projection(_: str) -> Projection:
            return fold

        await run_worker(
            *(generation, self.url, self.store, projection, asyncio.Event(), {}),
            sizes=Sizes(events=50, near=near),
            lease=LEASE,
        )

    async def begin(self, name: str, workers: int = 1) -> int:
        """Begins a rebuild, and listens no longer than until it is begun."""
        request = api.RebuildProjectionRequest(projection=name, workers=workers)
        told = cast(
            "AsyncGenerator[api.RebuildProjectionResponse]",
            self.service.RebuildProjection(request, CALL),
        )
        async with aclosing(told):
            return (await anext(told)).generation

    async def watch(self, name: str) -> list[api.RebuildProjectionResponse]:
        """Listens until the rebuild that is under way ends."""
        request = api.RebuildProjectionRequest(projection=name, watch=True)
        async with asyncio.timeout(30):
            return [one async for one in self.service.RebuildProjection(request, CALL)]

    async def rebuilt(self, fold: Projection, workers: int = 1) -> int:
        """Rebuilds until the new generation follows the line."""
        new = await self.begin(fold.name, workers)
        await asyncio.gather(*[self.fill(new, fold) for _ in range(workers)])
        await self.watch(fold.name)
        return new

    async def compare(self, name: str, generation: int = 0) -> api.CompareGenerationsResponse:
        """Compares, and returns how they do."""
        request = api.CompareGenerationsRequest(projection=name, generation=generation)
        *before, last = [one async for one in self.service.CompareGenerations(request, CALL)]
        assert last.finished
        assert not any(one.finished for one in before)
        return last

    async def switch(self, name: str, *, accept: bool = False) -> api.SwitchProjectionResponse:
        """Lets the one that follows answer."""
        request = api.SwitchProjectionRequest(projection=name, accept_differences=accept)
        return await self.service.SwitchProjection(request, CALL)

    async def roll_back(self, name: str) -> api.RollBackProjectionResponse:
        """Lets the one answer that did before."""
        return await self.service.RollBackProjection(
            api.RollBackProjectionRequest(projection=name), CALL
        )

    async def drop(self, name: str, generation: int) -> None:
        """Drops a generation."""
        request = api.DropGenerationRequest(projection=name, generation=generation)
        await self.service.DropGeneration(request, CALL)

    async def listed(self, name: str) -> projection_pb2.Projection:
        """What the list says of a projection."""
        answer = await self.service.ListProjections(api.ListProjectionsRequest(), CALL)
        return next(one for one in answer.projections if one.name == name)

    async def generation(self, generation: int) -> Generation:
        """What the database says of a generation."""
        return await generation_named(self.pool, generation)

    async def schema_exists(self, generation: int) -> bool:
        """Whether a generation has a schema of its own."""
        found = await self.pool.fetchval("SELECT to_regnamespace($1)", f"generation_{generation}")
        return found is not None

    async def reached(self, position: int, *names: str) -> None:
        """Returns once this process reads what was recorded up to a position."""
        await self.process.checkpoints.wait(names, position, 20.0)


@asynccontextmanager
async def desk(url: str, store: StoreClient, folds: Sequence[Projection]) -> AsyncIterator[Desk]:
    """Runs a process that folds until the block ends, and its ProjectionService."""
    async with member(url, store, folds) as process, open_pool(url, application="desk") as pool:
        service = ProjectionService(
            *(process.crew, url, store, process.pool, TENANTS, process.checkpoints, {})
        )
        yield Desk(url, pool, store, process, service)


async def refused(call: Awaitable[T]) -> CallError:
    """Returns the error of a call that has one."""
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


async def drained(stream: AsyncIterator[T]) -> list[T]:
    """Returns everything of a stream."""
    return [one async for one in stream]


async def comes(condition: Callable[[], Awaitable[bool]], within: float = 20.0) -> None:
    """Returns once the database says so."""
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - no event tells of another connection
            await asyncio.sleep(0.02)
