"""The feed as a process folds it: received, checked and parsed once for all of its ranges."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client as NatsClient

from libs import tasks
from libs.eventstore.errors import DamagedBatch
from libs.eventstore.feed import batch_in, follow_feed
from libs.projection.batches import Batch
from libs.projection.reading import LONG_STRETCH
from libs.telemetry import messaging, tracing

IDLE_SECONDS: Final = 1.0
_MOST_BYTES: Final = 64 * 1024 * 1024
_log = structlog.get_logger("projection")


@dataclass(slots=True)
class Arrived:
    """What has come on the feed: batches, and the traces that sent them."""

    batches: list[Batch] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Message:
    batch: Batch
    size: int
    sender: str


class Follower:
    """What one range has not folded yet of what came on the feed."""

    def __init__(self) -> None:
        self._messages: deque[_Message] = deque()
        self._bytes = 0
        self._came = asyncio.Event()
        self._lost: Exception | None = None

    async def arriving(self, seconds: float = IDLE_SECONDS) -> Arrived:
        """Return what has arrived, as much as one transaction may fold, or wait for the first.

        Args:
            seconds: How long to wait at most.

        Raises:
            Exception: the feed can't be read any more.
        """
        if not self._messages:
            self._came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._came.wait()
        if self._lost is not None:
            raise self._lost
        arrived, events = Arrived(), 0
        while self._messages and events < LONG_STRETCH:
            message = self._messages.popleft()
            self._bytes -= message.size
            arrived.batches.append(message.batch)
            events += len(message.batch.events)
            if message.sender:
                arrived.senders.append(message.sender)
        return arrived

    def hand(self, message: _Message) -> None:
        """Add what has come. Who is too far behind loses it, and reads history instead."""
        if self._bytes + message.size > _MOST_BYTES:
            self._messages.clear()
            self._bytes = 0
        self._messages.append(message)
        self._bytes += message.size
        self._came.set()

    def lose(self, error: Exception) -> None:
        """Tell that nothing comes any more, and why."""
        self._lost = error
        self._came.set()


class _Source:
    """A subscription, and who follows it; it ends when nobody does.

    Attributes:
        is_doubted: Whether somebody left because it seemed to miss something, or failed: then
            nobody else joins.
    """

    def __init__(self, connection: NatsClient) -> None:
        self.followers: set[Follower] = set()
        self.is_doubted = False
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(connection))

    async def opened(self) -> None:
        """Return once whatever is published from now on will come.

        Raises:
            Exception: it can't be followed.
        """
        try:
            await asyncio.shield(self._opened)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the subscription."""
        await tasks.end([self._task])

    async def _run(self, connection: NatsClient) -> None:
        try:
            async with follow_feed(connection) as subscription:
                self._opened.set_result(None)
                await self._receive(subscription)
        except Exception as error:  # whoever follows raises it
            self.is_doubted = True
            if not self._opened.done():
                self._opened.set_exception(error)
            for follower in self.followers:
                follower.lose(error)

    async def _receive(self, subscription: Any) -> None:
        while True:
            with suppress(TimeoutError, nats.errors.TimeoutError):
                message = await subscription.next_msg(timeout=IDLE_SECONDS)
                try:
                    batch = Batch(batch_in(message.data, message.headers))
                except DamagedBatch as error:  # it leaves a gap, and history fills it
                    _log.warning("feed message is damaged", reason=str(error))
                    continue
                sender = messaging.traceparent_in(message.headers) if tracing.is_exporting() else ""
                for follower in self.followers:
                    follower.hand(_Message(batch, len(message.data), sender))


class Feed:
    """The feed, for whatever ranges follow it in a process.

    Args:
        connection: On which it comes.
    """

    def __init__(self, connection: NatsClient) -> None:
        self._connection = connection
        self._source: _Source | None = None
        self._joining = asyncio.Lock()

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[Follower]:
        """Follow the feed from now on; what was recorded before is in history.

        A block that ends, but for being cancelled, has found the feed wanting: the next one begins
        with a subscription of its own.
        """
        follower = Follower()
        source = await self._join(follower)
        try:
            yield follower
            source.is_doubted = True
        except Exception:
            source.is_doubted = True
            raise
        finally:
            source.followers.discard(follower)
            if not source.followers:
                source.is_doubted = True  # nobody joins what is being closed
                await source.close()

    async def _join(self, follower: Follower) -> _Source:
        async with self._joining:
            if self._source is None or self._source.is_doubted:
                source = _Source(self._connection)
                await source.opened()
                self._source = source
            self._source.followers.add(follower)
            return self._source
