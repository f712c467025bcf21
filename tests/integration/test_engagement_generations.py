"""Scores are rebuilt into tables of their own, read there, and gone with their model's version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.postgres.pool import open_pool
from libs.projection.hosting import PROJECTION_SERVICE
from libs.projection.serving import Serving
from libs.projection.waiting import follow_checkpoints
from services.engagement.__main__ import _SERVICE as ENGAGEMENT_SERVICE
from services.engagement.domain.scoring import day_of
from services.engagement.levels import PARTS, Levels
from services.engagement.scores import TABLES
from tests.customers import new_email, of, profile_id, record, timeline, told
from tests.given import order, retraction, used
from tests.rebuilding import compare, projections, rebuild, switch
from tests.servers import SharedPostgres, start_nats
from tests.services import Service, Touchline, engagement_on, new_scores, new_stores, touchline_on
from tests.store import eventually
from touchline.client import Client
from touchline.engagement.v1 import engagement_pb2 as eng
from touchline.engagement.v1 import engagement_service_pb2 as api
from touchline.events.v1.event_pb2 import EVENT_TYPE_SCORE_CROSSED
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.profile.v1.profile_service_pb2 import EraseProfileRequest
from touchline.projection.v1.projection_service_pb2 import RollBackProjectionRequest

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_names = count(1)


@dataclass(frozen=True, slots=True)
class Engaged:
    """A running Touchline with the engagement service, and a client of all three."""

    touchline: Touchline
    service: Service
    client: Client
    url: str

    async def execute(self, *statements: str) -> None:
        """Runs statements in the service's database."""
        for statement in statements:
            await self.touchline.execute(self.url, statement)


@pytest.fixture(scope="module")
async def running_services(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engaged]:
    """The services, for tests that use customers and models of their own."""
    nats = await start_nats(tmp_path_factory.mktemp("generations_nats"))
    url = await new_scores(servers)
    async with (
        touchline_on(await new_stores(servers), nats) as touchline,
        engagement_on(touchline, url) as (service, client),
    ):
        yield Engaged(touchline, service, client, url)
    await nats.stop()


@pytest.fixture
def engaged(running_services: Engaged, monkeypatch: pytest.MonkeyPatch) -> Engaged:
    """The services; the processes that fill for them inherit the settings."""
    for name, value in running_services.service.environment.items():
        monkeypatch.setenv(name, value)
    return running_services


async def published(client: Client) -> str:
    """Publishes a model that counts everything, and returns its name once it answers."""
    definition = eng.ModelDefinition(
        name=f"rebuilt-{next(_names)}",
        rules=[
            eng.ScoringRule(name="any", weight=1, half_life=Duration(seconds=3 * 86_400)),
            eng.ScoringRule(name="app", weight=2, condition='event.fact.product == "app"'),
        ],
        levels=[eng.ScoreLevel(name="low", from_score=4), eng.ScoreLevel(name="top", from_score=9)],
    )
    request = api.PublishModelRequest(definition=definition, published_by="analyst-3")
    await client.engagement.PublishModel(request)

    async def answers() -> bool:
        listed = (await client.engagement.ListModels(api.ListModelsRequest())).models
        return (definition.name, eng.MODEL_STATE_SERVING) in [
            (one.definition.name, one.state) for one in listed
        ]

    await eventually(answers)
    return definition.name


def ago(days: int = 0) -> str:
    """A time before now, as tests.given reads it."""
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S")


async def happened(client: Client, *people: Identity) -> int:
    """Lets customers use, order and take back; returns the last position."""
    events = []
    for who in people:
        mistake = used(ago(1), "app")
        touches = [mistake, used(ago(2), "web"), order(ago(3), "7"), retraction(ago(), mistake)]
        events += [told(one, who) for one in touches]
    return await record(client, *events)


async def answers_of(
    client: Client, model: str, people: Sequence[Identity], after: int, then: Timestamp
) -> list[object]:
    """All that can be asked about scores, of a moment: each statement that reads their tables."""
    found: list[object] = []
    for as_of in (None, then):
        ranking = api.ListScoresRequest(model=model, after_position=after, as_of=as_of)
        ranked = (await client.engagement.ListScores(ranking)).scores
        found.append([(one.profile_id, one.score, one.level) for one in ranked])
        for who in people:
            asked: dict[str, Any] = {"profile": of(who), "model": model}
            asked |= {"after_position": after, "as_of": as_of}
            one = (await client.engagement.GetScore(api.GetScoreRequest(**asked))).score
            told_of = await client.engagement.ExplainScore(api.ExplainScoreRequest(**asked))
            found.append((one.score, one.level, told_of.score.score))
            found += [*told_of.rules, *told_of.contributions]
    return found


def now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


async def test_a_rebuilt_model_scores_explains_and_ranks_the_same_and_counts_on(
    engaged: Engaged,
) -> None:
    client = engaged.client
    model, people = await published(client), [new_email() for _ in range(5)]
    await profile_id(client, people[4], await happened(client, *people))
    request = EraseProfileRequest(profile=of(people[4]), reason="r", requested_by="agent-7")
    after = (await client.profile.EraseProfile(request)).erased.position
    people, then, name = people[:4], now(), f"scores:1:{model}:1"
    before = await answers_of(client, model, people, after, then)

    generation = await rebuild(client, "engagement", name, workers=4)
    compared = await compare(client, "engagement", name)
    assert {one.table: one.differing_rows for one in compared.tables} == dict.fromkeys(
        [*TABLES, "parked_keys"], 0
    )
    assert min(one.live_rows for one in compared.tables if one.table in TABLES) > 0
    first = compared.serving
    assert (await switch(client, "engagement", name)).generation == generation
    assert await answers_of(client, model, people, after, then) == before

    after = await happened(client, *people)
    counted = await answers_of(client, model, people, after, now())
    assert counted != before
    back = await client.projections["engagement"].RollBackProjection(
        RollBackProjectionRequest(projection=name)
    )
    assert (back.generation, back.previous) == (first, generation)
    assert (await answers_of(client, model, people, after, then))[0] == counted[0]


