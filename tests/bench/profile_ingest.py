"""Where ingestion spends its time: µs per event by step, then cProfile's view of the whole.

The pure part runs with no server: the keyring's table is a dictionary and the append answers at
once, so what remains is the Python of the hot path. With a server, the append call itself is
measured as well.
"""

import asyncio
import cProfile
import io
import pstats
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, cast

import asyncpg

from libs.embedded import create_database, database_url_for, run_servers
from libs.eventstore import store as eventstore
from libs.eventstore.appender import Appender
from libs.eventstore.chain import GENESIS, content_hash
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import (
    IdentitySeal,
    Row,
    SealedTenant,
    seal_event,
    seal_identity,
)
from libs.eventstore.sealing import MasterKey, data_key, seal
from libs.eventstore.store import Appended, EventStore, pack
from libs.identity.keys import Identified, IdentityKeys, tenant_secret
from libs.postgres.migrations import migrate
from libs.postgres.pool import open_pool
from libs.rpc.tenants import Tenant
from services.ingestion import domain
from services.ingestion.event_types import EventTypes
from services.ingestion.quarantine import Quarantine
from services.ingestion.recording import Recorder, TenantSecrets
from tests.bench import events as load
from tests.bench.million import Collected
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_service_pb2 import (
    BatchRecordEventsRequest,
    BatchRecordEventsResponse,
)

BATCH: Final = 1000
BATCHES: Final = 20
CUSTOMERS: Final = 5000
_SECRET: Final = tenant_secret(bytes(range(32)), "default")
_TENANT: Final = Tenant("default", 1)


def secrets() -> TenantSecrets:
    """Return a tenant's secrets as the service would read them."""
    return TenantSecrets(_TENANT, IdentityKeys(_SECRET), SealedTenant(_TENANT.number, _SECRET))


class _KeyTable:
    """Answers as the table of data keys would, with every key new the first time it is asked."""

    def __init__(self) -> None:
        self._wrapped: dict[bytes, bytes] = {}

    async def fetchval(self, _: str, *what: Any) -> Any:
        if not what:
            return 0  # nobody was ever erased
        self._wrapped.update(zip(what[1], what[2], strict=True))
        return what[1]

    async def fetch(self, _: str, __: int, keys: list[bytes]) -> list[Any]:
        return [(key, self._wrapped[key]) for key in keys if key in self._wrapped]


def recorder() -> tuple[Recorder, Collected]:
    """Return the service's Recorder over memory instead of PostgreSQL."""
    pool = cast("asyncpg.Pool", _KeyTable())
    master_key = MasterKey(bytes(32))
    at_once, keyring = Collected(), Keyring(pool, master_key)
    return (
        Recorder(
            EventStore(pool),
            cast("Appender", at_once),
            keyring,
            Quarantine(pool, master_key),
            EventTypes(pool, keyring, {}),  # there are no custom events among these
        ),
        at_once,
    )


def requests(batches: int = BATCHES) -> list[bytes]:
    """Return serialised requests of BATCH events."""
    return [
        BatchRecordEventsRequest(events=load.events(BATCH, CUSTOMERS, seed)).SerializeToString()
        for seed in range(batches)
    ]


