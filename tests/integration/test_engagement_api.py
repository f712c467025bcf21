"""Scoring models published, customers scored and explained, by the running service."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from uuid import uuid4

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.pool import open_pool
from libs.projection.serving import Serving
from libs.projection.sharing import Crew
from libs.projection.waiting import follow_checkpoints
from libs.tasks import running
from services.engagement.config import read_config
from services.engagement.domain.default_model import default_model
from services.engagement.models import PublishedModels
from services.engagement.supervising import Supervisor
from services.profile.domain import Touch
from tests.customers import new_device, new_email, new_phone, of, profile_id, record, told
from tests.given import call, order, public_post, retraction, used
from tests.servers import SharedPostgres, start_nats
from tests.services import (
    Service,
    Touchline,
    engagement_on,
    new_scores,
    new_stores,
    touchline_on,
)
from touchline.client import Client
from touchline.engagement.v1 import engagement_pb2 as eng
from touchline.engagement.v1 import engagement_service_pb2 as api
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.projection.v1.projection_service_pb2 import ListProjectionsRequest

_names = count(1)


@dataclass(frozen=True, slots=True)
class Engaged:
    """A running Touchline with the engagement service, and a client of all three."""

    touchline: Touchline
    service: Service
    client: Client
    url: str


@pytest.fixture(scope="module")
async def engaged(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engaged]:
    """The services, for tests that use customers and models of their own."""
    nats = await start_nats(tmp_path_factory.mktemp("engagement_nats"))
    url = await new_scores(servers)
    async with (
        touchline_on(await new_stores(servers), nats) as touchline,
        engagement_on(touchline, url) as (service, client),
    ):
        yield Engaged(touchline, service, client, url)
    await nats.stop()


@pytest.fixture
def client(engaged: Engaged) -> Client:
    return engaged.client


def rule(name: str, weight: float, *types: int, **more: object) -> eng.ScoringRule:
    one = eng.ScoringRule(name=name, weight=weight, **more)  # type: ignore[arg-type]
    one.on.types.extend(types)  # type: ignore[arg-type]
    return one


def uses(weight: float = 1, **more: object) -> eng.ScoringRule:
    """A rule that counts product use."""
    return rule("uses", weight, 23, **more)


async def published(client: Client, *rules: eng.ScoringRule, **more: object) -> str:
    """Publishes a model of a name of its own, and returns the name once it answers."""
    definition = eng.ModelDefinition(name=f"model-{next(_names)}", rules=rules, **more)  # type: ignore[arg-type]
    await publish(client, definition)
    await serving(client, definition.name, 1)
    return definition.name


async def publish(client: Client, definition: eng.ModelDefinition, expected: int = 0) -> int:
    request = api.PublishModelRequest(
        definition=definition, expected_version=expected, published_by="analyst-3"
    )
    response = await client.engagement.PublishModel(request)
    assert response.version == expected + 1
    return int(response.position)


async def serving(client: Client, name: str, version: int) -> list[eng.Model]:
    """Returns a model's versions once one of them answers."""
    async with asyncio.timeout(30):
        while True:
            listed = await client.engagement.ListModels(api.ListModelsRequest())
            models = [one for one in listed.models if one.definition.name == name]
            answers = [one.version for one in models if one.state == eng.MODEL_STATE_SERVING]
            if answers == [version]:
                return models
            await asyncio.sleep(0.02)


async def score(
    client: Client, who: Identity, model: str, after: int = 0, as_of: Timestamp | None = None
) -> float:
    request = api.GetScoreRequest(profile=of(who), model=model, after_position=after, as_of=as_of)
    return float((await client.engagement.GetScore(request)).score.score)


async def explained(
    client: Client, who: Identity, model: str, after: int = 0, size: int = 3, **more: object
) -> tuple[api.ExplainScoreResponse, list[eng.Contribution]]:
    """The first page, and the contributions of all pages."""
    request = api.ExplainScoreRequest(
        profile=of(who),
        model=model,
        after_position=after,
        page_size=size,
        **more,  # type: ignore[arg-type]
    )
    first = page = await client.engagement.ExplainScore(request)
    found = list(page.contributions)
    while page.next_page_token:
        assert len(page.contributions) == size
        request.page_token = page.next_page_token
        page = await client.engagement.ExplainScore(request)
        assert page.score == first.score
        found += page.contributions
    return first, found


