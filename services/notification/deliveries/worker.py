"""The worker: claims what is due, as much as it can send at once, and has it delivered."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from libs.eventstore.errors import StoreError
from libs.postgres.queries import load_queries
from libs.projection.outbox import Outbox
from libs.projection.waiting import Behind
from libs.tasks import running
from libs.telemetry import declared
from libs.telemetry.metrics import Attributes, Reading
from services.notification.calls import Parts
from services.notification.config import Config
from services.notification.deliveries.attempting import Attempts
from services.notification.deliveries.claims import DATABASE_AWAY, Claims
from services.notification.deliveries.messages import channel_name
from services.notification.deliveries.sending import Carriers
from services.notification.deliveries.smtp import Mailer
from services.notification.deliveries.taking_in import CHANNELS
from services.notification.deliveries.webhooks import Webhooks, webhook_session
from touchline.events.v1.decisions_pb2 import (
    NOTIFICATION_CHANNEL_EMAIL,
    NOTIFICATION_CHANNEL_WEBHOOK,
    NotificationChannel,
)

# How many deliveries of a channel are under way at once.
_SLOTS: Final = {NOTIFICATION_CHANNEL_EMAIL: 4, NOTIFICATION_CHANNEL_WEBHOOK: 16}
_IDLE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.5
_DRAIN_SECONDS: Final = 12.0
_MEASURE_SECONDS: Final = 5.0
_log = structlog.get_logger("deliveries")
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Worker:
    """Delivers for one process; several may work at once.

    Args:
        parts: The service.
        claims: Of this process.
        attempts: Bring a claim to its end.
        carriers: Have connections that may rest.
        waits_for: Names of the projections and reactors of which what is read must have reached the
            head that was there at the start: nothing is sent that the line tells was sent.
    """

    def __init__(
        self,
        parts: Parts,
        claims: Claims,
        attempts: Attempts,
        carriers: Carriers,
        *,
        waits_for: Sequence[str],
    ) -> None:
        self._parts = parts
        self._claims = claims
        self._attempts = attempts
        self._carriers = carriers
        self._waits_for = tuple(waits_for)
        self._woken = {channel: asyncio.Event() for channel in CHANNELS}
        self._busy: dict[int, set[asyncio.Task[None]]] = {channel: set() for channel in CHANNELS}
        self._stopping = False
        self._waiting: dict[int, tuple[int, float]] = {}

    async def run(self) -> None:
        """Deliver until `stop`; run it as a task. What is down is waited for."""
        await self._until_caught_up()
        lanes = [self._lane(channel) for channel in CHANNELS]
        # Not a task group: it cancels once, and in Python 3.11 a wait_for that is woken just then
        # loses the cancellation.
        async with running(self._watch(), self._measure(), *lanes):
            await asyncio.Event().wait()

    async def stop(self) -> None:
        """Claim nothing any more, and let what is being sent end."""
        self._stopping = True
        if under_way := set().union(*self._busy.values()):
            await asyncio.wait(under_way, timeout=_DRAIN_SECONDS)
        await self._carriers.rest(NOTIFICATION_CHANNEL_EMAIL)

    def readings(self) -> dict[declared.Metric, Reading]:
        """Return the gauges of what waits, as it was measured last."""

        def size() -> Iterable[tuple[float, Attributes]]:
            for channel in CHANNELS:
                count, _ = self._waiting.get(channel, (0, 0.0))
                yield count, {declared.DELIVERY_CHANNEL: channel_name(channel)}

        def overdue() -> Iterable[tuple[float, Attributes]]:
            for channel in CHANNELS:
                _, due_at = self._waiting.get(channel, (0, 0.0))
                seconds = max(0.0, time.time() - due_at) if due_at else 0.0
                yield seconds, {declared.DELIVERY_CHANNEL: channel_name(channel)}

        return {declared.DELIVERIES_WAITING: size, declared.DELIVERIES_OVERDUE: overdue}

    def wake(self) -> None:
        """Look at once for something that is due."""
        for event in self._woken.values():
            event.set()

    async def _until_caught_up(self) -> None:
        while True:
            try:
                head = await self._parts.store.head()
                await self._parts.checkpoints.wait(self._waits_for, head.position, 60.0)
            except (StoreError, Behind):
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _watch(self) -> None:
        """Wake the lanes when the reactor has committed: it may have added something."""
        checkpoints, names = self._parts.checkpoints, ("deliveries",)
        while True:
            await checkpoints.moved_beyond(names, checkpoints.position(names), 60.0)
            self.wake()

    async def _measure(self) -> None:
        while True:
            with suppress(*DATABASE_AWAY):
                rows = await self._parts.pool.fetch(_SQL["waiting"])
                self._waiting = {channel: (count, due / 1e6) for channel, count, due in rows}
            await asyncio.sleep(_MEASURE_SECONDS)

    async def _lane(self, channel: NotificationChannel.ValueType) -> None:
        busy, woken = self._busy[channel], self._woken[channel]
        while True:
            woken.clear()
            pause = _RETRY_SECONDS
            try:
                pause = await self._fill(channel, busy)
            except DATABASE_AWAY as error:
                reason = type(error).__name__
                _log.warning("deliveries wait", channel=channel_name(channel), reason=reason)
            if not busy:
                await self._carriers.rest(channel)
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), pause)

    async def _fill(
        self, channel: NotificationChannel.ValueType, busy: set["asyncio.Task[None]"]
    ) -> float:
        """Start what is due and fits; return for how many seconds to sleep unless woken."""
        free = _SLOTS[channel] - len(busy)
        if self._stopping or free <= 0:
            return _IDLE_SECONDS  # a delivery that ends wakes
        claimed = await self._claims.take(channel, free)
        if self._stopping:  # since a moment ago: nobody waits for what would begin now
            for claim in claimed:
                await self._claims.give_back(claim, timedelta())
            return _IDLE_SECONDS
        for claim in claimed:
            task = asyncio.create_task(self._attempts.deliver(claim))
            busy.add(task)
            task.add_done_callback(busy.discard)
            task.add_done_callback(lambda _: self._woken[channel].set())
        if len(claimed) == free:
            return _IDLE_SECONDS
        due = await self._claims.next_due_seconds(channel)
        return _IDLE_SECONDS if due is None else min(due, _IDLE_SECONDS)


@asynccontextmanager
async def worker(
    config: Config, parts: Parts, outbox: Outbox, waits_for: Sequence[str], owner: UUID
) -> AsyncIterator[Worker]:
    """Make this process's worker, with what carries deliveries, until the block ends.

    Args:
        config: The settings.
        parts: The service.
        outbox: Takes what goes onto the line.
        waits_for: Names what must be at the head before the first delivery.
        owner: Names this process.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(webhook_session(private=config.webhooks.private))
        mailer = Mailer(config.smtp) if config.smtp is not None else None
        carriers = Carriers(mailer, Webhooks(session, config.webhook_seconds))
        names = {number: reader.name for number, reader in config.readers.items()}
        patience = config.patience
        claims = Claims(parts.pool, outbox, names, owner=owner, lease=patience.claim)
        attempts = Attempts(parts, claims, carriers, patience)
        yield Worker(parts, claims, attempts, carriers, waits_for=waits_for)
