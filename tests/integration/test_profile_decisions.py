"""What people decide about who is who, as its callers see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from google.protobuf.message import Message

from tests.customers import (
    cookie,
    new_device,
    new_email,
    new_phone,
    of,
    profile_id,
    record,
    timeline,
    told,
)
from tests.given import note, traits
from tests.services import Touchline
from touchline.client import Client
from touchline.events.v1.decisions_pb2 import (
    IDENTITY_DECISION_KIND_MERGED,
    IDENTITY_DECISION_KIND_UNMERGED,
)
from touchline.events.v1.event_pb2 import EVENT_TYPE_IDENTITY_DECIDED
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_EMAIL, IDENTITY_KIND_PHONE, Identity
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1.ingestion_service_pb2 import GetStoreStatusRequest
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.identities_pb2 import (
    LINK_EFFECT_CLASHES,
    LINK_EFFECT_CONFIRMS,
    LINK_EFFECT_CUT,
    LINK_EFFECT_JOINS,
    LINK_RULE_DECIDED,
    LINK_RULE_STRONG,
)
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.uuid7 import uuid7

Who = Identity | str


@pytest.fixture
def client(shared_touchline: Touchline) -> Client:
    return shared_touchline.client


def because(**more: Any) -> dict[str, Any]:
    return {"decided_by": "agent-7", "reason": "Both called from one desk.", **more}


def named(who: Who, **expected: Any) -> api.DecidedProfile:
    reference = of(who) if isinstance(who, Identity) else ProfileReference(profile_id=who)
    return api.DecidedProfile(profile=reference, **expected)


async def merged(client: Client, left: Who, right: Who, **more: Any) -> api.DecisionResult:
    request = api.MergeProfilesRequest(left=named(left), right=named(right), **because(**more))
    return (await client.profile.MergeProfiles(request)).result


async def unmerged(client: Client, who: Who, **more: Any) -> api.DecisionResult:
    request = api.UnmergeProfilesRequest(profile=named(who), **because(**more))
    return (await client.profile.UnmergeProfiles(request)).result


async def detached(client: Client, who: Who, identity: Identity, **more: Any) -> api.DecisionResult:
    request = api.DetachIdentityRequest(profile=named(who), identity=identity, **because(**more))
    return (await client.profile.DetachIdentity(request)).result


async def explained(
    client: Client, who: Identity, *between: Identity, after: int = 0
) -> api.ExplainIdentitiesResponse:
    request = api.ExplainIdentitiesRequest(profile=of(who), after_position=after)
    if between:
        request.between.left.CopyFrom(between[0])
        request.between.right.CopyFrom(between[1])
    return await client.profile.ExplainIdentities(request)


async def suggestions(client: Client, who: Identity, after: int) -> list[Any]:
    request = api.ListMergeSuggestionsRequest(profile=of(who), after_position=after)
    return list((await client.profile.ListMergeSuggestions(request)).suggestions)


async def seen(client: Client, who: Identity, after: int) -> tuple[Message, list[Message]]:
    """A profile but for what counts decisions, and its timeline without them."""
    request = api.GetProfileRequest(profile=of(who), after_position=after)
    profile = (await client.profile.GetProfile(request)).profile
    profile.ClearField("version")
    profile.ClearField("event_count")
    page = api.ListTimelineEventsRequest(profile=of(who))
    entries = (await client.profile.ListTimelineEvents(page)).entries
    return profile, [one for one in entries if one.type != EVENT_TYPE_IDENTITY_DECIDED]


async def refused(call: Awaitable[Any]) -> tuple[str, dict[str, str]]:
    """Why a call fails, and what is told of it."""
    with pytest.raises(CallFailed) as failure, readable_failures():
        await call
    return failure.value.reason, dict(failure.value.metadata)


async def two_people(client: Client) -> tuple[list[Identity], list[Identity], int]:
    """Two customers with an email, a phone and a city each, and the last position."""
    people = [[new_email(), new_phone()], [new_email(), new_phone()]]
    last = 0
    for day, (address, phone) in enumerate(people, 1):
        last = await record(
            client,
            told(note(f"2024-01-0{day}", "Called."), address, phone),
            told(traits(f"2024-01-0{day}", {"city": f"City {day}"}), address),
            told(note(f"2024-02-0{day}", "Called again."), phone),
        )
    return people[0], people[1], last


async def test_given_a_merge_then_there_is_one_profile_and_the_other_id_leads_to_it(
    client: Client,
) -> None:
    (anna, anna_phone), (ann, _), last = await two_people(client)
    absorbed = await profile_id(client, ann, last)
    result = await merged(client, anna, ann)

    (profile,) = result.profiles
    assert (profile.version, profile.identity_count) == (1, 4)
    request = api.GetProfileRequest(
        profile=ProfileReference(profile_id=absorbed), after_position=result.position
    )
    response = await client.profile.GetProfile(request)
    found = response.profile
    assert response.asked_by_alias
    assert (found.profile_id, found.version) == (profile.profile_id, 1)
    assert absorbed in found.alias_profile_ids
    assert list(found.identities) == list(profile.identities)
    assert [each.value for each in found.attributes] == ["City 2"]
    assert len(await timeline(client, anna_phone)) == 7  # six that happened, and the decision
    told_of = (await timeline(client, ann))[0]
    assert told_of.identity_decided.decision.kind == IDENTITY_DECISION_KIND_MERGED
    assert told_of.identity_decided.reason == "Both called from one desk."
    assert (told_of.event_id, told_of.actor.reference) == (result.event_id, "agent-7")


async def test_given_an_unmerge_then_both_are_as_before_to_the_last_field(client: Client) -> None:
    (anna, _), (ann, _), last = await two_people(client)
    before = [await seen(client, who, last) for who in (anna, ann)]
    merge = await merged(client, ann, anna)

    result = await unmerged(client, anna, merge_event_id=merge.event_id)

    assert [await seen(client, who, result.position) for who in (anna, ann)] == before
    assert [one.version for one in result.profiles] == [2, 2]
    # What was absorbed can be named as well, once more and only once.
    again = await merged(client, anna, ann)
    absorbed = before[1][0].profile_id  # type: ignore[attr-defined]
    result = await unmerged(client, anna, absorbed_profile_id=absorbed)
    assert [await seen(client, who, result.position) for who in (anna, ann)] == before
    why = await explained(client, anna)
    assert [one.kind for one in why.verdicts] == [
        *(IDENTITY_DECISION_KIND_UNMERGED, IDENTITY_DECISION_KIND_MERGED) * 2
    ]
    assert [one.revoked for one in why.verdicts] == [False, True, True, True]
    assert why.verdicts[1].event_id == again.event_id


async def test_given_an_automatic_link_that_is_cut_then_it_stays_cut_when_seen_again(
    client: Client,
) -> None:
    anna, phone, device = new_email(), new_phone(), new_device()
    last = await record(
        client,
        told(note("2024-01-01", "One"), anna, phone),
        told(note("2024-01-02", "Two"), phone, device),
    )
    two = api.TwoIdentities(left=anna, right=phone)
    result = await unmerged(client, anna, two=two, after_position=last)
    assert [one.identity_count for one in result.profiles] == [1, 2]

    last = await record(client, told(note("2024-01-03", "Again"), anna, phone))

    assert await profile_id(client, anna, last) != await profile_id(client, phone)
    assert await profile_id(client, device) == await profile_id(client, phone)
    why = await explained(client, anna, anna, phone)
    assert [(one.effect, one.rule, one.events) for one in why.links] == [
        (LINK_EFFECT_CUT, LINK_RULE_STRONG, 2)
    ]
    (verdict,) = why.verdicts
    assert (verdict.decided_by, verdict.reason) == ("agent-7", "Both called from one desk.")
    assert await suggestions(client, anna, last) == []


async def test_given_a_detached_identity_then_the_others_stay_one_profile(client: Client) -> None:
    anna, phone, device = new_email(), new_phone(), new_device()
    last = await record(
        client,
        told(note("2024-01-01", "One"), phone, anna),
        told(note("2024-01-02", "Two"), phone, device),
    )
    result = await detached(client, anna, phone, after_position=last)

    assert [one.identity_count for one in result.profiles] == [2, 1]
    assert await profile_id(client, anna, result.position) == await profile_id(client, device)
    assert await profile_id(client, phone) != await profile_id(client, anna)
    why = await explained(client, anna)
    assert (why.links[0].rule, why.links[0].effect) == (LINK_RULE_DECIDED, LINK_EFFECT_JOINS)
    assert why.links[0].source == "touchline"
    again = await merged(client, phone, anna)
    assert [one.identity_count for one in again.profiles] == [3]


async def test_given_a_suggestion_then_it_is_accepted_or_rejected_once(client: Client) -> None:
    people = [new_email() for _ in range(4)]
    for one, other in (people[:2], people[2:]):
        last = await record(client, told(note("2024-01-01", "Both"), one, other))
    (first,) = await suggestions(client, people[0], last)
    (second,) = await suggestions(client, people[3], last)
    assert [(one.effect, one.rule, one.events) for one in first.links] == [
        (LINK_EFFECT_CLASHES, LINK_RULE_STRONG, 1)
    ]
    assert [one.identity_count for one in (first.left, first.right)] == [1, 1]

    wish = because(suggestion_id=first.suggestion_id)
    accept = api.AcceptMergeSuggestionRequest(**wish)
    accepted = (await client.profile.AcceptMergeSuggestion(accept)).result
    reject = api.RejectMergeSuggestionRequest(**because(suggestion_id=second.suggestion_id))
    rejected = (await client.profile.RejectMergeSuggestion(reject)).result

    assert [one.identity_count for one in accepted.profiles] == [2]
    assert [one.identity_count for one in rejected.profiles] == [1, 1]
    for who in (people[0], people[2]):
        assert await suggestions(client, who, rejected.position) == []
    # Asked again, each is what it was; the other way round, there is nothing to judge.
    assert (await client.profile.AcceptMergeSuggestion(accept)).result == accepted
    assert (await client.profile.RejectMergeSuggestion(reject)).result == rejected
    accept.suggestion_id = second.suggestion_id
    reason, _ = await refused(client.profile.AcceptMergeSuggestion(accept))
    assert reason == "SUGGESTION_NOT_FOUND"


async def test_given_a_retry_then_the_decision_stands_and_is_the_answer(client: Client) -> None:
    (anna, _), (ann, _), last = await two_people(client)
    named_so = uuid7()
    first = await merged(client, anna, ann, decision_id=named_so, after_position=last)
    assert first.event_id == named_so
    assert await merged(client, anna, ann, decision_id=named_so) == first
    reason, metadata = await refused(
        merged(client, anna, ann, decision_id=named_so, reason="Another one.")
    )
    assert (reason, metadata) == ("INVALID_REQUEST", {"field": "decision_id"})
    # Without an id the same words are the same decision, until another is made.
    taken_back = await unmerged(client, anna, merge_event_id=named_so)
    assert await unmerged(client, anna, merge_event_id=named_so) == taken_back
    assert (await merged(client, anna, ann)).event_id != named_so


async def test_given_a_version_that_is_not_the_latest_then_nothing_is_decided(
    client: Client,
) -> None:
    (anna, _), (ann, _), last = await two_people(client)
    request = api.MergeProfilesRequest(
        left=named(anna, expects_version=True),
        right=named(ann, expected_version=3),
        **because(after_position=last),
    )
    reason, metadata = await refused(client.profile.MergeProfiles(request))
    assert reason == "STALE_VERSION"
    assert (metadata["version"], metadata["expected_version"]) == ("0", "3")
    request.right.expected_version = 0
    assert (await client.profile.MergeProfiles(request)).result.profiles[0].version == 1
    request.reason = "Once more."
    reason, _ = await refused(client.profile.MergeProfiles(request))
    assert reason == "STALE_VERSION"


async def test_given_many_who_decide_at_once_then_no_version_is_given_twice(client: Client) -> None:
    (anna, _), (ann, _), last = await two_people(client)

    async def decide(number: int) -> api.DecisionResult | str:
        how = {"reason": f"Said by {number}.", "after_position": last}
        try:
            with readable_failures():
                if number % 2:
                    two = api.TwoIdentities(left=anna, right=ann)
                    return await unmerged(client, anna, two=two, **how)
                return await merged(client, anna, ann, **how)
        except CallFailed as failure:
            return failure.reason

    results = await asyncio.gather(*[decide(number) for number in range(16)])

    refusals = {one for one in results if isinstance(one, str)}
    assert refusals <= {"STALE_VERSION", "SAME_PROFILE", "NOT_MERGED"}
    made = [one for one in results if isinstance(one, api.DecisionResult)]
    versions = sorted(one.profiles[0].version for one in made)
    assert versions == list(range(1, len(made) + 1))
    after = max(one.position for one in made)
    ordered = sorted(made, key=lambda one: one.position)
    # Each was made on what the one before left: they take turns.
    assert [len(one.profiles) for one in ordered] == [1 + i % 2 for i in range(len(ordered))]
    is_one = await profile_id(client, anna, after) == await profile_id(client, ann)
    assert is_one == (len(ordered) % 2 == 1)


async def test_given_many_who_merge_into_one_at_once_then_all_come_through(client: Client) -> None:
    one, *others = [new_email() for _ in range(9)]
    last = await record(
        client, *[told(note("2024-03-01", "Called."), who) for who in (one, *others)]
    )
    results = await asyncio.gather(
        *[merged(client, one, other, after_position=last) for other in others]
    )
    assert sorted(result.profiles[0].version for result in results) == list(range(1, 9))
    after = max(result.position for result in results)
    request = api.GetProfileRequest(profile=of(one), after_position=after)
    assert len((await client.profile.GetProfile(request)).profile.identities) == 9


async def test_given_what_can_not_be_decided_then_it_is_said_and_nothing_is_recorded(
    client: Client,
) -> None:
    (anna, anna_phone), (ann, _), last = await two_people(client)
    root, other = await profile_id(client, anna, last), await profile_id(client, ann)
    nobody, alone = new_email(), new_email()
    last = await record(client, told(note("2024-01-01", "Alone"), alone))
    merge = await merged(client, anna, ann, after_position=last)
    await unmerged(client, anna, merge_event_id=merge.event_id)
    again = await merged(client, anna, ann)
    before = (await client.ingestion.GetStoreStatus(_status())).status.head_position
    same, not_merged = ("SAME_PROFILE", {"profile_id": root}), ("NOT_MERGED", {"profile_id": root})
    away = {"profile_id": other, "into_profile_id": root}
    two = api.TwoIdentities(left=anna, right=alone)

    assert await refused(merged(client, anna, anna_phone)) == same
    assert await refused(merged(client, root, ann, reason="x")) == same
    assert await refused(merged(client, root, other)) == ("PROFILE_MERGED_AWAY", away)
    assert await refused(detached(client, other, ann)) == ("PROFILE_MERGED_AWAY", away)
    assert (await refused(merged(client, anna, nobody)))[0] == "PROFILE_NOT_FOUND"
    assert await refused(unmerged(client, anna, merge_event_id=uuid7())) == not_merged
    assert await refused(unmerged(client, anna, merge_event_id=merge.event_id)) == not_merged
    assert await refused(unmerged(client, anna, absorbed_profile_id=root)) == not_merged
    assert await refused(unmerged(client, anna, two=two)) == not_merged
    detach = detached(client, alone, alone)
    assert (await refused(detach))[0] == "IDENTITY_NOT_DETACHABLE"
    assert (await refused(detached(client, anna, alone)))[0] == "IDENTITY_NOT_DETACHABLE"
    assert again.position == before
    status = (await client.ingestion.GetStoreStatus(_status())).status
    assert status.head_position == before


LONG = Identity(kind=IDENTITY_KIND_EMAIL, value="a" * 10_000)
LOCAL = Identity(kind=IDENTITY_KIND_PHONE, value="030 1234567")


@pytest.mark.parametrize(
    ("what", "field"),
    [
        ({"decided_by": ""}, "decided_by"),
        ({"decided_by": "anna@example.com"}, "decided_by"),
        ({"decided_by": "a" * 129}, "decided_by"),
        ({"reason": ""}, "reason"),
        ({"reason": "a" * 4097}, "reason"),
        ({"decision_id": "7"}, "decision_id"),
        ({"after_position": -1}, "after_position"),
        ({"left": api.DecidedProfile()}, "left.profile"),
        ({"left": named("0a1b")}, "left.profile.profile_id"),
        ({"right": named(LONG)}, "right.profile.identity.value"),
        ({"right": named(LOCAL)}, "right.profile.identity.value"),
        ({"right": named(LONG, expected_version=-1)}, "right.expected_version"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
async def test_given_a_field_that_is_wrong_then_it_is_named(
    client: Client, what: dict[str, Any], field: str
) -> None:
    asked = {"left": named("0a" * 16), "right": named("0b" * 16), **because(), **what}
    reason, metadata = await refused(
        client.profile.MergeProfiles(api.MergeProfilesRequest(**asked))
    )
    assert (reason, metadata) == ("INVALID_REQUEST", {"field": field})


async def test_given_an_erased_profile_then_nobody_decides_about_it(client: Client) -> None:
    (anna, _), (ann, _), last = await two_people(client)
    erase = api.EraseProfileRequest(
        profile=of(ann), reason="request-7", requested_by="agent-7", after_position=last
    )
    erased = (await client.profile.EraseProfile(erase)).erased
    decide = merged(client, anna, ann, after_position=erased.position)
    assert await refused(decide) == ("PROFILE_ERASED", {"position": str(erased.position)})
    two = api.TwoIdentities(left=anna, right=ann)
    assert (await refused(unmerged(client, ann, two=two)))[0] == "PROFILE_ERASED"


async def test_given_two_identities_far_apart_then_the_way_between_them_is_told(
    client: Client,
) -> None:
    way = [new_email(), new_phone(), new_device(), cookie(uuid7())]
    last = await record(
        client,
        *(told(note("2024-01-01", "Link"), *way[i : i + 2]) for i in range(3)),
        told(note("2024-01-02", "Again"), way[0], way[3]),
    )
    request = api.ExplainIdentitiesRequest(profile=of(way[0]), after_position=last, page_size=2)
    request.between.left.CopyFrom(way[0])
    request.between.right.CopyFrom(way[3])
    first = await client.profile.ExplainIdentities(request)
    request.page_token = first.next_page_token
    rest = await client.profile.ExplainIdentities(request)

    links = [*first.links, *rest.links]
    assert len(first.links) == 2
    assert not rest.next_page_token
    here = way[0]
    for link, there in zip(links, way[1:], strict=True):
        assert link.effect == LINK_EFFECT_JOINS
        assert {link.left.identity.value, link.right.identity.value} == {here.value, there.value}
        here = there
    every = await explained(client, way[0])
    assert [one.effect for one in every.links] == [LINK_EFFECT_JOINS] * 3 + [LINK_EFFECT_CONFIRMS]


async def test_given_a_past_day_then_a_profile_is_who_it_was_then(client: Client) -> None:
    (anna, _), (ann, _), last = await two_people(client)
    request = api.GetProfileRequest(profile=of(anna), after_position=last)
    request.as_of.GetCurrentTime()
    before = (await client.profile.GetProfile(request)).profile
    assert len(before.identities) == 2
    result = await merged(client, anna, ann)
    request.after_position = result.position
    assert (await client.profile.GetProfile(request)).profile.identities == before.identities


def _status() -> GetStoreStatusRequest:
    return GetStoreStatusRequest()
