"""PostgreSQL started from copies of its directory that were made at random instants under load.

A copy is made while each of the server's processes is stopped: it holds what the kernel had at that
moment, as after `kill -9` of all of them. For a power cut as well, the log (WAL) is cut off in the
copy behind what had been flushed: what was written and not flushed is lost. (Not modelled: a disk
that loses what it said it flushed, and data files of which an older state comes back. PostgreSQL
repairs these from full pages in the log, which the copy has from the last checkpoint on.)
"""

import asyncio
import random
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import asyncpg
import grpc
import pytest

from libs.embedded import create_database, database_url_for
from libs.embedded import postgres_server as postgres_servers
from libs.embedded.postgres_server import PostgresServer
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.keyring import Keyring
from libs.eventstore.store import EventStore
from libs.eventstore.verification import verify
from libs.postgres.pool import open_pool
from libs.tasks import running
from services.ingestion.config import read_config
from tests.events import an_event
from tests.faults.frozen import all_stopped, go_on, postgres_processes, stop, titled, until_stopped
from tests.faults.seeds import seeded
from tests.ingesting import SECRETS, Ingestion, ingestion_on, record_batch
from tests.projecting import Ledger, build_ledger, runner_of
from tests.servers import OwnNats, OwnPostgres
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_RECORDED

IMAGES: Final = 6
CALLERS: Final = 4
SMALL: Final = {
    "shared_buffers": "32MB",
    "max_wal_size": "32MB",
    "min_wal_size": "32MB",
    "checkpoint_timeout": "30s",
}
_SEGMENT: Final = 16 * 1024 * 1024


@dataclass(slots=True)
class Acknowledged:
    """What callers were told: the position of each event, by its id."""

    positions: dict[str, int] = field(default_factory=dict)

    async def keep_recording(self, ingestion: Ingestion, chance: random.Random) -> None:
        """Records batches of customers old and new, for ever."""
        while True:
            events = [
                an_event(email=f"c{chance.randrange(5000)}@example.com")
                for _ in range(chance.randint(1, 20))
            ]
            try:
                verdicts = await record_batch(ingestion.client, events)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)
                continue
            for verdict in verdicts:
                assert verdict.outcome == OUTCOME_RECORDED
                self.positions[verdict.event_id] = verdict.position
            await asyncio.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Image:
    """A copy, and what had been acknowledged when it was made."""

    directory: Path
    acknowledged: dict[str, int]


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[OwnPostgres]:
    server = PostgresServer(
        data=tmp_path / "postgres", password="images", log=tmp_path / "log", settings=SMALL
    )
    own = OwnPostgres(*await postgres_servers.start_on_free_port(server))
    yield own
    await own.stop()
    shutil.rmtree(server.data)


@asynccontextmanager
async def under_load(
    own: OwnPostgres, nats: OwnNats, chance: random.Random
) -> AsyncIterator[Acknowledged]:
    """Runs ingestion, callers and a projection that commits without waiting for the disk."""
    events, views = (database_url_for(own.url, name) for name in ("events", "views"))
    for name in ("events", "views"):
        await create_database(own.url, name)
    await build_ledger(views)
    async with AsyncExitStack() as stack:
        ingestion = await stack.enter_async_context(ingestion_on(events, nats.url))
        pool = await stack.enter_async_context(
            open_pool(views, application="views", settings={"synchronous_commit": "off"})
        )
        connection = await stack.enter_async_context(connect_nats(nats.service_url, "views"))
        await stack.enter_async_context(runner_of(Ledger(), pool, StoreClient(connection)))
        told = Acknowledged()
        callers = [
            told.keep_recording(ingestion, random.Random(chance.random())) for _ in range(CALLERS)
        ]
        async with running(*callers):
            yield told


async def killed(own: OwnPostgres, told: Acknowledged, directory: Path) -> Image:
    """Copies what the kernel has at one moment."""
    with all_stopped(own):
        acknowledged = dict(told.positions)
        _copy(own, directory)
    return Image(directory, acknowledged)


async def powerless(
    own: OwnPostgres, told: Acknowledged, directory: Path, chance: random.Random
) -> Image:
    """Copies what is left when the power goes at a moment at which some of the log is not flushed.

    Who writes data files is stopped before that moment, and the others a little later: so no data
    file is ahead of the log that is left.
    """
    async with connected(own.url) as connection:
        writers = titled(postgres_processes(own), "checkpointer", "background writer")
        assert len(writers) == 2
        stop(writers)
        try:
            until_stopped(writers)
            acknowledged = dict(told.positions)
            flushed = await connection.fetchval("SELECT pg_current_wal_flush_lsn()::text")
            await asyncio.sleep(chance.uniform(0.02, 0.2))
            with all_stopped(own):
                assert len(told.positions) >= len(acknowledged)
                _copy(own, directory)
        finally:
            go_on(writers)
    _cut_log(directory, flushed)
    return Image(directory, acknowledged)


