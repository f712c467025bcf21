"""Client.record_stream: what it reads ahead, when it sends, and how it ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.answering import Context, ScriptedIngestion, each_recorded, scripted_ingestion
from tests.waiting import until
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.ingestion.v1 import ingestion_service_pb2 as messages
from touchline.ingestion.v1.ingestion_pb2 import Verdict
from touchline.uuid7 import uuid7


class Sizes:
    """Answers as it should, and remembers the sizes of the batches."""

    def __init__(self, window: int = 4000) -> None:
        self.window = window
        self.sizes: list[int] = []
        self.streams = 0

    async def __call__(self, requests: Any, context: Context) -> AsyncIterator[Any]:
        self.streams += 1
        async for response in each_recorded(self._noted(requests), context):
            if response.window_events:
                response.window_events = self.window
            yield response

    async def _noted(self, requests: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self.sizes.append(len(request.events))
            yield request


def endless(taken: list[Event]) -> Iterator[Event]:
    while True:
        taken.append(Event(event_id=uuid7()))
        yield taken[-1]


def streams_under_way() -> list[str]:
    """The tasks of record_stream and of the service that answers it."""
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return [name for name in names if "EventStream." in name or "StreamEvents" in name]


async def all_of(verdicts: AsyncIterator[Verdict]) -> list[str]:
    return [verdict.event_id async for verdict in verdicts]


async def test_a_busy_stream_sends_whole_batches_within_the_window() -> None:
    events = [Event(event_id=uuid7()) for _ in range(3_300)]
    for window, expected in ((4000, [1000, 1000, 1000, 300]), (900, [900, 900, 900, 600])):
        asked = Sizes(window)
        async with (
            scripted_ingestion(ScriptedIngestion(stream=asked)) as running,
            Client.connect(f"127.0.0.1:{running.port}") as client,
        ):
            assert await all_of(client.record_stream(events)) == [one.event_id for one in events]
        assert asked.sizes == expected


async def test_a_batch_has_at_most_three_mebibytes() -> None:
    asked = Sizes()
    events = [Event(event_id=uuid7(), source="x" * 1_000_000) for _ in range(7)]
    async with (
        scripted_ingestion(ScriptedIngestion(stream=asked)) as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        assert len(await all_of(client.record_stream(events))) == 7
    assert max(asked.sizes) == 3
    assert sum(asked.sizes) == 7


async def test_a_lone_event_does_not_wait_for_company() -> None:
    heard = asyncio.Event()
    heard.set()

    async def one_after_the_other() -> AsyncIterator[Event]:
        for _ in range(5):
            await heard.wait()
            heard.clear()
            yield Event(event_id=uuid7())

    asked = Sizes()
    async with (
        scripted_ingestion(ScriptedIngestion(stream=asked)) as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        async for _ in client.record_stream(one_after_the_other()):
            heard.set()
    assert (asked.sizes, asked.streams) == ([1] * 5, 1)


async def test_no_more_than_five_thousand_events_are_read_ahead_of_the_verdicts_taken() -> None:
    taken: list[Event] = []
    async with (
        scripted_ingestion() as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        verdicts: Any = client.record_stream(endless(taken))
        for _ in range(1500):
            await anext(verdicts)
        await until(lambda: len(taken) >= 6000)
        await asyncio.sleep(0.1)
        assert 6000 <= len(taken) <= 6500
        assert streams_under_way()
        await verdicts.aclose()
        await until(lambda: not streams_under_way())


async def test_what_its_source_raises_comes_after_the_verdicts_of_what_came_before() -> None:
    async def broken() -> AsyncIterator[Event]:
        for _ in range(3):
            yield Event(event_id=uuid7())
        raise LookupError("the source broke")

    heard: list[str] = []

    async def record() -> None:
        async for verdict in client.record_stream(broken()):
            heard.append(verdict.event_id)  # noqa: PERF401 # what came before an error counts

    async with (
        scripted_ingestion() as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        with pytest.raises(LookupError, match="the source broke"):
            await record()
        assert len(heard) == 3
        with pytest.raises(ValueError, match="event_id"):
            await all_of(client.record_stream([Event(source="shop")]))
        assert await all_of(client.record_stream([])) == []


async def test_a_stream_that_ends_while_its_source_rests_is_opened_again_when_it_goes_on() -> None:
    """As when the service is restarted; the caller notices nothing."""
    streams = 0

    async def ends_after_one(requests: Any, context: Context) -> AsyncIterator[Any]:
        nonlocal streams
        streams += 1
        responses: Any = each_recorded(requests, context)
        yield await anext(responses)
        yield await anext(responses)

    heard = asyncio.Event()

    async def resting() -> AsyncIterator[Event]:
        for _ in range(3):
            yield Event(event_id=uuid7())
            await heard.wait()
            heard.clear()
            await asyncio.sleep(0.05)

    async with (
        scripted_ingestion(ScriptedIngestion(stream=ends_after_one)) as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        async for _ in client.record_stream(resting()):
            heard.set()
    assert streams == 3


async def test_an_answer_that_is_none_of_ours_fails_at_once() -> None:
    async def too_few(requests: Any, _: Context) -> AsyncIterator[Any]:
        yield messages.StreamEventsResponse(window_events=10)
        async for request in requests:
            yield messages.StreamEventsResponse(sequence=request.sequence)

    async with (
        scripted_ingestion(ScriptedIngestion(stream=too_few)) as running,
        Client.connect(f"127.0.0.1:{running.port}") as client,
    ):
        with pytest.raises(CallFailed, match="0 verdicts and 1 were asked for"):
            await all_of(client.record_stream([Event(event_id=uuid7())]))


async def test_a_service_of_several_addresses_is_called_at_each() -> None:
    calls = {"one": 0, "other": 0}

    def counting(name: str) -> ScriptedIngestion:
        async def record(_: Any, __: Context) -> Any:
            calls[name] += 1
            return messages.RecordEventResponse()

        return ScriptedIngestion(record=record)

    async with (
        scripted_ingestion(counting("one")) as one,
        scripted_ingestion(counting("other")) as other,
        Client.connect(f"127.0.0.1:{one.port}, localhost:{other.port}") as client,
    ):
        for _ in range(10):
            await client.ingestion.RecordEvent(messages.RecordEventRequest())
    assert calls == {"one": 5, "other": 5}


async def test_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="names no host:port"):
        async with Client.connect(" , "):
            pass
