"""Real servers with the configuration of deploy/: what it allows, forbids and survives."""

import asyncio
import os
import re
import runpy
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import nats.errors
import nats.js.errors
import pytest
from nats.aio.msg import Msg

from libs.embedded import database_url_for, nats_server
from libs.embedded.process import Child, run, start
from libs.eventstore import api, feed
from tests.deploy.rendered import CHECKOUT, OVERLAYS, SERVICES, of_kind, overlay_objects
from tests.deploy.servers import (
    READ_ONLY,
    connect,
    databases_of,
    nothing_can_be_written,
    probe,
    processes_of,
    run_nats,
    run_sql,
    settings_of,
)
from tests.ports import free_address, free_port
from tests.servers import OwnPostgres
from touchline.failures import CallFailed


async def test_the_feed_survives_the_loss_of_one_of_three_servers(tmp_path: Path) -> None:
    async with run_nats("production", tmp_path) as (ports, processes):
        connection = await connect("store", *ports)
        jetstream = connection.jetstream(timeout=2)
        async with asyncio.timeout(30):
            while True:  # until the three have found each other, and one leads the stream
                try:
                    await feed.ensure_stream(jetstream, 3)
                    await jetstream.publish(feed.SUBJECT, b"one")
                    break
                except (nats.js.errors.APIError, nats.errors.Error, TimeoutError):
                    await asyncio.sleep(0.2)
        found = await jetstream.stream_info(feed.STREAM)
        assert found.config.num_replicas == 3
        assert found.cluster is not None

        leader = int(str(found.cluster.leader).removeprefix("nats-"))
        await processes[leader].kill()
        async with asyncio.timeout(30):
            while True:
                try:
                    await jetstream.publish(feed.SUBJECT, b"two")
                    break
                except (nats.js.errors.APIError, nats.errors.Error, TimeoutError):
                    await asyncio.sleep(0.2)
        assert (await jetstream.get_last_msg(feed.STREAM, feed.SUBJECT)).data == b"two"
        await connection.close()


async def test_a_feed_on_one_server_is_told_to_be_on_three(tmp_path: Path) -> None:
    async with run_nats("dev", tmp_path) as (ports, _):
        connection = await connect("store", *ports)
        jetstream = connection.jetstream()
        await feed.ensure_stream(jetstream, 1)
        await jetstream.publish(feed.SUBJECT, b"one")
        with pytest.raises(nats.js.errors.APIError, match=r"cluster|replicas"):
            await feed.ensure_stream(jetstream, 3)  # one server can't: so it was asked
        await feed.ensure_stream(jetstream, 1)
        assert (await jetstream.stream_info(feed.STREAM)).state.messages == 1
        await connection.close()


async def test_nobody_empties_the_feed_and_only_its_owner_or_a_person_removes_it(
    tmp_path: Path,
) -> None:
    async with run_nats("dev", tmp_path) as (ports, _), AsyncExitStack() as stack:
        store, service, operator = [
            await connect(user, *ports) for user in ("store", "service", "operator")
        ]
        for connection in (store, service, operator):
            stack.push_async_callback(connection.close)
        await feed.ensure_stream(store.jetstream())
        await store.jetstream().publish(feed.SUBJECT, b"one")

        stores, services = (user.jetstream(timeout=0.3) for user in (store, service))
        for lose in (stores.purge_stream, services.purge_stream, services.delete_stream):
            with pytest.raises((nats.errors.Error, TimeoutError)):
                await lose(feed.STREAM)
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await service.jetstream(timeout=0.3).publish(feed.SUBJECT, b"forged")
        assert (await service.jetstream().stream_info(feed.STREAM)).state.messages == 1

        heard: list[bytes] = []

        async def listen(message: Msg) -> None:
            heard.append(message.data)

        # Nobody but ingestion may pose as the store or read what it is asked.
        await service.subscribe(api.DATA_KEYS, cb=listen)
        await service.flush()
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await service.request(api.DATA_KEYS, b"whose?", timeout=0.3)
        assert heard == []

        await operator.jetstream().delete_stream(feed.STREAM)
        await feed.ensure_stream(store.jetstream())
        await store.jetstream().delete_stream(feed.STREAM)  # `touchline feed restart`


