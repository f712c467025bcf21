import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from libs import telemetry
from libs.rpc import errors
from libs.telemetry import messaging
from tests.answering import INGESTION, Context, ScriptedIngestion, scripted_ingestion, stub_of
from tests.events import an_event
from tests.ingesting import ingestion_on
from tests.otlp import Receiver, attributes_of, receiving
from tests.servers import MakeDatabase, OwnNats
from tests.services import build_event_store
from touchline.client import Client
from touchline.ingestion.v1 import ingestion_service_pb2 as messages

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLERS = f"00-{TRACE_ID}-{SPAN_ID}-01"
ASK = messages.RecordEventRequest()


Exported = Callable[[], Awaitable[list[Span]]]


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        yield receiver


@pytest.fixture
async def exported(receiver: Receiver) -> AsyncIterator[Exported]:
    """Telemetry that exports; call it to flush and to get the spans that arrived."""
    handlers, level = logging.root.handlers[:], logging.root.level
    running = telemetry.setup("ingestion")
    assert running.exporting

    async def flush() -> list[Span]:
        # In a thread: it waits for the receiver, which runs on this loop.
        await asyncio.to_thread(running.shutdown)
        return receiver.spans()

    yield flush
    await asyncio.to_thread(running.shutdown)
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


async def traceparent_seen_by_a_handler(*metadata: tuple[str, str]) -> str:
    seen: list[str] = []

    async def answer(_: Any, __: Context) -> Any:
        seen.append(telemetry.current_traceparent())
        return messages.RecordEventResponse()

    async with (
        scripted_ingestion(ScriptedIngestion(record=answer)) as running,
        stub_of(running) as stub,
    ):
        await stub.RecordEvent(ASK, metadata=metadata)
    return seen[0]


async def test_without_an_exporter_the_callers_trace_is_passed_on_as_it_came() -> None:
    assert await traceparent_seen_by_a_handler(("traceparent", CALLERS)) == CALLERS
    assert await traceparent_seen_by_a_handler() == ""
    assert await traceparent_seen_by_a_handler(("traceparent", "nonsense")) == ""


async def test_one_calls_trace_does_not_leak_into_another() -> None:
    seen: list[str] = []

    async def answer(_: Any, __: Context) -> Any:
        seen.append(telemetry.current_traceparent())
        return messages.RecordEventResponse()

    async with (
        scripted_ingestion(ScriptedIngestion(record=answer)) as running,
        stub_of(running) as stub,
    ):
        await stub.RecordEvent(ASK, metadata=(("traceparent", CALLERS),))
        await stub.RecordEvent(ASK)
    assert seen == [CALLERS, ""]


async def test_our_client_sends_the_trace_it_is_given() -> None:
    seen: list[str] = []

    async def answer(_: Any, __: Context) -> Any:
        seen.append(telemetry.current_traceparent())
        return messages.RecordEventResponse()

    async with (
        scripted_ingestion(ScriptedIngestion(record=answer)) as running,
        Client.connect(f"127.0.0.1:{running.port}", traceparent=lambda: CALLERS) as client,
    ):
        await client.ingestion.RecordEvent(ASK)
    assert seen == [CALLERS]


async def test_a_call_is_a_server_span_under_its_callers(exported: Exported) -> None:
    seen = await traceparent_seen_by_a_handler(("traceparent", CALLERS))
    (span,) = await exported()
    assert span.name == f"{INGESTION}/RecordEvent"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert seen == f"00-{TRACE_ID}-{span.span_id.hex()}-01"
    assert attributes_of(span.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{INGESTION}/RecordEvent",
        "rpc.response.status_code": "OK",
    }


async def test_a_call_without_a_trace_starts_one(exported: Exported, receiver: Receiver) -> None:
    seen = await traceparent_seen_by_a_handler()
    (span,) = await exported()
    # The flags say "sampled", and that the id is random (Trace Context level 2).
    assert seen == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-03"
    assert span.parent_span_id == b""
    resource = attributes_of(receiver.resource_spans[0].resource.attributes)
    assert (resource["service.name"], resource["service.namespace"]) == ("ingestion", "touchline")


async def test_a_callers_decision_not_to_sample_holds(exported: Exported) -> None:
    seen = await traceparent_seen_by_a_handler(("traceparent", CALLERS[:-2] + "00"))
    assert await exported() == []
    assert seen.startswith(f"00-{TRACE_ID}-")
    assert seen.endswith("-00")


