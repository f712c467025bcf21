"""Fills a store by appending events one at a time, as years of single calls would have.

Sealed rows are made first, by the service's own Recorder, and kept in a table; then a procedure
calls the append function once per event, each call a transaction of its own, or with many at once
where only the line matters. Only here synchronous_commit is off, so that filling takes minutes
instead of the disk's half an hour; what is stored is the same.
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
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_RECORDED,
    AppendEvent,
    AppendRequest,
    AppendUnit,
)

LARGEST: Final = 0
_WORKERS: Final = 2
_SLICE: Final = 5000
_CHUNK: Final = 1000

_STAGED: Final = """
CREATE UNLOGGED TABLE bench_staged (
    ordinal bigint PRIMARY KEY, tenant smallint, event_id uuid, owner_key bytea,
    partition smallint, type smallint, content_hash bytea, record bytea);
CREATE PROCEDURE bench_append(p_from bigint, p_to bigint, p_at_once bigint) LANGUAGE plpgsql AS $$
DECLARE
    e record;
BEGIN
    FOR e IN SELECT array_agg(tenant ORDER BY ordinal) AS tenants,
                    array_agg(event_id ORDER BY ordinal) AS event_ids,
                    array_agg(owner_key ORDER BY ordinal) AS owner_keys,
                    array_agg(partition ORDER BY ordinal) AS partitions,
                    array_agg(type ORDER BY ordinal) AS types,
                    array_agg(content_hash ORDER BY ordinal) AS content_hashes,
                    array_agg(record ORDER BY ordinal) AS records
             FROM bench_staged WHERE ordinal >= p_from AND ordinal < p_to
             GROUP BY ordinal / p_at_once ORDER BY ordinal / p_at_once
    LOOP
        PERFORM append_events(
            NULL, e.tenants, e.event_ids, e.owner_keys, e.partitions, e.types, e.content_hashes,
            e.records, NULL, NULL);
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
    await migrate_ingestion(stage.database("ingestion"))
    line = {"stored": scale.stored, "largest": scale.largest, "customers": scale.customers}
    await append(report, stage, line, at_once=1)


async def append(report: Report, stage: Stage, line: Spec, *, at_once: int) -> int:
    """Append events to a store whose tables are made, and return where its line ends then.

    Args:
        report: Shows how far it is.
        stage: Where the store is.
        line: `stored` events, of which `largest` are of one customer and the rest of `customers`;
            perhaps `varied`, so that every view has something of them, and `seed`.
        at_once: How many events each call appends.
    """
    url = stage.database("ingestion")
    connection = await asyncpg.connect(url, server_settings={"synchronous_commit": "off"})
    try:
        before: int = await connection.fetchval("SELECT position FROM store_head")
        await connection.execute(_STAGED)
        with report.progress("appending", line["stored"], "events") as advance:
            await _append_all(connection, stage, line, at_once, advance)
        await connection.execute("DROP TABLE bench_staged; DROP PROCEDURE bench_append")
        head: int = await connection.fetchval("SELECT position FROM store_head")
        if head != before + line["stored"]:
            raise AssertionError(f"{head - before} of {line['stored']} events were appended")
    finally:
        await connection.close()
    return head


async def _append_all(
    connection: asyncpg.Connection, stage: Stage, line: Spec, at_once: int, advance: Advance
) -> None:
    sealed = [0.0] * _WORKERS  # how many rows each worker has staged
    stored = line["stored"]

    async with AsyncExitStack() as stack:
        sealing = []
        for number in range(_WORKERS):
            told = partial(sealed.__setitem__, number)
            spec = {
                "database": stage.database("ingestion"),
                "master_key": stage.secrets.master_key,
                "identity_secret": stage.secrets.identity_secret,
                "number": number,
                **line,
            }
            one = await stack.enter_async_context(worker("seal", spec, told))
            sealing.append(asyncio.create_task(one.result()))
        for start in range(0, stored, _SLICE):
            end = min(start + _SLICE, stored)
            while _WORKERS * min(sealed) < end and not all(task.done() for task in sealing):
                # A worker that fails ends the wait with its error.
                await asyncio.wait(sealing, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION)
                for task in sealing:
                    if task.done():
                        task.result()
            await connection.execute(f"CALL bench_append({start}, {end}, {at_once})")
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
            rng = random.Random(spec["number"] + _WORKERS * spec.get("seed", 0))
            make = load.any_event_of if spec.get("varied") else load.event_of
            ordinals = range(spec["number"], spec["stored"], _WORKERS)
            for start in range(0, len(ordinals), _CHUNK):
                chunk = ordinals[start : start + _CHUNK]
                made = [make(_customer(rng, spec), rng) for _ in chunk]
                # As other services append: they may say more than callers.
                units = [AppendUnit(events=[AppendEvent(event=event)]) for event in made]
                request = AppendRequest(tenant=tenant.tenant.name, units=units)
                await recorder.append(tenant, request, "")
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
