"""An answer that lacks events of its customer names the projections that have parked them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from libs.identity.keys import IdentityKeys, tenant_secret
from libs.postgres.queries import load_queries
from libs.projection import parking
from libs.projection.generations.records import introduce, serving
from libs.projection.identity_graph import IdentityGraph
from services.engagement.scores import Scores
from services.notification.expectations.keeping import NAME as EXPECTATIONS
from tests.customers import email, of, record, told
from tests.expecting import HOUR, Awaiting, now_us
from tests.given import note, used
from tests.servers import SharedPostgres, start_nats
from tests.services import (
    TENANTS,
    Touchline,
    engagement_on,
    new_notifications,
    new_scores,
    new_stores,
    notification_on,
    touchline_on,
)
from touchline.client import Client
from touchline.engagement.v1 import engagement_service_pb2 as scoring
from touchline.events.v1.identity_pb2 import Identity
from touchline.notification.v1 import notification_service_pb2 as notification
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.views_pb2 import VIEW_KIND_SALES
from touchline.projection.v1 import projection_service_pb2 as projection

ANA, BEN = email("ana@example.com"), email("ben@example.com")
SCORES = "scores:1:default:1"
_VERSIONS = {IdentityGraph.name: IdentityGraph.fold_version, SCORES: Scores.fold_version}
_SQL = load_queries(Path(parking.__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Company:
    """Three services that started when some of their projections had parked Ana.

    Attributes:
        touchline: The services that record and show.
        client: Calls these two.
        engagement: Calls the one that scores, too.
        notification: Calls the one that tells, too.
        scores: The database of the one that scores.
        position: The last event: both customers have a note, a use and a promise.
    """

    touchline: Touchline
    client: Client
    engagement: Client
    notification: Client
    scores: str
    position: int


@pytest.fixture(scope="module")
async def company(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Company]:
    """The services, with Ana and Ben recorded."""
    nats = await start_nats(tmp_path_factory.mktemp("degraded_nats"))
    stores, scores = await new_stores(servers), await new_scores(servers)
    notifications = await new_notifications(servers)
    await park(stores.views, "timeline")
    await park(scores, SCORES)
    await park(notifications, EXPECTATIONS, "notifications")
    async with (
        touchline_on(stores, nats) as touchline,
        engagement_on(touchline, scores) as (_, engagement),
        notification_on(touchline, notifications) as (_, telling),
    ):
        last = 0
        for who in (ANA, BEN):
            awaited = Awaiting(touchline.client, who)
            promise = awaited.expected(now_us(), str(uuid4()), now_us() + HOUR)
            events = [told(note("2026-01-07", "Hi"), who), told(used("2026-01-08", "app", 9), who)]
            last = await record(touchline.client, *events, promise)
        yield Company(touchline, touchline.client, engagement, telling, scores, last)
    await nats.stop()


def key_of(who: Identity) -> bytes:
    """A customer's identity key."""
    secret = tenant_secret(bytes.fromhex("1d" * 32), TENANTS[0])
    return IdentityKeys(secret).identify(who).key


async def park(url: str, *projections: str) -> None:
    """Parks Ana from the beginning of the line, as who folds does, and tells of it."""
    async with _serving(url, projections) as (connection, generations):
        for one, generation in generations.items():
            row = (generation, one, 1, key_of(ANA), 0, uuid4(), "ValueError in apply", False)
            await connection.execute(_SQL["park"], *row)


async def unpark(url: str, *projections: str) -> None:
    """Removes what was parked, as who folds does, and tells of it."""
    async with _serving(url, projections) as (connection, generations):
        for generation in generations.values():
            await connection.execute(_SQL["unpark"], generation, 1, key_of(ANA))


@asynccontextmanager
async def _serving(
    url: str, projections: tuple[str, ...]
) -> AsyncIterator[tuple[asyncpg.Connection, dict[str, int]]]:
    """Connects to a database, and says which generations of projections answer there."""
    connection = await asyncpg.connect(url)
    try:
        generations = {}
        for one in projections:
            version = _VERSIONS.get(one, 1)
            await introduce(connection, one, version)  # as who folds it first
            found = await serving(connection, one, version)
            assert found
            generations[one] = found.id
        yield connection, generations
    finally:
        await connection.close()


async def refold(client: Client, service: str, name: str) -> None:
    """Folds what a projection has parked."""
    request = projection.RefoldParkedKeysRequest(projection=name)
    answer = await client.projections[service].RefoldParkedKeys(request)
    assert (answer.refolded_keys, list(answer.still_parked)) == (1, [])


async def until(look: Callable[[], Awaitable[list[str]]], wanted: list[str]) -> None:
    """Returns once an answer names these projections."""
    async with asyncio.timeout(30):
        while await look() != wanted:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.02)


async def timeline(company: Company, who: Identity) -> tuple[int, list[str]]:
    request = api.ListTimelineEventsRequest(profile=of(who), after_position=company.position)
    answer = await company.client.profile.ListTimelineEvents(request)
    return len(answer.entries), list(answer.degraded_projections)


