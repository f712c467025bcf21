"""Two stores behind one NATS: the later one goes, and no caller is answered by both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from libs.eventstore import api, other_stores
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import AnotherStore
from libs.eventstore.other_stores import refuse_if_taken
from libs.eventstore.server import serve_store
from tests.servers import MakeDatabase, OwnNats
from tests.services import mint_store
from tests.store import Line, build_store, open_line
from touchline.store.v1.store_pb2 import AppendRequest, AppendResponse


@pytest.fixture
async def ours(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


@pytest.fixture
async def theirs(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    url = await database_from_template(build_store)
    await mint_store(url)
    async with open_line(url) as line:
        yield line


@pytest.fixture
async def connection(nats: OwnNats) -> AsyncIterator[NatsClient]:
    async with connect_nats(nats.url, "store") as connection:
        yield connection


def serving(line: Line, connection: NatsClient) -> AbstractAsyncContextManager[None]:
    return serve_store(connection, line.store, line.keyring, _append_nothing, line.erases)


async def _append_nothing(_: AppendRequest, __: str) -> AppendResponse:
    return AppendResponse()


async def test_a_store_that_comes_second_is_refused_and_its_replicas_are_not(
    ours: Line, theirs: Line, connection: NatsClient
) -> None:
    mine, other = (await ours.store.head()).store_id, (await theirs.store.head()).store_id
    await refuse_if_taken(connection, mine)  # nobody answers
    async with serving(ours, connection):
        await refuse_if_taken(connection, mine)
        with pytest.raises(AnotherStore) as told:
            await refuse_if_taken(connection, other)
    for said in (
        f"another store, {mine.hex()}",
        f"this one is {other.hex()}",
        "TOUCHLINE_NATS_URL",
    ):
        assert said in str(told.value)
    await refuse_if_taken(connection, other)  # it has gone


async def test_of_two_that_start_at_one_moment_the_later_one_ends(
    ours: Line,
    theirs: Line,
    connection: NatsClient,
    nats: OwnNats,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for seconds in ("_FIRST_LOOK_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(other_stores, seconds, 0.1)
    monkeypatch.setattr(other_stores, "_ANSWERS_SECONDS", 0.2)
    async with serving(ours, connection), connect_nats(nats.url, "replica") as another:
        async with serving(ours, another):  # two of one store are no matter
            await asyncio.sleep(0.5)
        with pytest.raises(AnotherStore, match=(await ours.store.head()).store_id.hex()):
            async with connect_nats(nats.url, "theirs") as third, serving(theirs, third):
                await asyncio.sleep(60)
        await asyncio.sleep(0.5)  # it goes on
    assert "another store answers on this NATS, and has to end" in capsys.readouterr().out


async def test_what_else_answers_ends_no_store_that_serves(
    ours: Line, connection: NatsClient, nats: OwnNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_stores, "_FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(other_stores, "_ANSWERS_SECONDS", 0.2)
    asked = asyncio.Event()

    async def answer(question: Msg) -> None:
        for told in (b"", b"[]", b'{"metadata": 1}', b'{"metadata": {"store_id": 1}}'):
            await question.respond(told)
        await question.respond(b'{"metadata": {"store_id": "00", "since_us": "yesterday"}}')
        asked.set()

    async with connect_nats(nats.url, "else") as another:
        await another.subscribe(f"$SRV.INFO.{api.SERVICE}", cb=answer)
        await another.flush()
        async with serving(ours, connection):
            await asyncio.wait_for(asked.wait(), 30)
            await asyncio.sleep(0.3)
            assert (await StoreClient(another).head()).position == 0
