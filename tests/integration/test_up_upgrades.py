"""After an upgrade `touchline up` waits for views, and takes away what nothing needs any more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from libs.cli.finishing import finish_upgrade
from libs.cli.installation import migrations
from libs.cli.stack import SERVICES
from libs.cli.starting import Starting
from libs.embedded import create_database, database_url_for, drop_database
from libs.postgres.ownership import contents_of
from libs.rpc.server import RunningServer, serve
from services.engagement.__main__ import migrate_engagement
from services.ingestion.__main__ import migrate_ingestion
from services.notification.__main__ import migrate_notification
from services.profile.__main__ import migrate_profile
from tests.servers import SharedPostgres
from touchline.projection.v1 import projection_pb2 as projection
from touchline.projection.v1 import projection_service_pb2 as api
from touchline.projection.v1.projection_service_pb2_grpc import (
    ProjectionServiceServicer,
    add_ProjectionServiceServicer_to_server,
)

FILLING, SERVING = projection.GENERATION_STATE_FILLING, projection.GENERATION_STATE_SERVING


class Projections(ProjectionServiceServicer):
    """Says of its projections what the test says."""

    def __init__(self) -> None:
        self.listed: list[projection.Projection] = []

    async def ListProjections(self, _: Any, __: Any) -> Any:  # noqa: N802 # gRPC's name
        return api.ListProjectionsResponse(projections=self.listed)


@asynccontextmanager
async def service(projections: Projections) -> AsyncIterator[RunningServer]:
    async with serve(
        "127.0.0.1:0",
        lambda server: add_ProjectionServiceServicer_to_server(projections, server),
        [],
    ) as running:
        yield running


def timeline(position: int, *states: int) -> projection.Projection:
    generations = [
        projection.Generation(fold_version=2, position=position, state=state)  # type: ignore[arg-type]
        for state in states
    ]
    former = projection.Generation(fold_version=1, position=100, state=SERVING)
    return projection.Projection(
        name="timeline", fold_version=2, head_position=100, generations=[former, *generations]
    )


async def test_a_service_that_builds_its_views_is_waited_for_and_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("libs.cli.starting._TELL_SECONDS", 0)
    heard: list[tuple[str, str]] = []
    projections = Projections()  # type: ignore[abstract]  # the others are not called
    async with service(projections) as running:
        starting = Starting(
            "profile", f"127.0.0.1:{running.port}", lambda *told: heard.append(told)
        )
        await running.set_serving("", False)
        for position in 0, 43:
            projections.listed = [timeline(position, FILLING)]
            assert not await starting.answers()
            assert starting.prepares
        await running.set_serving("", True)
        assert await starting.answers()
    assert heard == [
        ("profile", "profile builds its views anew (timeline 0 %)"),
        ("profile", "profile builds its views anew (timeline 43 %)"),
        ("profile", ""),
    ]


async def test_a_service_that_answers_at_once_has_nothing_to_tell() -> None:
    heard: list[tuple[str, str]] = []
    async with service(Projections()) as running:  # type: ignore[abstract]  # likewise
        address = f"127.0.0.1:{running.port}"
        assert await Starting("profile", address, lambda *told: heard.append(told)).answers()
    gone = Starting("profile", address, lambda *told: heard.append(told))
    assert not await gone.answers()
    assert not gone.prepares
    assert heard == []


@pytest.fixture
async def server(servers: SharedPostgres, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The URL of a server on which the services' databases stand, under names of this test."""
    migrate = (migrate_ingestion, migrate_profile, migrate_engagement, migrate_notification)
    urls = [database_url_for(servers.url, "test_up_" + one.database) for one in SERVICES]
    for one, migrate_it, url in zip(SERVICES, migrate, urls, strict=True):
        await create_database(servers.url, "test_up_" + one.database)
        await migrate_it(url)
    own = dict(zip([one.database for one in SERVICES], urls, strict=True))
    monkeypatch.setattr("libs.cli.finishing.database_url_for", lambda _, name: own[name])
    yield servers.url
    for one in SERVICES:
        await drop_database(servers.url, "test_up_" + one.database)


async def test_once_all_answer_what_no_release_needs_any_more_is_taken_away(
    server: str, tmp_path: Path
) -> None:
    heard: list[tuple[str, str]] = []
    (tmp_path / "9999_less.after.sql").write_text("SELECT 1")
    for _ in range(2):  # once
        await finish_upgrade(server, migrations(), lambda *told: heard.append(told))
        known = {**migrations(), "timeline": tmp_path}
        for file in migrations()["timeline"].glob("*.sql"):
            (tmp_path / file.name).write_text(file.read_text())
        await finish_upgrade(server, known, lambda *told: heard.append(told))
    assert heard == [
        ("profile", "its upgrade is finished: 9999_less.after"),
        ("notification", "its upgrade is finished: 9999_less.after"),
    ]


async def test_what_cant_be_taken_away_is_told_and_nothing_else_happens(
    server: str, tmp_path: Path
) -> None:
    heard: list[tuple[str, str]] = []
    for file in migrations()["attributes"].glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "9999_less.after.sql").write_text("SELECT 1 / 0")
    known = {**migrations(), "attributes": tmp_path}
    await finish_upgrade(server, known, lambda *told: heard.append(told))
    ((name, said),) = heard
    assert name == "profile"
    assert "its upgrade is not finished: migration 9999_less.after of attributes failed" in said


async def test_the_migrations_of_every_component_are_found(server: str) -> None:
    for one in SERVICES:
        connection = await asyncpg.connect(database_url_for(server, "test_up_" + one.database))
        assert (await contents_of(connection)).components <= migrations().keys()
        await connection.close()
