"""Inboxes over gRPC: what is in them, what comes in, and what was read."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from tests.customers import new_device, new_email, of, profile_id, record
from tests.services import Touchline
from tests.telling import Teller, chosen, read, told, used
from touchline.client import Client
from touchline.events.v1.decisions_pb2 import NOTIFICATION_CHANNEL_EMAIL, NotificationRead
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import InboxItem


def inbox_of(who: str | Identity) -> api.Inbox:
    """An employee's or a team's inbox, or a customer's."""
    return api.Inbox(reference=who) if isinstance(who, str) else api.Inbox(customer=of(who))


async def inbox(teller: Teller, who: str | Identity, **filters: object) -> api.ListInboxResponse:
    """An inbox with everything that was told so far."""
    request = api.ListInboxRequest(
        inbox=inbox_of(who),
        after_position=teller.last_position,
        **filters,  # type: ignore[arg-type]
    )
    return await teller.client.notification.ListInbox(request)


async def mark(teller: Teller, *names: str, reader: str = "") -> int:
    """Marks notifications as read; returns the position that says so."""
    position = await read(teller, *names, reader=reader)
    teller.last_position = max(teller.last_position, position)
    return position


def names(items: object) -> list[str]:
    """The notifications of items."""
    return [item.notification_id for item in items]  # type: ignore[attr-defined]


async def test_an_inbox_lists_the_newest_first_with_everything_a_reader_needs(
    teller: Teller,
) -> None:
    customer = new_email()
    first = await teller.tell(customer, told("inbox-1", title="First"))
    second = await teller.tell(customer, told("inbox-1", title="Second"))
    listed = await inbox(teller, "inbox-1")
    assert names(listed.items) == [second, first]
    assert listed.unread == 2
    newest = listed.items[0]
    assert newest.notification.title == "Second"
    assert newest.notification.reason == "5,837 km in 40 minutes"
    assert newest.profile_id == await profile_id(teller.client, customer, teller.last_position)
    assert newest.cause_event_id
    assert newest.decided_at.seconds
    assert not newest.HasField("read_at")


async def test_an_inbox_comes_in_pages_that_hold_together(teller: Teller) -> None:
    customer = new_email()
    told_all = [await teller.tell(customer, told("inbox-2")) for _ in range(5)]
    listed: list[str] = []
    token = ""
    while not listed or token:
        page = await inbox(teller, "inbox-2", page_size=2, page_token=token)
        listed += names(page.items)
        token = page.next_page_token
    assert listed == told_all[::-1]
    first = await inbox(teller, "inbox-2", page_size=2)
    with pytest.raises(CallFailed) as failed, readable_failures():
        await inbox(teller, "inbox-3", page_size=2, page_token=first.next_page_token)
    assert failed.value.reason == "INVALID_PAGE_TOKEN"


async def test_reading_counts_once_and_the_first_time_stands(teller: Teller) -> None:
    one, other = [await teller.tell(new_email(), told("inbox-4")) for _ in range(2)]
    assert await mark(teller, one, reader="agent-9") > 0
    listed = await inbox(teller, "inbox-4")
    assert listed.unread == 1
    items = {item.notification_id: item for item in listed.items}
    first_read = items[one].read_at
    assert first_read.seconds
    assert not items[other].HasField("read_at")
    assert await mark(teller, one) == 0
    again = await inbox(teller, "inbox-4")
    assert next(i for i in again.items if i.notification_id == one).read_at == first_read
    assert names((await inbox(teller, "inbox-4", unread_only=True)).items) == [other]


async def test_reading_may_be_known_before_the_notification(teller: Teller) -> None:
    customer, name = new_email(), str(uuid4())
    was_read = Event(notification_read=NotificationRead(notification_id=name))
    await teller.append(customer, was_read, str(uuid4()))
    await teller.tell(customer, told("inbox-5"), name)
    listed = await inbox(teller, "inbox-5")
    assert listed.unread == 0
    assert listed.items[0].HasField("read_at")


