"""A full disk under the event store: callers are told, and nothing acknowledged is lost."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from libs.embedded import create_database, database_url_for, supervise
from libs.embedded import postgres_server as postgres_servers
from libs.embedded.postgres_server import PostgresServer
from tests.events import an_event
from tests.ingesting import ingestion_on, record_batch, verified
from tests.servers import OwnNats, OwnPostgres
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_DUPLICATE, OUTCOME_RECORDED, Verdict


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 MiB in memory, which only root can make."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", str(place)]
    with contextlib.suppress(OSError):
        if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
            yield place
            subprocess.run(["umount", "--lazy", str(place)], check=True)
            return
    pytest.skip("a small file system can't be mounted here: it takes root and CAP_SYS_ADMIN")


async def postgres_in(directory: Path) -> OwnPostgres:
    """Starts a PostgreSQL with its data in the directory."""
    server = PostgresServer(
        data=directory / "postgres",
        password="p",
        log=directory / "postgres.log",
        settings={"min_wal_size": "32MB", "shared_buffers": "16MB"},
    )
    return OwnPostgres(*await postgres_servers.start_on_free_port(server))


@pytest.fixture
async def data_on_it(small_disk: Path) -> AsyncIterator[OwnPostgres]:
    """A PostgreSQL with all its data on the small disk."""
    own = await postgres_in(small_disk)
    yield own
    await own.stop()


@pytest.fixture
async def log_on_it(small_disk: Path, tmp_path: Path) -> AsyncIterator[OwnPostgres]:
    """A PostgreSQL with only its log of changes on the small disk."""
    own = await postgres_in(tmp_path)
    await own.stop()
    log = own.server.data / "pg_wal"
    shutil.move(log, small_disk / "pg_wal")
    log.symlink_to(small_disk / "pg_wal")
    await own.start()
    yield own
    await own.stop()


def fill(disk: Path, leaving: int) -> Path:
    """Leaves so many bytes free, and returns the file that takes the rest."""
    ballast = disk / "ballast"
    space = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - leaving)
    return ballast


def some_notes() -> list[Event]:
    events = [an_event("note_added") for _ in range(20)]
    for event in events:
        event.note_added.text = "x" * 20_000
    return events


async def record_until_it_fails(client: Client) -> tuple[list[Event], list[Verdict], CallFailed]:
    """Returns all events sent, the verdicts of those acknowledged, and how it failed."""
    sent: list[Event] = []
    verdicts: list[Verdict] = []
    while len(sent) < 4000:
        batch = some_notes()
        sent += batch
        try:
            with readable_failures():
                verdicts += await record_batch(client, batch)
        except CallFailed as failed:
            return sent, verdicts, failed
    raise AssertionError("the disk never filled")


async def fill_and_free(own: OwnPostgres, nats: OwnNats, disk: Path) -> str:
    """Fills the disk while events are recorded, frees room, goes on; returns what was told."""
    await create_database(own.url, "events")
    url = database_url_for(own.url, "events")
    again = partial(postgres_servers.start_server, own.server)
    async with supervise(own.process, again), ingestion_on(url, nats.url) as running:
        client = running.client
        await client.record(some_notes())
        ballast = fill(disk, leaving=4 * 1024 * 1024)
        sent, acknowledged, failed = await record_until_it_fails(client)
        assert {verdict.outcome for verdict in acknowledged} == {OUTCOME_RECORDED}

        ballast.unlink()
        verdicts = await client.record(sent)
        for verdict, first in zip(verdicts, acknowledged, strict=False):
            assert (verdict.outcome, verdict.position) == (OUTCOME_DUPLICATE, first.position)
        assert [verdict.position for verdict in verdicts] == list(range(21, 21 + len(sent)))
        whole = await verified(client)
        assert (list(whole.problems), whole.checked_events) == ([], 20 + len(sent))
        return failed.reason


async def test_a_full_disk_under_the_data_is_told_and_loses_nothing(
    small_disk: Path, data_on_it: OwnPostgres, nats: OwnNats
) -> None:
    assert await fill_and_free(data_on_it, nats, small_disk) == "STORE_FULL"


async def test_a_full_disk_under_the_log_of_changes_crashes_postgresql_and_loses_nothing(
    small_disk: Path, log_on_it: OwnPostgres, nats: OwnNats
) -> None:
    assert await fill_and_free(log_on_it, nats, small_disk) == "STORE_UNAVAILABLE"
