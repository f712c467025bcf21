"""The four views over gRPC: of now, of an earlier day, and of a customer with a long history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast
from uuid import UUID

import pytest

from services.profile.calls.views import MAX_FOLDED
from services.profile.domain import Touch
from tests.customers import new_email, new_phone, of, record, told, view
from tests.given import call, case, consent, money, note, order, promise, stamp, traits, used
from tests.given import email as mail
from tests.services import Touchline
from touchline.events.v1.facts_pb2 import CONSENT_STATUS_GRANTED, ORDER_STATUS_SHIPPED
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.views_pb2 import (
    PROMISE_STATUS_OPEN,
    PROMISE_STATUS_OVERDUE,
    VIEW_KIND_CUSTOMER,
    VIEW_KIND_MARKETING,
    VIEW_KIND_SALES,
    VIEW_KIND_SERVICE,
    VIEW_KIND_UNSPECIFIED,
    CustomerView,
    MarketingView,
    SalesView,
    ServiceView,
)

HISTORY = [
    traits("2024-01-01", {"city": "Kiel"}),
    consent("2024-01-02", "newsletter", "granted", "email"),
    order("2024-01-03", "o-1", "placed", amount=money(12.5)),
    call("2024-01-04 10:00", text="Where is it?"),
    promise("2024-01-05", "p-1", due="2024-01-09", text="Call back"),
    case("2024-01-06", "c-1", "open", subject="Lost parcel"),
    note("2024-01-07", "Angry"),
    mail("2024-01-08", title="Well?", text="Nobody calls"),
    used("2024-01-09", "app", 300),
    order("2024-01-10", "o-1", "shipped"),
]


@pytest.fixture(scope="module")
async def customer(shared_touchline: Touchline) -> AsyncIterator[Identity]:
    """A customer with HISTORY, told in turn under two identities, the last first."""
    address, phone = new_email(), new_phone()
    events = [told(one, (address, phone)[i % 2]) for i, one in enumerate(reversed(HISTORY))]
    last = await record(
        shared_touchline.client, *events, told(note("2023-01-01", "Hi"), address, phone)
    )
    await view(shared_touchline.client, address, VIEW_KIND_SALES, last)
    async with shared_touchline.past():
        for one in HISTORY:  # what as-of reads says that each was recorded in time
            await shared_touchline.execute(
                shared_touchline.stores.views,
                "UPDATE timeline SET recorded_at_us = occurred_at_us WHERE event_id = $1",
                UUID(one.event.event_id),
            )
        yield address


async def test_given_a_history_then_sales_sees_contacts_orders_and_promises(
    shared_touchline: Touchline, customer: Identity
) -> None:
    shown = cast("SalesView", await view(shared_touchline.client, customer, VIEW_KIND_SALES))

    assert [one.event_id for one in shown.meaningful_contacts] == [HISTORY[3].event.event_id]
    assert [(o.order_id, o.status, o.amount) for o in shown.orders] == [
        ("o-1", ORDER_STATUS_SHIPPED, money(12.5))
    ]
    assert list(shown.order_totals) == [money(12.5)]
    assert [(p.promise, p.status) for p in shown.promises] == [
        ("Call back", PROMISE_STATUS_OVERDUE)
    ]


async def test_given_a_history_then_service_sees_open_cases_and_unanswered_messages(
    shared_touchline: Touchline, customer: Identity
) -> None:
    shown = cast("ServiceView", await view(shared_touchline.client, customer, VIEW_KIND_SERVICE))

    assert [one.subject for one in shown.open_cases] == ["Lost parcel"]
    assert HISTORY[7].event.event_id in [one.event_id for one in shown.unanswered_messages]
    assert [one.event_id for one in shown.last_contacts] == [
        one.event.event_id for one in (HISTORY[7], HISTORY[3])
    ]


async def test_given_a_history_then_marketing_sees_consents_and_use_and_nothing_that_was_said(
    shared_touchline: Touchline, customer: Identity
) -> None:
    shown = cast(
        "MarketingView", await view(shared_touchline.client, customer, VIEW_KIND_MARKETING)
    )

    assert [(one.purpose, one.status) for one in shown.consents] == [
        ("newsletter", CONSENT_STATUS_GRANTED)
    ]
    assert [(one.product, one.duration_seconds) for one in shown.products] == [("app", 300)]
    assert b"Where is it?" not in shown.SerializeToString()


async def test_given_a_history_then_customers_see_what_is_known_and_no_note(
    shared_touchline: Touchline, customer: Identity
) -> None:
    shown = cast("CustomerView", await view(shared_touchline.client, customer, VIEW_KIND_CUSTOMER))

    assert [(one.name, one.value) for one in shown.known_facts] == [("city", "Kiel")]
    assert [one.promise for one in shown.promises] == ["Call back"]
    assert b"Angry" not in shown.SerializeToString()


async def test_given_an_earlier_day_then_a_view_is_as_it_was_then(
    shared_touchline: Touchline, customer: Identity
) -> None:
    async def sales_at(time: str) -> SalesView:
        response = await shared_touchline.client.profile.GetView(
            api.GetViewRequest(profile=of(customer), view=VIEW_KIND_SALES, as_of=stamp(time))
        )
        return response.sales

    early, promised = await sales_at("2024-01-02 12:00"), await sales_at("2024-01-08 12:00")
    assert early == SalesView()
    assert [p.status for p in promised.promises] == [PROMISE_STATUS_OPEN]
    assert [o.status for o in promised.orders] != [ORDER_STATUS_SHIPPED]
    late = await sales_at("2024-01-11")
    assert late == await view(shared_touchline.client, customer, VIEW_KIND_SALES)


async def test_given_no_view_then_the_request_is_refused(
    shared_touchline: Touchline, customer: Identity
) -> None:
    for kind in (VIEW_KIND_UNSPECIFIED, 99):
        with pytest.raises(CallFailed, match="INVALID_REQUEST") as failed, readable_failures():
            await shared_touchline.client.profile.GetView(
                api.GetViewRequest(profile=of(customer), view=kind)  # type: ignore[arg-type]
            )
        assert [field for field, _ in failed.value.violations] == ["view"]


async def test_given_more_events_than_a_view_folds_then_it_says_that_the_oldest_are_left_out(
    shared_touchline: Touchline,
) -> None:
    client, busy = shared_touchline.client, new_email()
    oldest = traits("2020-01-01", {"city": "Bonn"})
    uses: list[Touch] = [used("2024-01-01", "app", 1) for _ in range(MAX_FOLDED)]
    last = await record(client, *[told(one, busy) for one in uses])

    async def shown(after: int) -> api.GetViewResponse:
        return await client.profile.GetView(
            api.GetViewRequest(profile=of(busy), view=VIEW_KIND_MARKETING, after_position=after)
        )

    whole = await shown(last)
    assert (whole.truncated, whole.marketing.products[0].uses) == (False, MAX_FOLDED)

    # What a view does not read takes no place in it.
    assert not (await shown(await record(client, told(oldest, busy)))).truncated

    oldest_use = used("2019-01-01", "old app")
    cut = await shown(await record(client, told(oldest_use, busy)))
    assert (cut.truncated, [one.product for one in cut.marketing.products]) == (True, ["app"])
