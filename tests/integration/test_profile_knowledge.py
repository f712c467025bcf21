"""What is known of a customer, how it came to be known, and finding customers by it."""

from __future__ import annotations

from itertools import count

import pytest

from services.profile.domain import Touch
from tests.customers import new_email, new_phone, of, record, told
from tests.given import consent, retraction, stamp, touch, traits
from tests.services import Touchline
from touchline.client import Client
from touchline.events.v1 import facts_pb2
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.erasure_pb2 import TimeRange

YES, NO = facts_pb2.CONSENT_STATUS_GRANTED, facts_pb2.CONSENT_STATUS_WITHDRAWN
_cities = count(1)


@pytest.fixture
def client(shared_touchline: Touchline) -> Client:
    return shared_touchline.client


def a_city() -> str:
    """A value that no other test observes."""
    return f"Town {next(_cities)}"


async def values(client: Client, who: Identity, after: int, **asked: object) -> list[str]:
    """All observations, page by page: name, value and whether it holds."""
    request = api.ListAttributeValuesRequest(profile=of(who), after_position=after, **asked)  # type: ignore[arg-type]
    found = []
    while True:
        page = await client.profile.ListAttributeValues(request)
        found += [f"{one.name}={one.value}{'!' * one.current}" for one in page.values]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def found(
    client: Client, name: str, value: str, after: int, size: int = 0
) -> list[tuple[str, bool]]:
    """The profiles that a value finds, page by page, and whether it still holds."""
    request = api.FindProfilesRequest(name=name, value=value, page_size=size, after_position=after)
    profiles = []
    while True:
        page = await client.profile.FindProfiles(request)
        profiles += [(one.profile_id, one.value.current) for one in page.profiles]
        if not page.next_page_token:
            return profiles
        request.page_token = page.next_page_token


async def profile(client: Client, who: Identity, after: int = 0) -> api.GetProfileResponse:
    request = api.GetProfileRequest(profile=of(who), after_position=after)
    return await client.profile.GetProfile(request)


async def test_an_import_of_older_values_never_overwrites_what_is_newer(client: Client) -> None:
    who, old, new = new_email(), a_city(), a_city()
    await record(client, told(traits("2024-05-02", {"city": new}), who))
    last = await record(client, told(traits("2024-05-01", {"city": old}, source="import"), who))
    (known,) = (await profile(client, who, last)).profile.attributes
    assert (known.value, known.source, known.observations) == (new, "test", 2)
    assert known.occurred_at.ToJsonString() == "2024-05-02T00:00:00Z"
    assert known.recorded_at.seconds > known.occurred_at.seconds
    assert await values(client, who, last) == [f"city={new}!", f"city={old}"]


async def test_the_history_is_told_page_by_page_and_says_on_each_what_holds(
    client: Client,
) -> None:
    who = new_email()
    events = [
        traits("2024-05-01", {"city": "A", "plan": "free"}),
        traits("2024-05-02", {"city": "B"}),
        wrong := traits("2024-05-03", {"city": "C"}),
        traits("2024-05-04", {"plan": ""}),
        retraction("2024-05-05", wrong),
    ]
    last = await record(client, *[told(one, who) for one in events])
    told_all = ["plan=!", "city=B!", "city=A", "plan=free"]
    assert await values(client, who, last) == told_all
    assert await values(client, who, last, page_size=1) == told_all
    assert await values(client, who, last, page_size=3) == told_all
    assert await values(client, who, last, name="city", page_size=1) == ["city=B!", "city=A"]


async def test_customers_are_found_by_a_value_that_holds_and_by_one_that_no_longer_does(
    client: Client,
) -> None:
    city, one, other, third = a_city(), new_email(), new_email(), new_email()
    mistaken = traits("2024-05-01", {"city": city})
    last = await record(
        client,
        told(traits("2024-05-01", {"city": city}), one),
        told(traits("2024-05-03", {"city": a_city()}), one),
        told(traits("2024-05-02", {"city": f"  {city.upper()} "}), other),
        told(traits("2024-05-04", {"city": city}), other),
        told(traits("2024-05-05", {"town": city}), third),
        told(mistaken, third),
        told(retraction("2024-05-06", mistaken), third),
    )
    ids = [(await profile(client, who, last)).profile.profile_id for who in (other, one)]
    expected = [(ids[0], True), (ids[1], False)]
    assert await found(client, "city", city.lower(), last) == expected
    assert await found(client, "city", city, last, size=1) == expected
    assert await found(client, "city", "nowhere at all", last) == []


