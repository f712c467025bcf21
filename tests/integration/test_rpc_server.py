import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from libs.rpc import errors
from libs.rpc.deadlines import Deadlines, remaining
from libs.rpc.server import ListenError, RunningServer, serve
from libs.rpc.tenants import Tenants
from tests.answering import (
    INGESTION,
    Context,
    ScriptedIngestion,
    channel_to,
    scripted_ingestion,
    stub_of,
)
from touchline.failures import CallFailed
from touchline.ingestion.v1 import ingestion_service_pb2 as messages
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceStub

ASK = messages.RecordEventRequest()
VERIFY = messages.VerifyStoreRequest()
SECRET = "ada@example.org"
SHORT = Deadlines(default=0.2, maximum=1.0)


async def failure_of(running: RunningServer, **call: Any) -> CallFailed:
    async with stub_of(running) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.RecordEvent(ASK, **call)
    return CallFailed.of(failed.value)


@pytest.mark.parametrize(
    "error",
    [
        errors.invalid_request([("a", "is missing"), ("b[0]", "is too long")]),
        errors.unknown_tenant("acme"),
        errors.profile_not_found(),
        errors.invalid_page_token(),
        errors.queue_full(20_000, 0.25),
        errors.store_unavailable(),
        errors.store_full(),
        errors.projection_behind("timeline", 41, 42),
        errors.projection_halted("timeline"),
        errors.deadline_exceeded(),
    ],
    ids=lambda error: error.reason,
)
async def test_a_caller_learns_all_that_an_error_says(error: errors.CallError) -> None:
    async def fail(_: Any, __: Context) -> Any:
        raise error

    async with scripted_ingestion(ScriptedIngestion(record=fail)) as running:
        failed = await failure_of(running)
    assert (failed.code, failed.reason, failed.message) == (error.code, error.reason, error.message)
    assert failed.metadata == error.metadata
    assert failed.violations == error.violations
    assert failed.retry_after == error.retry_after


