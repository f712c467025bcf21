"""A gRPC server with health, reflection, bounds and a graceful end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from libs.rpc.deadlines import Deadlines
from libs.rpc.interceptor import CallInterceptor
from libs.rpc.readiness import Readiness
from libs.tasks import running

MAXIMUM_MESSAGE_BYTES: Final = 8 * 1024 * 1024

_HEALTH: Final = "grpc.health.v1.Health"
_NOTICE_SECONDS = 0.05


class ListenError(Exception):
    """The server can't listen on its address; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers: the port it listens on, and the health it tells by service."""

    port: int
    health: health.HealthServicer

    async def set_serving(self, service_name: str, serving: bool) -> None:
        """Tell whether a service can answer; an empty name stands for the whole server."""
        await self.health.set(service_name, _status(serving))


@asynccontextmanager
async def serve(
    listen: str,
    register: Callable[[grpc.aio.Server], None],
    service_names: Sequence[str],
    *,
    max_message_bytes: int = MAXIMUM_MESSAGE_BYTES,
    grace: float = 10.0,
    deadlines: Deadlines | None = None,
    readiness: Readiness | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve gRPC for as long as the block runs, then drain.

    Draining: health says NOT_SERVING, new calls are refused, streams are told to continue
    elsewhere, and unary calls have `grace` seconds to end.

    Args:
        listen: host:port; port 0 takes a free one.
        register: Adds the services, with the generated add_…Servicer_to_server functions.
        service_names: Their full names, for health and reflection.
        max_message_bytes: The largest request.
        grace: Seconds, below the terminationGracePeriodSeconds of a deployment.
        deadlines: The bounds of unary calls. Default: 30 s, at most 60 s.
        readiness: When the services answer. Default: at once.

    Raises:
        ListenError: The address is taken or not this machine's.
    """
    interceptor = CallInterceptor(deadlines or Deadlines(), readiness)
    server = grpc.aio.server(interceptors=[interceptor], options=_options(max_message_bytes))
    told = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(told, server)
    register(server)
    reflection.enable_server_reflection([*service_names, _HEALTH, reflection.SERVICE_NAME], server)
    port = _bound(server, listen)
    for name in ("", *service_names):
        await told.set(name, _status(readiness is None or readiness.serves(name)))
    await server.start()
    try:
        async with running(_tell_once_ready(told, service_names, readiness)):
            yield RunningServer(port, told)
    finally:
        await told.enter_graceful_shutdown()
        await interceptor.refuse_calls()
        stopped = asyncio.ensure_future(server.stop(grace))
        # Those who watch the health hear of it before their stream ends.
        await asyncio.sleep(_NOTICE_SECONDS)
        await interceptor.end_streams()
        await stopped


async def _tell_once_ready(
    told: health.HealthServicer, service_names: Sequence[str], readiness: Readiness | None
) -> None:
    if readiness is not None:
        await readiness.ready.wait()
        for name in ("", *service_names):
            await told.set(name, _status(True))


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        # Two processes on one port would each get some of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Past these gRPC cancels calls without a word; the append queue's own bound comes first
        # and says when to come again.
        ("grpc.server.max_pending_requests", 20_000),
        ("grpc.server.max_pending_requests_hard_limit", 40_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # The client of libs/touchline pings every 30 s; more often than this is refused.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    ]


def _bound(server: grpc.aio.Server, listen: str) -> int:
    try:
        return server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ListenError(
            f"Can't listen on {listen}: {_why_not(listen)}. Stop the process that listens there "
            "(`touchline up` may be running already), or set TOUCHLINE_LISTEN to another host:port."
        ) from error


def _why_not(listen: str) -> str:
    """Return the operating system's reason, which gRPC keeps to itself."""
    host, _, port = listen.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except ValueError:
        return "it is not host:port"
    except OSError as error:
        return error.strerror or "the address can't be used"
    return "the address can't be used"


def _status(serving: bool) -> int:
    statuses = health_pb2.HealthCheckResponse
    return int(statuses.SERVING if serving else statuses.NOT_SERVING)
