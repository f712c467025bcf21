"""What happened to a customer, as whoever decides about an event reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from libs.postgres.migrations import migrate
from libs.projection.identity_graph import IdentityGraph
from libs.projection.profiles import find_profile
from libs.projection.timeline import MIGRATIONS, Timeline, touches_of
from tests.lines import TENANT, Told, key_of, project, recorded
from tests.servers import SharedPostgres
from tests.services import new_views
from touchline.events.v1.event_pb2 import EVENT_TYPE_NOTE_ADDED

LINE = recorded(
    [
        Told(1, ("anna@",), at=5),
        Told(2, ("tablet", "anna@"), at=3),
        Told(3, ("anna@",), at=4),
        Told(4, ("ben@",), at=4),
        Told(5, ("anna@",), at=1),
        Told(6, ("anna@",), at=6, retracts=3),
        Told(7, ("anna@",), at=2),
    ]
)
ANNA = [key_of("anna@"), key_of("tablet")]
DAY_US = 86_400_000_000
NOTES = [EVENT_TYPE_NOTE_ADDED]


@pytest.fixture(scope="module")
async def views(servers: SharedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A database in which the line is folded."""
    connection = await asyncpg.connect(await new_views(servers))
    for projection in (Timeline(), IdentityGraph()):
        await project(connection, projection, LINE)
    yield connection
    await connection.close()


async def test_touches_are_those_of_all_identities_newest_first_without_the_retracted(
    views: asyncpg.Connection,
) -> None:
    touches = await touches_of(views, TENANT, ANNA, limit=10)
    assert touches == [LINE[5], LINE[0], LINE[1], LINE[6], LINE[4]]
    assert await touches_of(views, TENANT, ANNA, limit=2) == touches[:2]
    assert await touches_of(views, TENANT, ANNA, types=NOTES, limit=10) == touches[1:]
    assert await touches_of(views, TENANT, ANNA, since_us=3 * DAY_US, limit=10) == touches[:3]
    assert await touches_of(views, TENANT + 1, ANNA, limit=10) == []
    assert await touches_of(views, TENANT, [], limit=10) == []


async def test_whoever_decides_about_an_event_later_reads_what_was_there_then(
    views: asyncpg.Connection,
) -> None:
    event = LINE[4]
    there = await touches_of(
        views,
        TENANT,
        ANNA,
        up_to_position=event.position,
        recorded_by_us=event.recorded_at_us,
        limit=10,
    )
    assert there == [LINE[0], LINE[2], LINE[1], LINE[4]]


async def test_a_profile_is_found_by_each_of_its_identities(views: asyncpg.Connection) -> None:
    profile = await find_profile(views, TENANT, key_of("tablet"))
    assert profile is not None
    assert (profile.root, sorted(profile.keys)) == (key_of("anna@"), sorted(ANNA))
    assert profile.profile_id == key_of("anna@").hex()
    assert await find_profile(views, TENANT, key_of("anna@")) == profile
    assert await find_profile(views, TENANT, key_of("+49")) is None
    assert await find_profile(views, TENANT + 1, key_of("anna@")) is None


async def test_a_database_whose_timeline_the_profile_service_made_is_taken_over(
    postgres_url: str,
) -> None:
    await migrate(postgres_url, "profile", MIGRATIONS)
    connection = await asyncpg.connect(postgres_url)
    await project(connection, Timeline(), LINE)
    assert await migrate(postgres_url, "timeline", MIGRATIONS) == ["0001_timeline"]
    assert len(await touches_of(connection, TENANT, ANNA, limit=10)) == 5
    await connection.close()
