"""Calls of the client while the processes that answer them stop, die and come back."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from libs.rpc import errors
from libs.rpc.server import RunningServer
from tests.answering import Context, ScriptedIngestion, scripted_ingestion
from tests.proxy import TcpProxy
from tests.waiting import until
from touchline.client import Client
from touchline.failures import CallFailed
from touchline.ingestion.v1 import ingestion_service_pb2 as messages

ASK = messages.RecordEventRequest()
CORRECT = messages.CorrectRejectedEventRequest()
VERIFY = messages.VerifyStoreRequest()


@dataclass(slots=True)
class Process:
    """A scripted service that a test stops and starts again on its port."""

    servicer: ScriptedIngestion
    port: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        up: asyncio.Future[RunningServer] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._serve(up))
        self.port = (await up).port

    async def _serve(self, up: asyncio.Future[RunningServer]) -> None:
        async with scripted_ingestion(self.servicer, self.address) as running:
            up.set_result(running)
            await self._stop.wait()

    def begin_stop(self) -> asyncio.Task[None]:
        self._stop.set()
        assert self._task is not None
        return self._task

    async def stop(self) -> None:
        await self.begin_stop()


class Counted(ScriptedIngestion):
    """Counts its calls; answers them as the test says."""

    def __init__(self, *first: Exception, slow: float = 0.0) -> None:
        super().__init__(record=self._answer)
        self.calls = 0
        self.corrections = 0
        self.errors = list(first)
        self.slow = slow

    async def _answer(self, _: Any, __: Context) -> Any:
        self.calls += 1
        await asyncio.sleep(self.slow)
        if self.errors:
            raise self.errors.pop(0)
        return messages.RecordEventResponse()

    async def CorrectRejectedEvent(self, _: Any, __: Context) -> Any:  # noqa: N802 # gRPC's name
        self.corrections += 1
        await asyncio.sleep(self.slow)
        if self.errors:
            raise self.errors.pop(0)
        return messages.CorrectRejectedEventResponse()


@asynccontextmanager
async def processes(*servicers: ScriptedIngestion) -> AsyncIterator[list[Process]]:
    started = [Process(one) for one in servicers]
    for one in started:
        await one.start()
    try:
        yield started
    finally:
        for one in started:
            await one.stop()


@asynccontextmanager
async def client_of(*them: Process, **settings: Any) -> AsyncIterator[Client]:
    async with Client.connect(",".join(one.address for one in them), **settings) as client:
        yield client


async def seconds_of(call: Any) -> float:
    began = time.monotonic()
    await call
    return time.monotonic() - began


async def test_while_each_process_is_restarted_in_turn_every_call_is_answered() -> None:
    async with processes(Counted(), Counted()) as both, client_of(*both) as client:
        restarted = asyncio.Event()
        longest = 0.0

        async def call() -> None:
            nonlocal longest
            while not restarted.is_set():
                longest = max(longest, await seconds_of(client.ingestion.RecordEvent(ASK)))

        async with asyncio.TaskGroup() as calls:
            for _ in range(8):
                calls.create_task(call())
            for _ in range(2):
                for one in both:
                    await asyncio.sleep(0.2)
                    await one.stop()
                    await asyncio.sleep(0.2)
                    await one.start()
            restarted.set()
    assert longest < 1.0


async def test_a_call_that_a_stopping_process_refuses_goes_to_another_at_once() -> None:
    stopping, other = Counted(slow=0.5), Counted()
    async with processes(stopping, other) as both, client_of(*both) as client:
        while not stopping.calls:
            await asyncio.sleep(0.01)
            under_way = asyncio.create_task(_awaited(client.ingestion.RecordEvent(ASK)))
        begun = both[0].begin_stop()
        before = stopping.calls
        for _ in range(4):
            assert await seconds_of(client.ingestion.RecordEvent(ASK)) < 0.3
        await under_way
        assert stopping.calls == before
        await begun


async def test_a_call_whose_process_dies_goes_to_another_at_once() -> None:
    dying, other = Counted(slow=30), Counted()
    async with processes(dying, other) as both, TcpProxy("127.0.0.1", both[0].port) as proxy:
        addresses = f"{proxy.address},{both[1].address}"
        async with Client.connect(addresses) as client:
            calls = [
                asyncio.create_task(_awaited(client.ingestion.RecordEvent(ASK))) for _ in range(4)
            ]
            await until(lambda: dying.calls == 2)
            proxy.refuse()
            cut_at = time.monotonic()
            proxy.cut()
            await asyncio.gather(*calls)
            assert time.monotonic() - cut_at < 1.0
        assert other.calls == 4
        dying.slow = 0


async def test_where_there_is_no_other_process_a_call_waits_until_it_is_back() -> None:
    async with processes(Counted()) as (only,), client_of(only) as client:
        await client.ingestion.RecordEvent(ASK)
        await only.stop()
        waiting = asyncio.create_task(_awaited(client.ingestion.RecordEvent(ASK)))
        await asyncio.sleep(2)
        assert not waiting.done()
        await only.start()
        await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize(("patience", "seconds"), [(0.5, 20.0), (20.0, 0.5)])
async def test_neither_patience_nor_a_timeout_is_gone_beyond(
    patience: float, seconds: float
) -> None:
    async with processes(Counted()) as (only,), client_of(only, patience=patience) as client:
        await only.stop()
        began = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.ingestion.RecordEvent(ASK, timeout=seconds)
        assert 0.2 < time.monotonic() - began < 3
        assert failed.value.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )
        await only.start()


async def test_the_same_process_is_asked_again_no_sooner_than_it_says_and_another_at_once() -> None:
    unable, able = Counted(errors.store_unavailable()), Counted()
    async with processes(unable, able) as both:
        async with client_of(both[0]) as client:
            assert await seconds_of(client.ingestion.RecordEvent(ASK)) >= 1.0
        unable.errors = [errors.store_unavailable()]
        async with client_of(*both) as client:
            for _ in range(2):
                assert await seconds_of(client.ingestion.RecordEvent(ASK)) < 0.8
    assert unable.errors == []


async def test_what_a_service_says_of_itself_is_told_after_a_few_tries() -> None:
    unable = Counted(*[errors.store_unavailable()] * 9)
    async with processes(unable) as (only,), client_of(only) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.ingestion.RecordEvent(ASK)
    assert CallFailed.of(failed.value).reason == "STORE_UNAVAILABLE"
    assert unable.calls == 4


async def test_a_command_that_would_refuse_its_own_repetition_is_sent_once() -> None:
    """Only its caller can find out what became of it, so UNAVAILABLE is what it is told."""
    dying = Counted(slow=30)
    async with processes(dying, Counted()) as both, TcpProxy("127.0.0.1", both[0].port) as proxy:
        async with Client.connect(proxy.address) as client:
            correcting = asyncio.create_task(
                _awaited(client.ingestion.CorrectRejectedEvent(CORRECT))
            )
            await until(lambda: dying.corrections == 1)
            proxy.cut()
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await correcting
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dying.corrections == 1
        dying.slow = 0


async def test_such_a_command_outlives_restarts_where_nothing_was_done_it_is_sent_again() -> None:
    one, other = Counted(slow=0.05), Counted(slow=0.05)
    async with processes(one, other) as both, client_of(*both) as client:
        restarted = asyncio.Event()
        answered = 0

        async def correct() -> None:
            nonlocal answered
            while not restarted.is_set():
                await client.ingestion.CorrectRejectedEvent(CORRECT)
                answered += 1

        async with asyncio.TaskGroup() as calls:
            for _ in range(4):
                calls.create_task(correct())
            for each in both:
                await asyncio.sleep(0.1)
                await each.stop()
                await asyncio.sleep(0.2)
                await each.start()
            restarted.set()
    assert one.corrections + other.corrections == answered


async def test_what_is_not_ready_yet_has_done_nothing_so_such_a_command_goes_to_another() -> None:
    building = Counted(*[errors.views_building("timeline")] * 9)
    async with processes(building, Counted()) as both, client_of(*both) as client:
        for _ in range(4):
            correcting = client.ingestion.CorrectRejectedEvent(CORRECT)
            assert await seconds_of(correcting) < 0.8
    assert len(building.errors) < 9


async def test_a_stream_is_begun_elsewhere_and_breaks_once_it_has_told_something() -> None:
    async def verify(_: Any, __: Context) -> AsyncIterator[Any]:
        if failing:
            raise failing.pop()
        yield messages.VerifyStoreResponse(checked_events=1)
        raise errors.store_unavailable()

    failing: list[Exception] = [errors.store_unavailable()]
    both_verify = [ScriptedIngestion(verify=verify)] * 2
    async with processes(*both_verify) as both, client_of(*both) as client:
        call: Any = client.ingestion.VerifyStore(VERIFY)
        assert (await call.read()).checked_events == 1
        with pytest.raises(grpc.aio.AioRpcError) as broke:
            await call.read()
    assert failing == []
    assert CallFailed.of(broke.value).reason == "STORE_UNAVAILABLE"


async def test_a_stream_that_has_an_end_reaches_it_while_its_process_stops() -> None:
    async def verify(_: Any, __: Context) -> AsyncIterator[Any]:
        for number in range(10):
            yield messages.VerifyStoreResponse(checked_events=number)
            await asyncio.sleep(0.1)

    async with processes(ScriptedIngestion(verify=verify)) as (only,), client_of(only) as client:
        call: Any = client.ingestion.VerifyStore(VERIFY)
        heard = [await call.read()]
        stopping = only.begin_stop()
        heard += [one async for one in call]
        assert [one.checked_events for one in heard] == list(range(10))
        await stopping


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for an IPv4 address with the same ones."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = data[12 : data.index(0, 12) + 5]
        asks_ipv4 = question[-4:-2] == b"\0\1"
        found = self._addresses if asks_ipv4 else []
        answer = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0) + question
        for one in found:
            answer += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4)
            answer += bytes(map(int, one.split(".")))
        self._transport.sendto(answer, addr)


async def test_a_name_with_several_addresses_is_called_at_those_that_are_there() -> None:
    loop = asyncio.get_running_loop()
    names, _ = await loop.create_datagram_endpoint(
        lambda: NameServer(["127.0.0.1", "127.0.0.2"]), local_addr=("127.0.0.1", 0)
    )
    port = names.get_extra_info("sockname")[1]
    servicers = [Counted(), Counted()]
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(scripted_ingestion(servicers[0]))
        second = AsyncExitStack()
        listen = f"127.0.0.2:{first.port}"
        await second.enter_async_context(scripted_ingestion(servicers[1], listen))
        name = f"dns://127.0.0.1:{port}/replicas.test:{first.port}"
        async with Client.connect(name) as client:
            while not all(one.calls for one in servicers):
                await client.ingestion.RecordEvent(ASK)
            for _ in range(2):
                stopping = asyncio.create_task(second.aclose())
                while not stopping.done():
                    assert await seconds_of(client.ingestion.RecordEvent(ASK)) < 1.0
                await second.enter_async_context(scripted_ingestion(servicers[1], listen))
        await second.aclose()
    names.close()


async def _awaited(call: Any) -> Any:
    return await call
