import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from touchline.ingestion.v1.ingestion_service_pb2 import RecordEventRequest, RecordEventResponse
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub

CHECKOUT = Path(__file__).parents[2]

A_SERVICE = """
import asyncio
from libs.rpc.loop import run
from tests.answering import ScriptedIngestion, one_recorded, scripted_ingestion

async def slow(request, context):
    print("called", flush=True)
    await asyncio.sleep({seconds})
    return await one_recorded(request, context)

async def main(stop):
    async with scripted_ingestion(ScriptedIngestion(record=slow), grace=60) as running:
        print(type(asyncio.get_running_loop()).__module__, running.port, flush=True)
        await stop.wait()
    print("drained", flush=True)

run(main)
"""


@asynccontextmanager
async def a_service(seconds: float) -> AsyncIterator[tuple[Process, grpc.aio.Channel]]:
    """A process of its own whose calls take so long."""
    code = A_SERVICE.format(seconds=seconds)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=CHECKOUT, stdout=PIPE
    )
    loop, port = (await said_by(process)).split()
    assert loop == "uvloop"
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield process, channel
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said_by(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()


async def call(channel: grpc.aio.Channel) -> RecordEventResponse:
    return await IngestionServiceStub(channel).RecordEvent(RecordEventRequest())


@pytest.mark.parametrize("asking", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_calls_end_and_then_the_process(asking: signal.Signals) -> None:
    async with a_service(seconds=0.5) as (process, channel):
        under_way = asyncio.create_task(call(channel))
        assert await said_by(process) == "called"
        process.send_signal(asking)
        assert (await under_way).verdict.position == 1
        assert await said_by(process) == "drained"
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_second_signal_does_not_wait_for_calls() -> None:
    async with a_service(seconds=60) as (process, channel):
        under_way = asyncio.create_task(call(channel))
        assert await said_by(process) == "called"
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        with pytest.raises(grpc.aio.AioRpcError):
            await under_way
