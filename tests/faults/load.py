"""The load: clients that record unique events and go on until each has an answer."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import grpc

from tests.faults.cluster import INGESTION, Cluster
from tests.faults.events import Maker, sent
from tests.faults.history import History
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_pb2 import Outcome, Verdict
from touchline.ingestion.v1.ingestion_service_pb2 import (
    BatchRecordEventsRequest,
    RecordEventRequest,
)

_DEADLINE: Final = 8.0
_PATIENCE: Final = 30.0
_CALL_PATIENCE: Final = 1.0
_PAUSE: Final = (0.05, 0.5)
_GIVES_UP: Final = 0.03
"""How often a caller forgets what it was not answered: whether it is recorded is nobody's guess."""

_KINDS: Final = ("unary", "unary", "unary", "unary", "batch", "batch", "patient", "stream")
_ON_A_STREAM: Final = 200


@dataclass(slots=True)
class Load:
    """All clients of a run.

    Attributes:
        history: What they send and are told.
        stopped: Set when they are to finish what they have in hand, and end.
    """

    history: History
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def pause(self, seconds: float) -> None:
        """Wait, or less when the load is stopped."""
        try:
            await asyncio.wait_for(self.stopped.wait(), seconds)
        except TimeoutError:
            return


@dataclass(slots=True)
class Caller:
    """One client: it makes events, sends them, and notes what it is told.

    Attributes:
        name: Its name, also what its chance is made of.
        kind: How it sends.
        clients: One for each replica; for `patient` and `stream` one that knows both.
        pace: Seconds between two calls, on average.
    """

    name: str
    kind: str
    load: Load
    maker: Maker
    clients: Sequence[Client]
    pace: float
    _replica: int = 0

    async def run(self) -> None:
        """Send until the load is stopped."""
        self._replica = self.maker.chance.randrange(len(self.clients))
        while not self.load.stopped.is_set():
            if self.kind == "stream":
                await self.stream(self.maker.batch(_ON_A_STREAM))
                continue
            size = 1 if self.kind == "unary" else self.maker.chance.randrange(1, 60)
            await self.record(self.maker.batch(size))
            await self.load.pause(self.maker.chance.expovariate(1 / self.pace))

    async def record(self, events: Sequence[Event]) -> None:
        """Send events until they are answered, each time through the other replica."""
        history, again = self.load.history, False
        told = [sent(event) for event in events]
        chance = random.Random(f"{self.name}/{told[0].event_id}")
        while True:
            attempt = history.send(self.name, told, again=again)
            try:
                verdicts = await _WAYS[self.kind](self.clients[self._replica], events)
            except (grpc.aio.AioRpcError, CallFailed) as error:
                history.fail(attempt, _reason(error))
                self._replica = (self._replica + 1) % len(self.clients)
                if chance.random() < _GIVES_UP:
                    return
                again = True
                await asyncio.sleep(chance.uniform(*_PAUSE))
            else:
                history.answer(attempt, [outcome_of(one) for one in verdicts])
                return

    async def stream(self, events: Sequence[Event]) -> None:
        """Send events on a stream, one after the other, until all are answered."""
        history, again, told = self.load.history, False, [sent(event) for event in events]
        done = 0
        while done < len(events):
            attempt = history.send(self.name, told[done:], again=again)
            try:
                verdicts = self.clients[0].record_stream(
                    self._paced(events[done:]), deadline=_DEADLINE, patience=_PATIENCE
                )
                async for verdict in verdicts:
                    history.answer(replace(attempt, sent=[told[done]]), [outcome_of(verdict)])
                    done += 1
            except CallFailed as error:
                history.fail(replace(attempt, sent=told[done:]), _reason(error))
                again = True

    async def _paced(self, events: Sequence[Event]) -> AsyncIterator[Event]:
        for event in events:
            yield event
            await self.load.pause(self.maker.chance.expovariate(1 / self.pace))


def outcome_of(verdict: Verdict) -> tuple[str, int]:
    """Return a verdict's outcome, by its name, and its position."""
    return Outcome.Name(verdict.outcome).removeprefix("OUTCOME_"), verdict.position


@asynccontextmanager
async def callers(
    cluster: Cluster, load: Load, seed: int, started_at: int, rate: float
) -> AsyncIterator[list[Caller]]:
    """Connect all clients; each has a channel of its own through the proxy of each replica.

    Args:
        cluster: Whom they call.
        load: What they have in common.
        seed: What their events are made from.
        started_at: Seconds since 1970.
        rate: Events/s that all of them send together while nothing fails, about.
    """
    async with AsyncExitStack() as stack:
        made = []
        for number, kind in enumerate(_KINDS):
            name = f"{kind}-{number}"
            replicas = [cluster.routes[f"clients→{one}"].address for one in INGESTION]
            if kind in ("patient", "stream"):
                replicas = [",".join(replicas)]
            clients = [
                await stack.enter_async_context(Client.connect(one, patience=_CALL_PATIENCE))
                for one in replicas
            ]
            events = 1 if kind in ("unary", "stream") else 30
            pace = events * len(_KINDS) / rate
            maker = Maker(seed, name, started_at)
            made.append(Caller(name, kind, load, maker, clients, pace))
        yield made


async def _unary(client: Client, events: Sequence[Event]) -> Sequence[Verdict]:
    (event,) = events
    request = RecordEventRequest(event=event)
    response = await client.ingestion.RecordEvent(request, timeout=_DEADLINE)
    return [response.verdict]


async def _batch(client: Client, events: Sequence[Event]) -> Sequence[Verdict]:
    request = BatchRecordEventsRequest(events=events)
    response = await client.ingestion.BatchRecordEvents(request, timeout=_DEADLINE)
    return list(response.verdicts)


async def _patient(client: Client, events: Sequence[Event]) -> Sequence[Verdict]:
    return await client.record(events, deadline=_DEADLINE, patience=_PATIENCE)


_WAYS: Final[dict[str, Callable[[Client, Sequence[Event]], Awaitable[Sequence[Verdict]]]]] = {
    "unary": _unary,
    "batch": _batch,
    "patient": _patient,
}


def _reason(error: Any) -> str:
    failed = error if isinstance(error, CallFailed) else CallFailed.of(error)
    return failed.reason or failed.code.name