def ago(days: float = 0, hours: float = 0) -> str:
    """A time before now, as tests.given reads it."""
    then = datetime.now(UTC) - timedelta(days=days, hours=hours)
    return then.strftime("%Y-%m-%d %H:%M:%S")


async def failed(call: object) -> CallFailed:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]
    return CallFailed.of(error.value)


def stamp_of(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


async def test_the_shipped_model_answers_for_every_tenant(engaged: Engaged) -> None:
    [model] = await serving(engaged.client, "default", 1)
    assert (model.definition, model.version, model.published_by) == (default_model(), 1, "")
    ann = new_email()
    seen = await record(engaged.client, told(used(ago(), "app"), ann), told(call(ago()), ann))
    request = api.GetScoreRequest(profile=of(ann), after_position=seen)
    answer = (await engaged.client.engagement.GetScore(request)).score
    assert (answer.model, answer.model_version) == ("default", 1)
    assert (answer.score, answer.level) == (4.0, "cold")
    assert answer.profile_id == await profile_id(engaged.client, ann, seen)
    touchline = engaged.touchline
    async with Client.connect(
        *(touchline.ingestion.listen, touchline.profile.listen, "acme"),
        engagement=engaged.service.listen,
    ) as acme:
        await serving(acme, "default", 1)
        assert (await failed(score(acme, ann, "default"))).reason == "PROFILE_NOT_FOUND"
        assert not (await acme.engagement.ListScores(api.ListScoresRequest())).scores


async def test_counted_anew_every_row_is_the_same_byte_for_byte(
    engaged: Engaged, servers: SharedPostgres
) -> None:
    client = engaged.client
    model = await published(client, rule("any", 1.5, condition='event.source != ""'))
    ann = new_email()
    mistake = used(ago(), "app")
    touches = [mistake, call(ago(1)), order(ago(3), "7"), retraction(ago(), mistake)]
    after = await record(client, *(told(one, ann) for one in touches))
    live_score = await score(client, ann, model, after)
    url = await new_scores(servers)
    async with engagement_on(engaged.touchline, url) as (_, anew):
        await serving(anew, model, 1)
        assert await score(anew, ann, model, after) == live_score == 3
        listed = await client.projections["engagement"].ListProjections(ListProjectionsRequest())
        names = {one.name for one in listed.projections}
        assert {"identity_graph", "models", "scores:1:default:1", f"scores:1:{model}:1"} <= names
        assert await rows_of(url, model) == await rows_of(engaged.url, model)


async def test_what_was_erased_meets_no_condition_when_counted_anew(
    engaged: Engaged, servers: SharedPostgres
) -> None:
    client = engaged.client
    apps = rule("apps", 10, 23, condition='event.fact.product == "app"')
    model = await published(client, uses(1), apps)
    ann = new_email()
    after = await record(client, told(used(ago(), "app"), ann))
    assert await score(client, ann, model, after) == 11
    key = bytes.fromhex(await profile_id(client, ann, after))
    erase = "DELETE FROM data_keys WHERE identity_key = $1"
    await engaged.touchline.execute(engaged.touchline.stores.events, erase, key)
    await engaged.touchline.ingestion.restart()  # it remembers keys
    async with engagement_on(engaged.touchline, await new_scores(servers)) as (_, anew):
        await serving(anew, model, 1)
        reference = ProfileReference(profile_id=key.hex())
        request = api.GetScoreRequest(profile=reference, model=model, after_position=after)
        assert (await anew.engagement.GetScore(request)).score.score == 1


async def test_a_version_that_no_longer_answers_is_deleted(
    engaged: Engaged, servers: SharedPostgres
) -> None:
    client, url = engaged.client, await new_scores(servers)
    config = read_config({**engaged.service.environment, "TOUCHLINE_DATABASE_URL": url})
    serving = Serving()
    async with (
        open_pool(url, application="test", setup=serving.setup) as pool,
        connect_nats(config.nats_url, "test") as nats,
        follow_checkpoints(url, pool, serving=serving) as checkpoints,
    ):
        store = StoreClient(nats)
        models = PublishedModels(store, config.identity_keys)
        crew = Crew(url, pool, store, uuid4(), [models], settings={}, serving=serving)
        supervisor = Supervisor(
            *(pool, store, checkpoints, crew, serving), retiring=timedelta(seconds=0)
        )
        async with stopped_after(crew), running(crew.run(), supervisor.run()):
            model = await published(client, uses(1))
            await record(client, told(used(ago(), "app"), new_email()))
            one = await scorings_of(pool, model, 1)
            await publish(client, eng.ModelDefinition(name=model, rules=[uses(2)]), expected=1)
            two = await scorings_of(pool, model, 2)
            assert one != two
            folded = "SELECT projection FROM projection_checkpoints WHERE projection = $1"
            await until_none(pool, folded, f"scores:1:{model}:1")
            count_ = "SELECT count(*) FROM contributions WHERE scoring = $1"
            assert await pool.fetchval(count_, one) == 0
            assert await pool.fetchval(count_, two) > 0
            assert f"scores:1:{model}:1" not in crew.projections


async def test_a_score_is_the_sum_of_its_pages_of_contributions(client: Client) -> None:
    model = await published(
        client,
        uses(1.5, day_cap=4, total_cap=9, half_life=timedelta(days=3)),
        rule("orders", 7, 22, half_life=timedelta(days=10)),
        rule("any", -0.25),
    )
    ann, random = new_email(), Random(3)
    touches = [used(ago(random.randint(0, 9)), "app") for _ in range(14)]
    touches += [order(ago(day), f"o-{day}") for day in (0, 4, 9)]
    after = await record(client, *(told(one, ann) for one in touches))
    first, contributions = await explained(client, ann, model, after)
    assert len(contributions) == 14 + 3 + 17
    assert math.isclose(sum(one.points for one in contributions), first.score.score, abs_tol=1e-9)
    assert math.isclose(sum(one.points for one in first.rules), first.score.score, abs_tol=1e-9)
    assert first.score.score == await score(client, ann, model)
    assert [one.rule for one in first.rules] == ["uses", "orders", "any"]
    assert [one.events for one in first.rules] == [14, 3, 17]
    order_of = [(-one.points, -one.occurred_at.seconds) for one in contributions]
    assert order_of == sorted(order_of)
    assert {one.event_id for one in contributions} == {one.event.event_id for one in touches}
    newest = contributions[0]
    assert (newest.rule, newest.weight, newest.age_days, newest.points) == ("orders", 7, 0, 7)
    assert newest.position <= after


async def test_conditions_filters_levels_and_caps_decide(client: Client) -> None:
    model = await published(
        client,
        rule("posts", 2, 20, condition='event.visibility == "public" && event.fact.text != ""'),
        rule("calls", 5, 20, day_cap=8, condition="event.fact.duration_seconds >= 60"),
        levels=[eng.ScoreLevel(name="low", from_score=1), eng.ScoreLevel(name="top", from_score=9)],
    )
    ann = new_email()
    touches = [public_post(ago(), text="Lovely"), public_post(ago(), text=""), call(ago())]
    after = await record(client, *(told(one, ann) for one in touches))
    first, contributions = await explained(client, ann, model, after)
    assert {one.rule: one.points for one in contributions} == {"calls": 5, "posts": 2}
    assert (first.score.score, first.score.level) == (7, "low")
    after = await record(client, told(call(ago()), ann))
    first, _ = await explained(client, ann, model, after)
    assert (first.score.score, first.score.level) == (10, "top")
    assert (first.rules[1].points, first.rules[1].uncapped_points) == (8, 10)


async def test_a_new_version_takes_over_once_it_has_counted_the_past(client: Client) -> None:
    model, ann = await published(client, uses(1)), new_email()
    after = await record(client, told(used(ago(), "app"), ann))
    assert await score(client, ann, model, after) == 1
    second = eng.ModelDefinition(name=model, rules=[uses(2)])
    position = await publish(client, second, expected=1)
    listed = await serving(client, model, 2)
    assert [(one.version, one.state) for one in listed] == [
        (2, eng.MODEL_STATE_SERVING),
        (1, eng.MODEL_STATE_RETIRED),
    ]
    assert (listed[0].definition, listed[0].published_by) == (second, "analyst-3")
    assert listed[0].position >= position
    answer = (
        await client.engagement.GetScore(api.GetScoreRequest(profile=of(ann), model=model))
    ).score
    assert (answer.score, answer.model_version) == (2, 2)


async def test_publishing_on_an_old_version_is_refused_and_repeating_is_not(
    client: Client,
) -> None:
    model = await published(client, uses(1))
    definition = eng.ModelDefinition(name=model, rules=[uses(2)])
    stale = await failed(publish(client, definition, expected=0))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "STALE_VERSION")
    assert stale.metadata == {"name": model, "version": "1", "expected_version": "0"}
    assert (await failed(publish(client, definition, expected=2))).reason == "STALE_VERSION"
    position = await publish(client, definition, expected=1)
    assert await publish(client, definition, expected=1) == position
    other = eng.ModelDefinition(name=model, rules=[uses(3)])
    assert (await failed(publish(client, other, expected=1))).reason == "STALE_VERSION"


