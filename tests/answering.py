"""A real gRPC service whose answers a test scripts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from libs.rpc.server import RunningServer, serve
from touchline.ingestion.v1 import ingestion_service_pb2 as messages
from touchline.ingestion.v1.ingestion_pb2 import Outcome, Verdict
from touchline.ingestion.v1.ingestion_service_pb2_grpc import (
    IngestionServiceServicer,
    IngestionServiceStub,
    add_IngestionServiceServicer_to_server,
)

INGESTION = "touchline.ingestion.v1.IngestionService"

Context = grpc.aio.ServicerContext[Any, Any]
Answer = Callable[[Any, Context], Awaitable[Any]]
Stream = Callable[[Any, Context], AsyncIterator[Any]]


async def one_recorded(request: messages.RecordEventRequest, _: Context) -> Any:
    return messages.RecordEventResponse(verdict=_verdict(request.event.event_id, 1))


async def all_recorded(request: messages.BatchRecordEventsRequest, _: Context) -> Any:
    numbered = enumerate(request.events, start=1)
    verdicts = [_verdict(event.event_id, position) for position, event in numbered]
    return messages.BatchRecordEventsResponse(verdicts=verdicts)


async def all_verified(_: messages.VerifyStoreRequest, __: Context) -> AsyncIterator[Any]:
    yield messages.VerifyStoreResponse(finished=True)


async def each_recorded(requests: Any, context: Context) -> AsyncIterator[Any]:
    yield messages.StreamEventsResponse(window_events=4000)
    async for request in requests:
        recorded = await all_recorded(request, context)
        yield messages.StreamEventsResponse(sequence=request.sequence, verdicts=recorded.verdicts)


class ScriptedIngestion(IngestionServiceServicer):
    """An ingestion service that answers as the test says."""

    def __init__(
        self,
        record: Answer = one_recorded,
        batch: Answer = all_recorded,
        verify: Stream = all_verified,
        stream: Stream = each_recorded,
    ) -> None:
        self._record, self._batch = record, batch
        self._verify, self._stream = verify, stream

    async def RecordEvent(self, request: Any, context: Context) -> Any:  # noqa: N802 # gRPC's name
        return await self._record(request, context)

    async def BatchRecordEvents(self, request: Any, context: Context) -> Any:  # noqa: N802
        return await self._batch(request, context)

    async def StreamEvents(self, requests: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        async for response in self._stream(requests, context):
            yield response

    async def ListRejectedEvents(self, _: Any, __: Context) -> Any:  # noqa: N802
        return messages.ListRejectedEventsResponse()

    async def RetryRejectedEvents(self, _: Any, __: Context) -> Any:  # noqa: N802
        return messages.RetryRejectedEventsResponse()

    async def CorrectRejectedEvent(self, _: Any, __: Context) -> Any:  # noqa: N802
        return messages.CorrectRejectedEventResponse()

    async def DiscardRejectedEvents(self, _: Any, __: Context) -> Any:  # noqa: N802
        return messages.DiscardRejectedEventsResponse()

    async def RegisterCustomEventType(self, _: Any, __: Context) -> Any:  # noqa: N802
        return messages.RegisterCustomEventTypeResponse()

    async def ListCustomEventTypes(self, _: Any, __: Context) -> Any:  # noqa: N802
        return messages.ListCustomEventTypesResponse()

    async def CheckErasure(self, _: Any, __: Context) -> Any:  # noqa: N802
        return messages.CheckErasureResponse()

    async def GetStoreStatus(self, _: Any, __: Context) -> Any:  # noqa: N802
        return messages.GetStoreStatusResponse()

    async def VerifyStore(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        async for response in self._verify(request, context):
            yield response

    async def VerifyFeed(self, _: Any, __: Context) -> AsyncIterator[Any]:  # noqa: N802
        yield messages.VerifyFeedResponse(finished=True)

    async def RestartFeed(self, _: Any, __: Context) -> Any:  # noqa: N802
        return messages.RestartFeedResponse()


@asynccontextmanager
async def scripted_ingestion(
    servicer: ScriptedIngestion | None = None, listen: str = "127.0.0.1:0", **settings: Any
) -> AsyncIterator[RunningServer]:
    """Serve a scripted ingestion service with everything a real one has around it."""

    def register(server: grpc.aio.Server) -> None:
        add_IngestionServiceServicer_to_server(servicer or ScriptedIngestion(), server)

    async with serve(listen, register, [INGESTION], **settings) as running:
        yield running


def channel_to(running: RunningServer) -> grpc.aio.Channel:
    """Return a bare channel, without what our client adds."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{running.port}")


@asynccontextmanager
async def stub_of(running: RunningServer) -> AsyncIterator[IngestionServiceStub]:
    """Give a stub on a bare channel."""
    async with channel_to(running) as channel:
        yield IngestionServiceStub(channel)


def _verdict(event_id: str, position: int) -> Verdict:
    return Verdict(event_id=event_id, outcome=Outcome.OUTCOME_RECORDED, position=position)
