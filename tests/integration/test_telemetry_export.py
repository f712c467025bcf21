"""What a process exports under which variables, and that a receiver can't hold it up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import structlog

from libs import telemetry
from libs.rpc import errors
from libs.telemetry import declared, messaging, metrics
from tests.answering import INGESTION, Context, ScriptedIngestion, scripted_ingestion, stub_of
from tests.otlp import Receiver, receiving
from tests.waiting import until
from touchline.ingestion.v1 import ingestion_service_pb2 as messages

CALLERS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DURATION = declared.CALL_DURATION.name


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def exporting(
    monkeypatch: pytest.MonkeyPatch, **environment: str
) -> AsyncIterator[telemetry.Telemetry]:
    """Telemetry with an environment until the block ends, then flushed."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    handlers, level = logging.root.handlers[:], logging.root.level
    running = telemetry.setup("ingestion")
    try:
        yield running
    finally:
        # In a thread: it waits for the receiver, which runs on this loop.
        await asyncio.to_thread(running.shutdown)
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)


async def call(*failures: Exception | None) -> list[str]:
    """Calls once for each failure, and returns the traces that the handler saw."""
    left, seen = list(failures), list[str]()

    async def answer(_: Any, __: Context) -> Any:
        seen.append(telemetry.current_traceparent())
        if failure := left.pop(0):
            raise failure
        return messages.RecordEventResponse()

    servicer = ScriptedIngestion(record=answer)
    async with scripted_ingestion(servicer) as running, stub_of(running) as stub:
        for failure in failures:
            try:
                await stub.RecordEvent(
                    messages.RecordEventRequest(), metadata=(("traceparent", CALLERS),)
                )
            except grpc.aio.AioRpcError:
                assert failure
    return seen


@pytest.mark.parametrize(
    "variables",
    [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", ""),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER"),
    ],
)
async def test_metrics_go_out_without_traces_and_the_callers_trace_goes_on(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, variables: tuple[str, str]
) -> None:
    endpoint, left_out = variables
    environment = {endpoint: receiver.endpoint} | ({left_out: "none"} if left_out else {})
    async with exporting(monkeypatch, **environment) as running:
        assert running.exporting
        assert await call(None) == [CALLERS]
    assert DURATION in receiver.metrics()
    assert receiver.spans() == []


async def test_traces_go_out_without_metrics(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(monkeypatch, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.endpoint):
        await call(None)
    assert [span.name for span in receiver.spans()] == [f"{INGESTION}/RecordEvent"]
    assert receiver.metrics() == {}


async def test_without_an_endpoint_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with exporting(monkeypatch) as running:
        assert not running.exporting
        assert not metrics.is_exporting()
        assert await call(None) == [CALLERS]


async def test_durations_tell_statuses_and_which_are_the_servers_fault(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [None, None, errors.profile_not_found(), ValueError("quotes a value")]
    async with exporting(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint):
        await call(*failures)
    told = {
        (point.attributes[declared.RPC_STATUS], point.attributes.get(declared.ERROR_TYPE)): (
            point.data.count
        )
        for point in receiver.points(DURATION)
        # Services of other tests in this process ask the store meanwhile.
        if point.attributes[declared.RPC_SYSTEM] == "grpc"
    }
    assert told == {("OK", None): 2, ("NOT_FOUND", None): 1, ("INTERNAL", "INTERNAL"): 1}
    assert b"quotes a value" not in receiver.everything()


async def test_a_receiver_that_takes_no_spans_holds_up_nothing_and_the_lost_ones_are_counted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.takes_spans.clear()
    few = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    often = {"OTEL_METRIC_EXPORT_INTERVAL": "100", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}

    def lost() -> int:
        points = receiver.points("otel.sdk.processor.span.processed")
        full = [one for one in points if one.attributes.get("error.type") == "queue_full"]
        return sum(int(one.data.as_int) for one in full)

    async with exporting(monkeypatch, **few, **often):
        started = time.monotonic()
        for _ in range(100):
            with messaging.process("touchline.feed", []):
                pass
        assert time.monotonic() - started < 1
        await until(lambda: lost() >= 80)
        receiver.takes_spans.set()
    # The SDK may count one as lost that its thread just took; none is lost uncounted.
    assert 100 <= lost() + len(receiver.spans()) <= 105


async def test_a_gauge_is_read_only_while_its_block_runs(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = {"OTEL_METRIC_EXPORT_INTERVAL": "50", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
    gauge, mine = declared.PROJECTION_POSITION, {declared.PROJECTION: "of this test alone"}

    def told() -> list[int]:
        points = receiver.points(gauge.name)
        return [int(point.data.as_int) for point in points if point.attributes == mine]

    async with exporting(monkeypatch, **often):
        with metrics.observed({gauge: lambda: [(7, mine)]}):
            await until(lambda: told() == [7])
        await asyncio.sleep(0.1)  # what was read before the block ended is on its way
        receiver.resource_metrics.clear()
        await until(lambda: bool(receiver.resource_metrics))
        assert told() == []
