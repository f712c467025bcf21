"""A replica that is frozen, late or cut off holds up nobody who asks the store (invariant 2)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import pytest
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from libs.eventstore import api, hedging
from libs.eventstore.aggregates.appending import append_unit
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import StoreUnavailable
from libs.eventstore.server import serve_store
from tests.servers import MakeDatabase, OwnNats
from tests.store import DEFAULT, DUPLICATE, Line, build_store, open_line, said
from touchline.store.v1.store_pb2 import (
    AppendEvent,
    AppendRequest,
    AppendResponse,
    AppendUnit,
    GetHeadRequest,
)

# So many that hardly any request goes to the one that answers.
_FROZEN = 9
_GROUP = "q"  # of the NATS service protocol

Hear = Callable[[Msg], Awaitable[None]]


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks again sooner than it otherwise would."""
    monkeypatch.setattr(hedging, "ASK_AGAIN_SECONDS", (0.1, 0.2))


@asynccontextmanager
async def replica(line: Line, nats: OwnNats) -> AsyncIterator[NatsClient]:
    async def append(request: AppendRequest, traceparent: str) -> AppendResponse:
        return await line.recorder.append(DEFAULT, request, traceparent)

    async with (
        connect_nats(nats.url, "replica") as connection,
        serve_store(connection, line.store, line.keyring, append, line.erases),
    ):
        yield connection


@asynccontextmanager
async def client_beside(
    nats: OwnNats, hear: Hear, *, replicas: int = _FROZEN, patience: float = 10.0
) -> AsyncIterator[StoreClient]:
    """Gives a client, and replicas that hear what one of them is asked, as a frozen one does."""
    async with AsyncExitStack() as stack:
        mute = await stack.enter_async_context(connect_nats(nats.url, "frozen"))
        for subject in (api.HEAD, api.APPEND):
            for _ in range(replicas):
                await mute.subscribe(subject, queue=_GROUP, cb=hear)
        await mute.flush()
        asking = await stack.enter_async_context(connect_nats(nats.service_url, "another"))
        yield StoreClient(asking, timeout=patience)


async def say_nothing(message: Msg) -> None:
    """Hears a request and never answers."""
    del message


def deciding(stream: str) -> AppendEvent:
    return AppendEvent(event=said("decided"), stream_id=stream, stream_version=0)


async def test_a_frozen_replica_does_not_hold_up_who_asks(line: Line, nats: OwnNats) -> None:
    async with replica(line, nats), client_beside(nats, say_nothing) as client:
        await asyncio.gather(*(client.head() for _ in range(20)))


async def test_a_save_that_a_replica_made_and_did_not_answer_is_no_conflict(
    line: Line, nats: OwnNats
) -> None:
    lost = list[list[int]]()

    async def append_only(message: Msg) -> None:
        request = AppendRequest.FromString(message.data)
        verdicts = (await line.recorder.append(DEFAULT, request, "")).verdicts
        lost.append([verdict.position for verdict in verdicts])

    async with replica(line, nats), client_beside(nats, append_only, replicas=99) as client:
        entry = deciding(str(uuid4()))
        assert await append_unit(client, "default", [entry]) == [1]
        again = AppendRequest(tenant="default", units=[AppendUnit(events=[entry])])
        (verdict,) = (await client.append(again)).verdicts
    assert (verdict.outcome, verdict.position) == (DUPLICATE, 1)
    assert lost[0] == [1]  # the answer that was lost said that it was recorded
    assert (await line.store.head()).position == 1


async def test_a_replica_that_can_not_answer_is_not_taken_for_the_store(nats: OwnNats) -> None:
    """One is slow, and another, asked meanwhile, is cut off from PostgreSQL."""

    async def late(message: Msg) -> None:
        await asyncio.sleep(0.4)
        await message.respond(b"")

    async def cut_off(message: Msg) -> None:
        headers = {api.ERROR_CODE: api.UNAVAILABLE, api.ERROR_TEXT: "the database is gone"}
        await nobody.publish(message.reply, b"", headers=headers)

    async with connect_nats(nats.url, "cut off") as nobody:
        await nobody.subscribe(api.of_each(api.HEAD), cb=cut_off)
        async with client_beside(nats, late) as client:
            assert (await client.head()).position == 0


async def test_when_no_replica_can_answer_the_reason_is_told(nats: OwnNats) -> None:
    async def cut_off(message: Msg) -> None:
        headers = {api.ERROR_CODE: api.UNAVAILABLE, api.ERROR_TEXT: "the database is gone"}
        await asking.publish(message.reply, b"", headers=headers)

    async with connect_nats(nats.url, "cut off") as asking, client_beside(nats, cut_off) as client:
        with pytest.raises(StoreUnavailable, match="the database is gone"):
            await client.head()


async def test_a_request_is_sent_three_times_at_most(nats: OwnNats) -> None:
    heard = list[str]()

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    async with client_beside(nats, hear, replicas=1, patience=1.0) as client:
        await client.connection.flush()
        async with connect_nats(nats.url, "each") as each:
            await each.subscribe(api.of_each(api.HEAD), cb=hear)
            await each.flush()
            with pytest.raises(StoreUnavailable):
                await client.head()
    assert heard == [api.HEAD, api.of_each(api.HEAD), api.of_each(api.HEAD)]


async def test_each_replica_hears_what_is_asked_of_each(line: Line, nats: OwnNats) -> None:
    answers = list[bytes]()

    async def hear(message: Msg) -> None:
        answers.append(message.data)

    async with replica(line, nats), replica(line, nats) as connection:
        await connection.subscribe("answers", cb=hear)
        request = GetHeadRequest().SerializeToString()
        await connection.publish(api.of_each(api.HEAD), request, reply="answers")
        async with asyncio.timeout(30):
            while len(answers) < 2:  # noqa: ASYNC110 - they come when they come
                await asyncio.sleep(0.02)
    assert answers[0] == answers[1] != b""