async def test_of_two_models_each_is_read_in_the_schema_that_answers_for_it(
    engaged: Engaged,
) -> None:
    client, people = engaged.client, [new_email() for _ in range(3)]
    moved, stays = await published(client), await published(client)
    after, then = await happened(client, *people), now()
    before = [await answers_of(client, one, people, after, then) for one in (moved, stays)]
    levels = await levels_of(engaged, moved, people, after)
    name = f"scores:1:{moved}:1"
    await rebuild(client, "engagement", name)
    await compare(client, "engagement", name)
    await switch(client, "engagement", name)
    # What answered before is read by nobody any more: without its rows nothing changes.
    await adopted(engaged, name)
    scoring = f"(SELECT position FROM models WHERE name = '{moved}')"
    await engaged.execute(
        *(f"DELETE FROM public.{table} WHERE scoring = {scoring}" for table in TABLES)
    )
    for model, said in zip((moved, stays), before, strict=True):
        assert await answers_of(client, model, people, after, then) == said
    assert await levels_of(engaged, moved, people, after) == levels

    # So are the levels that events move a score into: what counted before is known.
    after = await record(client, told(used(ago(), "app"), people[0]))
    crossed: list[tuple[str, float]] = []

    async def is_told() -> bool:
        types = [EVENT_TYPE_SCORE_CROSSED]
        found = [one.score_crossed for one in await timeline(client, people[0], after, types=types)]
        crossed[:] = [(one.to_level, one.score) for one in found if one.model == moved]
        return bool(crossed)

    await eventually(is_told)
    asked = api.GetScoreRequest(profile=of(people[0]), model=moved, after_position=after)
    score = (await client.engagement.GetScore(asked)).score
    assert [level for level, _ in crossed] == ["low"]
    assert crossed[0][1] == pytest.approx(score.score)


async def adopted(engaged: Engaged, name: str) -> None:
    """Returns once a process that follows the database reads another schema; services do as well.

    Each looks twice a second.
    """
    serving = Serving()
    async with (
        open_pool(engaged.url, application="adopts") as pool,
        follow_checkpoints(engaged.url, pool, serving=serving),
    ):
        await eventually(lambda: is_apart(serving, name))
    await asyncio.sleep(1.5)


async def is_apart(serving: Serving, name: str) -> bool:
    """Whether a projection is read in a schema of its own."""
    return serving.schema(name) != "public"


async def levels_of(
    engaged: Engaged, model: str, people: Sequence[Identity], last: int
) -> list[object]:
    """All that crossings are found by, as a process reads it that follows the database."""
    serving = Serving()
    roots = sorted([bytes.fromhex(await profile_id(engaged.client, who, last)) for who in people])
    async with (
        open_pool(engaged.url, application="levels", setup=serving.setup) as pool,
        follow_checkpoints(engaged.url, pool, serving=serving),
    ):
        levels = Levels(pool, serving)
        (scoring,) = [one for one in await levels.scorings() if one.model.name == model]
        changes = await levels.changes(scoring, dict.fromkeys(roots, 0), last)
        today = day_of(now().ToMicroseconds()) + 1
        sums = await levels.sums_at_midnight(scoring, roots, today)
        moved = [await levels.moved(scoring, today, part) for part in range(PARTS)]
    assert changes
    assert sums
    return [
        [(root, sorted(map(tuple, changes[root])), sorted(sums[root])) for root in roots],
        moved,
    ]


async def test_a_release_that_counts_differently_is_ready_once_it_can_read_what_answers(
    engaged: Engaged,
) -> None:
    client, who = engaged.client, new_email()
    model = await published(client)
    after, then = await happened(client, who), now()
    before = await answers_of(client, model, [who], after, then)
    await engaged.service.stop()
    # As if another release had counted.
    await engaged.execute(
        "UPDATE projection_generations SET fold_version = 99 WHERE projection LIKE 'scores:%'"
    )
    starting = asyncio.create_task(engaged.service.start())
    assert await health_of(engaged.service) == {
        "": NOT_SERVING,
        ENGAGEMENT_SERVICE: NOT_SERVING,
        PROJECTION_SERVICE: SERVING,
    }
    request = api.GetScoreRequest(profile=of(who), model=model)
    with pytest.raises(CallFailed) as failed, readable_failures():
        await client.engagement.GetScore(request, timeout=1)
    assert failed.value.reason == "VIEWS_BUILDING"
    assert failed.value.metadata["projection"].startswith("scores")

    await starting
    assert set((await health_of(engaged.service)).values()) == {SERVING}
    # At once, of every model that answers.
    assert await answers_of(client, model, [who], after, then) == before
    asked = api.GetScoreRequest(profile=of(who), after_position=after)
    assert (await client.engagement.GetScore(asked)).score.model == "default"
    found = {one.name: one.generations for one in await projections(client, "engagement")}
    assert found[f"scores:1:{model}:1"][0].fold_version == 99


async def health_of(service: Service) -> dict[str, int]:
    """The health of the engagement service's process and of its services."""
    async with grpc.aio.insecure_channel(service.listen) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        names = ("", ENGAGEMENT_SERVICE, PROJECTION_SERVICE)
        return {
            name: (
                await stub.Check(
                    health_pb2.HealthCheckRequest(service=name), wait_for_ready=True, timeout=20
                )
            ).status
            for name in names
        }
