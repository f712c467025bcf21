"""Looks in a service's database for what is left of somebody who was erased.

Each table has a query of its name in an `erasing.sql`, which gets the first of these arguments, as
many as it has: the tenant's number, the identity keys, the erasure's position, and from when and
before when it occurred. Either it answers with one row of `left`, what could still tell something,
and `shut`, what concerns the customer and tells nothing. Or it returns sealed rows, with `position`
and `record`: then each that the erasure concerns is tried, and is `left` if it opens.
"""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import asyncpg

from libs.eventstore.client import StoreClient
from libs.postgres.queries import load_queries
from libs.projection.erasing.erasures import Erasure
from libs.projection.generations.generation import PUBLIC
from libs.projection.opening import open_events
from libs.projection.projection import Recorded
from touchline.projection.v1.projection_service_pb2 import ErasureCheck
from touchline.store.v1.store_pb2 import RecordedEvent

SHARED_CHECKS: Final = load_queries(Path(__file__).with_name("erasing.sql"))
"""Of the tables that every service has, by what they are called."""

_OUTBOX: Final = "outbox"
_CAME_BACK: Final = "came_back"
_AT_ONCE: Final = 1000
_SQL: Final = load_queries(Path(__file__).with_name("checking.sql"))


async def look_for(
    pool: asyncpg.Pool,
    store: StoreClient,
    erasure: Erasure,
    tenant: str,
    checks: Mapping[str, str],
) -> list[ErasureCheck]:
    """Return what is left of an erasure's customer in a database, and in this process's memory.

    Args:
        pool: Connections to the database.
        store: Opens what can be opened, and remembers keys.
        erasure: What was erased; every generation has folded it.
        tenant: The tenant's name.
        checks: The service's own queries, by what they look at.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    keys = sorted(erasure.identity_keys)
    async with pool.acquire() as connection:
        queries = {**SHARED_CHECKS, **checks}
        looked = {what: queries[what] for what in queries if what not in (_OUTBOX, _CAME_BACK)}
        found = await _look_everywhere(connection, store, erasure, looked)
        left = await connection.fetchval(SHARED_CHECKS[_OUTBOX], tenant, keys, erasure.position)
        found.append(ErasureCheck(what=_OUTBOX, left=left))
        if erasure.is_whole:
            back = await connection.fetch(
                SHARED_CHECKS[_CAME_BACK], erasure.tenant, keys, erasure.position
            )
            gone = erasure.identity_keys - {row["identity_key"] for row in back}
            left = store.remembered(erasure.tenant, gone)
            found.append(ErasureCheck(what="data keys in memory", left=left))
    return found


async def _look_everywhere(
    connection: asyncpg.pool.PoolConnectionProxy,
    store: StoreClient,
    erasure: Erasure,
    queries: Mapping[str, str],
) -> list[ErasureCheck]:
    """Look in public, and in the schema of each other generation at the tables that it has."""
    found = {what: ErasureCheck(what=what) for what in sorted(queries)}
    for schema, tables in await _schemas(connection):
        async with connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL search_path TO {schema}, {PUBLIC}")
            for what, told in found.items():
                if schema == PUBLIC or what in tables:
                    one = await _look(connection, store, erasure, what, queries[what])
                    told.left += one.left
                    told.shut += one.shut
    return list(found.values())


async def _schemas(
    connection: asyncpg.pool.PoolConnectionProxy,
) -> list[tuple[str, frozenset[str]]]:
    rows = await connection.fetch(_SQL["tables_of_generations"])
    return [(PUBLIC, frozenset()), *((row["schema"], frozenset(row["tables"])) for row in rows)]


async def _look(
    connection: asyncpg.pool.PoolConnectionProxy,
    store: StoreClient,
    erasure: Erasure,
    what: str,
    query: str,
) -> ErasureCheck:
    tenant, keys, from_us, before_us, position = erasure.arguments
    statement = await connection.prepare(query)
    asked = (tenant, keys, position, from_us, before_us)[: len(statement.get_parameters())]
    if all(one.name != "record" for one in statement.get_attributes()):
        left, shut = await statement.fetchrow(*asked) or (0, 0)
        return ErasureCheck(what=what, left=left, shut=shut)
    told = ErasureCheck(what=what)
    async for part in _parts(statement, asked):
        events = [event for event in part if erasure.concerns(event)]
        opened = await open_events(store, events)
        told.left += sum(event is not None for event in opened)
        told.shut += sum(event is None for event in opened)
    return told


async def _parts(
    statement: "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]", asked: tuple[object, ...]
) -> AsyncIterator[list[Recorded]]:
    cursor = await statement.cursor(*asked)
    while rows := await cursor.fetch(_AT_ONCE):
        yield [
            Recorded(row["position"], 0, RecordedEvent.FromString(row["record"]), row["record"])
            for row in rows
        ]
