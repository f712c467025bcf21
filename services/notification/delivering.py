"""The worker: claims what is due, as much as it can send at once, and has it delivered."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import asyncpg

from libs.eventstore.errors import StoreError
from libs.postgres.pool import UNREACHABLE
from libs.projection.waiting import Behind
from services.notification.attempting import Attempts
from services.notification.calls import Parts
from services.notification.claims import Claims
from services.notification.deliveries import CHANNELS
from services.notification.sending import Carriers
from touchline.events.v1.decisions_pb2 import (
    NOTIFICATION_CHANNEL_EMAIL,
    NOTIFICATION_CHANNEL_WEBHOOK,
    NotificationChannel,
)

# How many deliveries of a channel are under way at once.
_SLOTS: Final = {NOTIFICATION_CHANNEL_EMAIL: 4, NOTIFICATION_CHANNEL_WEBHOOK: 16}
_IDLE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.5
_DRAIN_SECONDS: Final = 15.0


class Worker:
    """Delivers for one process; several may work at once.

    Args:
        parts: The service.
        claims: Of this process.
        attempts: Bring a claim to its end.
        carriers: Have connections that may rest.
        waits_for: Names of the projections and reactors that must have reached the head that was
            there at the start: nothing is sent that the line tells was sent.
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

    async def run(self) -> None:
        """Deliver until `stop`; run it as a task. What is down is waited for."""
        await self._until_caught_up()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            for channel in CHANNELS:
                group.create_task(self._lane(channel))

    async def stop(self) -> None:
        """Claim nothing any more, and let what is being sent end."""
        self._stopping = True
        if under_way := set().union(*self._busy.values()):
            await asyncio.wait(under_way, timeout=_DRAIN_SECONDS)
        await self._carriers.rest(NOTIFICATION_CHANNEL_EMAIL)

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
            with suppress(Behind):
                await checkpoints.wait(names, checkpoints.position(names) + 1, 60.0)
            self.wake()

    async def _lane(self, channel: NotificationChannel.ValueType) -> None:
        busy, woken = self._busy[channel], self._woken[channel]
        while True:
            woken.clear()
            pause = _RETRY_SECONDS
            with suppress(asyncpg.PostgresError, TimeoutError, *UNREACHABLE):
                pause = await self._fill(channel, busy)
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
        for claim in claimed:
            task = asyncio.create_task(self._attempts.deliver(claim))
            busy.add(task)
            task.add_done_callback(busy.discard)
            task.add_done_callback(lambda _: self._woken[channel].set())
        if len(claimed) == free:
            return _IDLE_SECONDS
        due = await self._claims.next_due_seconds(channel)
        return _IDLE_SECONDS if due is None else min(due, _IDLE_SECONDS)