async def test_of_callers_who_publish_at_once_one_succeeds(client: Client) -> None:
    name = f"model-{next(_names)}"
    calls = [publish(client, eng.ModelDefinition(name=name, rules=[uses(n)])) for n in range(1, 7)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    lost = [CallFailed.of(one).reason for one in answers if isinstance(one, grpc.aio.AioRpcError)]
    assert lost == ["STALE_VERSION"] * 5


async def test_what_is_wrong_with_a_request_is_told_with_its_field(client: Client) -> None:
    bad = eng.ModelDefinition(name="Bad", rules=[uses(float("nan"), condition="event.")])
    error = await failed(client.engagement.PublishModel(api.PublishModelRequest(definition=bad)))
    assert error.reason == "INVALID_REQUEST"
    assert [field for field, _ in error.violations] == [
        "definition.name",
        "definition.rules[0].weight",
        "definition.rules[0].condition",
        "published_by",
    ]
    ann = new_email()
    await record(client, told(used(ago(), "app"), ann))
    for request, field in (
        (api.GetScoreRequest(), "profile"),
        (api.GetScoreRequest(profile=ProfileReference(profile_id="x")), "profile.profile_id"),
        (api.GetScoreRequest(profile=of(ann), after_position=-1), "after_position"),
        (api.GetScoreRequest(profile=of(ann), as_of=Timestamp(seconds=-1)), "as_of"),
    ):
        error = await failed(client.engagement.GetScore(request))
        assert [path for path, _ in error.violations] == [field]
    error = await failed(client.engagement.ListScores(api.ListScoresRequest(order=9)))  # type: ignore[arg-type]
    assert [path for path, _ in error.violations] == ["order"]
    assert (await failed(score(client, ann, "nobody-made-it"))).reason == "MODEL_NOT_FOUND"
    assert (await failed(score(client, new_email(), "default"))).reason == "PROFILE_NOT_FOUND"
    token = api.ListScoresRequest(page_token="damaged")
    assert (await failed(client.engagement.ListScores(token))).reason == "INVALID_PAGE_TOKEN"


async def test_what_is_taken_back_does_not_count_whichever_comes_first(client: Client) -> None:
    model, ann, ben = await published(client, uses(2)), new_email(), new_email()
    for who, retraction_first in ((ann, False), (ben, True)):
        kept, mistake = used(ago(1), "app"), used(ago(1), "app")
        back = retraction(ago(), mistake)
        events = [told(kept, who), told(mistake, who), told(back, who)]
        for one in reversed(events) if retraction_first else events:
            after = await record(client, one)
        assert await score(client, who, model, after) == 2
        _, contributions = await explained(client, who, model)
        assert [one.event_id for one in contributions] == [kept.event.event_id]


async def test_a_time_before_shows_what_had_happened_and_been_recorded(client: Client) -> None:
    model, ann = await published(client, uses(1)), new_email()
    mistake = used(ago(2), "app")
    await record(client, told(mistake, ann), told(used(ago(1), "app"), ann))
    await asyncio.sleep(0.01)
    before = datetime.now(UTC)
    await asyncio.sleep(0.01)
    after = await record(
        client, told(retraction(ago(), mistake), ann), told(used(ago(1), "app"), ann)
    )
    assert await score(client, ann, model, after) == 2
    assert await score(client, ann, model, after, stamp_of(before)) == 2
    first, contributions = await explained(client, ann, model, as_of=stamp_of(before))
    assert mistake.event.event_id in {one.event_id for one in contributions}
    assert first.score.score == 2
    assert await score(client, ann, model, as_of=stamp_of(before - timedelta(days=1.5))) == 0
    later = stamp_of(before + timedelta(days=400))
    assert await score(client, ann, model, as_of=later) == 2


async def test_profiles_that_merge_share_the_caps(client: Client) -> None:
    model = await published(client, uses(1, day_cap=3), rule("calls", 1, 20))
    mail, phone = new_email(), new_phone()
    noon = ago(1)
    events = [told(used(noon, "app"), who) for who in (mail, phone) for _ in range(2)]
    after = await record(client, *events)
    assert [await score(client, who, model, after) for who in (mail, phone)] == [2, 2]
    after = await record(client, told(call(ago()), mail, phone))
    first, contributions = await explained(client, phone, model, after)
    assert first.score.score == await score(client, mail, model) == 4
    assert len(contributions) == 5
    assert math.isclose(sum(one.points for one in contributions), 4, abs_tol=1e-9)


async def test_lists_are_ordered_paged_and_equal_to_single_scores(client: Client) -> None:
    model = await published(client, uses(1.25, half_life=timedelta(days=5), total_cap=4))
    people = [new_device() for _ in range(9)]
    random = Random(5)
    events = [
        told(used(ago(random.randint(0, 20)), "app"), who)
        for who in people
        for _ in range(random.randint(1, 4))
    ]
    after = await record(client, *events)
    ids = {await profile_id(client, who, after) for who in people}
    for order_, sign in ((api.SCORE_ORDER_UNSPECIFIED, -1), (api.SCORE_ORDER_LOWEST, 1)):
        for as_of in (None, stamp_of(datetime.now(UTC))):
            request = api.ListScoresRequest(
                model=model, order=order_, page_size=4, after_position=after, as_of=as_of
            )
            listed = await all_pages(client, request)
            keys = [(sign * one.score, one.profile_id) for one in listed]
            assert keys == sorted(keys)
            mine = [one for one in listed if one.profile_id in ids]
            assert len(mine) == len(ids) == 9
            for one in mine:
                reference = ProfileReference(profile_id=one.profile_id)
                asked = api.GetScoreRequest(profile=reference, model=model, as_of=as_of)
                assert (await client.engagement.GetScore(asked)).score.score == one.score


async def all_pages(client: Client, request: api.ListScoresRequest) -> list[eng.Score]:
    listed: list[eng.Score] = []
    while True:
        page = await client.engagement.ListScores(request)
        listed += page.scores
        if not page.next_page_token:
            assert len({one.as_of.ToNanoseconds() for one in listed}) == 1
            return listed
        request.page_token = page.next_page_token


async def test_a_page_token_is_for_its_version_of_the_model_only(client: Client) -> None:
    model = await published(client, uses(1))
    events = [told(used(ago(), "app"), new_email()) for _ in range(3)]
    after = await record(client, *events)
    request = api.ListScoresRequest(model=model, page_size=1, after_position=after)
    request.page_token = (await client.engagement.ListScores(request)).next_page_token
    assert len((await client.engagement.ListScores(request)).scores) == 1
    await publish(client, eng.ModelDefinition(name=model, rules=[uses(2)]), expected=1)
    await serving(client, model, 2)
    assert (await failed(client.engagement.ListScores(request))).reason == "INVALID_PAGE_TOKEN"


async def test_pages_of_an_explanation_are_of_one_moment(client: Client) -> None:
    model, ann = await published(client, uses(1)), new_email()
    touches: list[Touch] = [used(ago(day), "app") for day in range(4)]
    after = await record(client, *(told(one, ann) for one in touches))
    request = api.ExplainScoreRequest(
        profile=of(ann), model=model, after_position=after, page_size=3
    )
    first = await client.engagement.ExplainScore(request)
    after = await record(client, told(used(ago(), "app"), ann))
    assert await score(client, ann, model, after) == 5
    request.page_token = first.next_page_token
    second = await client.engagement.ExplainScore(request)
    assert second.score == first.score
    assert len(first.contributions) + len(second.contributions) == first.score.score == 4


@asynccontextmanager
async def stopped_after(crew: Crew) -> AsyncIterator[None]:
    """Stops what a supervisor started."""
    try:
        yield
    finally:
        await crew.stop()


async def scorings_of(pool: asyncpg.Pool, model: str, version: int) -> int:
    """Returns the scoring of a version once it answers and has counted something."""
    query = """SELECT s.scoring FROM serving_models s JOIN models m ON m.position = s.scoring
        JOIN contributions USING (scoring) WHERE m.name = $1 AND m.version = $2 LIMIT 1"""
    await until_none(pool, f"SELECT 1 WHERE NOT EXISTS ({query})", model, version)
    return int(await pool.fetchval(query, model, version))


async def until_none(pool: asyncpg.Pool, query: str, *arguments: object) -> None:
    """Returns once a query finds nothing."""
    async with asyncio.timeout(30):
        while True:
            if await pool.fetchval(query, *arguments) is None:
                return
            await asyncio.sleep(0.02)


async def test_a_model_of_which_no_version_answers_yet_says_when_to_ask_again(
    engaged: Engaged,
) -> None:
    """One that an older release took and this one can't compile never answers."""
    ann = new_email()
    after = await record(engaged.client, told(used(ago(), "app"), ann))
    await engaged.touchline.execute(
        engaged.url,
        "INSERT INTO models VALUES (1, 'old', 1, -1, $1, 0, '')",
        '{"name": "old", "rules": [{"name": "r", "weight": 1, "condition": "gone("}]}',
    )
    error = await failed(score(engaged.client, ann, "old", after))
    assert (error.reason, error.retry_after) == ("MODEL_BUILDING", 1.0)
    [listed] = (
        await engaged.client.engagement.ListModels(api.ListModelsRequest(name="old"))
    ).models
    assert (listed.state, listed.position) == (eng.MODEL_STATE_BUILDING, 0)
    assert await score(engaged.client, ann, "default", after) == 1


async def test_a_restarted_service_goes_on_where_it_was(engaged: Engaged) -> None:
    model, ann = await published(engaged.client, uses(1)), new_email()
    await record(engaged.client, told(used(ago(), "app"), ann))
    await engaged.service.stop()
    after = await record(engaged.client, told(used(ago(), "app"), ann))
    await engaged.service.start()
    assert await score(engaged.client, ann, model, after) == 2


async def rows_of(url: str, model: str) -> dict[str, list[str]]:
    """The rows of a model as ordered text."""
    connection = await asyncpg.connect(url)
    try:
        scoring = await connection.fetchval("SELECT position FROM models WHERE name = $1", model)
        found = {}
        for table in ("contributions", "day_sums", "score_retractions"):
            query = f"SELECT t::text FROM {table} t WHERE scoring = $1 ORDER BY 1"
            found[table] = [row[0] for row in await connection.fetch(query, scoring)]
            assert found[table]
        query = "SELECT m::text FROM models m WHERE name = $1 ORDER BY version"
        found["models"] = [row[0] for row in await connection.fetch(query, model)]
        return found
    finally:
        await connection.close()
