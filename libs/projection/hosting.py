"""How a process answers calls: all of them, or, as a worker, only those about its projections."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from libs.projection.serving import Serving
from libs.rpc import errors
from libs.rpc.readiness import Readiness
from libs.rpc.server import serve
from touchline.projection.v1 import projection_service_pb2

PROJECTION_SERVICE: Final = projection_service_pb2.DESCRIPTOR.services_by_name[
    "ProjectionService"
].full_name

Register = Callable[[grpc.aio.Server], None]
"""Adds a service to a server."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a process answers.

    Attributes:
        listen: host:port of a process that serves.
        worker_listen: That of one that doesn't; empty: it listens on nothing.
        serves: Whether it serves.
    """

    listen: str
    worker_listen: str
    serves: bool


@asynccontextmanager
async def answering(
    listening: Listening,
    service: str,
    register: Register,
    register_projections: Register,
    serving: Serving,
) -> AsyncIterator[int]:
    """Answer calls for as long as the block runs, then drain; yields the port, or 0.

    Until there is something to read in every view, callers of the service are told so, and its
    health is NOT_SERVING; ProjectionService answers from the start.

    Args:
        listening: Where.
        service: The full name of the service.
        register: Adds it.
        register_projections: Adds ProjectionService.
        serving: What is read.

    Raises:
        ListenError: The address is taken or not this machine's.
    """
    readiness = Readiness(
        serving.ready,
        lambda: errors.views_building(serving.missing),
        frozenset({PROJECTION_SERVICE}),
    )
    if listening.serves:

        def register_both(server: grpc.aio.Server) -> None:
            register(server)
            register_projections(server)

        names = (service, PROJECTION_SERVICE)
        async with serve(listening.listen, register_both, names, readiness=readiness) as server:
            yield server.port
    elif listening.worker_listen:
        only = (PROJECTION_SERVICE,)
        async with serve(
            listening.worker_listen, register_projections, only, readiness=readiness
        ) as server:
            yield server.port
    else:
        yield 0