def _copy(own: OwnPostgres, directory: Path) -> None:
    ignored = shutil.ignore_patterns("postmaster.pid", "postmaster.opts")
    shutil.copytree(own.server.data, directory, ignore=ignored)


def _cut_log(directory: Path, flushed: str) -> None:
    """Overwrites with zeros what lies behind a place in the log."""
    high, low = (int(part, 16) for part in flushed.split("/"))
    segment, offset = divmod(low, _SEGMENT)
    kept = f"{high:08X}{segment:08X}"
    cut = 0
    for file in (directory / "pg_wal").iterdir():
        if len(file.name) == 24 and file.name[8:] >= kept:
            start = offset if file.name[8:] == kept else 0
            with file.open("r+b") as log:
                log.seek(start)
                log.write(bytes(_SEGMENT - start))
                cut += 1
    assert cut


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def started(image: Image, own: OwnPostgres) -> AsyncIterator[str]:
    """Starts PostgreSQL from a copy, which recovers, and yields the server's URL."""
    server = replace(
        own.server, data=image.directory, log=image.directory.with_suffix(".log"), port=0
    )
    server, process = await postgres_servers.start_on_free_port(server)
    try:
        yield server.url
    finally:
        await process.stop()
        shutil.rmtree(image.directory)


async def lost(image: Image, url: str) -> list[str]:
    """What of the acknowledged events is not where it was acknowledged."""
    async with connected(database_url_for(url, "events")) as connection:
        rows = await connection.fetch("SELECT event_id::text, position FROM events")
    there = {row["event_id"]: row["position"] for row in rows}
    assert len(there) == len(rows)  # each once
    assert sorted(there.values()) == list(range(1, len(rows) + 1))
    return [one for one, position in image.acknowledged.items() if there.get(one) != position]


async def is_whole(url: str) -> None:
    """Checks every event, the chain and every seal, as `touchline verify` does."""
    config = read_config({**SECRETS, "TOUCHLINE_DATABASE_URL": url, "TOUCHLINE_NATS_URL": "-"})
    secrets = {number: one.sealed.secret for number, one in config.secrets.items()}
    async with open_pool(url, application="test") as pool:
        keyring = Keyring(pool, config.master_key)
        await keyring.check_master_key()
        *_, last = [state async for state in verify(EventStore(pool), keyring, secrets)]
    assert (last.problems, last.finished, last.sealed) == ([], True, 0)


async def rewound_together(url: str) -> int:
    """Checks that a projection's rows are those up to its checkpoint, and returns where that is."""
    async with connected(database_url_for(url, "views")) as connection:
        folded = await connection.fetch("SELECT position FROM ledger ORDER BY position")
        checkpoint: int = await connection.fetchval(
            "SELECT coalesce(max(position), 0) FROM projection_checkpoints"
        )
    assert [row["position"] for row in folded] == list(range(1, checkpoint + 1))
    return checkpoint


async def test_postgresql_started_from_any_moment_has_all_that_was_acknowledged_before(
    postgres: OwnPostgres, nats: OwnNats, tmp_path: Path
) -> None:
    chance = seeded("crash images")
    images: list[Image] = []
    async with under_load(postgres, nats, chance) as told:
        for number in range(IMAGES):
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            directory = tmp_path / f"image{number}"
            if number % 2:
                images.append(await powerless(postgres, told, directory, chance))
            else:
                images.append(await killed(postgres, told, directory))
    counts = [len(image.acknowledged) for image in images]
    assert counts == sorted(set(counts)), "no load between the images"
    folded = []
    for image in images:
        async with started(image, postgres) as url:
            assert await lost(image, url) == []
            await is_whole(database_url_for(url, "events"))
            folded.append(await rewound_together(url))
    assert folded[-1] > 0
    sys.stdout.write(f"acknowledged at each image: {counts}; folded: {folded}\n")


async def test_a_store_that_does_not_wait_for_its_disk_is_found_out(
    postgres: OwnPostgres, nats: OwnNats, tmp_path: Path
) -> None:
    chance = random.Random(7)
    async with connected(postgres.url) as connection:
        await connection.execute("ALTER ROLE touchline SET synchronous_commit = off")
        await connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        await connection.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
        await connection.execute("SELECT pg_reload_conf()")
    async with under_load(postgres, nats, chance) as told:
        async with connected(postgres.url) as connection:
            await connection.execute("CHECKPOINT")
        await asyncio.sleep(1)
        image = await powerless(postgres, told, tmp_path / "image", chance)
    async with started(image, postgres) as url:
        assert await lost(image, url)
