"""Embedded servers: started, stopped, killed and started again on the same data."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import nats as nats_client
import pytest
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from libs.embedded import (
    Endpoints,
    HomeBusy,
    StartFailed,
    create_database,
    database_url_for,
    load_secrets,
    nats_server,
    postgres_server,
    run_servers,
)
from libs.embedded.orphans import processes_of
from libs.embedded.postgres_server import PostgresServer
from tests.servers import MakeDatabase, OwnNats, OwnPostgres, SharedPostgres

FEED = "touchline.feed.test"


@asynccontextmanager
async def database(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def nats_at(url: str, faults: list[Exception] | None = None) -> AsyncIterator[Client]:
    async def note(fault: Exception) -> None:
        if faults is not None:
            faults.append(fault)

    connection = await nats_client.connect(
        url, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0, error_cb=note
    )
    try:
        yield connection
    finally:
        await connection.close()


async def put_one_row_and_one_message(endpoints: Endpoints) -> None:
    async with database(endpoints.database_url) as connection:
        await connection.execute("CREATE TABLE thing AS SELECT 1 AS number")
    async with nats_at(endpoints.nats_url) as connection:
        await connection.jetstream().add_stream(name="feed", subjects=["touchline.feed.>"])
        await connection.jetstream().publish(FEED, b"one")


async def expect_one_row_and_one_message(endpoints: Endpoints) -> None:
    async with database(endpoints.database_url) as connection:
        assert await connection.fetchval("SELECT number FROM thing") == 1
    async with nats_at(endpoints.nats_service_url) as connection:
        message = await connection.jetstream().get_msg("feed", 1)
        assert message.data == b"one"


async def answers(url: str) -> bool:
    async with database(url) as connection:
        return bool(await connection.fetchval("SELECT true"))


async def until_answering(endpoints: Endpoints) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await expect_one_row_and_one_message(endpoints)
            except (OSError, asyncpg.PostgresError, nats_errors.Error):
                await asyncio.sleep(0.05)
            else:
                return


def pid_of_postgres(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def pid_of_nats(home: Path) -> int:
    (pid,) = processes_of("nats-server", str(home / "nats" / "nats.conf"))
    return pid


def owner_of_process(pid: int) -> str:
    return Path(f"/proc/{pid}").owner()


def start(command: tuple[str, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_a_home_is_started_again_on_the_same_data(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with run_servers(home, environment={}) as endpoints:
        await put_one_row_and_one_message(endpoints)
    assert not processes_of("nats-server", str(home))
    async with run_servers(home, environment={}) as endpoints:
        await expect_one_row_and_one_message(endpoints)
    assert "ready to accept connections" in (home / "log" / "postgres.log").read_text()
    assert "Server is ready" in (home / "log" / "nats.log").read_text()
    others = stat.S_IRWXO | stat.S_IRWXG
    assert home.stat().st_mode & others == 0
    assert (home / "nats" / "nats.conf").stat().st_mode & others == 0


async def test_killed_servers_come_back_on_the_same_ports_with_their_data(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    async with run_servers(tmp_path, lambda *line: heard.append(line), {}) as endpoints:
        await put_one_row_and_one_message(endpoints)
        for _ in range(2):
            os.kill(pid_of_postgres(tmp_path), signal.SIGKILL)
            os.kill(pid_of_nats(tmp_path), signal.SIGKILL)
            await asyncio.sleep(0.1)
            await until_answering(endpoints)
    crash = "it was ended by SIGKILL; it is started again in 0.2 s"
    assert ("PostgreSQL", crash) in heard
    assert ("nats-server", crash) in heard


async def test_a_second_start_on_a_running_home_is_refused(tmp_path: Path) -> None:
    async with run_servers(tmp_path, environment={}) as endpoints:
        with pytest.raises(HomeBusy, match=f"process {os.getpid()}"):
            async with run_servers(tmp_path, environment={}):
                pass
        async with database(endpoints.database_url) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_both_servers_end_with_their_parent_and_the_home_starts_again(tmp_path: Path) -> None:
    parent = """
import asyncio, sys
from pathlib import Path
from libs.embedded import run_servers
async def main():
    async with run_servers(Path(sys.argv[1]), environment={}) as endpoints:
        print(endpoints.database_url, endpoints.nats_url, endpoints.nats_service_url, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with start((sys.executable, "-c", parent, str(tmp_path))) as running:
        assert running.stdout
        urls = await asyncio.to_thread(running.stdout.readline)
        await put_one_row_and_one_message(Endpoints(*urls.split()))
        pids = {pid_of_postgres(tmp_path), pid_of_nats(tmp_path)}
        running.kill()
    # At once, while they still end.
    async with run_servers(tmp_path, environment={}) as endpoints:
        await expect_one_row_and_one_message(endpoints)
        assert not pids & set(processes_of("", str(tmp_path)))


async def test_servers_named_in_the_environment_are_used_instead(
    tmp_path: Path, servers: SharedPostgres, nats: OwnNats
) -> None:
    named = {"TOUCHLINE_DATABASE_URL": servers.url, "TOUCHLINE_NATS_URL": nats.url}
    async with run_servers(tmp_path / "home", environment=named) as endpoints:
        assert endpoints == Endpoints(servers.url, nats.url, nats.url)
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["lock", "secrets.json"]


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("TOUCHLINE_DATABASE_URL", "postgresql://user:hidden@127.0.0.1:1/db?password=hidden"),
        ("TOUCHLINE_NATS_URL", "nats://user:hidden@127.0.0.1:1"),
    ],
)
async def test_an_external_server_out_of_reach_is_named_without_its_password(
    tmp_path: Path, servers: SharedPostgres, variable: str, url: str
) -> None:
    named = {"TOUCHLINE_DATABASE_URL": servers.url, variable: url}
    with pytest.raises(StartFailed, match=variable) as failed:
        async with run_servers(tmp_path, environment=named):
            pass
    assert "127.0.0.1:1 " in str(failed.value)
    assert "hidden" not in str(failed.value)


