"""Watching a timeline: from a position, as it happens, through merges, until the service drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tests.customers import new_email, new_phone, of, profile_id, record, timeline, told
from tests.given import note, retraction
from tests.services import Touchline
from touchline.client import Client
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.profile_pb2 import TimelineEntry


class Watch:
    """A watched timeline."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def next(self, count: int = 1) -> list[TimelineEntry]:
        """The next entries; they must come soon."""
        async with asyncio.timeout(30):
            return [(await self._stream.read()).entry for _ in range(count)]

    async def to_its_end(self) -> None:
        """Reads on until the stream ends, and raises what it ends with."""
        async with asyncio.timeout(30):
            while await self._stream.read() is not grpc.aio.EOF:
                pass


@asynccontextmanager
async def watching(client: Client, who: Identity, after: int = 0) -> AsyncIterator[Watch]:
    stream = client.profile.WatchTimeline(
        api.WatchTimelineRequest(profile=of(who), after_position=after)
    )
    try:
        yield Watch(stream)
    finally:
        stream.cancel()


async def test_given_a_position_then_what_came_after_is_told_in_order_and_then_what_comes(
    shared_touchline: Touchline,
) -> None:
    client, who = shared_touchline.client, new_email()
    # Told in the order they are recorded, whenever they happened.
    days = ["2024-01-03", "2024-01-01", "2024-01-02"]
    last = await record(client, *[told(note(day, "Before"), who) for day in days])
    await timeline(client, who, last)

    async with watching(client, who, last - 2) as watch, watching(client, who) as whole:
        before = await watch.next(2)
        assert [entry.position for entry in before] == [last - 1, last]
        assert [entry.position for entry in await whole.next(3)] == [last - 2, last - 1, last]
        for number in range(3):
            sent = note("2020-01-01", f"Note {number}")
            position = await record(client, told(sent, who))
            await record(client, told(note("2024-01-01", "Another customer"), new_email()))
            for one in (watch, whole):
                (entry,) = await one.next()
                assert (entry.position, entry.event.event_id) == (position, sent.event.event_id)


async def test_given_more_than_a_page_of_history_then_all_of_it_is_told_once(
    shared_touchline: Touchline,
) -> None:
    client, who = shared_touchline.client, new_email()
    events = [told(note("2024-01-01", "Note"), who) for _ in range(450)]
    last = await record(client, *events)
    await timeline(client, who, last)

    async with watching(client, who) as watch:
        entries = await watch.next(450)
    assert [entry.event.event_id for entry in entries] == [event.event_id for event in events]


async def test_given_a_merge_while_watching_then_events_of_both_identities_are_told(
    shared_touchline: Touchline,
) -> None:
    client, one, other = shared_touchline.client, new_email(), new_phone()
    last = await record(
        client, told(note("2024-01-01", "One"), one), told(note("2024-01-01", "Other"), other)
    )
    await profile_id(client, other, last)

    # The watched profile is absorbed: the other one was there first.
    async with watching(client, other, last) as watch:
        link = await record(client, told(note("2024-01-02", "Both"), one, other))
        mine = await record(client, told(note("2024-01-03", "Mine"), one))
        theirs = await record(client, told(note("2024-01-03", "Theirs"), other))
        entries = await watch.next(3)
    assert [entry.position for entry in entries] == [link, mine, theirs]


async def test_given_an_event_that_is_retracted_then_a_later_watch_does_not_tell_it(
    shared_touchline: Touchline,
) -> None:
    client, who = shared_touchline.client, new_email()
    wrong = note("2024-01-01", "Wrong")
    last = await record(client, told(wrong, who), told(retraction("2024-01-02", wrong), who))
    await timeline(client, who, last)

    async with watching(client, who) as watch:
        (entry,) = await watch.next()
    assert entry.event.event_retracted.event_id == wrong.event.event_id


async def test_given_nobody_to_watch_then_the_stream_says_so(shared_touchline: Touchline) -> None:
    with pytest.raises(CallFailed, match="PROFILE_NOT_FOUND"), readable_failures():
        async for _ in shared_touchline.client.profile.WatchTimeline(
            api.WatchTimelineRequest(profile=of(new_email()))
        ):
            pass


async def test_given_a_drain_then_watchers_are_sent_elsewhere_and_continue_without_a_gap(
    touchline: Touchline,
) -> None:
    client, who = touchline.client, new_email()
    last = await record(client, told(note("2024-01-01", "Before"), who))
    await profile_id(client, who, last)
    async with watching(client, who) as watch:
        (seen,) = await watch.next()
        async with asyncio.timeout(9):  # below the ten seconds that calls have to end
            await touchline.profile.stop()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watch.to_its_end()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE

    missed = await record(client, told(note("2024-01-02", "Meanwhile"), who))
    await touchline.profile.start()
    async with watching(client, who, seen.position) as watch:
        assert [entry.position for entry in await watch.next()] == [missed]
