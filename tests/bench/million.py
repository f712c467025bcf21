"""Fills a store by appending events one at a time, as years of single calls would have.

Sealed rows are made first, by the service's own Recorder, and kept in a table; then a procedure
calls the append function once per event, each call a transaction of its own. Only here
synchronous_commit is off, so that filling takes minutes instead of the disk's half an hour; what is
stored is the same.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, cast

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.appender import Appender
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import Row, SealedTenant
from libs.eventstore.sealing import MasterKey
from libs.eventstore.store import AppendVerdict, EventStore
from libs.identity.keys import IdentityKeys, tenant_secret
from libs.postgres.pool import open_pool
from libs.rpc.tenants import Tenant
from services.ingestion.__main__ import migrate_ingestion
from services.ingestion.event_types import EventTypes
from services.ingestion.quarantine import Quarantine
from services.ingestion.recording import Recorder, TenantSecrets
from tests.bench import events as load
from tests.bench.report import Advance, Report
from tests.bench.scale import Scale
from tests.bench.stage import Stage
from tests.bench.worker import Result, Spec, Tell, worker
from touchline.store.v1.store_pb2 import APPEND_OUTCOME_RECORDED

LARGEST: Final = 0
_WORKERS: Final = 2
_SLICE: Final = 5000
_CHUNK: Final = 1000

_STAGED: Final = """
CREATE UNLOGGED TABLE bench_staged (
    ordinal bigint PRIMARY KEY, tenant smallint, event_id uuid, owner_key bytea,
    partition smallint, type smallint, content_hash bytea, record bytea);
CREATE PROCEDURE bench_append(p_from bigint, p_to bigint) LANGUAGE plpgsql AS $$
DECLARE
    e record;
BEGIN
    FOR e IN SELECT * FROM bench_staged WHERE ordinal >= p_from AND ordinal < p_to ORDER BY ordinal
    LOOP
        PERFORM append_events(
            ARRAY[0], ARRAY[e.tenant], ARRAY[e.event_id], ARRAY[e.owner_key], ARRAY[e.partition],
            ARRAY[e.type], ARRAY[e.content_hash], ARRAY[e.record], NULL, NULL);
        COMMIT;
    END LOOP;
END $$;
"""


class Collected:
    """Takes the place of the appender: keeps the rows the Recorder sealed."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    async def append(self, units: Sequence[Sequence[Row]], _: int) -> list[AppendVerdict]:
        """Keep rows, and say that they were recorded."""
        self.rows = [row for unit in units for row in unit]
        return [AppendVerdict(APPEND_OUTCOME_RECORDED, place) for place, _ in enumerate(self.rows)]


async def fill(report: Report, stage: Stage, scale: Scale) -> None:
    """Append `scale.stored` events, one call each, while those that follow are being sealed."""
    report.heading(f"Filling a store with {scale.stored:,} events, one append call each")
    url = stage.database("ingestion")
    await migrate_ingestion(url)
    connection = await asyncpg.connect(url, server_settings={"synchronous_commit": "off"})
    try:
        await connection.execute(_STAGED)
        with report.progress("appending", scale.stored, "events") as advance:
            await _append_all(connection, stage, scale, advance)
        await connection.execute("DROP TABLE bench_staged; DROP PROCEDURE bench_append")
        head = await connection.fetchval("SELECT position FROM store_head")
        if head != scale.stored:
            raise AssertionError(f"the store has {head} of {scale.stored} events")
    finally:
        await connection.close()


async def _append_all(
    connection: asyncpg.Connection, stage: Stage, scale: Scale, advance: Advance
) -> None:
    sealed = [0.0] * _WORKERS  # how many rows each worker has staged

    async with AsyncExitStack() as stack:
        sealing = []
        for number in range(_WORKERS):
            told = partial(sealed.__setitem__, number)
            spec = {
                "database": stage.database("ingestion"),
                "master_key": stage.secrets.master_key,
                "identity_secret": stage.secrets.identity_secret,
                "number": number,
                "stored": scale.stored,
                "largest": scale.largest,
                "customers": scale.customers,
            }
            one = await stack.enter_async_context(worker("seal", spec, told))
            sealing.append(asyncio.create_task(one.result()))
        for start in range(0, scale.stored, _SLICE):
            end = min(start + _SLICE, scale.stored)
            while _WORKERS * min(sealed) < end and not all(task.done() for task in sealing):
                # A worker that fails ends the wait with its error.
                await asyncio.wait(sealing, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION)
                for task in sealing:
                    if task.done():
                        task.result()
            await connection.execute(f"CALL bench_append({start}, {end})")
            advance(end)


@asynccontextmanager
async def seal(spec: Spec, tell: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Seal every other event and keep its row for the procedure."""
    secret = tenant_secret(bytes.fromhex(spec["identity_secret"]), "default")
    tenant = TenantSecrets(Tenant("default", 1), IdentityKeys(secret), SealedTenant(1, secret))
    master_key = MasterKey(bytes.fromhex(spec["master_key"]))
    async with open_pool(spec["database"], application="bench", size=2) as pool:
        collected = Collected()
        keyring = Keyring(pool, master_key)
        recorder = Recorder(
            EventStore(pool),
            cast("Appender", collected),
            keyring,
            Quarantine(pool, master_key),
            EventTypes(pool, keyring, {1: tenant.identity_keys}),
        )

        async def work() -> Result:
            rng = random.Random(spec["number"])
            ordinals = range(spec["number"], spec["stored"], _WORKERS)
            for start in range(0, len(ordinals), _CHUNK):
                chunk = ordinals[start : start + _CHUNK]
                made = [load.event_of(_customer(rng, spec), rng) for _ in chunk]
                await recorder.record(tenant, made, "")
                await _stage(pool, chunk, collected.rows)
                tell(start + len(chunk))
            return {}

        yield work


def _customer(rng: random.Random, spec: Spec) -> int:
    if rng.random() < spec["largest"] / spec["stored"]:
        return LARGEST
    return rng.randrange(1, spec["customers"])


async def _stage(pool: asyncpg.Pool, ordinals: Sequence[int], rows: Sequence[Row]) -> None:
    records: list[tuple[Any, ...]] = [
        (
            *(ordinal, row.tenant, UUID(row.event_id), row.owner_key, row.partition, row.type),
            *(row.content_hash, row.record),
        )
        for ordinal, row in zip(ordinals, rows, strict=True)
    ]
    await pool.copy_records_to_table("bench_staged", records=records)
