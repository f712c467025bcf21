"""The store's API over NATS, asked as another service asks it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from libs.eventstore import api
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import QueueFull, StoreError, StoreFull, StoreUnavailable
from libs.eventstore.records import Keys, open_event
from libs.eventstore.server import serve_store
from tests.servers import MakeDatabase, OwnNats
from tests.store import (
    DEFAULT,
    DUPLICATE,
    OTHER,
    RECORDED,
    REJECTED,
    TENANTS,
    UNIT_REFUSED,
    VERSION_TAKEN,
    Line,
    build_store,
    email,
    held_head,
    open_line,
    records_of,
    row,
    said,
)
from touchline.events.v1.event_pb2 import EVENT_TYPE_PROFILE_ERASED, Event
from touchline.store.v1.store_pb2 import (
    AppendEvent,
    AppendRequest,
    AppendResponse,
    AppendUnit,
    GetHistoryRequest,
    PositionedEvent,
    RecordedEvent,
)

_PAGE = 512 * 1024
ANA, BO = b"identity-key-ana", b"identity-key--bo"


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


@asynccontextmanager
async def serving(line: Line, nats: OwnNats) -> AsyncIterator[None]:
    async def append(request: AppendRequest, traceparent: str) -> AppendResponse:
        if request.tenant in ERRORS:
            raise ERRORS[request.tenant]
        tenant = {"default": DEFAULT, "other": OTHER}[TENANTS.named(request.tenant).name]
        return await line.recorder.append(tenant, request, traceparent)

    async with (
        connect_nats(nats.url, "store") as connection,
        serve_store(connection, line.store, line.keyring, append, line.erases),
    ):
        yield


@pytest.fixture
async def client(line: Line, nats: OwnNats) -> AsyncIterator[StoreClient]:
    async with serving(line, nats), connect_nats(nats.service_url, "another") as connection:
        yield StoreClient(connection, timeout=5)


ERRORS: dict[str, Exception] = {
    "full": StoreFull("the disk is full"),
    "gone": StoreUnavailable("the database is gone"),
    "busy": QueueFull(7),
    "wrong": ValueError("too many events"),
    "defect": KeyError("ana@example.org"),
}


async def test_the_head_is_told(line: Line, client: StoreClient) -> None:
    assert (await client.head()).position == 0
    await line.record(said("one"), said("two"))
    assert await client.head() == await line.store.head()


@pytest.mark.parametrize(("count", "size"), [(7, 200 * 1024), (3, 300 * 1024), (4500, 150)])
async def test_history_comes_in_contiguous_pages_of_half_a_mebibyte(
    line: Line, client: StoreClient, count: int, size: int
) -> None:
    records = [number.to_bytes(8, "big").rjust(size, b"\0") for number in range(count)]
    for start in range(0, count, 1000):
        part = enumerate(records[start : start + 1000], start)
        await line.append(*([row(number, record=record)] for number, record in part))
    after, chain, found = 0, bytes(32), []
    while (answer := await client.history(after)).batch.events:
        page = answer.batch
        assert (page.first, page.previous_chain) == (after + 1, chain)
        assert page.last == after + len(page.events)
        assert len(page.events) == 1 or page.ByteSize() <= _PAGE
        assert answer.head_position == count
        assert page.store_id == (await line.store.head()).store_id
        found += [event.record for event in page.events]
        after, chain = page.last, page.chain
    assert found == records
    assert chain == (await line.store.head()).chain
    assert (answer.batch.first, answer.batch.last) == (count + 1, count)
    assert answer.batch.previous_chain == answer.batch.chain == chain


async def test_history_past_the_head_has_no_chain(line: Line, client: StoreClient) -> None:
    await line.append([row(1)])
    page = (await client.history(9)).batch
    assert (len(page.events), page.previous_chain) == (0, b"")


async def test_history_of_some_partitions_leaves_the_records_of_others_out(
    line: Line, client: StoreClient
) -> None:
    await line.append(*([row(n, f"{n}", owner=bytes([n]) * 16)] for n in range(130)))
    erased = row(130, "erased", owner=bytes([130]) * 16)._replace(type=EVENT_TYPE_PROFILE_ERASED)
    await line.append([erased])
    whole = (await client.history(0)).batch
    part = (await client.history(0, (16, 31))).batch
    assert (part.first, part.last, part.chain) == (whole.first, whole.last, whole.chain)
    for full, own in zip(whole.events, part.events, strict=True):
        if 16 <= full.partition <= 31 or full.type == EVENT_TYPE_PROFILE_ERASED:
            assert own == full
        else:
            assert not own.record
            own.record = full.record
            assert own == full
    rest = (await client.history(129, (0, 0))).batch
    assert [event.record for event in rest.events] == [b"", b"erased"]


@pytest.mark.parametrize("partitions", [(0, 64), (9, 8)])
async def test_history_of_no_partitions_is_refused(
    client: StoreClient, partitions: tuple[int, int]
) -> None:
    with pytest.raises(StoreError, match="partitions are 0 to 63"):
        await client.history(0, partitions)


async def test_history_ends_where_it_was_asked_to(line: Line, client: StoreClient) -> None:
    await line.append(*([row(n, f"{n}")] for n in range(9)))
    for after, up_to, last in ((0, 4, 4), (4, 7, 7), (7, 20, 9), (4, 3, 4)):
        page = (await client.history(after, up_to=up_to)).batch
        assert (page.first, page.last, len(page.events)) == (after + 1, last, last - after)
        assert page.chain == await line.store.chain_at(last)


async def test_pages_of_history_become_full_again_after_large_records(
    line: Line, client: StoreClient
) -> None:
    await line.append(*([row(n, record=b"x" * 300_000)] for n in range(3)))
    await line.append(*([row(n, f"{n}")] for n in range(3, 1003)))
    after, pages = 0, 0
    while events := (await client.history(after)).batch.events:
        after, pages = after + len(events), pages + 1
    assert (after, pages <= 6) == (1003, True)


async def all_of(
    client: StoreClient, *keys: bytes, tenant: int = 1, up_to: int = 0
) -> list[PositionedEvent]:
    return [event async for event in client.events_of_keys(tenant, keys, up_to)]


async def test_events_of_keys_come_in_order_and_of_these_keys_and_this_tenant_only(
    line: Line, client: StoreClient
) -> None:
    large = b"x" * 200 * 1024
    for number in range(1, 13):
        owner = (ANA, BO, b"identity-key--cy")[number % 3]
        one = row(number, f"{number}", owner=owner, tenant=1 + (number > 9), record=large)
        await line.append([one])
    assert [event.position for event in await all_of(client, ANA, BO)] == [1, 3, 4, 6, 7, 9]
    assert [event.position for event in await all_of(client, ANA, BO, up_to=6)] == [1, 3, 4, 6]
    assert [event.position for event in await all_of(client, ANA, tenant=2)] == [12]
    assert await all_of(client, b"nobody-has-it!!!") == []
    assert (await all_of(client, BO))[0].event == (await line.store.history(0)).events[0]


async def test_data_keys_open_events_and_those_that_are_gone_are_absent(
    line: Line, client: StoreClient
) -> None:
    await line.record(said("hello"), said("bye", who=[email("bo@example.org")]))
    first, second = await records_of(line.store)
    found = await client.data_keys(1, [first.owner_key, second.owner_key, ANA])
    assert set(found) == {first.owner_key, second.owner_key}
    opened = open_event(first, await client.keys_of(1, [first]))
    assert opened is not None
    assert opened.interaction.text == "hello"
    assert await client.data_keys(2, [first.owner_key]) == {}


async def test_who_leaves_identities_sealed_asks_for_the_owners_key_alone(
    line: Line, client: StoreClient
) -> None:
    await line.record(said("hello", who=[email("ana@example.org"), email("bo@example.org")]))
    (record,) = await records_of(line.store)
    keys = await client.keys_of(1, [record], identities=False)
    assert set(keys.data_keys) == {record.owner_key}
    opened = open_event(record, keys, identities=False)
    named = open_event(record, await client.keys_of(1, [record]))
    assert opened is not None
    assert named is not None
    assert [one.value for one in named.identities] == ["ana@example.org", "bo@example.org"]
    named.ClearField("identities")
    assert opened == named
    assert open_event(record, Keys({}), identities=False) is None


async def test_a_service_that_forgot_learns_that_a_data_key_is_gone(
    line: Line, nats: OwnNats
) -> None:
    await line.record(said("hello"))
    (record,) = await records_of(line.store)
    await line.owner("DELETE FROM data_keys")
    async with (
        open_line(line.url) as restarted,
        serving(restarted, nats),
        connect_nats(nats.service_url, "another") as connection,
    ):
        assert await StoreClient(connection).data_keys(1, [record.owner_key]) == {}


def _unit(*events: tuple[Event, str, int]) -> AppendUnit:
    return AppendUnit(
        events=[
            AppendEvent(event=event, stream_id=stream, stream_version=version)
            for event, stream, version in events
        ]
    )


async def test_units_are_appended_with_a_verdict_for_each_event(
    line: Line, client: StoreClient
) -> None:
    stream, created = str(uuid4()), said("created")
    request = AppendRequest(tenant="default", units=[_unit((created, stream, 1))])
    assert [verdict.outcome for verdict in (await client.append(request)).verdicts] == [RECORDED]
    request.units.extend(
        [
            _unit((said("late"), stream, 1), (said("with it"), "", 0)),
            _unit((said("bad", who=[email("no address")]), "", 0)),
        ]
    )
    answer = await client.append(request)
    told = [(verdict.outcome, verdict.position) for verdict in answer.verdicts]
    assert told == [(DUPLICATE, 1), (VERSION_TAKEN, 0), (UNIT_REFUSED, 0), (REJECTED, 0)]
    assert answer.verdicts[3].detail.startswith("identities[0].value ")
    assert "no address" not in answer.verdicts[3].detail
    (stored,) = await line.owner("SELECT stream_id, stream_version FROM events")
    assert tuple(stored) == (UUID(stream), 1)


async def test_a_trace_is_stored_with_the_event_and_nothing_else_that_a_header_says(
    line: Line, client: StoreClient
) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    for header in (trace, "ana@example.org"):
        request = AppendRequest(tenant="default", units=[_unit((said("hello"), "", 0))])
        await client.connection.request(
            api.APPEND, request.SerializeToString(), timeout=5, headers={"traceparent": header}
        )
    assert [record.traceparent for record in await records_of(line.store)] == [trace, ""]


async def test_an_error_crosses_as_what_it_is(client: StoreClient) -> None:
    for name, crossed, words in (
        ("full", StoreFull, "the disk is full"),
        ("gone", StoreUnavailable, "the database is gone"),
        ("busy", StoreUnavailable, "7 events wait"),
        ("wrong", StoreError, "too many events"),
        ("defect", StoreError, "failed"),
    ):
        with pytest.raises(StoreError, match=words) as told:
            await client.append(AppendRequest(tenant=name))
        assert type(told.value) is crossed
        assert "ana@" not in str(told.value)


async def test_a_request_too_large_for_nats_is_no_outage(client: StoreClient) -> None:
    request = AppendRequest(tenant="default", units=[_unit((said("x" * 2**20), "", 0))])
    with pytest.raises(StoreError, match="larger than NATS takes") as told:
        await client.append(request)
    assert type(told.value) is StoreError  # asking again would not help


async def test_too_many_keys_are_refused(client: StoreClient) -> None:
    with pytest.raises(StoreError, match="at most 1000 owner keys"):
        await all_of(client, *([ANA] * 1001))


async def test_garbage_is_answered_with_an_error_at_once(client: StoreClient) -> None:
    for subject in (api.APPEND, api.HISTORY, api.EVENTS_OF_KEYS, api.DATA_KEYS, api.HEAD):
        answer = await client.connection.request(subject, b"\xff\xff garbage", timeout=5)
        assert (answer.headers or {})[api.ERROR_CODE] == api.BAD_REQUEST
    assert (await client.head()).position == 0


async def test_a_request_of_absurd_numbers_is_answered(client: StoreClient) -> None:
    large_tenant_and_short_key = b"\x08\xff\xff\xff\xff\x0f\x12\x01a"
    for subject, request in (
        (api.HISTORY, GetHistoryRequest(after_position=-1).SerializeToString()),
        (api.HISTORY, GetHistoryRequest(after_position=2**63 - 1).SerializeToString()),
        (api.EVENTS_OF_KEYS, large_tenant_and_short_key),
        (api.DATA_KEYS, large_tenant_and_short_key),
        (api.APPEND, b""),
    ):
        answer = await client.connection.request(subject, request, timeout=5)
        assert answer.data or (answer.headers or {})[api.ERROR_CODE]
    assert (await client.head()).position == 0


async def test_slow_requests_do_not_hold_up_the_others(line: Line, client: StoreClient) -> None:
    request = AppendRequest(tenant="default", units=[_unit((said("slow"), "", 0))])
    async with held_head(line.url):
        waiting = [asyncio.create_task(client.append(request)) for _ in range(40)]
        await asyncio.sleep(0.1)
        assert (await asyncio.wait_for(client.head(), 30)).position == 0
        assert not any(one.done() for one in waiting)
    outcomes = [(await one).verdicts[0].outcome for one in waiting]
    assert sorted(outcomes) == [RECORDED] + [DUPLICATE] * 39


async def test_nobody_there_is_said_at_once(nats: OwnNats) -> None:
    async with connect_nats(nats.service_url, "another") as connection:
        with pytest.raises(StoreUnavailable, match="is the ingestion service running"):
            await asyncio.wait_for(StoreClient(connection, timeout=60).head(), 30)


async def test_the_store_answers_again_when_nats_was_restarted(
    line: Line, nats: OwnNats, client: StoreClient
) -> None:
    await line.record(said("hello"))
    await nats.kill()
    await nats.start()
    async with asyncio.timeout(30):
        while True:
            try:
                head = await client.head()
            except StoreUnavailable:
                await asyncio.sleep(0.1)
            else:
                break
    assert head.position == 1


async def test_a_record_travels_as_it_is_stored(line: Line, client: StoreClient) -> None:
    await line.record(said("hello"))
    (stored,) = await line.owner("SELECT * FROM events")
    (event,) = (await client.history(0)).batch.events
    assert event.record == stored["record"]
    assert event.content_hash == stored["content_hash"]
    assert (event.type, event.partition) == (stored["type"], stored["partition"])
    assert RecordedEvent.FromString(event.record).event_id == stored["event_id"].bytes
