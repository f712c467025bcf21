"""`touchline up`: stays up, alone, drains, and goes on with its data."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.cli.stack import DEFAULTS
from libs.embedded import database_url_for, run_database
from tests.running import Installation, Up, alive, children

CONTACTS = ("import", "examples/contacts.csv", "--mapping", "examples/contacts.toml")


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "home")


async def test_it_runs_alone_drains_services_before_servers_and_goes_on_later(
    installation: Installation,
) -> None:
    async with installation.up() as up:
        for address in installation.services.values():
            assert address in up.text
            assert await health(address) == health_pb2.HealthCheckResponse.SERVING
        second = await installation.run("up")
        assert second.code == 1
        assert f"Touchline already runs on {installation.home}" in second.err
        assert f"process {up.process.pid}" in second.err

        assert (await installation.run(*CONTACTS)).code == 0
        pids = children(up.process.pid)
        assert len(pids) == 6
        os.killpg(up.process.pid, signal.SIGTERM)
        assert await up.ended() == 0
    assert not any(alive(pid) for pid in pids)
    assert_drained(up)

    async with installation.up() as up:
        timeline = await installation.run("timeline", "crm:C-1001")
        assert "First name: Lena" in timeline.out
        assert "Everything holds" in (await installation.run("verify")).out
    assert up.process.returncode == 0
    assert_drained(up)


async def test_a_release_with_other_folds_builds_its_views_before_it_is_up(
    installation: Installation,
) -> None:
    async with installation.up():
        assert (await installation.tell(*CONTACTS)).code == 0
        before = await installation.run("timeline", "crm:C-1001")
    async with run_database(installation.home) as url:
        connection = await asyncpg.connect(database_url_for(url, "touchline_profile"))
        # As an older release would have left it.
        await connection.execute("UPDATE projection_generations SET fold_version = 0")
        await connection.close()
    async with installation.up() as up:
        assert "profile builds its views anew" in up.text
        assert (await installation.run("timeline", "crm:C-1001")).out == before.out
        assert "Everything holds" in (await installation.run("verify")).out


async def test_stopped_while_it_starts_it_leaves_nothing_running(
    installation: Installation,
) -> None:
    process = await installation.start("up")
    pid_file = installation.home / "postgres" / "postmaster.pid"
    async with asyncio.timeout(30):
        while not pid_file.exists():  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.01)
    pids = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert "Traceback" not in (out + err).decode()
    assert not any(alive(pid) for pid in pids)


async def test_a_port_of_another_program_is_named_with_its_owner(
    installation: Installation,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        installation.settings["TOUCHLINE_PROFILE"] = taken
        refused = await installation.run("up")
    assert refused.code == 1
    assert f"listen on {taken} failed: python" in refused.err
    assert f"(process {os.getpid()}) has that port" in refused.err
    assert "TOUCHLINE_PROFILE" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("TOUCHLINE_INGESTION", "7410", "it is not host:port"),
        ("TOUCHLINE_INGESTION", "192.0.2.1:7410", "TOUCHLINE_INGESTION"),
        ("TOUCHLINE_DATABASE_URL", "postgresql://u:hidden@127.0.0.1:1/x", "127.0.0.1:1"),
        ("TOUCHLINE_NATS_URL", "nats://u:hidden@127.0.0.1:1", "127.0.0.1:1"),
    ],
)
async def test_a_setting_that_cannot_work_is_refused_by_name(
    installation: Installation, variable: str, value: str, complaint: str
) -> None:
    installation.settings[variable] = value
    refused = await installation.run("up")
    assert refused.code == 1
    assert complaint in refused.err
    assert variable in refused.err
    assert "hidden" not in refused.err
    assert "Traceback" not in refused.err


def test_the_documented_ports_are_the_defaults() -> None:
    assert DEFAULTS == {
        "ingestion": "127.0.0.1:7410",
        "profile": "127.0.0.1:7420",
        "engagement": "127.0.0.1:7430",
        "notification": "127.0.0.1:7440",
    }


async def health(address: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return int((await stub.Check(health_pb2.HealthCheckRequest())).status)


def assert_drained(up: Up) -> None:
    """Every service said that it drains, the store's last, and nobody missed a server meanwhile."""
    told = up.text[up.text.index("\ndraining") :]
    places = {name: told.index(f"{name} drains") for name in DEFAULTS}
    assert max(places, key=places.__getitem__) == "ingestion"
    for trouble in ("NATS is gone", "warning", "error", "Traceback", "FATAL"):
        assert trouble not in told