async def test_a_defect_is_internal_and_neither_told_nor_logged_with_its_text(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def fail(_: Any, __: Context) -> Any:
        raise KeyError(SECRET)

    async with scripted_ingestion(ScriptedIngestion(record=fail)) as running:
        failed = await failure_of(running)
    logged = "".join(capfd.readouterr())
    assert (failed.code, failed.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert SECRET not in logged + str(failed)
    assert "KeyError" in logged
    assert "test_rpc_server.py" in logged


async def test_a_call_without_a_deadline_gets_the_default_one() -> None:
    async def never(_: Any, __: Context) -> Any:
        await asyncio.sleep(60)

    async with scripted_ingestion(ScriptedIngestion(record=never), deadlines=SHORT) as running:
        started = time.monotonic()
        failed = await failure_of(running)
    assert failed.reason == "DEADLINE_EXCEEDED"
    assert 0.15 < time.monotonic() - started < 30


async def test_a_call_with_a_longer_deadline_gets_the_maximum() -> None:
    waits: list[float] = []

    async def never(_: Any, context: Context) -> Any:
        waits.append(remaining(context, margin=0))
        await asyncio.sleep(60)

    async with scripted_ingestion(ScriptedIngestion(record=never), deadlines=SHORT) as running:
        failed = await failure_of(running, timeout=30)
    assert failed.reason == "DEADLINE_EXCEEDED"
    assert 0.2 < waits[0] <= 1.0


async def test_a_handler_knows_a_shorter_deadline_and_ends_with_it() -> None:
    waits: list[float] = []
    cancelled = asyncio.Event()

    async def never(_: Any, context: Context) -> Any:
        waits.append(remaining(context))
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with scripted_ingestion(ScriptedIngestion(record=never)) as running:
        failed = await failure_of(running, timeout=1)
        await asyncio.wait_for(cancelled.wait(), 30)
    assert failed.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < waits[0] < 1


async def test_a_stream_has_no_deadline_of_ours() -> None:
    async def slow(_: Any, context: Context) -> AsyncIterator[Any]:
        await asyncio.sleep(0.5)
        assert remaining(context) == float("inf")
        yield messages.VerifyStoreResponse(finished=True)

    async with (
        scripted_ingestion(ScriptedIngestion(verify=slow), deadlines=SHORT) as running,
        stub_of(running) as stub,
    ):
        assert [response.finished async for response in stub.VerifyStore(VERIFY)] == [True]


async def test_calls_under_way_end_while_the_server_drains_and_new_ones_are_refused() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, __: Context) -> Any:
        begun.set()
        await go_on.wait()
        return messages.RecordEventResponse()

    stop = asyncio.Event()
    up: asyncio.Future[RunningServer] = asyncio.get_running_loop().create_future()

    async def serve_until_stopped() -> None:
        async with scripted_ingestion(ScriptedIngestion(record=slow), grace=60) as running:
            up.set_result(running)
            await stop.wait()

    server = asyncio.create_task(serve_until_stopped())
    async with stub_of(await up) as stub, stub_of(await up) as late:
        under_way = asyncio.create_task(_awaited(stub.RecordEvent(ASK)))
        await begun.wait()
        stop.set()
        await asyncio.sleep(0.15)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await late.RecordEvent(ASK, timeout=30)
        assert not server.done()
        go_on.set()
        answer = await under_way
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert answer == messages.RecordEventResponse()
    await asyncio.wait_for(server, 30)


async def test_endless_streams_do_not_hold_up_a_drain() -> None:
    async def endless(_: Any, __: Context) -> AsyncIterator[Any]:
        yield messages.VerifyStoreResponse(checked_events=1)
        await asyncio.sleep(600)

    async with scripted_ingestion(ScriptedIngestion(verify=endless), grace=30) as running:
        channel = channel_to(running)
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        call: Any = IngestionServiceStub(channel).VerifyStore(VERIFY)
        assert (await call.read()).checked_events == 1
        stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < 5
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Call again" in (ended.value.details() or "")
    await channel.close()


async def test_health_tells_of_each_service_and_can_be_set() -> None:
    async with scripted_ingestion() as running, channel_to(running) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        check = health.Check
        ask = health_pb2.HealthCheckRequest(service=INGESTION)
        assert (await check(ask)).status == health_pb2.HealthCheckResponse.SERVING
        await running.set_serving(INGESTION, False)
        assert (await check(ask)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await check(health_pb2.HealthCheckRequest(service="nobody"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services() -> None:
    async def ask() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async with scripted_ingestion() as running, channel_to(running) as channel:
        untyped: Any = channel
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
        answers = [answer async for answer in stub.ServerReflectionInfo(ask())]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {INGESTION, "grpc.health.v1.Health"} <= names


async def test_errors_reach_callers_of_every_arity() -> None:
    async def unary(_: Any, __: Context) -> Any:
        raise errors.store_full()

    async def streaming(_: Any, __: Context) -> AsyncIterator[Any]:
        yield b"first"
        raise errors.store_full()

    handlers: dict[str, Any] = {
        "UnaryUnary": grpc.unary_unary_rpc_method_handler(unary),
        "StreamUnary": grpc.stream_unary_rpc_method_handler(unary),
        "UnaryStream": grpc.unary_stream_rpc_method_handler(streaming),
        "StreamStream": grpc.stream_stream_rpc_method_handler(streaming),
    }

    def register(server: grpc.aio.Server) -> None:
        handler = grpc.method_handlers_generic_handler("test.Arities", handlers)
        server.add_generic_rpc_handlers((handler,))

    async with serve("127.0.0.1:0", register, []) as running, channel_to(running) as bare:
        channel: Any = bare
        calls = [
            _awaited(channel.unary_unary("/test.Arities/UnaryUnary")(b"")),
            _awaited(channel.stream_unary("/test.Arities/StreamUnary")(iter([b""]))),
            _drained(channel.unary_stream("/test.Arities/UnaryStream")(b"")),
            _drained(channel.stream_stream("/test.Arities/StreamStream")(iter([b""]))),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert CallFailed.of(failed.value).reason == "STORE_FULL"


async def _awaited(call: Any) -> Any:
    return await call


async def _drained(call: Any) -> None:
    async for _ in call:
        pass


async def test_the_tenant_comes_with_the_call() -> None:
    tenants = Tenants(["default", "acme"])
    seen: list[int] = []

    async def answer(_: Any, context: Context) -> Any:
        seen.append(tenants.tenant_of(context).number)
        return messages.RecordEventResponse()

    async with scripted_ingestion(ScriptedIngestion(record=answer)) as running:
        async with stub_of(running) as stub:
            await stub.RecordEvent(ASK)
            await stub.RecordEvent(ASK, metadata=(("touchline-tenant", "acme"),))
        failed = await failure_of(running, metadata=(("touchline-tenant", "nobody"),))
    assert seen == [1, 2]
    assert (failed.reason, failed.metadata) == ("UNKNOWN_TENANT", {"tenant": "nobody"})


async def test_an_address_in_use_is_named_with_what_to_do() -> None:
    async with scripted_ingestion() as running:
        taken = f"127.0.0.1:{running.port}"
        with pytest.raises(ListenError) as refused:
            async with scripted_ingestion(listen=taken):
                pass
    assert taken in str(refused.value)
    assert "Address already in use" in str(refused.value)
    assert "TOUCHLINE_LISTEN" in str(refused.value)


async def test_a_message_over_the_limit_is_refused_in_words() -> None:
    request = messages.RecordEventRequest()
    request.event.source = "x" * 3_000_000
    async with (
        scripted_ingestion(max_message_bytes=1 << 20) as running,
        stub_of(running) as stub,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.RecordEvent(request)
    failed = CallFailed.of(refused.value)
    assert failed.reason == "MESSAGE_TOO_LARGE"
    assert "has 2.9 MiB and may have 1.0" in failed.message
