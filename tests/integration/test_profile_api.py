"""Who a customer is, as callers of the profile service are told."""

from __future__ import annotations

import grpc
import pytest

from tests.customers import (
    email,
    new_device,
    new_email,
    new_phone,
    number_in,
    of,
    profile_id,
    record,
    timeline,
    told,
    view,
)
from tests.given import call, money, note, order, retraction, stamp, traits, us
from tests.services import Touchline
from touchline.client import Client
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.profile_pb2 import Profile, ProfileReference
from touchline.profile.v1.views_pb2 import VIEW_KIND_SALES, SalesView
from touchline.times import micros_of


async def profile_of(client: Client, reference: ProfileReference, after: int = 0) -> Profile:
    request = api.GetProfileRequest(profile=reference, after_position=after)
    return (await client.profile.GetProfile(request)).profile


async def test_given_a_customer_then_the_profile_says_who_it_is_and_how_that_is_known(
    shared_touchline: Touchline,
) -> None:
    client, address, phone = shared_touchline.client, new_email(), new_phone()
    written = Identity(kind=address.kind, value=address.value.upper())
    first = traits("2024-01-05", {"city": "Bonn", "tier": "gold"})
    moved = traits("2024-03-05", {"city": "Kiel"})
    late = traits("2024-02-05", {"city": "Ulm", "tier": ""}, source="form")
    position = await record(
        client,
        told(note("2024-01-01", "Not a contact"), written),
        told(call("2024-01-02 10:00"), written),
        told(first, address, phone),
        told(moved, address),
        told(late, phone),
        told(order("2024-05-01", "o-1"), phone),
    )

    profile = await profile_of(client, of(address), position)

    assert profile.profile_id == await profile_id(client, address)
    known = [(a.name, a.value, a.event_id, a.source) for a in profile.attributes]
    assert known == [("city", "Kiel", moved.event.event_id, "test")]
    assert profile.attributes[0].occurred_at == stamp("2024-03-05")
    identities = [(i.identity.kind, i.identity.canonical_value) for i in profile.identities]
    assert identities == [(address.kind, address.value), (phone.kind, phone.value)]
    assert [i.first_position for i in profile.identities] == [position - 5, position - 3]
    assert profile.identities[0].identity.value == written.value
    assert micros_of(profile.first_contact_at) == us("2024-01-02 10:00")
    assert micros_of(profile.last_contact_at) == us("2024-05-01")
    assert profile.event_count == 6
    assert len(profile.alias_profile_ids) == 1


async def test_given_identities_seen_together_late_then_all_and_former_ids_lead_to_one_profile(
    shared_touchline: Touchline,
) -> None:
    client, address, phone = shared_touchline.client, new_email(), new_phone()
    last = await record(client, told(call("2024-01-02"), address), told(call("2024-01-03"), phone))
    one, other = [await profile_id(client, identity, last) for identity in (address, phone)]
    assert one != other

    last = await record(client, told(note("2024-01-04", "The same"), address, phone))

    found = [await profile_id(client, identity, last) for identity in (address, phone)]
    assert found == [one, one]
    for reference in (of(phone), ProfileReference(profile_id=other)):
        profile = await profile_of(client, reference)
        assert (profile.profile_id, list(profile.alias_profile_ids)) == (one, [other])
        assert profile.event_count == 3


async def test_given_the_retraction_of_what_linked_two_then_they_are_two_again(
    shared_touchline: Touchline,
) -> None:
    client, address, phone = shared_touchline.client, new_email(), new_phone()
    link = note("2024-01-04", "The same")
    last = await record(
        client,
        told(call("2024-01-02"), address),
        told(call("2024-01-03"), phone),
        told(link, address, phone),
    )
    together = await profile_id(client, phone, last)

    # As a caller does: with the identities of the event that it takes back.
    last = await record(client, told(retraction("2024-01-05", link), address, phone))

    assert await profile_id(client, address, last) == together
    assert await profile_id(client, phone, last) != together
    assert (await profile_of(client, of(phone))).event_count == 1
    assert link.event.event_id not in [e.event_id for e in await timeline(client, address)]


async def test_given_a_retraction_by_another_identity_then_neither_link_nor_event_goes(
    shared_touchline: Touchline,
) -> None:
    client, address, phone = shared_touchline.client, new_email(), new_phone()
    link = order("2024-01-04", "1", amount=money(20))
    await record(client, told(link, address, phone))

    last = await record(client, told(retraction("2024-01-05", link), phone))

    assert await profile_id(client, phone, last) == await profile_id(client, address)
    assert link.event.event_id in [e.event_id for e in await timeline(client, address)]
    sales = await view(client, address, VIEW_KIND_SALES)
    assert isinstance(sales, SalesView)
    assert [one.order_id for one in sales.orders] == ["1"]


async def test_given_two_emails_seen_together_then_they_stay_two_people(
    shared_touchline: Touchline,
) -> None:
    client, one, other, tablet = shared_touchline.client, new_email(), new_email(), new_device()
    last = await record(
        client,
        told(note("2024-01-01", "On the sofa"), one, tablet),
        told(note("2024-01-02", "On the sofa"), other, tablet),
        told(note("2024-01-03", "A couple"), one, other),
    )

    assert await profile_id(client, one, last) != await profile_id(client, other, last)
    assert await profile_id(client, tablet) == await profile_id(client, one)


async def test_given_a_read_at_once_after_recording_then_it_sees_what_was_recorded(
    shared_touchline: Touchline,
) -> None:
    client, customer = shared_touchline.client, new_email()
    for number in range(60):
        touch = note("2024-01-01", f"Note {number}")
        last = await record(client, told(touch, customer))
        events = await timeline(client, customer, last, page_size=1)
        assert events[0].event_id == touch.event.event_id


