"""The async client of Touchline: stubs with sensible defaults, and recording that does not give up.

async with Client.connect() as client:
verdicts = await client.record([event])
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, cast

import grpc

from touchline.engagement.v1.engagement_service_pb2_grpc import EngagementServiceStub
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_pb2 import Verdict
from touchline.ingestion.v1.ingestion_service_pb2 import BatchRecordEventsRequest
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from touchline.notification.v1.notification_service_pb2_grpc import NotificationServiceStub
from touchline.profile.v1.profile_service_pb2_grpc import ProfileServiceStub
from touchline.projection.v1.projection_service_pb2_grpc import ProjectionServiceStub

MAXIMUM_BATCH_EVENTS: Final = 1000
MAXIMUM_BATCH_BYTES: Final = 3 * 1024 * 1024
"""Well below the 8 MiB a service takes, so that a batch is answered within its deadline."""

DEFAULT_TIMEOUT: Final = 20.0
"""Seconds a unary call may take unless it says otherwise."""

DEFAULT_PATIENCE: Final = 60.0
"""Seconds that recording tries again."""

_MAXIMUM_SENT_BYTES = 8 * 1024 * 1024
# A page of 500 long texts is larger than any request.
_MAXIMUM_RECEIVED_BYTES = 64 * 1024 * 1024
_FIRST_BACKOFF = 0.1
_MAXIMUM_BACKOFF = 5.0
_WORTH_REPEATING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by the server: it was stopped, or had more calls than it takes
)

# Every RPC may be repeated: reads change nothing, an event id is recorded once, ever, and a version
# that was published before its answer was lost says so.
# A name with several addresses, as a headless Service in Kubernetes has, is called at each in turn.
_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)


class Client:
    """Touchline's services, seen by one tenant. Make it with `connect`.

    The stubs are the generated ones; each call carries the tenant, and a unary call without a
    timeout gets DEFAULT_TIMEOUT. They raise grpc.aio.AioRpcError, which `CallFailed.of` and
    `touchline.failures.readable_failures` turn into words.

    Attributes:
        ingestion: Records events.
        profile: Answers who a customer is and what happened.
        engagement: Scores customers, and explains every point.
        notification: Manages what customers may expect, and tells those who should know.
        projections: Says how far the projections of a service came, by the service's name.
    """

    def __init__(
        self,
        channels: Mapping[str, grpc.aio.Channel],
        tenant: str,
        traceparent: Callable[[], str],
    ) -> None:
        if not tenant.isascii() or not tenant.isprintable() or not tenant:
            raise ValueError("A tenant's name has printable ASCII characters only.")
        calls = {
            name: _calls_with_defaults(channel, tenant, traceparent)
            for name, channel in channels.items()
        }
        self.ingestion = IngestionServiceStub(calls["ingestion"])
        self.profile = ProfileServiceStub(calls["profile"])
        self.engagement = EngagementServiceStub(calls["engagement"])
        self.notification = NotificationServiceStub(calls["notification"])
        self.projections = {
            name: ProjectionServiceStub(calls[name])
            for name in ("profile", "engagement", "notification")
        }

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        ingestion: str = "127.0.0.1:7410",
        profile: str = "127.0.0.1:7420",
        tenant: str = "default",
        *,
        engagement: str = "127.0.0.1:7430",
        notification: str = "127.0.0.1:7440",
        traceparent: Callable[[], str] = lambda: "",
    ) -> "AsyncIterator[Client]":
        """Give a client for as long as the block runs. It connects to a service at its first call.

        Args:
            ingestion: host:port of the ingestion service.
            profile: host:port of the profile service.
            tenant: Whose data.
            engagement: host:port of the engagement service.
            notification: host:port of the notification service.
            traceparent: Tells the W3C traceparent that a call continues, or an empty string.

        Raises:
            ValueError: The tenant's name can't be sent.
        """
        targets = {
            "ingestion": ingestion,
            "profile": profile,
            "engagement": engagement,
            "notification": notification,
        }
        async with AsyncExitStack() as stack:
            channels = {
                name: await stack.enter_async_context(_channel(target))
                for name, target in targets.items()
            }
            yield cls(channels, tenant, traceparent)

    async def record(
        self,
        events: Iterable[Event],
        deadline: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
    ) -> list[Verdict]:
        """Record events in batches, sending each again, with the same ids, while that can help.

        Args:
            events: Each with an event_id; any number.
            deadline: Seconds for each call.
            patience: Seconds to go on trying a batch that the service can't take now.

        Returns:
            One verdict per event, in the events' order.

        Raises:
            ValueError: An event has no id, so it could not be sent again safely.
            CallFailed: A batch failed for good, or patience ended. Batches before it are recorded;
                recording all the events again is safe.
        """
        verdicts: list[Verdict] = []
        for batch in batches(events):
            verdicts += await self._record_batch(batch, deadline, patience)
        return verdicts

    async def _record_batch(
        self, batch: list[Event], deadline: float, patience: float
    ) -> Iterable[Verdict]:
        request = BatchRecordEventsRequest(events=batch)
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        backoff = _FIRST_BACKOFF
        while True:
            try:
                response = await self.ingestion.BatchRecordEvents(request, timeout=deadline)
            except grpc.aio.AioRpcError as error:
                failed = CallFailed.of(error)
                # Jitter keeps callers that failed together from coming back together.
                pause = max(failed.retry_after or 0.0, backoff) * random.uniform(1.0, 1.5)  # noqa: S311
                if not _can_be_repeated(failed) or loop.time() + pause > end:
                    raise failed from error
                await asyncio.sleep(pause)
                backoff = min(2 * backoff, _MAXIMUM_BACKOFF)
            else:
                return response.verdicts


def batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Split events, in their order, into batches that one call may carry.

    Raises:
        ValueError: An event has no id.
    """
    batch: list[Event] = []
    size = 0
    for event in events:
        if not event.event_id:
            raise ValueError("An event has no event_id; set one, such as touchline.uuid7.uuid7().")
        event_bytes = event.ByteSize()
        full = len(batch) == MAXIMUM_BATCH_EVENTS or size + event_bytes > MAXIMUM_BATCH_BYTES
        if batch and full:
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += event_bytes
    if batch:
        yield batch


