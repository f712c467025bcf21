"""The client: stubs of all services, and recording."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from touchline.client.attempts import DEFAULT_PATIENCE, Attempts
from touchline.client.batches import batches
from touchline.client.channels import DEFAULT_TIMEOUT, Replicas
from touchline.client.recording import Ingestions
from touchline.client.repeating import DEFAULT_CALL_PATIENCE, repeating
from touchline.client.streaming import EventStream
from touchline.client.watching import going_on
from touchline.engagement.v1.engagement_service_pb2_grpc import EngagementServiceStub
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import Verdict
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub
from touchline.notification.v1.notification_pb2 import InboxItem
from touchline.notification.v1.notification_service_pb2 import WatchInboxRequest
from touchline.notification.v1.notification_service_pb2_grpc import NotificationServiceStub
from touchline.profile.v1.profile_pb2 import TimelineEntry
from touchline.profile.v1.profile_service_pb2 import WatchTimelineRequest
from touchline.profile.v1.profile_service_pb2_grpc import ProfileServiceStub
from touchline.projection.v1.projection_service_pb2_grpc import ProjectionServiceStub


class Client:
    """Touchline's services, seen by one tenant. Make it with `connect`.

    The stubs are the generated ones; each call carries the tenant, and a unary call without a
    timeout gets DEFAULT_TIMEOUT. They raise grpc.aio.AioRpcError, which `CallFailed.of` and
    `touchline.failures.readable_failures` turn into words. Where a service has several addresses,
    they are called in turn, and one that fails is left alone for a while.

    A unary call that a process can't answer, for it stops or is gone, goes to another one at once;
    where there is none, it is repeated for some seconds. So a restart fails no call. The few
    commands that would refuse what they did themselves, such as RetryDelivery, are repeated only
    where nothing was done. A stream is begun likewise, but breaks when its process ends:
    `watch_timeline`, `watch_inbox` and `record_stream` go on by themselves.

    Attributes:
        ingestion: Records events.
        profile: Answers who a customer is and what happened.
        engagement: Scores customers, and explains every point.
        notification: Manages what customers may expect, and tells those who should know.
        projections: Says how far the projections of a service came, by the service's name.
    """

    def __init__(self, services: Mapping[str, Replicas], patience: float) -> None:
        calls = {name: repeating(replicas, patience) for name, replicas in services.items()}
        self.ingestion = IngestionServiceStub(calls["ingestion"])
        self.profile = ProfileServiceStub(calls["profile"])
        self.engagement = EngagementServiceStub(calls["engagement"])
        self.notification = NotificationServiceStub(calls["notification"])
        self.projections = {
            name: ProjectionServiceStub(calls[name])
            for name in ("profile", "engagement", "notification")
        }
        self._ingestions = Ingestions(services["ingestion"])
        self._services = services

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
        patience: float = DEFAULT_CALL_PATIENCE,
    ) -> "AsyncIterator[Client]":
        """Give a client for as long as the block runs. It connects to a service at its first call.

        Args:
            ingestion: host:port of the ingestion service, or several of them, separated by commas,
                where it runs more than once. A name that has several addresses is one too.
            profile: host:port of the profile service; several likewise, here and below.
            tenant: Whose data.
            engagement: host:port of the engagement service.
            notification: host:port of the notification service.
            traceparent: Tells the W3C traceparent that a call continues, or an empty string.
            patience: Seconds to repeat a call while no process answers it, within its timeout.

        Raises:
            ValueError: The tenant's name can't be sent, or a service has no address.
        """
        if not tenant.isascii() or not tenant.isprintable() or not tenant:
            raise ValueError("A tenant's name has printable ASCII characters only.")
        addresses = {
            "ingestion": ingestion,
            "profile": profile,
            "engagement": engagement,
            "notification": notification,
        }
        async with AsyncExitStack() as stack:
            services = {}
            for name, listed in addresses.items():
                services[name] = Replicas(listed, tenant, traceparent)
                stack.push_async_callback(services[name].close)
            yield cls(services, patience)

    async def record(
        self,
        events: Iterable[Event],
        deadline: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
    ) -> list[Verdict]:
        """Record events in batches, sending each again, with the same ids, while that can help.

        An attempt has 2, 4, 8, ... seconds, and where there are several replicas the next one goes
        to another, so one that hangs holds nobody up for long. An attempt whose answer was lost may
        have recorded the events: then the next one says DUPLICATE. Either way the event is on the
        line once, and `verdict.position` is its place. So RECORDED and DUPLICATE both mean *it is
        safe*; which of the two it is tells who was first only where no answer was lost.

        Args:
            events: Each with an event_id; any number.
            deadline: Seconds that no attempt goes beyond.
            patience: Seconds to go on trying a batch that the service can't take now.

        Returns:
            One verdict per event, in the events' order.

        Raises:
            ValueError: An event has no id, so it could not be sent again safely.
            CallFailed: A batch failed for good, or patience ended. Batches before it are recorded;
                recording all the events again is safe.
        """
        attempts = Attempts(deadline, patience)
        verdicts: list[Verdict] = []
        for batch in batches(events):
            verdicts += await self._ingestions.record(batch, attempts)
        return verdicts

    def record_stream(
        self,
        events: AsyncIterable[Event] | Iterable[Event],
        deadline: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
    ) -> AsyncGenerator[Verdict, None]:
        """Record events as they come, several batches at a time, and give their verdicts in order.

        A stream that breaks is replaced by another one, through another replica if there is one,
        which begins with the first event that was not answered. What is said at `record` about
        attempts, patience and DUPLICATE holds here too. Events get on the line in their order,
        unless a stream broke. Who leaves the loop early closes it with `contextlib.aclosing`, and
        then doesn't know about the events that were read ahead.

        Args:
            events: Each with an event_id; any number, even without end. At most 5,000 of them, or
                15 MiB, are read ahead of the verdicts that were taken.
            deadline: Seconds to wait at most for an answer before another stream is tried.
            patience: Seconds to go on trying while nothing is answered.

        Yields:
            One verdict per event, in the events' order.

        Raises:
            ValueError: An event has no id, so it could not be sent again safely.
            CallFailed: The service failed for good, or patience ended.
            Exception: What `events` raised, after the verdicts of all that came before.
        """
        return EventStream(self._ingestions, Attempts(deadline, patience)).verdicts(events)

    async def watch_timeline(
        self, request: WatchTimelineRequest, patience: float = DEFAULT_PATIENCE
    ) -> AsyncGenerator[TimelineEntry, None]:
        """Tell what happens to a customer, each event once, in the order it is recorded.

        Where the watch breaks, as when its process is restarted, it goes on through another one
        after the last entry. It has no end: who leaves the loop closes it with
        `contextlib.aclosing`.

        Args:
            request: Whom to watch, and after which position.
            patience: Seconds to go on trying while nothing answers.

        Yields:
            The entries.

        Raises:
            CallFailed: The service refused, or patience ended.
        """
        watch, replicas = self.profile.WatchTimeline, self._services["profile"]
        answers = going_on(watch, request, replicas, patience, lambda told: told.entry.position)
        async with aclosing(answers):
            async for answer in answers:
                yield answer.entry

    async def watch_inbox(
        self, request: WatchInboxRequest, patience: float = DEFAULT_PATIENCE
    ) -> AsyncGenerator[InboxItem, None]:
        """Tell what comes into an inbox or is read; like `watch_timeline` in all else.

        Args:
            request: Which inbox to watch, and after which position.
            patience: Seconds to go on trying while nothing answers.

        Yields:
            The items.

        Raises:
            CallFailed: The service refused, or patience ended.
        """
        watch, replicas = self.notification.WatchInbox, self._services["notification"]
        answers = going_on(watch, request, replicas, patience, lambda told: told.item.position)
        async with aclosing(answers):
            async for answer in answers:
                yield answer.item
