"""StreamEvents: batches in flight up to a window, answered in their order, whatever happens."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import pytest

from libs.eventstore.appender import Appender
from services.ingestion import __main__ as process
from services.ingestion.calls import streaming
from tests.events import an_event
from tests.ingesting import Ingestion, ingestion_on, record, status, until_queued
from tests.proxy import proxied
from tests.services import Touchline
from tests.store import held_head
from tests.waiting import until
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_DUPLICATE,
    OUTCOME_RECORDED,
    OUTCOME_REJECTED,
)


def some_events(count: int) -> list[Event]:
    return [an_event() for _ in range(count)]


async def opened(client: Client) -> Any:
    """A stream whose window is told."""
    stream: Any = client.ingestion.StreamEvents()
    window: Any = await stream.read()
    assert window.window_events == streaming.WINDOW_EVENTS
    return stream


async def send(stream: Any, sequence: int, events: list[Event]) -> None:
    await stream.write(api.StreamEventsRequest(sequence=sequence, events=events))


async def failure_of(stream: Any) -> CallFailed:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stream.read()
    return CallFailed.of(failed.value)


def streams_under_way() -> list[str]:
    """The tasks of StreamEvents that run in this process, where the services run too."""
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return [name for name in names if "_Stream." in name or "StreamEvents" in name]


@pytest.fixture(scope="module")
async def second(shared_touchline: Touchline) -> AsyncIterator[Ingestion]:
    """Another ingestion service on the shared store, with a small queue; tests may restart it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "Appender", partial(Appender, queue_events=200))
        async with ingestion_on(shared_touchline.stores.events, shared_touchline.nats.url) as other:
            yield other


async def test_batches_are_answered_in_their_order_each_event_with_a_verdict(
    shared_touchline: Touchline,
) -> None:
    stream = await opened(shared_touchline.client)
    batches = [some_events(count) for count in (3, 200, 1)]
    batches[0][1].identities[0].value = "not an address"
    batches.append(batches[2])
    for sequence, events in zip((7, -1, 0, 0), batches, strict=True):
        await send(stream, sequence, events)
    answers = [await stream.read() for _ in batches]
    assert [answer.sequence for answer in answers] == [7, -1, 0, 0]
    for answer, events in zip(answers, batches, strict=True):
        assert [one.event_id for one in answer.verdicts] == [event.event_id for event in events]
        assert answer.window_events == 0
    outcomes = [[one.outcome for one in answer.verdicts] for answer in answers]
    assert outcomes[0] == [OUTCOME_RECORDED, OUTCOME_REJECTED, OUTCOME_RECORDED]
    assert outcomes[1:] == [[OUTCOME_RECORDED] * 200, [OUTCOME_RECORDED], [OUTCOME_DUPLICATE]]
    positions = [one.position for answer in answers for one in answer.verdicts if one.position]
    assert positions[:-1] == list(range(positions[0], positions[0] + 203))
    assert positions[-1] == positions[-2]
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_events_get_on_the_line_in_their_order_though_new_identities_take_time(
    shared_touchline: Touchline,
) -> None:
    stream = await opened(shared_touchline.client)
    for number in range(20):
        # Every other batch needs a data key to be made and a rejection to be kept.
        event = an_event(email=f"order{number}@example.com" if number % 2 else "anna@example.com")
        await send(stream, number, [event, Event(event_id=event.event_id)][: 1 + number % 2])
    verdicts = [(await stream.read()).verdicts[0] for _ in range(20)]
    positions = [verdict.position for verdict in verdicts]
    assert positions == list(range(positions[0], positions[0] + 20))
    stream.cancel()


