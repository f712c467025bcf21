"""Servers with the configuration of deploy/, run here on ports of this machine."""

import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import grpc
import nats
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nats.aio.client import Client as NatsClient

from libs.embedded import database_url_for
from libs.embedded.process import Child, Process, start
from tests.deploy.environment import environment_of
from tests.deploy.rendered import CHECKOUT, OVERLAYS, TOOLS, named, of_kind, overlay_objects, pod_of
from tests.deploy.rules import deployments_of
from tests.ports import free_port

PASSWORDS: Final = {
    "NATS_STORE_PASSWORD": "dev-only-store",
    "NATS_SERVICE_PASSWORD": "dev-only-service",
    "NATS_OPERATOR_PASSWORD": "dev-only-operator",
}
# Runs the rest of a command line where nothing can be written.
READ_ONLY: Final = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -o remount,bind,ro / && exec "$@"',
    "sh",
)


def nothing_can_be_written() -> bool:
    """Whether this machine lets READ_ONLY be true."""
    attempt = subprocess.run(
        [*READ_ONLY, "touch", str(CHECKOUT / "deploy" / ".written")],
        capture_output=True,
        text=True,
        check=False,
    )
    return "Read-only file system" in attempt.stderr


@asynccontextmanager
async def run_nats(overlay: str, directory: Path) -> AsyncIterator[tuple[list[int], list[Process]]]:
    """Runs an overlay's servers; gives their clients' ports, and their processes."""
    assert overlay in OVERLAYS
    objects = overlay_objects(overlay)
    (config,) = [
        one["data"]
        for one in of_kind(objects, "ConfigMap")
        if one["metadata"]["name"].startswith("nats-config")
    ]
    number = named(objects, "StatefulSet", "nats")["spec"]["replicas"]
    ports = [free_port() for _ in range(3 * number)]
    processes = []
    async with AsyncExitStack() as stack:
        for which in range(number):
            home = directory / f"nats-{which}"
            home.mkdir()
            (home / "authorization.conf").write_text(config["authorization.conf"])
            text = config["nats.conf"]
            for name, port in zip((4222, 8222, 6222), ports[which::number], strict=True):
                text = text.replace(f"0.0.0.0:{name}", f"127.0.0.1:{port}")
            for other in range(number):
                route = ports[2 * number + other]
                text = text.replace(f"nats-{other}.nats-servers:6222", f"127.0.0.1:{route}")
            text = re.sub(r"/run/nats|/data", str(home), text)
            (home / "nats.conf").write_text(text)
            child = Child(
                name=f"nats-{which}",
                argv=(str(TOOLS / "nats-server"), "--config", str(home / "nats.conf")),
                env=PASSWORDS | {"POD_NAME": f"nats-{which}"},
            )
            processes.append(await start(child))
            stack.push_async_callback(processes[-1].stop)
        yield ports[:number], processes


async def connect(user: str, *ports: int) -> NatsClient:
    """Connects as one of the users."""

    async def ignore(_: Exception) -> None:
        """Keeps the client from logging what is raised as well."""

    return await nats.connect(
        [f"nats://{user}:dev-only-{user}@127.0.0.1:{port}" for port in ports],
        error_cb=ignore,
        max_reconnect_attempts=60,
        reconnect_time_wait=0.1,
    )


async def run_sql(url: str, script: str) -> None:
    """Runs statements one by one, as psql does."""
    connection = await asyncpg.connect(url)
    try:
        for statement in script.split(";"):
            if statement.strip():
                await connection.execute(statement)
    finally:
        await connection.close()


def databases_of(overlay: str) -> str:
    """The SQL that makes an overlay's logins and databases, with the passwords of dev."""
    if overlay == "dev":
        file = CHECKOUT / "deploy" / "kubernetes" / "overlays" / "dev" / "databases.sql"
        script = re.sub(r"(?m)^(--|\\getenv).*$", "", file.read_text())
        return re.sub(r":'(\w+)'", r"'dev-only-\1'", script)
    script = ""
    for cluster in of_kind(overlay_objects(overlay), "Cluster"):
        made = cluster["spec"]["bootstrap"]["initdb"]
        # What CloudNativePG does: an owner without further rights, then the statements.
        script += f"CREATE ROLE {made['owner']} LOGIN PASSWORD 'dev-only-{made['owner']}';"
        script += f"CREATE DATABASE {made['database']} OWNER {made['owner']};"
        script += "".join(f"{one};" for one in made.get("postInitApplicationSQL", []))
    return script


def settings_of(service: str, postgres_url: str, nats_port: int, listen: str) -> dict[str, str]:
    """The variables of a service in the overlay dev, with servers of this machine."""
    objects = overlay_objects("dev")
    (container,) = pod_of(named(objects, "Deployment", service))["containers"]
    variables = environment_of(container, objects)
    (database,) = re.findall(r"/(\w+)$", variables["TOUCHLINE_DATABASE_URL"])
    address = database_url_for(postgres_url, database).rpartition("@")[2]
    del variables["OTEL_EXPORTER_OTLP_ENDPOINT"]
    return variables | {
        "TOUCHLINE_DATABASE_URL": f"postgresql://{service}:dev-only-{service}@{address}",
        "TOUCHLINE_NATS_URL": variables["TOUCHLINE_NATS_URL"].replace(
            "nats:4222", f"127.0.0.1:{nats_port}"
        ),
        "TOUCHLINE_LISTEN": listen,
        "PYTHONPATH": str(CHECKOUT),
    }


def processes_of(overlay: str, service: str) -> dict[str, list[str]]:
    """The arguments of a service's processes in an overlay, one of each Deployment, by its name."""
    return {
        name: pod_of(one)["containers"][0].get("args", [])
        for name, one in deployments_of(overlay_objects(overlay), service).items()
    }


async def probe(address: str) -> bool:
    """What Kubernetes' gRPC probe finds."""
    async with grpc.aio.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        try:
            told = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.aio.AioRpcError:
            return False
        return bool(told.status == health_pb2.HealthCheckResponse.SERVING)
