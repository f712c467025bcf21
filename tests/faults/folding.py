"""Reference folds: every projection anew, in a database of its own, by a loop that does no more.

No runner, no feed, no checkpoint: the line is read from the store's table and folded in parts of
another size than any that came live.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import asyncpg

from libs.embedded import create_database, database_url_for
from libs.eventstore.client import StoreClient
from libs.postgres.pool import open_pool
from libs.projection.consents import Consents
from libs.projection.generations.records import serving
from libs.projection.identity_graph import IdentityGraph
from libs.projection.projection import Projection, Recorded
from libs.projection.timeline import Timeline
from services.engagement import config as engagement_config
from services.engagement.__main__ import migrate_engagement
from services.engagement.domain.model import compile_model
from services.engagement.models import PublishedModels, from_text
from services.engagement.scores import Scores, Scoring
from services.notification import config as notification_config
from services.notification.__main__ import migrate_notification
from services.notification.inbox.notifications import Notifications
from services.profile import config as profile_config
from services.profile.__main__ import migrate_profile
from services.profile.attributes import AttributeValues
from tests.faults.checking import Folded
from tests.faults.cluster import INGESTION, Cluster
from tests.faults.reading import connected
from touchline.store.v1.store_pb2 import RecordedEvent

_AT_ONCE: Final = 733
_LINE: Final = """
    SELECT position, recorded_at_us, record FROM events
    WHERE position > $1 ORDER BY position LIMIT $2
"""
_MIGRATE: Final[dict[str, Callable[[str], Awaitable[None]]]] = {
    "profile": migrate_profile,
    "engagement": migrate_engagement,
    "notification": migrate_notification,
}


async def folded_anew(
    cluster: Cluster, store: StoreClient, told: Callable[[str], None]
) -> dict[str, dict[str, Folded]]:
    """Fold every projection anew, and return each table's rows, live and anew.

    Args:
        cluster: Whose line and projections.
        store: Gives data keys.
        told: Told what is folded now.
    """
    found: dict[str, dict[str, Folded]] = {}
    async with AsyncExitStack() as stack:
        for service, migrate in _MIGRATE.items():
            name = f"reference_{service}"
            await create_database(cluster.postgres.url, name)
            url = database_url_for(cluster.postgres.url, name)
            await migrate(url)
            pool = await stack.enter_async_context(
                open_pool(url, application="faults", settings={"synchronous_commit": "off"})
            )
            for projection in await _projections(cluster, service, store):
                told(f"{service}/{projection.name}")
                await _fold(cluster, projection, pool)
                tables = found[f"{service}/{projection.name}"] = {}
                for table in projection.tables:
                    query = f"SELECT md5(t::text) FROM {table.name} t WHERE {table.rows} ORDER BY 1"
                    async with connected(cluster.database(service)) as live:
                        await _read_what_answers(live, projection)
                        rows = [row[0] for row in await live.fetch(query)]
                    anew = [row[0] for row in await pool.fetch(query)]
                    tables[table.name] = Folded(rows, anew)
    return found


async def _read_what_answers(live: asyncpg.Connection, projection: Projection) -> None:
    """Have a connection find the tables of the generation that answers."""
    answers = await serving(live, projection.name, projection.fold_version)
    if answers is not None:
        await live.execute(f"SET search_path TO {answers.search_path}")


async def _projections(cluster: Cluster, service: str, store: StoreClient) -> list[Projection]:
    """Return a service's projections; its reactors are held to invariants instead."""
    environment = cluster.environment[service]
    match service:
        case "profile":
            readers = profile_config.read_config(environment).readers
            return [IdentityGraph(), Timeline(), Consents(), AttributeValues(store, readers)]
        case "engagement":
            keys = engagement_config.read_config(environment).identity_keys
            scores = [Scores(scoring, store) for scoring in await _scorings(cluster)]
            return [IdentityGraph(), PublishedModels(store, keys), *scores]
        case _:
            told = notification_config.read_config(environment).readers
            return [IdentityGraph(), Timeline(), Consents(), Notifications(store, told)]


async def _scorings(cluster: Cluster) -> list[Scoring]:
    async with connected(cluster.database("engagement")) as connection:
        rows = await connection.fetch("SELECT position, tenant, version, definition FROM models")
    return [
        Scoring(position, tenant, version, compile_model(from_text(definition)))
        for position, tenant, version, definition in rows
    ]


async def _fold(cluster: Cluster, projection: Projection, pool: asyncpg.Pool) -> None:
    async for events in _line(cluster):
        await projection.prepare(events)
        async with pool.acquire() as connection, connection.transaction():
            await projection.apply(connection, events)


async def _line(cluster: Cluster) -> AsyncIterator[Sequence[Recorded]]:
    async with connected(cluster.database(INGESTION[0])) as connection:
        after = 0
        while rows := await connection.fetch(_LINE, after, _AT_ONCE):
            yield [_recorded(row) for row in rows]
            after = rows[-1]["position"]


def _recorded(row: Any) -> Recorded:
    record = bytes(row["record"])
    return Recorded(
        row["position"], row["recorded_at_us"], RecordedEvent.FromString(record), record
    )