async def test_who_sends_faster_than_the_disk_is_stopped_at_the_window(
    shared_touchline: Touchline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No batch is begun that might have a thousand events too many: four of a hundred are.
    monkeypatch.setattr(streaming, "WINDOW_EVENTS", 1300)
    client, events = shared_touchline.client, some_events(100)
    for event in events:
        event.interaction.text = "Long. " * 2000
    stream = await opened(client)
    sent = 0

    async def send_without_end() -> None:
        nonlocal sent
        for sequence in range(200):
            await send(stream, sequence, events)
            sent += 1

    async with held_head(shared_touchline.stores.events):
        sending = asyncio.ensure_future(send_without_end())
        await until_queued(client, 400)
        await asyncio.sleep(0.3)
        held_back = sent
        await asyncio.sleep(0.2)
        assert sent == held_back < 200
        assert (await status(client)).queued_events == 400
    for sequence in range(8):
        answer = await stream.read()
        assert (answer.sequence, len(answer.verdicts)) == (sequence, 100)
    stream.cancel()
    await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_bad_batch_ends_the_stream_after_the_answers_before_it(
    shared_touchline: Touchline, count: int
) -> None:
    stream = await opened(shared_touchline.client)
    good, never = some_events(1), some_events(1)
    async with held_head(shared_touchline.stores.events):
        await send(stream, 1, good)
        await send(stream, 41, some_events(count))
        await send(stream, 42, never)
    assert (await stream.read()).sequence == 1
    failed = await failure_of(stream)
    assert failed.reason == "INVALID_REQUEST"
    assert f"sequence 41 has {count:,} entries" in failed.message
    assert (await record(shared_touchline.client, never[0])).outcome == OUTCOME_RECORDED
    assert (await record(shared_touchline.client, good[0])).outcome == OUTCOME_DUPLICATE


async def test_a_full_queue_is_waited_for_and_leaves_room_for_single_calls(
    second: Ingestion,
) -> None:
    stream = await opened(second.client)
    batches = [some_events(70) for _ in range(5)]
    async with held_head(second.database_url):
        for sequence, events in enumerate(batches):
            await send(stream, sequence, events)
        await until_queued(second.client, 140)
        single = asyncio.ensure_future(record(second.client, an_event()))
        await until_queued(second.client, 141)
    for sequence in range(5):
        answer = await stream.read()
        assert answer.sequence == sequence
        assert {verdict.outcome for verdict in answer.verdicts} == {OUTCOME_RECORDED}
    assert (await single).outcome == OUTCOME_RECORDED
    stream.cancel()


async def test_a_caller_who_vanishes_leaves_whole_batches_and_no_task(
    shared_touchline: Touchline,
) -> None:
    client, batches = shared_touchline.client, [some_events(100) for _ in range(4)]
    stream = await opened(client)
    async with held_head(shared_touchline.stores.events):
        for sequence, events in enumerate(batches):
            await send(stream, sequence, events)
        await until_queued(client, 400)
        assert streams_under_way()
        stream.cancel()
        await until(lambda: not streams_under_way())
    await until_idle(client)
    for events in batches:
        outcomes = {verdict.outcome for verdict in await client.record(events)}
        assert outcomes in ({OUTCOME_RECORDED}, {OUTCOME_DUPLICATE})


async def until_idle(client: Client) -> None:
    async with asyncio.timeout(30):
        while (await status(client)).queued_events:  # noqa: ASYNC110 # only asking tells
            await asyncio.sleep(0.02)


async def test_a_stop_answers_what_is_in_hand_and_sends_the_caller_elsewhere(
    second: Ingestion,
) -> None:
    stream, idle = await opened(second.client), await opened(second.client)
    async with held_head(second.database_url):
        for sequence in range(2):
            await send(stream, sequence, some_events(70))
        await until_queued(second.client, 140)
        stopping = asyncio.ensure_future(second.service.stop())
        ended = await failure_of(idle)
        assert not stopping.done()
    assert [(await stream.read()).sequence for _ in range(2)] == [0, 1]
    for failed in (ended, await failure_of(stream)):
        assert failed.code is grpc.StatusCode.UNAVAILABLE
        assert "Call again" in failed.message
    await stopping
    await second.service.start()


async def test_a_lost_store_is_told_after_what_was_answered(shared_touchline: Touchline) -> None:
    stores, nats = shared_touchline.stores, shared_touchline.nats
    async with (
        proxied(stores.events) as (proxy, url),
        ingestion_on(url, nats.url) as ingestion,
    ):
        stream = await opened(ingestion.client)
        await send(stream, 1, some_events(2))
        assert (await stream.read()).sequence == 1
        proxy.refuse()
        proxy.cut()
        for sequence in (2, 3):
            await send(stream, sequence, some_events(2))
        failed = await failure_of(stream)
        proxy.accept()
    assert (failed.reason, failed.retry_after) == ("STORE_UNAVAILABLE", 1.0)
