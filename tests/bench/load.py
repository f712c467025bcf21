"""The load generators: batches as fast as they are taken, callers one after another, a rate."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import grpc

from tests.bench import events as load
from tests.bench.worker import Result, Spec, Tell
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_RECORDED
from touchline.ingestion.v1.ingestion_service_pb2 import (
    BatchRecordEventsRequest,
    BatchRecordEventsResponse,
    RecordEventRequest,
    RecordEventResponse,
    StreamEventsRequest,
    StreamEventsResponse,
)

_SERVICE: Final = "/touchline.ingestion.v1.IngestionService/"
_METADATA: Final = (("touchline-tenant", "default"),)
_TIMEOUT: Final = 60.0

Call = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def _method(target: str, name: str) -> AsyncIterator[Call]:
    """Give a method that takes and returns bytes: what is built and parsed is not timed."""
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        method: Any = channel.unary_unary(_SERVICE + name)
        await channel.channel_ready()

        async def call(body: bytes) -> bytes:
            answer: bytes = await method(body, timeout=_TIMEOUT, metadata=_METADATA)
            return answer

        yield call


@asynccontextmanager
async def batches(spec: Spec, _: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Send batches with a few calls in flight, to each target in turn.

    Spec: targets, batch, events, customers, seed, in_flight, span_seconds.
    """
    count = spec["events"]
    bodies = _batched(count, spec)

    async def work() -> Result:
        waiting, answers = iter(bodies), list[bytes]()

        async def caller(call: Call) -> None:
            for body in waiting:
                answers.append(await call(body))

        began = time.perf_counter()
        in_flight = itertools.islice(itertools.cycle(calls), spec["in_flight"])
        await asyncio.gather(*[caller(call) for call in in_flight])
        seconds = time.perf_counter() - began
        verdicts = [v for a in answers for v in BatchRecordEventsResponse.FromString(a).verdicts]
        _check([verdict.outcome for verdict in verdicts], count)
        return {"seconds": seconds, "last": max(verdict.position for verdict in verdicts)}

    async with AsyncExitStack() as stack:
        methods = [_method(target, "BatchRecordEvents") for target in spec["targets"]]
        calls = [await stack.enter_async_context(method) for method in methods]
        yield work


@asynccontextmanager
async def streams(spec: Spec, _: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Send batches on one stream as fast as it takes them.

    Spec: targets (one), batch, events, customers, seed, span_seconds.
    """
    count = spec["events"]
    parts = _parts(count, spec)
    bodies = [StreamEventsRequest(events=events).SerializeToString() for events in parts]

    async def sent() -> AsyncIterator[bytes]:
        for body in bodies:
            yield body

    async with grpc.aio.insecure_channel(*spec["targets"]) as channel:
        method: Any = channel.stream_stream(_SERVICE + "StreamEvents")
        await channel.channel_ready()

        async def work() -> Result:
            began = time.perf_counter()
            answers = [answer async for answer in method(sent(), metadata=_METADATA)]
            seconds = time.perf_counter() - began
            verdicts = [v for a in answers for v in StreamEventsResponse.FromString(a).verdicts]
            _check([verdict.outcome for verdict in verdicts], count)
            return {"seconds": seconds, "last": max(verdict.position for verdict in verdicts)}

        yield work


@asynccontextmanager
async def unary(spec: Spec, _: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Record one event a call from many callers, spread over the targets.

    Each caller waits for its answer before it calls again. Spec: targets, callers, seconds, events,
    customers, seed.
    """
    bodies = _single(spec["events"], spec)

    async def work() -> Result:
        waiting, answers, millis = iter(bodies), list[bytes](), list[float]()
        began = time.perf_counter()
        end = began + spec["seconds"]

        async def caller(call: Call) -> None:
            for body in waiting:
                start = time.perf_counter()
                answers.append(await call(body))
                now = time.perf_counter()
                millis.append((now - start) * 1e3)
                if now > end:
                    return

        callers = itertools.islice(itertools.cycle(calls), spec["callers"])
        await asyncio.gather(*[caller(call) for call in callers])
        seconds = time.perf_counter() - began
        _check([RecordEventResponse.FromString(a).verdict.outcome for a in answers], len(answers))
        return {"seconds": seconds, "millis": millis}

    async with AsyncExitStack() as stack:
        methods = [_method(target, "RecordEvent") for target in spec["targets"]]
        calls = [await stack.enter_async_context(method) for method in methods]
        yield work


@asynccontextmanager
async def steady(spec: Spec, _: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Record at a rate, whatever the answers take. A call that is refused is counted, not repeated.

    Spec: target, rate, batch, seconds, customers, seed, span_seconds.
    """
    rate, size = spec["rate"], spec["batch"]
    count = int(rate * spec["seconds"])
    bodies = _batched(count, spec)

    async def work() -> Result:
        outcomes, millis, refused = list[int](), list[float](), Counter[str]()
        began = time.perf_counter()

        async def send(body: bytes, due: float) -> None:
            try:
                answer = await call(body)
            except grpc.aio.AioRpcError as error:
                refused[error.code().name] += 1
                return
            millis.append((time.perf_counter() - due) * 1e3)
            told = BatchRecordEventsResponse.FromString(answer)
            outcomes.extend(verdict.outcome for verdict in told.verdicts)

        async with asyncio.TaskGroup() as calls:
            async for number, due in ticks(rate / size, len(bodies)):
                calls.create_task(send(bodies[number], due))
        seconds = time.perf_counter() - began
        _check(outcomes, count - size * refused.total())
        return {"rate": len(outcomes) / seconds, "millis": millis, "refused": dict(refused)}

    async with _method(spec["target"], "BatchRecordEvents") as call:
        yield work


async def ticks(per_second: float, count: int) -> AsyncIterator[tuple[int, float]]:
    """Yield numbers from 0 at a rate, each with when it was due by `time.perf_counter`.

    Who is late is not waited for: those that follow come at once.
    """
    began = time.perf_counter()
    for number in range(count):
        due = began + number / per_second
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        yield number, due


def _batched(count: int, spec: Spec) -> list[bytes]:
    parts = _parts(count, spec)
    return [BatchRecordEventsRequest(events=events).SerializeToString() for events in parts]


def _parts(count: int, spec: Spec) -> Iterator[list[Event]]:
    every = load.events(count, spec["customers"], spec["seed"], spec["span_seconds"])
    while part := list(itertools.islice(every, spec["batch"])):
        yield part


def _single(count: int, spec: Spec) -> list[bytes]:
    def every() -> Iterator[bytes]:
        for event in load.events(count, spec["customers"], spec["seed"]):
            yield RecordEventRequest(event=event).SerializeToString()

    return list(every())


def _check(outcomes: list[Any], expected: int) -> None:
    recorded = outcomes.count(OUTCOME_RECORDED)
    if recorded != expected:
        raise AssertionError(f"{recorded} of {expected} events were recorded")
