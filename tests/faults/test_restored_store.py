"""After a restore the views go on, or fold anew by themselves; another store is refused."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import asyncpg
import pytest

from libs.embedded import create_database, database_url_for
from libs.projection.checkpoints import FoldsAnew
from services.engagement.__main__ import FOLDED_TABLES as OF_ENGAGEMENT
from services.notification.__main__ import FOLDED_TABLES as OF_NOTIFICATION
from services.profile.__main__ import FOLDED_TABLES as OF_PROFILE
from tests.customers import new_email, profile_id, record, timeline, told
from tests.given import note
from tests.servers import SharedPostgres, start_nats
from tests.services import (
    Service,
    Touchline,
    engagement_on,
    mint_store,
    new_notifications,
    new_scores,
    new_stores,
    notification_on,
    touchline_on,
)
from tests.store import eventually
from touchline.client import Client
from touchline.engagement.v1 import engagement_service_pb2 as engagement
from touchline.events.v1.identity_pb2 import Identity
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.projection.v1.projection_pb2 import PROJECTION_STATE_HALTED
from touchline.projection.v1.projection_service_pb2 import ListProjectionsRequest

# What is neither folded nor part of every database of projections, and outlives a fold anew.
KEPT = {
    OF_PROFILE: set[str](),
    OF_ENGAGEMENT: {"level_sweeps"},
    OF_NOTIFICATION: {"recipients"},
}
ALWAYS = {
    *("schema_migrations", "projection_foldings", "outbox_sender"),
    *("projection_pauses", "projection_workers"),
}
OWN = {"projection_checkpoints", "projection_generations", "parked_keys", "outbox"}


@dataclass
class Company:
    """All four services, and the databases that fold.

    Attributes:
        services: Those that fold, by their databases.
        client: Calls them.
    """

    touchline: Touchline
    servers: SharedPostgres
    services: Mapping[str, Service]
    client: Client

    async def store(self, url: str) -> None:
        """Has ingestion serve another store."""
        await self.touchline.ingestion.stop()
        ingestion = self.touchline.ingestion
        ingestion.environment = {**ingestion.environment, "TOUCHLINE_DATABASE_URL": url}
        await ingestion.start()

    async def backup(self) -> str:
        """Copies the store, which must rest, as a store of its own."""
        name = f"backup_{secrets.token_hex(4)}"
        of = self.touchline.stores.events.rpartition("/")[2]
        await create_database(self.servers.url, name, of)
        url = database_url_for(self.servers.url, name)
        await self.touchline.execute(url, "SELECT become_another_store()")
        return url

    async def foldings(self) -> list[object]:
        """How often each database was emptied."""
        return [
            await _asked(url, "SELECT number FROM projection_foldings") for url in self.services
        ]

    async def stand_on(self, url: str, projections: int) -> None:
        """Returns once so many projections of each database have all come to a store's head."""
        head = "SELECT (store_id, position, chain)::text FROM store_head"
        place = await _asked(url, head)
        count = (
            "SELECT count(*) FROM projection_checkpoints"
            " WHERE (nullif(encode(store_id, 'hex'), '')::uuid, position, chain)::text = $1"
        )
        for views in self.services:
            await eventually(lambda views=views: _is(views, count, place, projections), 30)  # type: ignore[misc]


async def _asked(url: str, query: str, *arguments: object) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def _is(url: str, query: str, argument: object, least: int) -> bool:
    found = await _asked(url, query, argument)
    return isinstance(found, int) and found >= least


@pytest.fixture
async def company(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Company]:
    """All services on stores of their own."""
    own = await start_nats(tmp_path_factory.mktemp("lineage_nats"))
    stores = await new_stores(servers)
    scores, notifications = await new_scores(servers), await new_notifications(servers)
    async with (
        touchline_on(stores, own) as touchline,
        engagement_on(touchline, scores) as (engaging, client),
        notification_on(touchline, notifications) as (notifying, _),
    ):
        folding = {stores.views: touchline.profile, scores: engaging, notifications: notifying}
        yield Company(touchline, servers, folding, client)
    await own.stop()


async def tell(company: Company, customer: Identity, times: int = 1) -> int:
    events = [told(note("2024-03-01", "Called"), customer) for _ in range(times)]
    return await record(company.client, *events)


async def test_given_a_restored_store_then_views_go_on_or_fold_anew_by_themselves(
    company: Company,
) -> None:
    ana, ben, stores = new_email(), new_email(), company.touchline.stores
    await tell(company, ana, 2)
    await company.stand_on(stores.events, 2)
    # Restored in its place, nothing lost: everything goes on.
    await company.touchline.ingestion.stop()
    await company.touchline.execute(stores.events, "SELECT become_another_store()")
    await company.touchline.ingestion.start()
    await company.stand_on(stores.events, 2)
    restored_from = await profile_id(company.client, ana)

    # A backup, then one more customer, whom the restored store does not know.
    await company.touchline.ingestion.stop()
    backup = await company.backup()
    await company.touchline.ingestion.start()
    await tell(company, ben)
    await company.stand_on(stores.events, 2)
    assert await company.foldings() == [0, 0, 0]
    await company.touchline.execute(
        list(company.services)[2], "INSERT INTO recipients VALUES (1, 'agent:7', 'a@b.example', '')"
    )
    await company.store(backup)
    for service in company.services.values():
        with pytest.raises(FoldsAnew, match="folds anew from position 1"):
            await service.ended()
    assert await company.foldings() == [1, 1, 1]
    for service in company.services.values():
        await service.start()
    last = await tell(company, ana)
    await company.stand_on(backup, 2)
    assert await profile_id(company.client, ana, last) == restored_from
    assert len(await timeline(company.client, ana)) == 3
    assert await _asked(stores.views, "SELECT count(*) FROM timeline") == 3
    request = engagement.GetScoreRequest(profile=ProfileReference(identity=ana))
    score = await company.client.engagement.GetScore(request)
    assert score.score.model_version == 1
    assert await _asked(list(company.services)[2], "SELECT count(*) FROM recipients") == 1
    assert await company.foldings() == [1, 1, 1]

    # A store that these views never heard of.
    await company.touchline.ingestion.stop()
    stranger = await company.backup()
    await mint_store(stranger)
    await company.touchline.execute(stranger, "TRUNCATE store_ancestors")
    await company.store(stranger)
    listed = company.client.projections["profile"].ListProjections

    async def halted() -> bool:
        projections = (await listed(ListProjectionsRequest())).projections
        return all(
            one.state == PROJECTION_STATE_HALTED and "TOUCHLINE_NATS_URL" in one.halt_reason
            for one in projections
        )

    await eventually(halted, 30)
    assert await _asked(stores.views, "SELECT count(*) FROM timeline") == 3


async def test_every_table_is_emptied_with_its_database_or_named_as_kept(
    servers: SharedPostgres,
) -> None:
    urls = [(await new_stores(servers)).views, await new_scores(servers)]
    urls.append(await new_notifications(servers))
    for url, (folded, kept) in zip(urls, KEPT.items(), strict=True):
        connection = await asyncpg.connect(url)
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        await connection.close()
        assert {row["tablename"] for row in rows} == folded | kept | ALWAYS | OWN
