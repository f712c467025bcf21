"""What the ingestion service tells of its store: what was rejected, where it stands, its state."""

import pytest

from tests.events import an_event
from tests.ingesting import record, record_batch, status, until_relayed
from tests.services import Touchline
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_RECORDED, OUTCOME_REJECTED, RejectedEvent


def a_wrong_event(number: int = 0, text_length: int = 0) -> Event:
    event = an_event("note_added")
    event.source = ""
    event.note_added.text = f"{number}" + "x" * text_length
    return event


async def rejected_pages(client: Client, page_size: int = 0) -> list[list[RejectedEvent]]:
    pages: list[list[RejectedEvent]] = []
    request = api.ListRejectedEventsRequest(page_size=page_size)
    while True:
        page = await client.ingestion.ListRejectedEvents(request)
        pages.append(list(page.rejected_events))
        request.page_token = page.next_page_token
        if not request.page_token:
            return pages


async def test_rejected_events_are_kept_once_as_sent_and_listed_newest_first(
    touchline: Touchline,
) -> None:
    client = touchline.client
    assert await rejected_pages(client) == [[]]
    sent = [a_wrong_event(number) for number in range(5)]
    # A field of a later release, which may be what makes the event understood.
    sent[0] = Event.FromString(sent[0].SerializeToString() + b"\xc2\x3e\x02\x08\x01")
    sent[0].identities.add(kind=2, value="no address", canonical_value="as sent")
    for event in sent:
        assert (await record(client, event)).outcome == OUTCOME_REJECTED
    verdicts = await record_batch(client, [*sent, *sent])
    assert {verdict.outcome for verdict in verdicts} == {OUTCOME_REJECTED}

    pages = await rejected_pages(client, page_size=2)
    assert [len(page) for page in pages] == [2, 2, 1]
    kept = [rejected for page in pages for rejected in page]
    assert [rejected.event for rejected in kept] == sent[::-1]
    assert kept[-1].event.SerializeToString(deterministic=True) == sent[0].SerializeToString(
        deterministic=True
    )
    ids = [rejected.rejected_id for rejected in kept]
    assert ids == sorted(ids, reverse=True)
    times = [rejected.rejected_at.ToNanoseconds() for rejected in kept]
    assert times == sorted(times, reverse=True)
    assert [(told.field, told.description) for told in kept[0].violations] == [
        ("source", "is missing")
    ]
    assert (await status(client)).rejected_events == 5
    assert await rejected_pages(client) == [kept]


async def test_rejected_events_of_another_tenant_are_not_seen(touchline: Touchline) -> None:
    await record(touchline.client, a_wrong_event())
    await record(touchline.client, a_wrong_event())
    first = await touchline.client.ingestion.ListRejectedEvents(
        api.ListRejectedEventsRequest(page_size=1)
    )
    async with touchline.client_of("acme") as acme:
        assert await rejected_pages(acme) == [[]]
        assert (await status(acme)).rejected_events == 0
        with pytest.raises(CallFailed) as failed, readable_failures():
            await acme.ingestion.ListRejectedEvents(
                api.ListRejectedEventsRequest(page_token=first.next_page_token)
            )
    assert failed.value.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (api.ListRejectedEventsRequest(page_size=-1), "INVALID_REQUEST", "page_size"),
        (api.ListRejectedEventsRequest(page_token="x"), "INVALID_PAGE_TOKEN", "page_token"),
    ],
)
async def test_a_page_that_can_not_be_is_refused(
    shared_touchline: Touchline,
    request_: api.ListRejectedEventsRequest,
    reason: str,
    field: str,
) -> None:
    with pytest.raises(CallFailed) as failed, readable_failures():
        await shared_touchline.client.ingestion.ListRejectedEvents(request_)
    assert failed.value.reason == reason
    assert [path for path, _ in failed.value.violations] == [field]


async def test_pages_of_large_rejected_events_stay_small_and_lose_none(
    touchline: Touchline,
) -> None:
    sent = [a_wrong_event(number, 1_200_000) for number in range(5)]
    sent.append(a_wrong_event(5, 4_000_000))
    sent += [a_wrong_event(number) for number in (6, 7)]
    for event in sent:
        await record(touchline.client, event)
    pages = await rejected_pages(touchline.client)
    assert [rejected.event for page in pages for rejected in page] == sent[::-1]
    assert all(len(page) == 1 or sum(map(size, page)) < 3_200_000 for page in pages)
    assert len(pages) > 3


def size(rejected: RejectedEvent) -> int:
    return rejected.ByteSize()


async def test_the_status_tells_where_the_store_stands(touchline: Touchline) -> None:
    client = touchline.client
    empty = await status(client)
    assert (empty.head_position, empty.head_chain, empty.queued_events) == (0, bytes(32), 0)
    assert len(empty.store_id) == 16
    await record_batch(client, [an_event() for _ in range(3)])
    await until_relayed(client, 3)
    now = await status(client)
    assert (now.store_id, now.head_position, now.queued_events) == (empty.store_id, 3, 0)
    assert now.head_chain != empty.head_chain
    assert now.relay_leader


async def test_a_verification_tells_its_progress_and_chains(touchline: Touchline) -> None:
    client = touchline.client
    for _ in range(5):
        verdicts = await record_batch(client, [an_event() for _ in range(1000)])
        assert {verdict.outcome for verdict in verdicts} == {OUTCOME_RECORDED}
    request = api.VerifyStoreRequest(chain_positions=[0, 5000, 5001])
    told = [one async for one in client.ingestion.VerifyStore(request)]
    checked = [one.checked_events for one in told]
    assert len(told) >= 4
    assert checked == sorted(checked)
    assert checked[-1] == 5000
    assert [one.finished for one in told] == [False] * (len(told) - 1) + [True]
    assert {one.head_position for one in told} == {5000}
    last = told[-1]
    assert (list(last.problems), last.sealed_events) == ([], 0)
    head = await status(client)
    assert dict(last.chains) == {0: bytes(32), 5000: head.head_chain}