class Steps:
    """Times steps over batches and says the median per event."""

    def __init__(self) -> None:
        self._taken: dict[str, list[float]] = {}

    def time(self, step: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step of one batch and remember how long it took."""
        start = time.perf_counter()
        result = work(*arguments)
        self.took(step, time.perf_counter() - start)
        return result

    async def time_async(self, step: str, work: Awaitable[Any]) -> Any:
        """Await a step of one batch and remember how long it took."""
        start = time.perf_counter()
        result = await work
        self.took(step, time.perf_counter() - start)
        return result

    def took(self, step: str, seconds: float) -> None:
        """Remember how long a step of one batch took."""
        self._taken.setdefault(step, []).append(seconds / BATCH * 1e6)

    def print(self) -> None:
        """Print µs per event, median over the batches."""
        for step, taken in self._taken.items():
            print(f"  {step:<58}{median(taken):8.2f} µs/event")


async def pure_steps(bodies: Sequence[bytes]) -> None:
    """Print µs per event of each step of the hot path, warm caches, no server."""
    keeper, at_once = recorder()
    tenant = secrets()
    for body in bodies:  # identities known, data keys made: the steady state
        await keeper.record(tenant, _parsed(body), "")
    steps = Steps()
    for body in bodies:
        batch = steps.time("parse the request", _parsed, body)
        identified = steps.time("identify (cached)", _identified, batch, tenant)
        steps.time("validate", _violations, batch)
        _seal_steps(steps, tenant, body, identified)
        verdicts = await steps.time_async(
            "record: all of the above in the Recorder, no append", keeper.record(tenant, batch, "")
        )
        answer = BatchRecordEventsResponse(verdicts=verdicts)
        steps.time("serialise the answer", answer.SerializeToString)
        packed = steps.time("relay: pack for the feed", pack, bytes(16), _appended(at_once.rows))
        steps.time("relay: serialise", packed[0].SerializeToString)
    steps.print()


def _parsed(body: bytes) -> list[Event]:
    return list(BatchRecordEventsRequest.FromString(body).events)


def _identified(batch: Sequence[Event], tenant: TenantSecrets) -> list[tuple[Identified, ...]]:
    return [domain.identify(event, tenant.identity_keys)[0] for event in batch]


def _violations(batch: Sequence[Event]) -> None:
    now_us = time.time_ns() // 1000
    for event in batch:
        domain.violations_of(event, "default", now_us)


def _seal_steps(
    steps: Steps, tenant: TenantSecrets, body: bytes, identified: list[tuple[Identified, ...]]
) -> None:
    key = data_key(bytes(32), bytes(32))
    seals: dict[bytes, IdentitySeal] = {}
    for one in (one for found in identified for one in found):
        seals.setdefault(one.key, seal_identity(one, key))
    parts = [[seals[one.key] for one in found] for found in identified]

    def sealed(batch: Sequence[Event]) -> None:
        for event, found in zip(batch, parts, strict=True):
            seal_event(tenant.sealed, event, found, "")

    def serialised(batch: Sequence[Event]) -> list[bytes]:
        return [event.SerializeToString(deterministic=True) for event in batch]

    def encrypted(texts: Sequence[bytes]) -> None:
        for text in texts:
            seal(key.cipher, text, bytes(60))

    def hashed(texts: Sequence[bytes]) -> None:
        for text in texts:
            content_hash(tenant.sealed.secret, text, [bytes(16)])

    steps.time("seal_event, whole", sealed, _parsed(body))
    texts = steps.time("  of which: serialise the event", serialised, _parsed(body))
    steps.time("  of which: AES-GCM + nonce", encrypted, texts)
    steps.time("  of which: content hash", hashed, texts)


async def append_steps(bodies: Sequence[bytes]) -> None:
    """Print what the append call costs with a real PostgreSQL, fsync on, and nobody else there."""
    keeper, at_once = recorder()
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="touchline-bench-") as home:
        async with run_servers(Path(home) / "home", environment={}) as servers:
            url = database_url_for(servers.database_url, "profiled")
            await create_database(servers.database_url, "profiled")
            await migrate(url, "eventstore", eventstore.MIGRATIONS)
            async with open_pool(url, application="bench", role=eventstore.ROLE, size=1) as pool:
                store = EventStore(pool)
                for body in bodies:
                    await keeper.record(
                        secrets(), BatchRecordEventsRequest.FromString(body).events, ""
                    )
                    cpu = time.process_time()
                    await steps.time_async(
                        "append call, PostgreSQL's time included",
                        store.append([[row] for row in at_once.rows]),
                    )
                    steps.took(
                        "  of which: this process's CPU (arguments, verdicts)",
                        time.process_time() - cpu,
                    )
    steps.print()


def _appended(rows: list[Row]) -> Appended:
    return Appended([], rows, time.time_ns() // 1000, 0, GENESIS, GENESIS)


def whole_profile(bodies: Sequence[bytes], lines: int = 30) -> str:
    """Return cProfile's view of parsing, recording and packing, by own time."""
    keeper, at_once = recorder()
    tenant = secrets()

    async def all_of_it() -> None:
        for body in bodies:
            request = BatchRecordEventsRequest.FromString(body)
            verdicts = await keeper.record(tenant, request.events, "")
            BatchRecordEventsResponse(verdicts=verdicts).SerializeToString()
            pack(bytes(16), _appended(at_once.rows))

    asyncio.run(all_of_it())  # warm
    profiler = cProfile.Profile()
    profiler.enable()
    asyncio.run(all_of_it())
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(lines)
    return text.getvalue()


def main() -> None:
    """Print the profile of the ingestion hot path."""
    bodies = requests()
    print(f"Python {sys.version.split()[0]}, {len(bodies)} batches of {BATCH}; {load.DESCRIPTION}")
    print(f"a request of {BATCH} events has {len(bodies[0]):,} bytes\n")
    print("Steps, median over batches, warm caches, no server:")
    asyncio.run(pure_steps(bodies))
    print("\nWith a real PostgreSQL (fsync on), one call at a time:")
    asyncio.run(append_steps(bodies))
    print("\ncProfile of parse + record + pack (its own overhead included), by own time:")
    print(whole_profile(bodies))
