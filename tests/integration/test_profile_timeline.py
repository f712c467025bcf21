"""What happened, in pages, by filters and as of a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from services.profile.domain import Touch
from tests.customers import ids, new_email, new_phone, of, record, timeline, told
from tests.given import (
    call,
    community_post,
    contact,
    note,
    order,
    retraction,
    stamp,
    touch,
    us,
    used,
)
from tests.given import email as mail
from tests.services import Touchline
from touchline.client import Client
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_EVENT_RETRACTED,
    EVENT_TYPE_INTERACTION,
    EVENT_TYPE_NOTE_ADDED,
    EVENT_TYPE_ORDER_CHANGED,
    EVENT_TYPE_UNSPECIFIED,
)
from touchline.events.v1.facts_pb2 import (
    CHANNEL_APP,
    CHANNEL_COMMUNITY,
    CHANNEL_EMAIL,
    CHANNEL_PHONE,
    CHANNEL_UNSPECIFIED,
    CampaignTouched,
)
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.profile.v1 import profile_service_pb2 as api


async def pages(client: Client, size: int, **request: Any) -> list[list[str]]:
    """The ids on each page."""
    found, token = list[list[str]](), ""
    while token or not found:
        page = await client.profile.ListTimelineEvents(
            api.ListTimelineEventsRequest(page_size=size, page_token=token, **request)
        )
        found.append([entry.event.event_id for entry in page.entries])
        token = page.next_page_token
    return found


async def test_given_events_of_one_moment_then_pages_hold_each_once_newest_first(
    shared_touchline: Touchline,
) -> None:
    client, address, phone = shared_touchline.client, new_email(), new_phone()
    days = ["2024-01-03", "2024-01-01", "2024-01-02", "2024-01-02", "2024-01-02", "2024-01-02"]
    touches = [note(day, "Note") for day in days * 2]
    # Of two identities in turn, which are one customer.
    events = [told(one, (address, phone)[i % 2]) for i, one in enumerate(touches)]
    last = await record(client, *events, told(note("2023-12-31", "Link"), address, phone))
    newest_first = sorted(touches, key=lambda t: (t.occurred_at_us, t.event_id), reverse=True)

    for size in (1, 2, 5, 12, 13, 50):
        found = await pages(client, size, profile=of(phone), after_position=last)
        assert [one for page in found for one in page][:-1] == ids(*newest_first)
        assert all(len(page) == size for page in found[:-1])
        assert found[-1]


async def test_given_events_then_an_entry_says_what_was_recorded(
    shared_touchline: Touchline,
) -> None:
    client, customer = shared_touchline.client, new_email()
    sent = told(call("2024-01-01 10:00", text="Hello"), customer)
    last = await record(client, sent)
    page = await client.profile.ListTimelineEvents(
        api.ListTimelineEventsRequest(profile=of(customer), after_position=last)
    )

    (entry,) = page.entries
    assert (entry.position, entry.type, entry.erased) == (last, EVENT_TYPE_INTERACTION, False)
    assert entry.recorded_at.seconds > sent.occurred_at.seconds
    assert entry.event.identities[0].canonical_value == customer.value
    entry.event.identities[0].ClearField("canonical_value")
    assert entry.event == sent


A_CALL = call("2024-01-01 10:00")
A_MAIL = mail("2024-01-02 10:00")
A_POST = community_post("2024-01-03 10:00", title="Hi")
A_USE = used("2024-01-04 10:00", "app")
A_NOTE = note("2024-01-05 10:00", "Nice")
AN_ORDER = order("2024-01-06 10:00", "o-1")
ALL = [A_CALL, A_MAIL, A_POST, A_USE, A_NOTE, AN_ORDER]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ALL),
        ({"channels": [CHANNEL_PHONE]}, [A_CALL]),
        ({"channels": [CHANNEL_EMAIL, CHANNEL_COMMUNITY, CHANNEL_APP]}, [A_MAIL, A_POST, A_USE]),
        ({"types": [EVENT_TYPE_INTERACTION]}, [A_CALL, A_MAIL]),
        ({"types": [EVENT_TYPE_NOTE_ADDED, EVENT_TYPE_ORDER_CHANGED]}, [A_NOTE, AN_ORDER]),
        ({"types": [EVENT_TYPE_UNSPECIFIED]}, ALL),
        ({"channels": [CHANNEL_PHONE, CHANNEL_UNSPECIFIED]}, ALL),
        ({"types": [30_000]}, []),
        ({"types": [-1], "channels": [-(2**31)]}, []),
        ({"types": [2**31 - 1], "channels": [2**31 - 1]}, []),
        ({"channels": [CHANNEL_PHONE], "types": [EVENT_TYPE_NOTE_ADDED]}, []),
        ({"occurred_from": stamp("2024-01-02 10:00")}, ALL[1:]),
        ({"occurred_before": stamp("2024-01-03 10:00")}, [A_CALL, A_MAIL]),
        (
            {
                "occurred_from": stamp("2024-01-02 10:00"),
                "occurred_before": stamp("2024-01-05 10:00"),
            },
            [A_MAIL, A_POST, A_USE],
        ),
        ({"occurred_from": stamp("2024-02-01")}, []),
    ],
)
async def test_given_filters_then_only_what_they_let_through_is_listed(
    shared_touchline: Touchline, everything: Identity, filters: dict[str, Any], found: list[Touch]
) -> None:
    client = shared_touchline.client
    listed = [event.event_id for event in await timeline(client, everything, **filters)]
    assert listed == ids(*reversed(found))
    paged = await pages(client, 1, profile=of(everything), **filters)
    assert [one for page in paged for one in page] == listed


@pytest.fixture(scope="module")
async def everything(shared_touchline: Touchline) -> Identity:
    """A customer to whom everything in ALL happened."""
    customer = new_email()
    last = await record(shared_touchline.client, *[told(one, customer) for one in ALL])
    await timeline(shared_touchline.client, customer, last)
    return customer


def damage(request: api.ListTimelineEventsRequest) -> None:
    token = request.page_token
    request.page_token = token[:-1] + ("A" if token[-1] != "A" else "B")


def cut(request: api.ListTimelineEventsRequest) -> None:
    request.page_token = request.page_token[:-2]


def filter_by_channel(request: api.ListTimelineEventsRequest) -> None:
    request.channels.append(CHANNEL_PHONE)


def filter_by_time(request: api.ListTimelineEventsRequest) -> None:
    request.occurred_from.seconds = 7


def ask_for_another(request: api.ListTimelineEventsRequest) -> None:
    request.profile.CopyFrom(of(new_email()))


def say_nonsense(request: api.ListTimelineEventsRequest) -> None:
    request.page_token = "äöü"


@pytest.mark.parametrize(
    "change", [damage, cut, filter_by_channel, filter_by_time, ask_for_another, say_nonsense]
)
async def test_given_a_page_token_that_is_damaged_or_of_another_call_then_it_is_refused(
    shared_touchline: Touchline,
    everything: Identity,
    change: Callable[[api.ListTimelineEventsRequest], None],
) -> None:
    profile = shared_touchline.client.profile
    request = api.ListTimelineEventsRequest(profile=of(everything), page_size=2)
    request.page_token = (await profile.ListTimelineEvents(request)).next_page_token
    change(request)

    with pytest.raises(CallFailed) as failed, readable_failures():
        await profile.ListTimelineEvents(request)
    assert failed.value.reason == "INVALID_PAGE_TOKEN"


async def test_given_a_token_then_the_page_size_may_change(
    shared_touchline: Touchline, everything: Identity
) -> None:
    profile = shared_touchline.client.profile
    request = api.ListTimelineEventsRequest(profile=of(everything), page_size=2)
    request.page_token = (await profile.ListTimelineEvents(request)).next_page_token
    request.page_size = 10_000
    page = await profile.ListTimelineEvents(request)
    assert [entry.event.event_id for entry in page.entries] == ids(*reversed(ALL[:-2]))
    assert not page.next_page_token


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"page_size": -1}, "page_size"),
        ({"occurred_from": stamp("1969-12-31")}, "occurred_from"),
        ({"occurred_before": stamp("1960-01-01")}, "occurred_before"),
        ({"as_of": stamp("1960-01-01")}, "as_of"),
    ],
)
async def test_given_a_request_out_of_bounds_then_its_field_is_named(
    shared_touchline: Touchline, everything: Identity, request_: dict[str, Any], field: str
) -> None:
    with pytest.raises(CallFailed) as failed, readable_failures():
        await timeline(shared_touchline.client, everything, **request_)
    assert failed.value.reason == "INVALID_REQUEST"
    assert [path for path, _ in failed.value.violations] == [field]


async def test_given_a_time_then_only_what_had_occurred_and_been_recorded_by_then_is_listed(
    shared_touchline: Touchline,
) -> None:
    client, customer = shared_touchline.client, new_email()
    early, told_late, taken_back = (note(f"2024-01-0{day}", "Note") for day in (1, 2, 3))
    retracting = retraction("2024-01-07", taken_back)
    touches = [early, told_late, taken_back, retracting]
    last = await record(client, *[told(one, customer) for one in touches])
    await timeline(client, customer, last)
    recorded = ["2024-01-01", "2024-01-05", "2024-01-03", "2024-01-07"]

    async def known_at(time: str) -> list[str]:
        listed = await timeline(client, customer, as_of=stamp(time))
        return [event.event_id for event in reversed(listed)]

    async with shared_touchline.past():
        await remember(shared_touchline, list(zip(touches, recorded, strict=True)))
        assert await known_at("2023-12-31") == []
        assert await known_at("2024-01-01") == ids(early)
        assert await known_at("2024-01-04") == ids(early, taken_back)
        assert await known_at("2024-01-06") == ids(early, told_late, taken_back)
        assert await known_at("2024-01-08") == ids(early, told_late, retracting)


async def remember(touchline: Touchline, recorded: list[tuple[Touch, str]]) -> None:
    """Makes the views remember events as recorded at other times."""
    for one, time in recorded:
        changes = [("timeline", one.event.event_id)]
        if one.event.HasField("event_retracted"):
            changes.append(("timeline_retractions", one.event.event_retracted.event_id))
        for table, event_id in changes:
            await touchline.execute(
                touchline.stores.views,
                f"UPDATE {table} SET recorded_at_us = $2 WHERE event_id = $1",
                UUID(event_id),
                us(time),
            )


async def test_given_a_retraction_that_comes_first_then_its_event_is_never_listed(
    shared_touchline: Touchline,
) -> None:
    client, customer = shared_touchline.client, new_email()
    wrong, right = call("2024-01-01"), contact("2024-01-02", "chat")
    taken = retraction("2024-01-03", wrong)
    await record(client, told(taken, customer))
    last = await record(client, told(wrong, customer), told(right, customer))

    listed = await timeline(client, customer, last)
    assert [event.event_id for event in listed] == ids(taken, right)
    counted = await timeline(client, customer, types=[EVENT_TYPE_EVENT_RETRACTED])
    assert len(counted) == 1


async def test_given_an_event_without_a_channel_then_a_filter_by_channel_hides_it(
    shared_touchline: Touchline,
) -> None:
    client, customer = shared_touchline.client, new_email()
    fact = CampaignTouched(campaign="spring", action=1)  # type: ignore[arg-type]
    last = await record(client, told(touch("2024-01-01", campaign_touched=fact), customer))

    assert len(await timeline(client, customer, last)) == 1
    assert await timeline(client, customer, channels=[CHANNEL_EMAIL]) == []
