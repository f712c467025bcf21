"""A killed database and a full disk: what was acknowledged stays, callers learn what happened."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from libs.embedded import create_database, database_url_for
from libs.embedded import postgres_server as postgres_servers
from libs.embedded.postgres_server import PostgresServer
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import StoreFull, StoreUnavailable
from libs.eventstore.feed.relay import Relay
from libs.eventstore.store import listen
from libs.tasks import running
from tests.servers import OwnNats, OwnPostgres
from tests.store import Line, build_store, open_line, row, said, whole_line
from tests.waiting import until
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_DUPLICATE, OUTCOME_RECORDED

_MIB = 1024 * 1024


async def record_through_outages(line: Line, event: Event, failures: list[Exception]) -> int:
    """Records an event as a caller does who asks again, and returns its position."""
    while True:
        try:
            (verdict,) = await line.record(event)
        except StoreUnavailable as error:
            failures.append(error)
            await asyncio.sleep(0.05)
            continue
        assert verdict.outcome in (OUTCOME_RECORDED, OUTCOME_DUPLICATE)
        return verdict.position


async def test_a_killed_database_loses_nothing_acknowledged_and_all_goes_on_by_itself(
    own_postgres: OwnPostgres, nats: OwnNats
) -> None:
    await create_database(own_postgres.url, "store")
    url = database_url_for(own_postgres.url, "store")
    await build_store(url)
    failures: list[Exception] = []
    acknowledged: dict[str, int] = {}

    async def call(line: Line, count: int) -> None:
        for _ in range(count):
            event = said("hello")
            acknowledged[event.event_id] = await record_through_outages(line, event, failures)

    async def restart_after(calls: int) -> None:
        await until(lambda: len(acknowledged) > calls)
        await own_postgres.kill()
        await asyncio.sleep(0.2)
        await own_postgres.start()

    async with (
        open_line(url) as line,
        connect_nats(nats.url, "relay") as connection,
    ):
        relay = Relay(line.pool, line.store, connection, uuid4())
        async with running(relay.run()), listen(url, relay.wake):
            callers = asyncio.gather(*(call(line, 60) for _ in range(8)))
            await restart_after(100)
            await restart_after(250)
            await asyncio.wait_for(callers, 60)
            assert failures
            assert "can't be reached" in str(failures[0])
            stored = await line.owner("SELECT event_id, position FROM events")
            places = {str(one["event_id"]): one["position"] for one in stored}
            assert acknowledged == places
            assert sorted(places.values()) == [*range(1, 481)]
            found = await line.verified()
            assert (found.problems, found.checked) == ([], 480)
            assert line.appender.queued_events == 0
            await until(lambda: relay.state.position == 480)


async def test_a_database_that_is_gone_is_said_within_seconds(own_postgres: OwnPostgres) -> None:
    await build_store(own_postgres.url)
    async with open_line(own_postgres.url) as line:
        await line.record(said("hello"))
        await own_postgres.kill()
        for ask in (line.record(said("more")), line.store.head(), line.store.history(0)):
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(ask, 30)
        await own_postgres.start()
        assert (await line.store.head()).position == 1


@pytest.fixture
async def small_disk(tmp_path: Path) -> AsyncIterator[Path]:
    """A file system of its own, too small for long."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: ASYNC221
        pytest.skip("this system lets nobody mount a small file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: ASYNC221


async def test_a_full_disk_is_said_nothing_is_half_written_and_room_is_all_it_takes(
    small_disk: Path,
) -> None:
    server = PostgresServer(small_disk / "postgres", "password", small_disk.with_name("log"))
    own = OwnPostgres(*await postgres_servers.start_on_free_port(server))
    try:
        await build_store(own.url)
        async with open_line(own.url) as line:
            await line.record(said("before"))
            ballast = small_disk / "ballast"
            with ballast.open("wb") as file:
                # The log has its next segment already; what is missing is room for the table.
                file.truncate(0)
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free - _MIB)
            recorded = await _append_until_full(line)
            assert (await line.store.head()).position == 1 + recorded
            with pytest.raises(StoreFull, match="nothing was recorded"):
                await line.append([row(1, record=os.urandom(2 * _MIB))])
            ballast.unlink()
            await line.append([row(1, record=os.urandom(2 * _MIB))])
            (verdict,) = await line.record(said("after"))
            assert verdict.position == recorded + 3
            assert len([e for page in await whole_line(line.store) for e in page.events]) == (
                recorded + 3
            )
    finally:
        await own.stop()


async def _append_until_full(line: Line) -> int:
    for number in range(100, 200):
        try:
            await line.append([row(number, record=os.urandom(_MIB // 4))])
        except StoreFull:
            return number - 100
    raise AssertionError("the disk was never full")
