"""The demo's story and its population: repeatable, acceptable, and distinctive enough to grep."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from libs.cli.population import personal_strings, population
from libs.cli.story import CUSTOMER, EMAIL, story
from libs.identity import canonical
from services.ingestion.domain import violations_of
from tests.events import OF_SERVICES
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import identity_pb2 as ids

NOW = datetime(2026, 11, 3, 15, 20, tzinfo=UTC)
WITH_NAMESPACE = (ids.IDENTITY_KIND_EXTERNAL_ID, ids.IDENTITY_KIND_SOCIAL_HANDLE)


@pytest.fixture(params=["story", "population"])
def events(request: pytest.FixtureRequest) -> Sequence[ev.Event]:
    return story(NOW) if request.param == "story" else list(population(NOW, customers=60))


def test_the_same_seed_and_clock_tell_the_same(events: Sequence[ev.Event]) -> None:
    again = (*story(NOW), *population(NOW, customers=60))
    known = {event.event_id: event.SerializeToString(deterministic=True) for event in again}
    assert all(known[one.event_id] == one.SerializeToString(deterministic=True) for one in events)


def test_another_seed_tells_other_ids() -> None:
    ids_of_one = {event.event_id for event in population(NOW, "one", 20)}
    assert ids_of_one.isdisjoint(event.event_id for event in population(NOW, "two", 20))


def test_every_event_is_acceptable(events: Sequence[ev.Event]) -> None:
    for event in events:
        named = UUID(event.event_id)
        assert named.version == 8
        assert named.int >> 80 == event.occurred_at.ToMilliseconds()
        assert 1 <= len(event.identities) <= 16
        assert event.source
        assert event.WhichOneof("fact")
        assert event.occurred_at.ToDatetime(UTC) <= NOW
        assert event.occurred_at.ToDatetime(UTC) >= NOW - timedelta(days=91)
        assert all(bool(one.namespace) == (one.kind in WITH_NAMESPACE) for one in event.identities)
    assert len({event.event_id for event in events}) == len(events)


def test_ingestion_finds_nothing_to_reject(events: Sequence[ev.Event]) -> None:
    now_us = int(NOW.timestamp()) * 1_000_000
    for event in events:
        assert violations_of(event, "default", now_us) == []
        for one in event.identities:
            assert canonical(one.kind, one.namespace, one.value).value


def test_the_story_has_every_fact_in_the_order_it_happened() -> None:
    told = story(NOW)
    every = {field.name for field in ev.Event.DESCRIPTOR.oneofs_by_name["fact"].fields}
    travel = {"checked_in", "payment_attempted"}  # a potter's workshop stays where it is
    registered = {"custom_event"}  # and has no events that nobody else has
    unsaid = {"preference_changed"}  # she says what she allows, and it is enough
    shown = every - OF_SERVICES - travel - registered - unsaid
    assert {event.WhichOneof("fact") for event in told} == shown
    times = [event.occurred_at.ToMicroseconds() for event in told]
    assert times == sorted(times)


@pytest.mark.parametrize("hour", [0, 1, 9, 23])
def test_the_story_ends_in_the_past_at_any_time_of_day(hour: int) -> None:
    now = NOW.replace(hour=hour, minute=1)
    times = [event.occurred_at.ToDatetime(UTC) for event in story(now)]
    assert times == sorted(times)
    assert times[-1] < now


def test_the_story_unites_six_identities_step_by_step() -> None:
    groups: list[set[tuple[int, str, str]]] = []
    separate = 0
    for event in story(NOW):
        seen = {(one.kind, one.namespace, one.value) for one in event.identities}
        touching = [group for group in groups if group & seen]
        groups = [group for group in groups if not group & seen] + [seen.union(*touching)]
        separate = max(separate, len(groups))
    assert len(groups) == 1
    assert len(groups[0]) == 6
    assert separate >= 3


def test_the_retraction_names_an_event_of_the_same_owner() -> None:
    told = {event.event_id: event for event in story(NOW)}
    retraction = next(one for one in told.values() if one.HasField("event_retracted"))
    retracted = told[retraction.event_retracted.event_id]
    assert retracted.identities[0] == retraction.identities[0]


def test_causes_come_before_their_effects(events: Sequence[ev.Event]) -> None:
    seen: set[str] = set()
    for event in events:
        assert not event.causation_id or event.causation_id in seen
        seen.add(event.event_id)


def test_every_generated_customer_is_one_profile_of_two_to_twelve_events() -> None:
    owners: dict[str, int] = {}
    number_of: dict[str, str] = {}
    for event in population(NOW, customers=300):
        if event.HasField("traits_observed"):
            number = event.identities[0].value
            for one in event.identities:
                assert number_of.setdefault(one.value, number) == number
        owner = number_of[event.identities[0].value]
        owners[owner] = owners.get(owner, 0) + 1
    assert len(owners) == 300
    assert all(2 <= events_of <= 12 for events_of in owners.values())


def test_nobody_else_shares_an_identity_with_the_story() -> None:
    hers = {one.value for event in story(NOW) for one in event.identities}
    assert hers.isdisjoint(one.value for event in population(NOW) for one in event.identities)


def test_personal_strings_hold_addresses_numbers_names_and_texts_but_nothing_short() -> None:
    strings = personal_strings([*story(NOW), *population(NOW, customers=5)])
    assert {CUSTOMER, EMAIL.value, "+49 30 23125 417", "+493023125417", "ines_fires"} <= strings
    assert any(text.startswith("Seven days without a kiln") for text in strings)
    assert min(map(len, strings)) >= 6
    assert "Berlin" not in strings