async def test_pages_of_what_happened_at_one_time_repeat_nobody_and_leave_nobody_out(
    client: Client,
) -> None:
    city = a_city()
    people = [(new_email(), new_phone()) for _ in range(4)]
    events = [
        told(traits("2024-05-01", {"city": city, "plan": "b", "age": "7"}), who)
        for person in people
        for who in person
    ]
    meetings = [told(traits("2024-04-01", {"plan": "a"}), *person) for person in people]
    last = await record(client, *events, *meetings)
    ids = {(await profile(client, who, last)).profile.profile_id for who, _ in people}
    for size in (1, 3, 0):
        assert sorted(await found(client, "city", city, last, size)) == [
            (one, True) for one in sorted(ids)
        ]
    everything = await values(client, people[0][0], last)
    assert len(everything) == 7
    for size in (1, 2, 4):
        assert await values(client, people[0][0], last, page_size=size) == everything


async def test_a_value_observed_over_and_over_does_not_hide_others(client: Client) -> None:
    city, often, once, taken_back = a_city(), new_email(), new_email(), new_email()
    first, second = (traits(f"2024-03-0{day}", {"city": city}) for day in (1, 2))
    repeated = [traits("2024-05-01", {"city": city}) for _ in range(510)]
    await record(client, told(traits("2024-04-01", {"city": city}), once))
    last = await record(
        client,
        *[told(one, often) for one in repeated],
        *[told(one, taken_back) for one in (first, second)],
        told(retraction("2024-05-05", second), taken_back),
        told(traits("2024-03-03", {"city": ""}), taken_back),
    )
    ids = [
        (await profile(client, who, last)).profile.profile_id for who in (often, once, taken_back)
    ]
    holds = (True, True, False)
    assert await found(client, "city", city, last) == list(zip(ids, holds, strict=True))
    assert await found(client, "city", city, last, size=1) == list(zip(ids, holds, strict=True))


async def test_a_search_without_a_name_or_a_value_says_what_is_missing(client: Client) -> None:
    with pytest.raises(CallFailed) as failed, readable_failures():
        await client.profile.FindProfiles(api.FindProfilesRequest(name="n" * 129, value="  "))
    assert {field for field, _ in failed.value.violations} == {"name", "value"}


async def test_what_was_forbidden_under_one_identity_holds_for_the_customer_and_says_why(
    client: Client,
) -> None:
    address, phone = new_email(), new_phone()
    withdrawal = consent("2024-05-01", "news", "withdrawn", proof="call 7")
    last = await record(
        client,
        told(traits("2024-04-01", {"plan": "free"}), address, phone),
        told(withdrawal, phone),
        told(consent("2024-05-02", "news", "granted"), address),
        told(avoided("2024-05-03"), phone),
    )
    asked = api.ListConsentsRequest(profile=of(address), after_position=last)
    response = await client.profile.ListConsents(asked)
    (news,) = response.consents
    assert news.status == NO
    first, second = news.words
    assert (first.decides, first.event_id, first.proof) == (
        True,
        withdrawal.event.event_id,
        "call 7",
    )
    assert [one.identity.kind for one in first.identities] == [phone.kind]
    assert (second.counts, second.decides, second.consent_status) == (True, False, YES)
    (liked,) = response.preferences
    assert liked.status == facts_pb2.PREFERENCE_STATUS_AVOIDED
    assert liked.words[0].proof == "after six only"

    lifted = await record(client, told(consent("2024-05-04", "news", "granted"), phone))
    asked.after_position = lifted
    (news,) = (await client.profile.ListConsents(asked)).consents
    assert news.status == YES


async def test_a_withdrawal_that_was_erased_stays_a_withdrawal(client: Client) -> None:
    who = new_email()
    last = await record(
        client,
        told(consent("2024-05-01", "news", "granted"), who),
        told(consent("2024-05-02", "news", "withdrawn", proof="call 7"), who),
    )
    day = TimeRange(before=stamp("2024-05-03"))
    getattr(day, "from").CopyFrom(stamp("2024-05-02"))
    erased = await client.profile.EraseProfile(
        api.EraseProfileRequest(
            profile=of(who),
            occurred=day,
            reason="request 17",
            requested_by="agent-7",
            after_position=last,
        )
    )
    asked = api.ListConsentsRequest(profile=of(who), after_position=erased.erased.position)
    (news,) = (await client.profile.ListConsents(asked)).consents
    assert news.status == NO
    assert [(one.source, one.proof, one.decides) for one in news.words] == [
        ("", "", True),
        ("test", "", False),
    ]
    asked.after_position = await record(client, told(consent("2024-05-04", "news", "granted"), who))
    (news,) = (await client.profile.ListConsents(asked)).consents
    assert news.status == YES


def avoided(time: str) -> Touch:
    fact = facts_pb2.PreferenceChanged(
        channel=facts_pb2.CHANNEL_PHONE,
        status=facts_pb2.PREFERENCE_STATUS_AVOIDED,
        note="after six only",
    )
    return touch(time, preference_changed=fact)