async def test_spans_tell_whose_fault_a_failure_is(exported: Exported) -> None:
    failing = [errors.store_full(), ValueError("quotes a value"), errors.store_unavailable()]

    async def fail(_: Any, __: Context) -> Any:
        raise failing.pop(0)

    async def streaming(_: Any, __: Context) -> AsyncIterator[Any]:
        yield messages.VerifyStoreResponse(finished=True)

    servicer = ScriptedIngestion(record=fail, verify=streaming)
    async with scripted_ingestion(servicer) as running, stub_of(running) as stub:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.RecordEvent(ASK)
        async for _response in stub.VerifyStore(messages.VerifyStoreRequest()):
            pass
    spans = await exported()
    told = [
        (
            attributes_of(span.attributes)["rpc.response.status_code"],
            attributes_of(span.attributes).get("error.type"),
        )
        for span in spans
    ]
    assert told == [
        ("RESOURCE_EXHAUSTED", None),
        ("INTERNAL", "INTERNAL"),
        ("UNAVAILABLE", "UNAVAILABLE"),
        ("OK", None),
    ]
    assert not any("quotes a value" in str(span) for span in spans)


async def test_a_batch_is_one_span_with_at_most_32_links(exported: Exported) -> None:
    carried = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 41)]
    with messaging.process("touchline.feed", [*carried, *carried, "", "junk"], messages=82):
        inside = telemetry.current_traceparent()
    (span,) = await exported()
    assert span.kind == Span.SPAN_KIND_CONSUMER
    assert [link.span_id.hex() for link in span.links] == [each[36:52] for each in carried[:32]]
    assert span.parent_span_id == b""
    assert span.span_id.hex() in inside
    assert attributes_of(span.attributes)["messaging.operation.type"] == "process"


async def test_a_message_continues_its_only_trace_from_sender_to_processor(
    exported: Exported,
) -> None:
    with messaging.send("touchline.feed", [CALLERS]):
        headers = messaging.headers_with_trace({"Nats-Msg-Id": "1"})
    with messaging.process("touchline.feed", [messaging.traceparent_in(headers)]):
        pass
    assert telemetry.current_traceparent() == ""
    sent, processed = await exported()
    assert headers["Nats-Msg-Id"] == "1"
    assert {sent.trace_id.hex(), processed.trace_id.hex()} == {TRACE_ID}
    assert sent.parent_span_id.hex() == SPAN_ID
    assert processed.parent_span_id == sent.span_id
    assert (sent.kind, sent.name) == (Span.SPAN_KIND_PRODUCER, "send touchline.feed")


async def test_a_stop_does_not_hang_on_a_receiver_that_is_gone(
    exported: Exported, receiver: Receiver
) -> None:
    await receiver.stop()
    with messaging.process("touchline.feed", []):
        pass
    started = time.monotonic()
    assert await exported() == []
    assert time.monotonic() - started < 4


async def test_an_error_marks_a_span_by_its_type_alone(exported: Exported) -> None:
    with pytest.raises(ValueError, match="quotes"), messaging.send("touchline.feed"):
        raise ValueError("quotes a value")
    (span,) = await exported()
    assert attributes_of(span.attributes)["error.type"] == "ValueError"
    assert "quotes a value" not in str(span)


async def test_each_batch_of_a_stream_is_a_span_under_the_trace_of_who_opened_it(
    exported: Exported, database_from_template: MakeDatabase, nats: OwnNats
) -> None:
    url = await database_from_template(build_event_store)
    async with ingestion_on(url, nats.url) as ingestion:
        stream: Any = ingestion.client.ingestion.StreamEvents(metadata=(("traceparent", CALLERS),))
        await stream.read()
        for events in ([an_event()], [an_event()], []):
            await stream.write(messages.StreamEventsRequest(events=events))
        answers = [await stream.read() for _ in range(2)]
        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert all(len(answer.verdicts) == 1 for answer in answers)
    method = f"{INGESTION}/StreamEvents"
    spans = [span for span in await exported() if span.name == method]
    parents = {(span.trace_id.hex(), span.parent_span_id.hex()) for span in spans}
    assert parents == {(TRACE_ID, SPAN_ID)}
    statuses = [attributes_of(span.attributes)["rpc.response.status_code"] for span in spans]
    assert sorted(statuses) == ["INVALID_ARGUMENT", "OK", "OK"]