def _can_be_repeated(failed: CallFailed) -> bool:
    full = failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED and failed.retry_after is not None
    return full or failed.code in _WORTH_REPEATING


def _channel(target: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.max_send_message_length", _MAXIMUM_SENT_BYTES),
            ("grpc.max_receive_message_length", _MAXIMUM_RECEIVED_BYTES),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.enable_retries", 1),
            ("grpc.service_config", _SERVICE_CONFIG),
            # A restarted service is found again at once, not after gRPC's two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ],
    )


def _calls_with_defaults(
    channel: grpc.aio.Channel, tenant: str, traceparent: Callable[[], str]
) -> grpc.aio.Channel:
    """Return a channel whose calls carry the tenant, the trace and a timeout.

    An interceptor could do it too, but costs a task per call; stubs ask a channel for each method
    once, so here a call costs one Python function more.
    """
    return cast("grpc.aio.Channel", _DefaultsChannel(channel, tenant, traceparent))


class _DefaultsChannel:
    def __init__(
        self, channel: grpc.aio.Channel, tenant: str, traceparent: Callable[[], str]
    ) -> None:
        self._channel = channel
        self._tenant = ("touchline-tenant", tenant)
        self._traceparent = traceparent

    def unary_unary(self, method: str, **serializers: Any) -> Callable[..., Any]:
        return self._with_defaults(
            self._channel.unary_unary(method, **serializers), DEFAULT_TIMEOUT
        )

    def unary_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        return self._with_defaults(self._channel.unary_stream(method, **serializers), None)

    def stream_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        return self._with_defaults(self._channel.stream_stream(method, **serializers), None)

    def _with_defaults(self, call: Callable[..., Any], default: float | None) -> Callable[..., Any]:
        def called(
            request: Any = None,
            *,
            timeout: float | None = default,
            metadata: Iterable[tuple[str, str | bytes]] | None = None,
            **rest: Any,
        ) -> Any:
            traceparent = self._traceparent()
            trace = (("traceparent", traceparent),) if traceparent else ()
            all_metadata = (self._tenant, *trace, *(metadata or ()))
            return call(request, timeout=timeout, metadata=all_metadata, **rest)

        return called
