"""A generation is filled beside the live one: the same rows, whatever it took to fill it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from libs.embedded import create_database, database_url_for, drop_database
from libs.eventstore.chain import Head
from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreUnavailable
from libs.projection import folding
from libs.projection.checkpoints import Ownership
from libs.projection.generations import switching
from libs.projection.generations.ahead import Sizes
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import generations
from libs.projection.generations.worker import CannotFill, run_worker
from libs.projection.partitions import ALL
from libs.projection.projection import Projection
from tests.aggregates import Lent, build_stores, lent_line
from tests.faulty import Faulty
from tests.filling import (
    FOLDS,
    email_of,
    fold_of,
    follow_up,
    generation_named,
    indexes_of,
    live_generation,
    place_of,
    rows_of,
    varied,
)
from tests.projecting import Ledger
from tests.servers import SharedPostgres, start_nats
from tests.services import mint_store, new_views
from tests.store import DEFAULT
from touchline.store.v1.store_pb2 import GetHistoryResponse

LEASE = timedelta(seconds=1)
WHOLE = Sizes(events=50, near=0)


@dataclass(slots=True)
class Scene:
    """A line, and a database with all of it folded into the generations that answer.

    Attributes:
        url: The database.
        lent: The line.
        live: The generations that answer, by projection.
    """

    url: str
    pool: asyncpg.Pool
    lent: Lent
    live: dict[str, Generation]

    def fold(self, name: str) -> Projection:
        """A fold that remembers nothing."""
        keys = DEFAULT.identity_keys
        return fold_of(name, self.lent.client, DEFAULT.tenant.number, keys)

    async def begin(self, name: str, workers: int = 1) -> Generation:
        """Begins a generation."""
        return await switching.begin(self.pool, self.fold(name), workers)

    async def work(
        self,
        generation: Generation,
        sizes: Sizes = WHOLE,
        *,
        stop: asyncio.Event | None = None,
        store: StoreClient | None = None,
        fold: Projection | None = None,
    ) -> None:
        """Does what a worker process does."""

        async def projection(name: str) -> Projection:
            return fold or self.fold(name)

        await run_worker(
            *(generation.id, self.url, store or self.lent.client, projection),
            *(stop or asyncio.Event(), {}),
            sizes=sizes,
            lease=LEASE,
        )

    async def rows(self, generation: Generation) -> dict[str, list[str]]:
        """What is in its tables."""
        return await rows_of(self.pool, generation, self.fold(generation.projection))


@pytest.fixture(scope="module")
async def scene(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """Six hundred events, of whose customers two are erased."""
    own = await start_nats(tmp_path_factory.mktemp("filling_nats"))
    await create_database(servers.url, "filling_line", await servers.template(build_stores))
    line_url, url = database_url_for(servers.url, "filling_line"), await new_views(servers)
    await mint_store(line_url)
    async with AsyncExitStack() as stack:
        lent = await stack.enter_async_context(lent_line(line_url, own))
        pool = await stack.enter_async_context(asyncpg.create_pool(url, min_size=1, max_size=4))
        for seed in range(4):
            await lent.line.record(*varied(150, seed))
            gone = [DEFAULT.identity_keys.identify(email_of(10 * seed + n)).key for n in (1, 2)]
            await lent.line.erase(*gone)
        found = Scene(url, pool, lent, {})
        for name in FOLDS:
            found.live[name] = await live_generation(found.fold(name), pool, lent.client)
        yield found
    await own.stop()
    await drop_database(servers.url, "filling_line")


@pytest.fixture(autouse=True)
async def dropped(scene: Scene) -> AsyncIterator[None]:
    """Each test finds only what answers."""
    yield
    for one in await generations(scene.pool):
        if one.state in ("filling", "following"):
            await switching.drop(scene.pool, one, scene.fold(one.projection).tables)


@pytest.mark.parametrize("name", FOLDS)
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_the_sizes_and_however_many_workers_the_rows_are_those_that_are_live(
    scene: Scene, name: str, seed: int
) -> None:
    random = Random(f"{name} {seed}")
    fold = scene.fold(name)
    workers = random.choice((1, 2, 4)) if fold.divisible else 1
    sizes = Sizes(random.randrange(1, 200), random.randrange(1, 4), random.choice((0, 7, 300)))
    generation = await scene.begin(name, workers)
    await asyncio.gather(*[scene.work(generation, sizes) for _ in range(workers)])
    found = await generation_named(scene.pool, generation.id)
    assert (found.state, found.waits_for) == ("following", "")
    await follow_up(fold, found, scene.url, scene.lent.client)
    live = await scene.rows(scene.live[name])
    assert await scene.rows(found) == live
    assert any(live.values())
    assert await indexes_of(scene.pool, found, fold) == await indexes_of(
        scene.pool, scene.live[name], fold
    )


@pytest.mark.parametrize("name", FOLDS)
async def test_a_worker_that_stops_leaves_what_another_goes_on_from(
    scene: Scene, name: str
) -> None:
    generation = await scene.begin(name)
    stop, sizes, stops = asyncio.Event(), Sizes(events=1, pages=1, near=0), 0
    store = Pages(scene.lent.client, size=20)
    while (await generation_named(scene.pool, generation.id)).state == "filling":
        stop.clear()
        before = await place_of(scene.pool, generation.id)
        worker = asyncio.create_task(scene.work(generation, sizes, stop=stop, store=store))
        await told(partial(_moved, scene, generation, before, worker))
        stop.set()
        await worker
        stops += 1
    assert stops > 1
    found = await generation_named(scene.pool, generation.id)
    assert await scene.rows(found) == await scene.rows(scene.live[name])


class Pages(StoreClient):
    """A store whose pages are small, and that may be away."""

    def __init__(self, store: StoreClient, size: int, away: bool = False) -> None:
        super().__init__(store.connection)
        self.size = size
        self.away = away

    async def history(self, after: int, *wanted: Any) -> GetHistoryResponse:
        """Answers little, or nothing."""
        if self.away:
            raise StoreUnavailable("the test wants the store to be away")
        partitions, up_to = (*wanted, None, 0)[:2] if wanted else (None, 0)
        last = min(up_to or after + self.size, after + self.size)
        return await super().history(after, partitions, last)


class Growing(Pages):
    """A store whose line is longer each time somebody asks where it ends."""

    def __init__(self, store: StoreClient, end: int, by: int) -> None:
        super().__init__(store, size=20)
        self.end, self.by = end, by

    async def head(self) -> Head:
        """Says that there is more by now."""
        self.end += self.by
        return replace(await super().head(), position=self.end)

    async def history(self, after: int, *wanted: Any) -> GetHistoryResponse:
        """Has nothing beyond the end."""
        partitions, up_to = (*wanted, None, 0)[:2] if wanted else (None, 0)
        page = await super().history(after, partitions, min(up_to or self.end, self.end))
        page.head_position = self.end
        return page


async def test_filling_ends_though_the_line_goes_on_as_fast_as_it_is_filled(scene: Scene) -> None:
    generation = await scene.begin("timeline")
    store = Growing(scene.lent.client, end=100, by=11)
    await scene.work(generation, Sizes(events=1, pages=1, near=10), store=store)
    assert (await generation_named(scene.pool, generation.id)).state == "following"
    assert 90 <= await place_of(scene.pool, generation.id) < 150


@pytest.mark.parametrize(
    ("position", "head", "is_far"),
    [(0, 10, False), (0, 11, True), (100, 140, False), (100, 141, True)],
)
def test_what_was_filled_once_may_be_further_from_the_head_than_what_was_not(
    position: int, head: int, is_far: bool
) -> None:
    assert Sizes(near=10).is_far(position, head) is is_far


async def told(condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns once the database says so."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - no event tells of another connection
            await asyncio.sleep(0.01)


async def _moved(
    scene: Scene, generation: Generation, place: int, worker: asyncio.Task[None]
) -> bool:
    return worker.done() or await place_of(scene.pool, generation.id) > place


async def test_a_store_that_is_away_is_waited_for_and_told(scene: Scene) -> None:
    generation = await scene.begin("timeline")
    store = Pages(scene.lent.client, size=40)

    async def waits(reason: str) -> bool:
        return (await generation_named(scene.pool, generation.id)).waits_for == reason

    worker = asyncio.create_task(
        scene.work(generation, Sizes(events=1, pages=1, near=0), store=store)
    )
    await told(partial(_moved, scene, generation, 50, worker))
    store.away = True
    await told(lambda: waits("the test wants the store to be away"))
    place = await place_of(scene.pool, generation.id)
    await asyncio.sleep(0.5)
    assert await place_of(scene.pool, generation.id) == place
    store.away = False
    await worker
    found = await generation_named(scene.pool, generation.id)
    assert (found.state, found.waits_for) == ("following", "")
    assert await scene.rows(found) == await scene.rows(scene.live["timeline"])


async def test_a_paused_projection_is_not_filled_until_it_is_resumed(scene: Scene) -> None:
    generation = await scene.begin("consents")
    await switching.pause(scene.pool, "consents", "we look into it")
    worker = asyncio.create_task(scene.work(generation))

    async def says() -> bool:
        return "we look into it" in (await generation_named(scene.pool, generation.id)).waits_for

    await told(says)
    assert await place_of(scene.pool, generation.id) == 0
    await switching.resume(scene.pool, "consents")
    await worker
    found = await generation_named(scene.pool, generation.id)
    assert (found.state, found.waits_for) == ("following", "")


async def test_a_range_whose_worker_died_is_filled_by_the_one_that_is_left(scene: Scene) -> None:
    generation = await scene.begin("timeline", workers=2)
    dead = Ownership(scene.pool, generation, ALL.halves[0], uuid4(), LEASE)
    assert await dead.claim() is not None
    await scene.work(generation)
    found = await generation_named(scene.pool, generation.id)
    assert found.state == "following"
    assert await scene.rows(found) == await scene.rows(scene.live["timeline"])


async def test_a_frozen_worker_that_holds_a_table_does_not_hold_up_its_indexes(
    scene: Scene,
) -> None:
    generation = await scene.begin("timeline")
    frozen = await asyncpg.connect(scene.url, server_settings={"application_name": "rebuild"})
    await frozen.execute(f"BEGIN; LOCK {generation.schema}.timeline IN ROW EXCLUSIVE MODE")
    async with asyncio.timeout(20):
        await scene.work(generation)
    assert (await generation_named(scene.pool, generation.id)).state == "following"
    assert frozen.is_closed()


async def test_customers_whose_events_fail_wait_in_the_new_generation_as_in_any(
    scene: Scene,
) -> None:
    fold = Faulty(scene.fold("timeline"))
    owners = await scene.pool.fetch("SELECT DISTINCT owner_key FROM timeline ORDER BY 1 LIMIT 3")
    fold.fails_at = {row["owner_key"] for row in owners}
    generation = await scene.begin("timeline")
    await scene.work(generation, fold=fold)
    found = await generation_named(scene.pool, generation.id)
    assert found.state == "following"
    rows, live = await scene.rows(found), await scene.rows(scene.live["timeline"])
    assert len(rows["parked"]) == 3
    others = [
        row
        for row in live["timeline"]
        if not any(key.hex() in row.split(",")[1] for key in fold.fails_at)
    ]
    assert rows["timeline"] == others


async def test_a_fold_that_fails_at_too_many_is_given_up_and_what_is_live_is_untouched(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MOST_PARKED", 3)
    before = await scene.rows(scene.live["timeline"])
    fold = Faulty(scene.fold("timeline"))
    owners = await scene.pool.fetch("SELECT DISTINCT owner_key FROM timeline ORDER BY 1 LIMIT 5")
    fold.fails_at = {row["owner_key"] for row in owners}
    generation = await scene.begin("timeline")
    await scene.work(generation, fold=fold)
    found = await generation_named(scene.pool, generation.id)
    assert found.state == "failed"
    assert "the fold is at fault" in found.failure
    assert not await scene.pool.fetchval("SELECT to_regnamespace($1)", found.schema)
    assert await scene.rows(scene.live["timeline"]) == before


async def test_what_can_not_be_filled_is_refused(scene: Scene) -> None:
    generation = await scene.begin("timeline")
    older = Ledger()
    older.name = "timeline"
    older.fold_version = 7
    with pytest.raises(CannotFill, match="version 1 of the fold, and this release has version 7"):
        await scene.work(generation, fold=older)

    async def none(_: str) -> None:
        return None

    arguments: Any = (scene.url, scene.lent.client, none, asyncio.Event(), {})
    with pytest.raises(CannotFill, match="this service has no projection timeline"):
        await run_worker(generation.id, *arguments)
    with pytest.raises(CannotFill, match="there is no generation 12345 in this database"):
        await run_worker(12345, *arguments)


async def test_what_is_filled_already_needs_no_worker(scene: Scene) -> None:
    await scene.work(scene.live["timeline"])
    assert (await generation_named(scene.pool, scene.live["timeline"].id)).state == "serving"
