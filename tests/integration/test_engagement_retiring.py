"""A version of a model that nobody asks any more goes, with whatever was rebuilt of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.pool import open_pool
from libs.projection.generations import switching
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import generations
from libs.projection.serving import Serving
from libs.projection.sharing import Crew
from libs.projection.waiting import follow_checkpoints
from libs.tasks import running
from services.engagement.config import read_config
from services.engagement.models import PublishedModels
from services.engagement.rebuilding import scores_named
from services.engagement.scores import TABLES, Scores
from services.engagement.supervising import Supervisor
from tests.customers import new_email, record, told
from tests.given import used
from tests.servers import SharedPostgres, start_nats
from tests.services import engagement_on, new_scores, new_stores, touchline_on
from tests.store import eventually
from touchline.client import Client
from touchline.engagement.v1.engagement_pb2 import ModelDefinition, ScoringRule
from touchline.engagement.v1.engagement_service_pb2 import PublishModelRequest

MODEL = "retired"
FIRST, SECOND = f"scores:1:{MODEL}:1", f"scores:1:{MODEL}:2"


@dataclass(frozen=True, slots=True)
class Scene:
    """A process that supervises in a database of its own, where nobody retires for long.

    Attributes:
        client: Publishes and records.
        url: The database.
        pool: Connections to it that find what is in public.
        store: History.
        crew: Folds what the supervisor says.
    """

    client: Client
    url: str
    pool: asyncpg.Pool
    store: StoreClient
    crew: Crew

    async def publish(self, expected: int) -> None:
        """Publishes a version of the model, and returns once it answers and has counted."""
        rule = ScoringRule(name="any", weight=1 + expected)
        request = PublishModelRequest(
            definition=ModelDefinition(name=MODEL, rules=[rule]),
            expected_version=expected,
            published_by="analyst-3",
        )
        await self.client.engagement.PublishModel(request)
        await record(self.client, told(used("2026-11-01 10:00", "app"), new_email()))
        query = """SELECT FROM serving_models s JOIN models m ON m.position = s.scoring
            JOIN public.contributions USING (scoring) WHERE m.name = $1 AND m.version = $2"""
        await eventually(lambda: self._finds(query, MODEL, expected + 1))

    async def _finds(self, query: str, *arguments: object) -> bool:
        return bool(await self.pool.fetch(query, *arguments))

    async def scores(self, name: str = FIRST) -> Scores:
        """The fold of a version, as a worker makes it."""
        found = await scores_named(self.url, self.store, name)
        assert found is not None
        return found

    async def of(self, name: str = FIRST) -> list[Generation]:
        """The generations of a version."""
        return [one for one in await generations(self.pool) if one.projection == name]

    async def left(self) -> Mapping[str, int]:
        """How many rows tell of the first version, by what they are; but for its definition."""
        scoring = await self.pool.fetchval(
            "SELECT min(position) FROM models WHERE name = $1", MODEL
        )
        counted = {
            table: await self.pool.fetchval(
                f"SELECT count(*) FROM public.{table} WHERE scoring = $1", scoring
            )
            for table in TABLES
        }
        for table in (
            *("projection_generations", "projection_checkpoints"),
            *("parked_keys", "projection_pauses"),
        ):
            counted[table] = await self.pool.fetchval(
                f"SELECT count(*) FROM {table} WHERE projection = $1", FIRST
            )
        counted["schemas"] = await self.pool.fetchval(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'generation\\_%'"
        )
        return counted

    async def until_gone(self) -> None:
        """Returns once nothing tells of the first version any more."""

        async def is_gone() -> bool:
            return not any((await self.left()).values())

        await eventually(is_gone)


@pytest.fixture
async def scene(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    nats = await start_nats(tmp_path_factory.mktemp("retiring_nats"))
    url = await new_scores(servers)
    async with AsyncExitStack() as stack:
        touchline = await stack.enter_async_context(touchline_on(await new_stores(servers), nats))
        others = engagement_on(touchline, await new_scores(servers))
        service, client = await stack.enter_async_context(others)
        config = read_config({**service.environment, "TOUCHLINE_DATABASE_URL": url})
        connection = await stack.enter_async_context(connect_nats(config.nats_url, "test"))
        store = StoreClient(connection)
        models = PublishedModels(store, config.identity_keys)
        crew = await stack.enter_async_context(supervised(url, store, models))
        public = await stack.enter_async_context(open_pool(url, application="test"))
        yield Scene(client, url, public, store, crew)
    await nats.stop()


@asynccontextmanager
async def supervised(url: str, store: StoreClient, models: PublishedModels) -> AsyncIterator[Crew]:
    """Supervises as a process does until the block ends."""
    serving = Serving()
    async with (
        open_pool(url, application="supervised", setup=serving.setup) as pool,
        follow_checkpoints(url, pool, serving=serving) as checkpoints,
    ):
        crew = Crew(url, pool, store, uuid4(), [models], settings={}, serving=serving)
        supervisor = Supervisor(
            *(pool, store, checkpoints, crew, serving), retiring=timedelta(seconds=0)
        )
        try:
            async with running(crew.run(), supervisor.run()):
                yield crew
        finally:
            await crew.stop()


@asynccontextmanager
async def folding(scene: Scene, fold: Scores) -> AsyncIterator[Crew]:
    """Folds a version in another process, which has not heard that it retires."""
    serving = Serving()
    async with (
        open_pool(scene.url, application="folds", setup=serving.setup) as pool,
        follow_checkpoints(scene.url, pool, serving=serving),
    ):
        crew = Crew(scene.url, pool, scene.store, uuid4(), [fold], settings={}, serving=serving)
        try:
            async with running(crew.run()):
                yield crew
        finally:
            await crew.stop()


async def test_given_generations_in_every_state_then_all_go_with_their_version(
    scene: Scene,
) -> None:
    await scene.publish(0)
    fold = await scene.scores()
    (answers,) = await scene.of()
    follows = await switching.begin(scene.pool, fold)
    async with scene.pool.acquire() as connection, connection.transaction():
        await switching.follow(connection, follows.id)
    follows = next(one for one in await scene.of() if one.id == follows.id)
    await eventually(lambda: is_folded(scene, follows))
    await switching.switch(scene.pool, answers, follows, "following")
    filled = await switching.begin(scene.pool, fold)
    # A worker fills it, and nobody can resume what no process knows any more.
    await scene.pool.execute(
        "UPDATE projection_checkpoints SET leased_until = 'infinity' WHERE generation = $1",
        filled.id,
    )
    await scene.pool.execute(
        "INSERT INTO parked_keys (generation, projection, tenant, owner_key, position, event_id, "
        "error) VALUES ($1, $2, 1, $3, 1, gen_random_uuid(), 'KeyError')",
        *(answers.id, FIRST, bytes(16)),
    )
    await switching.pause(scene.pool, FIRST, "a look at it")
    assert {one.state for one in await scene.of()} == {"retired", "serving", "filling"}
    left = await scene.left()
    assert (left["contributions"], left["parked_keys"], left["schemas"]) == (1, 1, 2)

    await scene.publish(1)
    await scene.until_gone()
    assert [one.state for one in await scene.of(SECOND)] == ["serving"]
    assert FIRST not in scene.crew.projections


async def is_folded(scene: Scene, generation: Generation) -> bool:
    """Whether a generation stands where the one that answers does, and somebody folds it."""
    query = """SELECT FROM projection_checkpoints n JOIN projection_checkpoints o
        ON o.projection = n.projection AND o.generation <> n.generation
        WHERE n.generation = $1 AND n.position >= o.position AND n.position > 0
            AND n.leased_until > clock_timestamp()"""
    return bool(await scene.pool.fetch(query, generation.id))


async def test_given_a_process_that_folds_it_still_then_nothing_goes_under_its_hands(
    scene: Scene,
) -> None:
    await scene.publish(0)
    fold = await scene.scores()
    # A rebuild that failed is told of by a row that nobody leases anything of.
    begun = await switching.begin(scene.pool, fold)
    assert await switching.fail(scene.pool, begun.id, "the disk was full")
    async with folding(scene, fold) as other:
        await eventually(lambda: is_theirs(other))
        known = [one.id for one in await scene.of()]
        await scene.publish(1)
        await eventually(lambda: is_forgotten(scene))
        await asyncio.sleep(5)  # it is swept every two seconds
        assert [one.id for one in await scene.of()] == known
        assert (await scene.left())["contributions"] > 0
    await scene.until_gone()


async def is_theirs(crew: Crew) -> bool:
    """Whether a process folds a part."""
    return any(one.state.owns for one in crew.runners)


async def is_forgotten(scene: Scene) -> bool:
    """Whether the process that supervises folds the first version no more."""
    return FIRST not in scene.crew.projections