async def profile(company: Company, who: Identity) -> tuple[int, list[str]]:
    request = api.GetProfileRequest(profile=of(who), after_position=company.position)
    answer = (await company.client.profile.GetProfile(request)).profile
    return answer.event_count, list(answer.degraded_projections)


async def view(company: Company, who: Identity) -> tuple[int, list[str]]:
    request = api.GetViewRequest(
        profile=of(who), view=VIEW_KIND_SALES, after_position=company.position
    )
    answer = await company.client.profile.GetView(request)
    return len(answer.sales.promises), list(answer.degraded_projections)


async def score(company: Company, who: Identity) -> tuple[bool, list[str]]:
    request = scoring.GetScoreRequest(profile=of(who), after_position=company.position)
    one = (await company.engagement.engagement.GetScore(request)).score
    return one.score > 0, list(one.degraded_projections)


async def explained(company: Company, who: Identity) -> tuple[bool, list[str]]:
    request = scoring.ExplainScoreRequest(profile=of(who), after_position=company.position)
    answer = await company.engagement.engagement.ExplainScore(request)
    return bool(answer.contributions), list(answer.score.degraded_projections)


async def listed_scores(company: Company) -> dict[str, list[str]]:
    request = scoring.ListScoresRequest(after_position=company.position)
    answer = await company.engagement.engagement.ListScores(request)
    return {one.profile_id: list(one.degraded_projections) for one in answer.scores}


async def expectations(company: Company, who: Identity | None) -> tuple[int, list[str]]:
    request = notification.ListExpectationsRequest(after_position=company.position)
    if who is not None:
        request.profile.CopyFrom(of(who))
    answer = await company.notification.notification.ListExpectations(request)
    return len(answer.expectations), list(answer.degraded_projections)


async def inbox(company: Company, whose: notification.Inbox) -> list[str]:
    request = notification.ListInboxRequest(inbox=whose, after_position=company.position)
    answer = await company.notification.notification.ListInbox(request)
    return list(answer.degraded_projections)


async def test_given_a_parked_customer_then_their_timeline_and_views_say_so_until_they_are_folded(
    company: Company,
) -> None:
    for read, whole in ((timeline, 3), (profile, 3), (view, 1)):
        assert await read(company, ANA) == (0, ["timeline"])
        assert await read(company, BEN) == (whole, [])
    await refold(company.client, "profile", "timeline")

    async def lacking() -> list[str]:
        return (await timeline(company, ANA))[1]

    await until(lacking, [])
    for read, whole in ((timeline, 3), (profile, 3), (view, 1)):
        assert await read(company, ANA) == (whole, [])

    # Whatever another process parks is heard of; what no answer is read from is not told.
    views = company.touchline.stores.views
    await park(views, "another", "identity_graph", "timeline")
    await until(lacking, ["identity_graph", "timeline"])
    assert await timeline(company, BEN) == (3, [])
    await unpark(views, "identity_graph", "timeline")
    await until(lacking, [])
    await unpark(views, "another")


async def test_given_a_parked_customer_then_their_score_says_so_until_they_are_folded(
    company: Company,
) -> None:
    ana, ben = key_of(ANA).hex(), key_of(BEN).hex()
    for read in (score, explained):
        assert await read(company, ANA) == (False, [SCORES])
        assert await read(company, BEN) == (True, [])
    assert await listed_scores(company) == {ben: []}
    await refold(company.engagement, "engagement", SCORES)

    async def lacking() -> list[str]:
        return (await score(company, ANA))[1]

    await until(lacking, [])
    for read in (score, explained):
        assert await read(company, ANA) == (True, [])
    assert await listed_scores(company) == {ana: [], ben: []}
    await park(company.scores, "identity_graph", SCORES, "scores:1:another:1")
    await until(lacking, ["identity_graph", SCORES])
    assert await listed_scores(company) == {ana: ["identity_graph", SCORES], ben: []}


async def test_given_a_parked_customer_then_expectations_and_inbox_say_so_until_they_are_folded(
    company: Company,
) -> None:
    team = notification.Inbox(reference="team:care")
    of_ana, of_ben = (notification.Inbox(customer=of(who)) for who in (ANA, BEN))
    assert await expectations(company, ANA) == (0, [EXPECTATIONS])
    assert await expectations(company, BEN) == (1, [])
    assert await expectations(company, None) == (1, [])
    told_of = [await inbox(company, whose) for whose in (of_ana, of_ben, team)]
    assert told_of == [["notifications"], [], []]
    for name in (EXPECTATIONS, "notifications"):
        await refold(company.notification, "notification", name)

    async def lacking() -> list[str]:
        return (await expectations(company, ANA))[1] + await inbox(company, of_ana)

    await until(lacking, [])
    assert await expectations(company, ANA) == (1, [])
