"""Whether a service that was started answers yet, and what it does before."""

import time
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.cli.rendering.startup import building
from libs.embedded.process import OnLine
from touchline.projection.v1.projection_service_pb2 import ListProjectionsRequest
from touchline.projection.v1.projection_service_pb2_grpc import ProjectionServiceStub

_TIMEOUT_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 0.5


class Starting:
    """Asks a service that was started whether it answers, and tells of the views it builds.

    Attributes:
        prepares: Whether it was seen to build views when it was last asked.
    """

    def __init__(self, name: str, listen: str, on_building: OnLine) -> None:
        """Remember whom to ask.

        Args:
            name: The service's name.
            listen: host:port of its gRPC.
            on_building: Called with the name and what it builds, again and again; with an empty
                text once it has.
        """
        self.prepares = False
        self._name, self._listen, self._on_building = name, listen, on_building
        self._told = 0.0

    async def answers(self) -> bool:
        """Ask it."""
        async with grpc.aio.insecure_channel(self._listen) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            try:
                told = await health.Check(request, timeout=_TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError:
                self.prepares = False
                return False
            if told.status == health_pb2.HealthCheckResponse.SERVING:
                self._tell("", is_news=self.prepares)
                return True
            self.prepares = True
            await self._tell_what_it_builds(channel)
            return False

    async def _tell_what_it_builds(self, channel: grpc.aio.Channel) -> None:
        if time.monotonic() < self._told + _TELL_SECONDS:
            return
        self._told = time.monotonic()
        projections = []
        try:
            stub = ProjectionServiceStub(channel)
            listed = await stub.ListProjections(ListProjectionsRequest(), timeout=_TIMEOUT_SECONDS)
            projections = list(listed.projections)
        except grpc.aio.AioRpcError:
            pass  # it says that it builds, and not yet what
        self._tell(building(self._name, projections))

    def _tell(self, text: str, *, is_news: bool = True) -> None:
        if is_news:
            self._on_building(self._name, text)