def test_what_a_service_may_do_is_the_same_as_on_a_laptop() -> None:
    file = CHECKOUT / "deploy" / "kubernetes" / "base" / "nats" / "authorization.conf"
    text = file.read_text()
    service = text[text.index("user: service") : text.index("user: operator")]
    said = [line.strip().rstrip(",").strip('"') for line in service.splitlines() if '"' in line]
    assert said == [
        *nats_server.SERVICE_MAY_PUBLISH,
        *nats_server.SERVICE_MAY_NOT_PUBLISH,
        *nats_server.SERVICE_MAY_HEAR,
        *nats_server.SERVICE_MAY_NOT_HEAR,
    ]


async def test_in_production_migrations_need_no_more_than_the_rights_given(
    own_postgres: OwnPostgres,
) -> None:
    async def migrated(service: str, database: str) -> None:
        address = database_url_for(own_postgres.url, database).rpartition("@")[2]
        url = f"postgresql://{service}:dev-only-{service}@{address}"
        job = Child(
            name=f"{service}-migration",
            argv=(sys.executable, "-m", f"services.{service}", "--migrate-only"),
            env={"TOUCHLINE_DATABASE_URL": url, "PYTHONPATH": str(CHECKOUT)},
            cwd=CHECKOUT,
        )
        await run(job)
        await run(job)  # as after a crash, or with the service that starts

    await run_sql(own_postgres.url, databases_of("production"))
    made = [
        cluster["spec"]["bootstrap"]["initdb"]
        for cluster in of_kind(overlay_objects("production"), "Cluster")
    ]
    assert sorted(one["owner"] for one in made) == SERVICES
    await asyncio.gather(*(migrated(one["owner"], one["database"]) for one in made))


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_the_smoke_test_passes_on_servers_set_up_as_in_dev_with_the_roles_of_each_overlay(
    own_postgres: OwnPostgres, tmp_path: Path, overlay: str
) -> None:
    # Without the right to mount, nothing here can keep a service from writing.
    confined = READ_ONLY if nothing_can_be_written() else ()
    await run_sql(own_postgres.url, databases_of("dev"))
    addresses = {service: free_address() for service in SERVICES}
    async with run_nats("dev", tmp_path) as (ports, _), AsyncExitStack() as stack:

        async def runs(service: str, name: str, roles: list[str]) -> None:
            listens = addresses[service] if name == service else free_address()

            async def answers() -> bool:
                return await probe(listens)

            child = Child(
                name=name,
                argv=(*confined, sys.executable, "-m", f"services.{service}", *roles),
                env=settings_of(service, own_postgres.url, ports[0], addresses[service])
                | {"TOUCHLINE_WORKER_LISTEN": listens, "PATH": os.defpath},
                cwd=CHECKOUT,
            )
            process = await start(child, answers)
            stack.push_async_callback(process.stop)

        await asyncio.gather(
            *(
                runs(service, name, roles)
                for service in SERVICES
                for name, roles in processes_of(overlay, service).items()
            )
        )
        said = await asyncio.create_subprocess_exec(
            sys.executable,
            "deploy/smoke.py",
            cwd=CHECKOUT,
            env={f"TOUCHLINE_{name.upper()}": address for name, address in addresses.items()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await said.communicate()
        assert (said.returncode, err.decode()) == (0, "")
        assert re.match(
            r"Recorded at position \d+; read back, scored [\d.]+ and explained after \d+ ms\.\n",
            out.decode(),
        )


async def test_the_smoke_test_fails_where_nobody_answers() -> None:
    nobody = free_port()
    smoke = runpy.run_path(str(CHECKOUT / "deploy" / "smoke.py"))
    with pytest.raises(CallFailed):
        await smoke["check"](dict.fromkeys(smoke["PORTS"], f"127.0.0.1:{nobody}"), 0.5)
