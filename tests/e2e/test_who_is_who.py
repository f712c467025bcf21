"""A merge and its un-merge, seen from outside: all four services are as if nothing had happened.

Facts, identities and sides are drawn at random from a seed; what is compared is what callers get.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from google.protobuf.message import Message

from tests.customers import new_device, new_email, new_phone, number_in, of, record
from tests.running import Installation
from touchline.client import Client
from touchline.engagement.v1 import engagement_service_pb2 as scoring
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.events.v1.identity_pb2 import Identity
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.uuid7 import uuid7

SEED: Final = 20261122
CUSTOMERS: Final = 6
FACTS: Final = 14
NOW: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
# Scores decay: all are asked as of one moment, after everything that is recorded here.
THEN: Final = NOW + timedelta(hours=20)
PURPOSES: Final = ("newsletter", "offers")
CHANNELS: Final = (facts_pb2.CHANNEL_UNSPECIFIED, facts_pb2.CHANNEL_EMAIL, facts_pb2.CHANNEL_SMS)


@dataclass(slots=True)
class Person:
    """Somebody with identities of their own, and what happened to them."""

    identities: list[Identity]
    events: list[event_pb2.Event] = field(default_factory=list)


@pytest.fixture(scope="module")
async def client(running: Installation) -> AsyncIterator[Client]:
    """A caller of the shared installation."""
    async with running.client() as client:
        yield client


def a_person(rng: random.Random) -> Person:
    """One with three or four identities that events show together, and facts about some of them."""
    known = [number_in("crm", uuid7()), new_email(), new_phone(), new_device()]
    person = Person(known[: rng.choice((3, 4))])
    for one in person.identities[1:]:
        person.events.append(happened(rng, [person.identities[0], one], a_contact(rng)))
    for _ in range(FACTS):
        make = rng.choice((a_contact, a_trait, a_consent, a_preference, an_order))
        concerned = rng.sample(person.identities, rng.choice((1, 1, 2)))
        # Only what is linked already is named together: a new link is not what is tested here.
        person.events.append(happened(rng, concerned, make(rng)))
    return person


def happened(
    rng: random.Random, who: Sequence[Identity], fact: dict[str, Message]
) -> event_pb2.Event:
    # Historical: no level of a score is told of while the timelines are compared.
    event = event_pb2.Event(
        event_id=uuid7(),
        source="test",
        identities=who,
        historical=True,
        **fact,  # type: ignore[arg-type]
    )
    event.occurred_at.FromDatetime(NOW - timedelta(minutes=rng.randrange(100_000)))
    return event


def a_contact(rng: random.Random) -> dict[str, Message]:
    channel = rng.choice((facts_pb2.CHANNEL_PHONE, facts_pb2.CHANNEL_EMAIL, facts_pb2.CHANNEL_CHAT))
    direction = rng.choice((facts_pb2.DIRECTION_INBOUND, facts_pb2.DIRECTION_OUTBOUND))
    return {"interaction": facts_pb2.Interaction(channel=channel, direction=direction)}


def a_trait(rng: random.Random) -> dict[str, Message]:
    traits = {rng.choice(("city", "plan", "language")): rng.choice(("a", "b", "c", ""))}
    return {"traits_observed": facts_pb2.TraitsObserved(traits=traits)}


def a_consent(rng: random.Random) -> dict[str, Message]:
    status = rng.choice((facts_pb2.CONSENT_STATUS_GRANTED, facts_pb2.CONSENT_STATUS_WITHDRAWN))
    said = facts_pb2.ConsentChanged(
        purpose=rng.choice(PURPOSES), channel=rng.choice(CHANNELS), status=status
    )
    return {"consent_changed": said}


def a_preference(rng: random.Random) -> dict[str, Message]:
    status = rng.choice(
        (
            facts_pb2.PREFERENCE_STATUS_PREFERRED,
            facts_pb2.PREFERENCE_STATUS_ACCEPTED,
            facts_pb2.PREFERENCE_STATUS_AVOIDED,
        )
    )
    said = facts_pb2.PreferenceChanged(
        purpose=rng.choice(PURPOSES), channel=rng.choice(CHANNELS[1:]), status=status
    )
    return {"preference_changed": said}


def an_order(rng: random.Random) -> dict[str, Message]:
    amount = facts_pb2.Money(currency_code="EUR", micros=rng.randrange(1, 500) * 1_000_000)
    order = facts_pb2.OrderChanged(order_id=uuid7(), amount=amount)
    return {"order_changed": order}


async def seen(client: Client, person: Person, after: int) -> dict[str, Any]:
    """All that callers are told of a person, apart from the decisions and how many there were."""
    who = of(person.identities[0])
    asked = api.ListTimelineEventsRequest(profile=who, page_size=500, after_position=after)
    entries = (await client.profile.ListTimelineEvents(asked)).entries
    about = api.GetProfileRequest(profile=who, after_position=after)
    profile = (await client.profile.GetProfile(about)).profile
    consents = await client.profile.ListConsents(
        api.ListConsentsRequest(profile=who, after_position=after)
    )
    score = scoring.GetScoreRequest(profile=who, after_position=after)
    score.as_of.FromDatetime(THEN)
    return {
        "id": profile.profile_id,
        "identities": list(profile.identities),
        "attributes": list(profile.attributes),
        "timeline": [entry for entry in entries if not entry.event.HasField("identity_decided")],
        "consents": list(consents.consents),
        "preferences": list(consents.preferences),
        "score": (await client.engagement.GetScore(score)).score,
    }


def decided(who: Identity) -> api.DecidedProfile:
    return api.DecidedProfile(profile=of(who))


async def merged(client: Client, one: Person, other: Person, after: int) -> api.DecisionResult:
    request = api.MergeProfilesRequest(
        left=decided(one.identities[-1]),
        right=decided(other.identities[0]),
        decided_by="agent-7",
        reason="Both called from the same desk.",
        after_position=after,
    )
    return (await client.profile.MergeProfiles(request)).result


async def unmerged(client: Client, person: Person, merge: api.DecisionResult) -> api.DecisionResult:
    request = api.UnmergeProfilesRequest(
        profile=decided(person.identities[0]),
        merge_event_id=merge.event_id,
        decided_by="agent-9",
        reason="They are mother and daughter.",
        after_position=merge.position,
    )
    return (await client.profile.UnmergeProfiles(request)).result


def withdrawn(told: dict[str, Any]) -> set[tuple[str, int]]:
    return {
        (one.purpose, one.channel)
        for one in told["consents"]
        if one.status == facts_pb2.CONSENT_STATUS_WITHDRAWN
    }


async def test_after_merges_and_unmerges_everybody_is_as_before_to_the_last_field(
    client: Client,
) -> None:
    rng = random.Random(SEED)
    people = [a_person(rng) for _ in range(CUSTOMERS)]
    events = [event for person in people for event in person.events]
    rng.shuffle(events)
    position = await record(client, *events)
    before = [await seen(client, person, position) for person in people]

    pairs = [(one, other) for one, other in zip(people[::2], people[1::2], strict=True)]
    decisions = [await merged(client, one, other, position) for one, other in pairs]
    position = decisions[-1].position
    for number, (one, other) in enumerate(pairs):
        both = [before[2 * number], before[2 * number + 1]]
        now = await seen(client, one, position)
        assert now == await seen(client, other, position)
        assert len(now["identities"]) == sum(len(each["identities"]) for each in both)
        happened_to = {entry.event.event_id for each in both for entry in each["timeline"]}
        assert {entry.event.event_id for entry in now["timeline"]} == happened_to
        assert withdrawn(now) >= withdrawn(both[0]) | withdrawn(both[1])
        assert now["id"] in (both[0]["id"], both[1]["id"])

    for (one, _), decision in zip(pairs, decisions, strict=True):
        position = (await unmerged(client, one, decision)).position
    assert [await seen(client, person, position) for person in people] == before


async def test_what_was_unmerged_stays_apart_when_it_is_seen_together_again(
    client: Client,
) -> None:
    rng = random.Random(SEED + 1)
    one, other = a_person(rng), a_person(rng)
    last = await record(client, *one.events, *other.events)
    await unmerged(client, one, await merged(client, one, other, last))
    together = happened(rng, [one.identities[2], other.identities[2]], a_contact(rng))
    position = await record(client, together)

    assert (await seen(client, one, position))["id"] != (await seen(client, other, position))["id"]
    asked = api.ExplainIdentitiesRequest(
        profile=of(one.identities[0]),
        between=api.TwoIdentities(left=one.identities[0], right=other.identities[0]),
    )
    verdicts = (await client.profile.ExplainIdentities(asked)).verdicts
    assert [(verdict.decided_by, verdict.revoked) for verdict in verdicts] == [
        ("agent-9", False),
        ("agent-7", True),
    ]