async def test_a_customers_inbox_has_what_was_told_to_any_of_their_identities(
    teller: Teller,
) -> None:
    email, device = new_email(), new_device()
    on_device = await teller.tell(device, told(""))
    on_email = await teller.tell(email, told(""))
    to_agent = await teller.tell(email, told("inbox-6"))
    assert names((await inbox(teller, email)).items) == [on_email]
    teller.last_position = await record(teller.client, used(email, device))
    for identity in (email, device):
        listed = await inbox(teller, identity)
        assert names(listed.items) == [on_email, on_device]
        assert listed.unread == 2
    assert to_agent not in names(listed.items)
    assert len({item.profile_id for item in listed.items}) == 1


async def test_what_does_not_go_to_the_inbox_is_not_in_it(teller: Teller) -> None:
    await teller.tell(new_email(), told("inbox-7", chosen(NOTIFICATION_CHANNEL_EMAIL)))
    assert not (await inbox(teller, "inbox-7")).items


async def test_whoever_watches_hears_what_comes_and_what_is_read(teller: Teller) -> None:
    email, device = new_email(), new_device()
    before = await teller.tell(email, told(""))
    await inbox(teller, email)
    call = teller.client.notification.WatchInbox(
        api.WatchInboxRequest(inbox=inbox_of(email)), timeout=20
    )
    heard = aiter(call)

    async def next_item() -> InboxItem:
        return (await asyncio.wait_for(anext(heard), 30)).item

    first = await next_item()
    assert first.notification_id == before
    # The profile grows while it is watched.
    teller.last_position = await record(teller.client, used(email, device))
    after = await teller.tell(device, told(""))
    second = await next_item()
    assert (second.notification_id, second.HasField("read_at")) == (after, False)
    position = await mark(teller, before)
    third = await next_item()
    assert (third.notification_id, third.position) == (before, position)
    assert third.HasField("read_at")
    call.cancel()


async def test_watching_goes_on_after_a_position(teller: Teller) -> None:
    customer = new_email()
    await teller.tell(customer, told("inbox-8"))
    seen = teller.last_position
    later = await teller.tell(customer, told("inbox-8"))
    request = api.WatchInboxRequest(inbox=inbox_of("inbox-8"), after_position=seen)
    call = teller.client.notification.WatchInbox(request, timeout=20)
    async for answer in call:
        assert answer.item.notification_id == later
        break
    call.cancel()


async def test_tenants_have_inboxes_of_their_own(
    teller: Teller, shared_touchline: Touchline
) -> None:
    name = await teller.tell(new_email(), told("inbox-9"))
    assert names((await inbox(teller, "inbox-9")).items) == [name]
    async with Client.connect(
        *(shared_touchline.ingestion.listen, shared_touchline.profile.listen, "acme"),
        notification=teller.listen,
    ) as other:
        listed = await other.notification.ListInbox(api.ListInboxRequest(inbox=inbox_of("inbox-9")))
        assert not listed.items
        with pytest.raises(CallFailed) as failed, readable_failures():
            await other.notification.MarkRead(api.MarkReadRequest(notification_ids=[name]))
        assert failed.value.reason == "NOTIFICATION_NOT_FOUND"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (api.MarkReadRequest(), "notification_ids"),
        (api.MarkReadRequest(notification_ids=["x"]), "notification_ids[0]"),
        (api.MarkReadRequest(notification_ids=[str(uuid4())] * 501), "notification_ids"),
        (
            api.MarkReadRequest(notification_ids=[str(uuid4())], reader="r" * 129),
            "reader",
        ),
        (api.ListInboxRequest(), "inbox"),
        (api.ListInboxRequest(inbox=api.Inbox(reference="r" * 129)), "inbox.reference"),
        (api.ListInboxRequest(inbox=api.Inbox(reference="r"), page_size=-1), "page_size"),
    ],
    ids=["none", "no UUID", "too many", "long reader", "whose", "long reference", "size"],
)
async def test_calls_that_make_no_sense_say_what_is_wrong(
    teller: Teller, request_: api.MarkReadRequest | api.ListInboxRequest, field: str
) -> None:
    calls = teller.client.notification
    call = calls.MarkRead if isinstance(request_, api.MarkReadRequest) else calls.ListInbox
    with pytest.raises(CallFailed) as failed, readable_failures():
        await call(request_)  # type: ignore[arg-type]  # the call that takes it
    assert failed.value.reason == "INVALID_REQUEST"
    assert [path for path, _ in failed.value.violations] == [field]