@pytest.fixture
async def stopped_home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    async with run_servers(home, environment={}):
        pass
    return home


async def test_a_failed_start_shows_the_last_lines_of_the_log(stopped_home: Path) -> None:
    (stopped_home / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(StartFailed) as failed:
        async with run_servers(stopped_home, environment={}):
            pass
    assert failed.value.step == "start PostgreSQL"
    assert "database files are incompatible with server" in str(failed.value)


async def test_when_nats_fails_to_start_nothing_is_left_running(stopped_home: Path) -> None:
    shutil.rmtree(stopped_home / "nats" / "jetstream")
    (stopped_home / "nats" / "jetstream").write_text("not a directory")
    with pytest.raises(StartFailed, match="start nats-server failed"):
        async with run_servers(stopped_home, environment={}):
            pass
    assert not (stopped_home / "postgres" / "postmaster.pid").exists()


async def test_secrets_of_another_home_are_noticed(stopped_home: Path, tmp_path: Path) -> None:
    load_secrets(tmp_path)
    (tmp_path / "secrets.json").replace(stopped_home / "secrets.json")
    with pytest.raises(StartFailed, match=r"secrets\.json does not belong to the data"):
        async with run_servers(stopped_home, environment={}):
            pass


async def test_an_interrupted_initdb_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with run_servers(tmp_path, environment={}) as endpoints:
        await put_one_row_and_one_message(endpoints)
        await expect_one_row_and_one_message(endpoints)
    assert not (tmp_path / "postgres.new").exists()


async def test_postgres_wants_its_password(own_postgres: OwnPostgres) -> None:
    url = own_postgres.url
    wrong = url.replace(own_postgres.server.password, "wrong")
    none = url.replace(f":{own_postgres.server.password}", "")
    for refused in (wrong, none):
        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
            await answers(refused)
    assert await answers(url)


async def test_postgres_starts_though_its_old_number_is_another_programs(
    own_postgres: OwnPostgres,
) -> None:
    await own_postgres.kill()
    pid_file = own_postgres.server.data / "postmaster.pid"
    _, *others = pid_file.read_text().splitlines(keepends=True)
    with start(("sleep", "60")) as stranger:
        pid_file.write_text("".join([f"{stranger.pid}\n", *others]))
        await own_postgres.start()
        assert await answers(own_postgres.url)
        assert stranger.poll() is None
        stranger.kill()


async def test_postgres_starts_though_a_power_cut_left_its_pid_file_empty(
    own_postgres: OwnPostgres,
) -> None:
    await own_postgres.kill()
    (own_postgres.server.data / "postmaster.pid").write_text("")
    await own_postgres.start()
    assert await answers(own_postgres.url)


async def test_postgres_starts_though_a_back_end_of_the_killed_one_is_busy(
    own_postgres: OwnPostgres,
) -> None:
    async with database(own_postgres.url) as connection:
        endless = "SELECT count(*) FROM generate_series(1, 1000000000000)"
        query = asyncio.create_task(connection.execute(endless))
        await asyncio.sleep(0.3)
        await own_postgres.kill()
        await own_postgres.start()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await query
    assert await answers(own_postgres.url)


async def test_postgres_logs_no_statement_and_no_value(own_postgres: OwnPostgres) -> None:
    async with database(own_postgres.url) as connection:
        await connection.execute("CREATE TABLE person (mail text PRIMARY KEY)")
        await connection.execute("INSERT INTO person VALUES ($1)", "ana@example.org")
        await connection.execute("DO $$ BEGIN RAISE WARNING 'ana@example.org'; END $$")
        for statement in (
            "INSERT INTO person VALUES ('ana@example.org')",
            "SELECT 'ana@example.org'::int",
            'SELECT * FROM "ana@example.org"',
            "DO $$ BEGIN RAISE EXCEPTION 'ana@example.org'; END $$",
        ):
            with pytest.raises(asyncpg.PostgresError) as told:
                await connection.execute(statement)
            assert "ana@example.org" in f"{told.value} {told.value.detail}"
    await own_postgres.stop()
    assert "ana@" not in own_postgres.server.log.read_text()


@pytest.fixture
def data_of_nobody() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    # Not in tmp_path, which nobody but root may enter.
    home = Path(tempfile.mkdtemp(prefix="touchline-test-"))
    home.chmod(0o711)
    (home / "postgres").mkdir(mode=0o700)
    shutil.chown(home / "postgres", "nobody")
    yield home / "postgres"
    shutil.rmtree(home)


async def test_as_root_data_of_nobody_are_served_as_nobody(data_of_nobody: Path) -> None:
    server = PostgresServer(data_of_nobody, "password", data_of_nobody.with_name("log"))
    server, process = await postgres_server.start_on_free_port(server)
    try:
        async with database(server.url) as connection:
            directory = await connection.fetchval("SHOW data_directory")
        assert directory == str(data_of_nobody)
        assert (data_of_nobody / "PG_VERSION").owner() == "nobody"
        assert owner_of_process(process.pid) == "nobody"
    finally:
        await process.stop()


async def test_nats_wants_a_password(nats: OwnNats) -> None:
    port = nats.server.port
    for refused in (f"nats://127.0.0.1:{port}", f"nats://store:wrong@127.0.0.1:{port}"):
        with pytest.raises(nats_errors.Error):
            async with nats_at(refused):
                pass


@pytest.fixture
async def feed(nats: OwnNats) -> AsyncIterator[Client]:
    async with nats_at(nats.url) as store:
        await store.jetstream().add_stream(name="feed", subjects=["touchline.feed.>"])
        await store.jetstream().publish(FEED, b"one")
        yield store


async def test_a_service_reads_the_feed_and_asks_the_store(nats: OwnNats, feed: Client) -> None:
    async def answer(request: Msg) -> None:
        await request.respond(b"position 1")

    await feed.subscribe("touchline.store.head", cb=answer)
    await feed.flush()
    async with nats_at(nats.service_url) as service:
        subscription = await service.jetstream().pull_subscribe(FEED, durable="reader")
        (message,) = await subscription.fetch(1)
        await message.ack_sync()
        assert message.data == b"one"
        assert (await service.request("touchline.store.head", b"", timeout=2)).data == b"position 1"


@pytest.mark.parametrize(
    "subject",
    [
        "$JS.API.STREAM.DELETE.feed",
        "$JS.API.STREAM.PURGE.feed",
        "$JS.API.STREAM.UPDATE.feed",
        "$JS.API.STREAM.CREATE.other",
        "$JS.API.STREAM.MSG.DELETE.feed",
        "$JS.API.STREAM.RESTORE.other",
        "$JS.API.ACCOUNT.PURGE.$G",
        FEED,
    ],
)
async def test_a_service_cannot_change_a_stream(nats: OwnNats, feed: Client, subject: str) -> None:
    faults: list[Exception] = []
    async with nats_at(nats.service_url, faults) as service:
        with pytest.raises(nats_errors.TimeoutError):
            await service.request(subject, b"{}", timeout=0.2)
    assert "permissions violation" in str(faults[0]).lower()
    assert (await feed.jetstream().stream_info("feed")).state.messages == 1


async def test_a_service_cannot_pose_as_the_store(nats: OwnNats, feed: Client) -> None:
    async with nats_at(nats.service_url) as service:
        await service.subscribe("touchline.store.>")
        await service.flush()
        with pytest.raises(nats_errors.NoRespondersError):
            await feed.request("touchline.store.append", b"", timeout=1)


@pytest.mark.usefixtures("feed")
async def test_nats_killed_keeps_its_stream_and_wiped_loses_it(nats: OwnNats) -> None:
    url = nats.url
    await nats.kill()
    await nats.start()
    assert nats.url == url
    async with nats_at(url) as connection:
        assert (await connection.jetstream().stream_info("feed")).state.messages == 1
    await nats.wipe()
    async with nats_at(url) as connection:
        with pytest.raises(NotFoundError):
            await connection.jetstream().stream_info("feed")


async def test_a_taken_port_is_told(nats: OwnNats, tmp_path: Path) -> None:
    second = replace(nats.server, directory=tmp_path / "second")
    with pytest.raises(StartFailed, match="address already in use"):
        await nats_server.start_server(second)


async def _make_thing(url: str) -> None:
    async with database(url) as connection:
        await connection.execute("CREATE TABLE thing (name text)")


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_gets_its_own_copy_of_a_template(
    database_from_template: MakeDatabase, turn: int
) -> None:
    async with database(await database_from_template(_make_thing)) as connection:
        await connection.execute("INSERT INTO thing VALUES ($1)", f"turn {turn}")
        assert (
            await connection.fetchval("SELECT string_agg(name, ',') FROM thing") == f"turn {turn}"
        )


async def test_a_database_is_created_once_whatever_its_name(servers: SharedPostgres) -> None:
    name = 'odd "name"/?'
    for _ in range(2):
        await create_database(servers.url, name)
    async with database(database_url_for(servers.url, name)) as connection:
        assert await connection.fetchval("SELECT current_database()") == name
