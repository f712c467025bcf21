"""Competing writers: decision streams with expected versions, over the store's NATS API."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import StoreError
from tests.faults.cluster import Cluster
from tests.faults.events import Maker, sent
from tests.faults.load import Load
from touchline.events.v1.event_pb2 import Event
from touchline.store.v1.store_pb2 import (
    AppendOutcome,
    AppendRequest,
    AppendUnit,
    GetStreamRequest,
    RecordedEvent,
)

STREAMS: Final = 4
WRITERS: Final = 4
_PAUSE_SECONDS: Final = 0.4


@dataclass(slots=True)
class Writer:
    """Appends to streams that others append to as well, each time after the newest version."""

    name: str
    load: Load
    maker: Maker
    store: StoreClient
    streams: Sequence[str]

    async def run(self) -> None:
        """Write until the load is stopped."""
        while not self.load.stopped.is_set():
            stream = self.maker.chance.choice(self.streams)
            newest = await self._newest(stream)
            if newest is not None:
                # Two at a time now and then: a unit is all or nothing.
                count = self.maker.chance.choice((1, 1, 2))
                await self._append(stream, newest + 1, [self.maker.fact() for _ in range(count)])
            await self.load.pause(self.maker.chance.expovariate(1 / _PAUSE_SECONDS))

    async def _newest(self, stream: str) -> int | None:
        request = GetStreamRequest(
            tenant=1, stream_id=UUID(stream).bytes, newest_first=True, limit=1
        )
        try:
            async for one in self.store.stream(request):
                return RecordedEvent.FromString(one.event.record).stream_version
        except StoreError:
            return None
        return -1

    async def _append(self, stream: str, first: int, events: Sequence[Event]) -> None:
        history, again = self.load.history, False
        request, told = AppendRequest(tenant="default"), []
        unit = AppendUnit()
        for version, event in enumerate(events, first):
            unit.events.add(event=event, stream_id=stream, stream_version=version)
            told.append(sent(event, stream, version))
        request.units.append(unit)
        while True:
            attempt = history.send(self.name, told, again=again)
            try:
                response = await self.store.append(request)
            except StoreError as error:
                history.fail(attempt, type(error).__name__)
                again = True
                await asyncio.sleep(self.maker.chance.uniform(0.05, 0.5))
            else:
                history.answer(
                    attempt,
                    [
                        (
                            AppendOutcome.Name(one.outcome).removeprefix("APPEND_OUTCOME_"),
                            one.position,
                        )
                        for one in response.verdicts
                    ],
                )
                return


async def writers(
    cluster: Cluster, load: Load, seed: int, started_at: int, stack: AsyncExitStack
) -> list[Writer]:
    """Return the writers, each with a connection of its own, as long as the stack is open."""
    chance = random.Random(f"{seed}/streams")
    streams = [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(STREAMS)]
    made = []
    for number in range(WRITERS):
        name = f"writer-{number}"
        connection = await stack.enter_async_context(connect_nats(cluster.nats.url, name))
        maker = Maker(seed, name, started_at)
        made.append(Writer(name, load, maker, StoreClient(connection), streams))
    return made
