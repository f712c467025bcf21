import asyncio
import time
from typing import Any

import grpc
import pytest

from libs.rpc import errors
from tests.answering import Context, ScriptedIngestion, all_recorded, scripted_ingestion, stub_of
from touchline.client import Client, batches
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1 import ingestion_service_pb2 as messages
from touchline.uuid7 import uuid7


def some_events(count: int, source: str = "shop") -> list[Event]:
    return [Event(event_id=uuid7(), source=source) for _ in range(count)]


class Counting:
    """Answers with errors first, then as it should; remembers what it was asked, and when."""

    def __init__(self, *errors_first: Exception) -> None:
        self.errors = list(errors_first)
        self.requests: list[messages.BatchRecordEventsRequest] = []
        self.times: list[float] = []
        self.metadata: list[dict[str, Any]] = []

    async def __call__(self, request: messages.BatchRecordEventsRequest, context: Context) -> Any:
        self.requests.append(request)
        self.times.append(time.monotonic())
        self.metadata.append(dict(context.invocation_metadata() or ()))
        if self.errors:
            raise self.errors.pop(0)
        return await all_recorded(request, context)


async def test_verdicts_come_in_the_order_of_the_events_over_several_batches() -> None:
    asked = Counting()
    events = some_events(2_500)
    async with (
        scripted_ingestion(ScriptedIngestion(batch=asked)) as running,
        Client.connect(f"127.0.0.1:{running.port}", tenant="acme") as client,
    ):
        verdicts = await client.record(events)
    assert [verdict.event_id for verdict in verdicts] == [event.event_id for event in events]
    assert [len(request.events) for request in asked.requests] == [1000, 1000, 500]
    assert {metadata["touchline-tenant"] for metadata in asked.metadata} == {"acme"}


def test_large_events_go_in_smaller_batches() -> None:
    events = some_events(7, source="x" * 1_000_000)
    assert [len(batch) for batch in batches(events)] == [3, 3, 1]
    assert list(batches([])) == []


def test_an_event_without_an_id_is_not_sent() -> None:
    with pytest.raises(ValueError, match="event_id"):
        list(batches([Event(source="shop")]))


async def test_a_full_queue_is_tried_again_with_the_same_ids_after_the_time_it_asks() -> None:
    asked = Counting(errors.queue_full(9, 0.3), errors.queue_full(9, 0.3))
    async with (
        scripted_ingestion(ScriptedIngestion(batch=asked)) as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        verdicts = await client.record(some_events(3))
    assert len(verdicts) == 3
    assert len(asked.requests) == 3
    assert asked.requests[0] == asked.requests[1] == asked.requests[2]
    pauses = [later - earlier for earlier, later in zip(asked.times, asked.times[1:], strict=False)]
    assert all(0.29 < pause < 1.5 for pause in pauses)


async def test_what_trying_again_can_not_cure_fails_at_once() -> None:
    asked = Counting(errors.store_full())
    async with (
        scripted_ingestion(ScriptedIngestion(batch=asked)) as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        with pytest.raises(CallFailed) as failed:
            await client.record(some_events(1))
    assert failed.value.reason == "STORE_FULL"
    assert len(asked.requests) == 1


async def test_recording_outlives_a_restart_of_the_service() -> None:
    hanging = asyncio.Event()

    async def hang(_: Any, __: Context) -> Any:
        hanging.set()
        await asyncio.sleep(60)

    events = some_events(2)
    async with scripted_ingestion(ScriptedIngestion(batch=hang), grace=0) as running:
        listen = f"127.0.0.1:{running.port}"
        connection = Client.connect(listen)
        client = await connection.__aenter__()
        recording = asyncio.create_task(client.record(events, patience=20))
        await hanging.wait()
    # Longer down than gRPC's own retries last.
    await asyncio.sleep(1.5)
    assert not recording.done()
    async with scripted_ingestion(listen=listen):
        verdicts = await asyncio.wait_for(recording, 30)
    assert [verdict.event_id for verdict in verdicts] == [event.event_id for event in events]
    await connection.__aexit__(None, None, None)


async def test_patience_ends_with_words_when_nothing_answers() -> None:
    async with scripted_ingestion() as running:
        gone = f"127.0.0.1:{running.port}"
    async with Client.connect(gone) as client:
        started = time.monotonic()
        with pytest.raises(CallFailed) as failed:
            await client.record(some_events(1), patience=0.5)
    assert time.monotonic() - started < 8
    assert failed.value.code is grpc.StatusCode.UNAVAILABLE
    assert "does not answer" in str(failed.value)


async def test_reads_are_repeated_by_the_channel_while_the_service_is_unavailable() -> None:
    failing = [errors.store_unavailable(), errors.store_unavailable()]

    async def flaky(_: Any, __: Context) -> Any:
        if failing:
            raise failing.pop()
        return messages.RecordEventResponse()

    async with (
        scripted_ingestion(ScriptedIngestion(record=flaky)) as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        await client.ingestion.RecordEvent(messages.RecordEventRequest())
    assert failing == []


async def test_every_call_has_a_deadline_and_streams_have_none() -> None:
    left: list[float | None] = []

    async def record(_: Any, context: Context) -> Any:
        left.append(context.time_remaining())
        return messages.RecordEventResponse()

    async def verify(_: Any, context: Context) -> Any:
        left.append(context.time_remaining())
        yield messages.VerifyStoreResponse(finished=True)

    async with (
        scripted_ingestion(ScriptedIngestion(record=record, verify=verify)) as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        await client.ingestion.RecordEvent(messages.RecordEventRequest())
        await client.ingestion.RecordEvent(messages.RecordEventRequest(), timeout=3)
        async for _ in client.ingestion.VerifyStore(messages.VerifyStoreRequest()):
            pass
    assert left[0] is not None
    assert 15 < left[0] < 21  # gRPC rounds up
    assert left[1] is not None
    assert 1 < left[1] < 4
    assert left[2] is None


async def test_violations_are_listed_in_words() -> None:
    async def fail(_: Any, __: Context) -> Any:
        raise errors.invalid_request([("a", "is missing"), ("b[0]", "is too long")])

    async with (
        scripted_ingestion(ScriptedIngestion(record=fail)) as running,
        stub_of(running) as stub,
    ):
        with pytest.raises(CallFailed) as failed, readable_failures():
            await stub.RecordEvent(messages.RecordEventRequest())
    assert "[INVALID_REQUEST]" in str(failed.value)
    assert "\n  b[0]: is too long" in str(failed.value)


async def test_a_tenant_that_can_not_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        async with Client.connect(tenant="Österreich"):
            pass
