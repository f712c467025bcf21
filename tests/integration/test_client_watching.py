"""Watches of the client that go on where they were, whoever answers them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import grpc
import pytest

from libs.rpc import errors
from libs.rpc.server import serve
from tests.answering import Context
from tests.waiting import until
from touchline.client import Client
from touchline.failures import CallFailed
from touchline.notification.v1 import notification_service_pb2 as notification
from touchline.notification.v1.notification_pb2 import InboxItem
from touchline.notification.v1.notification_service_pb2_grpc import (
    NotificationServiceServicer,
    add_NotificationServiceServicer_to_server,
)
from touchline.profile.v1 import profile_service_pb2 as profile
from touchline.profile.v1.profile_pb2 import TimelineEntry
from touchline.profile.v1.profile_service_pb2_grpc import (
    ProfileServiceServicer,
    add_ProfileServiceServicer_to_server,
)

WATCH = profile.WatchTimelineRequest(after_position=100)


class Line:
    """What is told: a position each 5 ms, the first of them 101."""

    def __init__(self) -> None:
        self.last = 100
        self.asked: list[int] = []

    async def after(self, position: int) -> AsyncIterator[int]:
        """Tells every position after one, as a service does."""
        self.asked.append(position)
        while True:
            while position < self.last:
                position += 1
                yield position
            await asyncio.sleep(0.005)

    async def grow(self) -> None:
        while True:
            self.last += 1
            await asyncio.sleep(0.005)


class Services(ProfileServiceServicer, NotificationServiceServicer):
    """Both services that are watched."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def WatchTimeline(self, request: Any, _: Context) -> AsyncIterator[Any]:  # noqa: N802 # gRPC's name
        if request.after_position < 0:
            raise errors.profile_not_found()
        async for position in self._line.after(request.after_position):
            yield profile.WatchTimelineResponse(entry=TimelineEntry(position=position))

    async def WatchInbox(self, request: Any, _: Context) -> AsyncIterator[Any]:  # noqa: N802
        async for position in self._line.after(request.after_position):
            yield notification.WatchInboxResponse(item=InboxItem(position=position))


@asynccontextmanager
async def services(line: Line, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Runs them in one process; gives its address."""

    def register(server: grpc.aio.Server) -> None:
        servicer: Any = Services(line)  # type: ignore[abstract] # nothing else is called
        add_ProfileServiceServicer_to_server(servicer, server)
        add_NotificationServiceServicer_to_server(servicer, server)

    async with serve(listen, register, []) as running:
        yield f"127.0.0.1:{running.port}"


async def heard_while_restarted(watch: AsyncIterator[Any], restart: Any) -> list[int]:
    """What a watch tells while something is restarted, and a while after."""
    heard: list[int] = []

    async def listen() -> None:
        async for one in watch:
            heard.append(one.position)  # noqa: PERF401 - what came before an error counts

    listening = asyncio.create_task(listen())
    await until(lambda: len(heard) > 10)
    await restart
    after = len(heard) + 10
    await until(lambda: len(heard) > after or listening.done())
    listening.cancel()
    await asyncio.wait([listening])
    assert listening.cancelled(), listening.exception()
    return heard


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("what", ["timeline", "inbox"])
async def test_given_restarts_then_everything_is_told_once_and_in_order(
    what: str, replicas: int
) -> None:
    line = Line()
    growing = asyncio.create_task(line.grow())
    async with AsyncExitStack() as stack:
        running = [AsyncExitStack() for _ in range(replicas)]
        addresses = [await one.enter_async_context(services(line)) for one in running]
        for one in running:
            stack.push_async_callback(one.aclose)

        async def restart() -> None:
            for one, address in zip(running * 2, addresses * 2, strict=True):
                await asyncio.sleep(0.3)
                await one.aclose()
                await one.enter_async_context(services(line, address))

        all_of_them = ",".join(addresses)
        async with Client.connect(profile=all_of_them, notification=all_of_them) as client:
            watch: Any = (
                client.watch_timeline(WATCH)
                if what == "timeline"
                else client.watch_inbox(notification.WatchInboxRequest(after_position=100))
            )
            heard = await heard_while_restarted(watch, restart())
    growing.cancel()
    assert heard == list(range(101, 101 + len(heard)))
    assert len(line.asked) >= 3
    assert WATCH.after_position == 100


async def test_what_can_not_be_cured_by_watching_again_is_raised() -> None:
    async with services(Line()) as address, Client.connect(profile=address) as client:
        watch = client.watch_timeline(profile.WatchTimelineRequest(after_position=-1))
        with pytest.raises(CallFailed, match="PROFILE_NOT_FOUND"):
            await anext(watch)


async def test_patience_ends_with_words_when_nothing_answers() -> None:
    async with services(Line()) as address:
        pass
    async with Client.connect(profile=address, patience=0.2) as client:
        with pytest.raises(CallFailed, match="does not answer"):
            await anext(client.watch_timeline(WATCH, patience=0.3))


async def test_who_leaves_a_watch_ends_its_call() -> None:
    line = Line()
    growing = asyncio.create_task(line.grow())
    async with services(line) as address, Client.connect(profile=address) as client:
        before = len(asyncio.all_tasks())
        async with aclosing(client.watch_timeline(WATCH)) as watch:
            async for entry in watch:
                assert entry.position == 101
                break
        await until(lambda: len(asyncio.all_tasks()) <= before)
    growing.cancel()
