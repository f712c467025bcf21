"""What a caller does not hear, or not in time: sent again, each event is on the line once.

Two ingestion services append to one store. Callers reach them through proxies that cut, swallow and
freeze what passes.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from eventsourcing.persistence import StoredEvent

from libs.eventstore import aggregates
from libs.eventstore.aggregates.lending import LINE, borrowed
from libs.eventstore.aggregates.recorders import LineApplicationRecorder
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.identity.keys import IdentityKeys, tenant_secret
from libs.postgres.pool import open_pool
from libs.rpc.tenants import Tenants
from tests.events import an_event
from tests.ingesting import Ingestion, ingestion_on, status
from tests.proxy import TcpProxy, proxied
from tests.services import Touchline
from touchline.client import Client, attempts, streaming
from touchline.client.channels import Replica
from touchline.client.recording import Ingestions
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_DUPLICATE,
    OUTCOME_RECORDED,
    Verdict,
)
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_DUPLICATE,
    AppendEvent,
    AppendRequest,
    AppendUnit,
)
from touchline.uuid7 import uuid7


@dataclass(frozen=True, slots=True)
class Replicas:
    """Two ingestion services on one store, each behind a proxy.

    Attributes:
        proxies: In front of the first and of the second.
        second: The second one.
        direct: A client of the first that no proxy disturbs.
        client: Reaches both through the proxies.
    """

    proxies: tuple[TcpProxy, TcpProxy]
    second: Ingestion
    direct: Client
    client: Client

    async def head(self) -> int:
        """Where the line ends."""
        return (await status(self.direct)).head_position

    async def until_head(self, position: int) -> None:
        """Returns once the line is as long."""
        async with asyncio.timeout(30):
            while await self.head() < position:  # noqa: ASYNC110 # only asking tells
                await asyncio.sleep(0.02)

    async def assert_once(
        self, events: Sequence[Event], verdicts: Sequence[Verdict], before: int
    ) -> None:
        """Each event is on the line once, where its verdict says, and nothing else is."""
        assert [one.event_id for one in verdicts] == [event.event_id for event in events]
        assert {one.outcome for one in verdicts} <= {OUTCOME_RECORDED, OUTCOME_DUPLICATE}
        positions = [one.position for one in verdicts]
        assert sorted(positions) == list(range(before + 1, before + len(events) + 1))
        again = await self.direct.record(events)
        assert [(one.outcome, one.position) for one in again] == [
            (OUTCOME_DUPLICATE, position) for position in positions
        ]
        assert await self.head() == before + len(events)


@pytest.fixture(scope="module")
async def both(shared_touchline: Touchline) -> AsyncIterator[tuple[Ingestion, TcpProxy, TcpProxy]]:
    """A second ingestion service beside the shared one, and a proxy in front of each."""
    stores, nats = shared_touchline.stores, shared_touchline.nats
    async with (
        ingestion_on(stores.events, nats.url) as second,
        proxy_to(shared_touchline.ingestion.listen) as one,
        proxy_to(second.service.listen) as other,
    ):
        yield second, one, other


@pytest.fixture
async def replicas(
    shared_touchline: Touchline,
    both: tuple[Ingestion, TcpProxy, TcpProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Replicas]:
    """Both replicas, healthy, and callers who lose patience with one of them soon."""
    monkeypatch.setattr(attempts, "_FIRST_SECONDS", 0.4)
    # Few events are read ahead, so that what happens in the middle of a stream does.
    monkeypatch.setattr(streaming, "MAXIMUM_BATCH_EVENTS", 50)
    monkeypatch.setattr(streaming, "_HELD_EVENTS", 250)
    second, *proxies = both
    async with Client.connect(",".join(proxy.address for proxy in proxies)) as client:
        for _ in proxies:
            await status(client)  # connects
        yield Replicas((proxies[0], proxies[1]), second, shared_touchline.client, client)
    for proxy in proxies:
        proxy.resume()
        proxy.accept()
        proxy.cut()


def proxy_to(address: str) -> TcpProxy:
    host, _, port = address.rpartition(":")
    return TcpProxy(host, int(port))


def some_events(count: int) -> list[Event]:
    events = [Event() for _ in range(count)]
    one = an_event()
    for event in events:
        event.CopyFrom(one)
        event.event_id = uuid7()
    return events


async def test_a_reply_lost_after_the_commit_is_asked_for_again(replicas: Replicas) -> None:
    before, events = await replicas.head(), some_events(3)
    for proxy in replicas.proxies:
        proxy.swallow()
    recording = asyncio.ensure_future(replicas.client.record(events))
    await replicas.until_head(before + 3)
    for proxy in replicas.proxies:
        proxy.cut()
    verdicts = await recording
    assert [(one.outcome, one.position) for one in verdicts] == [
        (OUTCOME_DUPLICATE, position) for position in range(before + 1, before + 4)
    ]
    await replicas.assert_once(events, verdicts, before)


async def test_a_request_cut_in_the_middle_is_sent_again_whole(replicas: Replicas) -> None:
    before, events = await replicas.head(), some_events(500)
    for proxy in replicas.proxies:
        proxy.cut_after(sent=10_000)
    verdicts = await replicas.client.record(events)
    assert sum(proxy.cuts for proxy in replicas.proxies) > 0
    assert [one.position for one in verdicts] == list(range(before + 1, before + 501))
    await replicas.assert_once(events, verdicts, before)


@pytest.mark.parametrize("number", [0, 1])
async def test_what_one_replica_recorded_unheard_the_other_one_answers(
    replicas: Replicas, number: int
) -> None:
    before, events = await replicas.head(), some_events(4)
    replicas.proxies[number].swallow()
    verdicts: list[Verdict] = []
    for event in events:
        verdicts += await replicas.client.record([event])
    assert replicas.proxies[number].swallowed > 0
    assert OUTCOME_DUPLICATE in {one.outcome for one in verdicts}
    assert [one.position for one in verdicts] == list(range(before + 1, before + 5))
    replicas.proxies[number].cut()
    await replicas.assert_once(events, verdicts, before)


async def test_a_frozen_replica_is_left_and_not_asked_in_turn(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []
    failed = Ingestions.failed

    async def noted(self: Ingestions, replica: Replica, *rest: Any) -> None:
        failures.append(replica.address)
        await failed(self, replica, *rest)

    monkeypatch.setattr(Ingestions, "failed", noted)
    before, events = await replicas.head(), some_events(30)
    replicas.proxies[0].freeze()
    verdicts = [(await replicas.client.record([event]))[0] for event in events]
    assert set(failures) == {replicas.proxies[0].address}
    assert len(failures) < 10  # in turn it would be 15
    replicas.proxies[0].cut()
    await replicas.assert_once(events, verdicts, before)


async def test_calls_that_only_read_find_the_replica_that_is_there(replicas: Replicas) -> None:
    head = await replicas.head()
    replicas.proxies[1].refuse()
    replicas.proxies[1].cut()
    for _ in range(6):
        assert (await status(replicas.client)).head_position == head


async def streamed(client: Client, events: Iterable[Event]) -> AsyncIterator[tuple[int, Verdict]]:
    """The verdicts of a stream, numbered."""
    number = 0
    async for verdict in client.record_stream(events):
        yield number, verdict
        number += 1


async def test_a_stream_that_is_cut_goes_on_where_it_was(replicas: Replicas) -> None:
    before, events = await replicas.head(), some_events(1500)
    verdicts: list[Verdict] = []
    async for number, verdict in streamed(replicas.client, events):
        verdicts.append(verdict)
        for proxy in replicas.proxies:
            if number in (100, 600):
                proxy.cut()
            if number == 300:
                proxy.cut_after(received=3_000)
            if number == 900:
                proxy.cut_after(sent=5_000)
    await replicas.assert_once(events, verdicts, before)


async def test_a_stream_leaves_a_replica_that_falls_silent(replicas: Replicas) -> None:
    before, events = await replicas.head(), some_events(1200)
    one, other = replicas.proxies
    verdicts: list[Verdict] = []
    async for number, verdict in streamed(replicas.client, events):
        verdicts.append(verdict)
        if number == 100:
            one.freeze()
        if number == 500:
            one.cut()
            one.resume()
            other.swallow()
    other.cut()
    await replicas.assert_once(events, verdicts, before)


async def test_a_stream_outlives_the_restart_of_a_replica(replicas: Replicas) -> None:
    before, events = await replicas.head(), some_events(1200)
    restarting: list[asyncio.Task[None]] = []
    verdicts: list[Verdict] = []
    async for number, verdict in streamed(replicas.client, events):
        verdicts.append(verdict)
        if number == 100:
            restarting.append(asyncio.create_task(replicas.second.service.restart()))
        if number % 100 == 0:
            await asyncio.sleep(0.02)
    await asyncio.gather(*restarting)
    await replicas.assert_once(events, verdicts, before)


async def test_a_stream_that_nobody_answers_ends_when_patience_does(replicas: Replicas) -> None:
    events, verdicts = some_events(1000), list[Verdict]()

    async def record() -> None:
        async for verdict in replicas.client.record_stream(events, patience=0.5):
            verdicts.append(verdict)
            for proxy in replicas.proxies:
                proxy.refuse()
                proxy.cut()

    with pytest.raises(CallFailed, match="UNAVAILABLE"):
        await record()
    assert 0 < len(verdicts) < 1000
    assert [one.event_id for one in verdicts] == [one.event_id for one in events[: len(verdicts)]]


async def test_an_append_over_nats_whose_reply_is_lost_is_a_duplicate(
    replicas: Replicas, shared_touchline: Touchline
) -> None:
    before, event = await replicas.head(), an_event()
    request = AppendRequest(tenant="default", units=[AppendUnit(events=[AppendEvent(event=event)])])
    async with (
        proxied(shared_touchline.nats.service_url) as (proxy, url),
        connect_nats(url, "tests") as connection,
    ):
        proxy.swallow()
        appending = asyncio.ensure_future(StoreClient(connection).append(request))
        await replicas.until_head(before + 1)
        proxy.cut()
        (verdict,) = (await appending).verdicts
    assert (verdict.outcome, verdict.position) == (APPEND_OUTCOME_DUPLICATE, before + 1)
    assert await replicas.head() == before + 1


async def test_an_aggregate_whose_save_was_not_heard_is_saved_once(
    replicas: Replicas, shared_touchline: Touchline
) -> None:
    before = await replicas.head()
    keys = IdentityKeys(tenant_secret(bytes.fromhex("1d" * 32), "default"))
    change = StoredEvent("ambiguous", 1, "module:Moved", b"{}")
    async with (
        proxied(shared_touchline.nats.service_url) as (proxy, url),
        connect_nats(url, "tests") as connection,
        open_pool(shared_touchline.stores.events, application="tests") as pool,
    ):
        client, tenant = StoreClient(connection), Tenants(["default"]).named("default")
        with aggregates.lend(client, tenant, keys, pool) as environment:
            recorder = LineApplicationRecorder(borrowed(environment[LINE]), "promises")
            proxy.swallow()
            saving = asyncio.ensure_future(asyncio.to_thread(recorder.insert_events, [change]))
            await replicas.until_head(before + 1)
            proxy.cut()
            assert await saving == [before + 1]
    assert await replicas.head() == before + 1