async def test_given_a_position_that_does_not_come_then_the_call_says_how_far_it_came(
    shared_touchline: Touchline,
) -> None:
    client, customer = shared_touchline.client, new_email()
    last = await record(client, told(note("2024-01-01", "One"), customer))
    request = api.ResolveProfileRequest(identity=customer, after_position=last + 10**6)

    with pytest.raises(CallFailed) as failed, readable_failures():
        await client.profile.ResolveProfile(request, timeout=0.7)

    assert failed.value.reason == "PROJECTION_BEHIND"
    assert failed.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    told_metadata = failed.value.metadata
    assert told_metadata["projection"] in ("identity_graph", "timeline")
    assert told_metadata["position"] == str(last)
    assert told_metadata["after_position"] == str(last + 10**6)


async def test_given_two_tenants_with_the_same_identities_and_ids_then_nothing_crosses(
    shared_touchline: Touchline,
) -> None:
    customer, device = new_email(), new_device()
    touch = note("2024-01-01", "Ours")
    async with shared_touchline.client_of("acme") as acme:
        clients = (shared_touchline.client, acme)
        texts = ["Ours", "Theirs"]
        positions = []
        for client, text in zip(clients, texts, strict=True):
            touch.event.note_added.text = text
            positions.append(await record(client, told(touch, customer, device)))
        seen = [await timeline(client, device, max(positions)) for client in clients]
        ids = [await profile_id(client, customer) for client in clients]

        assert [[event.note_added.text for event in events] for events in seen] == [
            ["Ours"],
            ["Theirs"],
        ]
        assert ids[0] != ids[1]
        with pytest.raises(CallFailed, match="PROFILE_NOT_FOUND"), readable_failures():
            await profile_of(acme, ProfileReference(profile_id=ids[0]))


async def test_given_a_tenant_that_nobody_knows_then_every_read_says_so(
    shared_touchline: Touchline,
) -> None:
    async with shared_touchline.client_of("nobody") as client:
        calls = (
            client.profile.ResolveProfile(api.ResolveProfileRequest(identity=new_email())),
            client.profile.GetProfile(api.GetProfileRequest(profile=of(new_email()))),
            client.profile.ListProfiles(api.ListProfilesRequest()),
            client.profile.GetPopulation(api.GetPopulationRequest()),
        )
        for called in calls:
            with pytest.raises(CallFailed, match="'nobody' is not known"), readable_failures():
                await called
        with pytest.raises(CallFailed, match="UNKNOWN_TENANT"), readable_failures():
            async for _ in client.profile.WatchTimeline(api.WatchTimelineRequest()):
                pass


@pytest.mark.parametrize(
    ("reference", "reason", "field"),
    [
        (ProfileReference(identity=email("nobody@example.com")), "PROFILE_NOT_FOUND", ""),
        (ProfileReference(profile_id="00" * 16), "PROFILE_NOT_FOUND", ""),
        (ProfileReference(), "INVALID_REQUEST", "profile"),
        (ProfileReference(profile_id="xyz"), "INVALID_REQUEST", "profile.profile_id"),
        (ProfileReference(profile_id="00" * 15), "INVALID_REQUEST", "profile.profile_id"),
        (of(Identity()), "INVALID_REQUEST", "profile.identity.kind"),
        (of(email("no email")), "INVALID_REQUEST", "profile.identity.value"),
        (of(number_in("", "7")), "INVALID_REQUEST", "profile.identity.namespace"),
    ],
    ids=["an email", "an id", "nothing", "no hex", "too short", "no kind", "no email", "no system"],
)
async def test_given_a_reference_that_leads_nowhere_then_it_says_what_is_wrong_with_it(
    shared_touchline: Touchline, reference: ProfileReference, reason: str, field: str
) -> None:
    with pytest.raises(CallFailed) as failed, readable_failures():
        await profile_of(shared_touchline.client, reference)

    assert failed.value.reason == reason
    assert [path for path, _ in failed.value.violations] == [field][: bool(field)]
    assert "no email" not in str(failed.value)


async def test_given_a_negative_position_then_it_is_refused(shared_touchline: Touchline) -> None:
    with pytest.raises(CallFailed, match="after_position") as failed, readable_failures():
        await profile_of(shared_touchline.client, of(new_email()), after=-1)
    assert failed.value.reason == "INVALID_REQUEST"


async def test_given_profiles_then_they_are_listed_in_pages_and_counted(
    shared_touchline: Touchline,
) -> None:
    async with shared_touchline.client_of("acme") as client:
        people = [new_email() for _ in range(7)]
        last = await record(
            client, *[told(note("2024-01-01", "Hello"), one, new_device()) for one in people]
        )
        listed, token, pages = list[str](), "", 0
        while token or not pages:
            page = await client.profile.ListProfiles(
                api.ListProfilesRequest(page_size=3, page_token=token, after_position=last)
            )
            listed, token, pages = listed + list(page.profile_ids), page.next_page_token, pages + 1
        population = await client.profile.GetPopulation(api.GetPopulationRequest())

        assert listed == sorted(set(listed))
        assert {await profile_id(client, one) for one in people} <= set(listed)
        assert pages == -(-len(listed) // 3)
        assert population.profiles == len(listed)
        assert population.identities >= population.profiles + len(people)
        assert population.events >= 7

        with pytest.raises(CallFailed, match="INVALID_PAGE_TOKEN"), readable_failures():
            await client.profile.ListProfiles(api.ListProfilesRequest(page_token="x"))
        with pytest.raises(CallFailed, match="page_size"), readable_failures():
            await client.profile.ListProfiles(api.ListProfilesRequest(page_size=-1))
