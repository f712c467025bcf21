"""What holds of events, distances and templates whatever they are."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from libs.eventstore.records import IdentitySeal, SealedTenant, seal_event
from libs.eventstore.sealing import DataKey
from libs.expressions import Scope, compile_template, distance_km, event_value, speed_kmh
from libs.expressions.event_value import EVENT_FIELDS, Fields
from libs.expressions.functions import EARTH_RADIUS_KM
from tests.histories import FACTS, fill
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import Channel, Direction, Visibility
from touchline.store.v1.store_pb2 import RecordedEvent

HALF_WAY_ROUND = math.pi * EARTH_RADIUS_KM
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

times = st.integers(min_value=0, max_value=10**6).map(lambda s: EPOCH + timedelta(seconds=s))
degrees = st.floats(min_value=-180, max_value=180)
places = st.builds(
    lambda north, east, at: {"at": at, "location": {"latitude": north / 2, "longitude": east}},
    *(degrees, degrees, times),
)


@given(places, places)
def test_the_way_there_is_as_long_as_the_way_back(a: Any, b: Any) -> None:
    assert distance_km(a, b) == distance_km(b, a)
    assert speed_kmh(a, b) == speed_kmh(b, a)
    assert 0 <= distance_km(a, b) <= HALF_WAY_ROUND


@given(places, places, places)
def test_no_detour_is_shorter(a: Any, b: Any, c: Any) -> None:
    assert distance_km(a, c) <= distance_km(a, b) + distance_km(b, c) + 1e-3


@given(places)
def test_who_stays_does_not_move(a: Any) -> None:
    assert distance_km(a, a) == 0
    assert speed_kmh(a, a) == 0


def test_two_places_at_one_moment_are_infinitely_fast() -> None:
    a = {"at": EPOCH, "location": {"latitude": 0.0, "longitude": 0.0}}
    b = {"at": EPOCH, "location": {"latitude": 0.0, "longitude": 180.0}}
    assert distance_km(a, b) == pytest.approx(HALF_WAY_ROUND)
    assert speed_kmh(a, b) == math.inf
    assert (
        compile_template("{{ speed_kmh(a, b) }}", {"a", "b"}).render(Scope({"a": a, "b": b}))
        == "infinite"
    )


@given(st.text())
def test_text_outside_of_braces_stands_for_itself(text: str) -> None:
    if "{{" not in text:
        assert compile_template(text, ()).render(Scope({})) == text


@given(st.text(max_size=1_000))
def test_a_value_is_not_escaped_and_not_read_as_a_template(text: str) -> None:
    assert compile_template("<{{ a }}>", {"a"}).render(Scope({"a": text})) == f"<{text}>"


def _filled(fact: str) -> Event:
    def leaf(known: Any, path: str) -> Any:
        if known.enum_type is not None:
            return known.enum_type.values[-1].number
        if known.message_type is not None:
            return Timestamp(seconds=1)
        if path == "event_id" or path.endswith("_id"):
            return "0194fd9a-0000-7000-8000-000000000001"
        return path if known.cpp_type == known.CPPTYPE_STRING else 1

    event = Event()
    fill(event, leaf, lambda: 2)
    fill(getattr(event, fact), leaf, lambda: 2, f"{fact}.")
    return event


def _unknown(value: dict[str, Any], fields: Fields, path: str = "") -> list[str]:
    unknown = [path + name for name in value if name not in fields]
    for name, below in fields.items():
        if below and isinstance(value.get(name), dict):
            unknown += _unknown(value[name], below, f"{path}{name}.")
    return unknown


@pytest.mark.parametrize("fact", FACTS)
def test_every_field_of_an_event_is_known_and_no_identity_is_there(fact: str) -> None:
    value = event_value(_filled(fact))
    told: dict[str, Any] = value["fact"]  # type: ignore[assignment]
    known = set(getattr(Event(), fact).DESCRIPTOR.fields_by_name)
    if fact == "custom_event":
        known = {"name", "properties"}  # what is in the text, not the text
    assert set(told) == known
    assert not _unknown(value, EVENT_FIELDS)
    assert "identities" not in str(value)
    Scope({"event": value})


def _word(enum: Any, number: int) -> str:
    name: str = enum.Name(number)
    return name.partition("_")[2].lower() if number else ""


@pytest.mark.parametrize("fact", FACTS)
def test_channel_direction_and_visibility_are_those_that_filters_see(fact: str) -> None:
    event = _filled(fact)
    value = event_value(event)
    key = DataKey(bytes(32), b"key0")
    row = seal_event(SealedTenant(1, bytes(32)), event, [IdentitySeal(b"owner", key, b"", b"")])
    envelope = RecordedEvent.FromString(row.record)
    assert (value["channel"], value["direction"], value["visibility"]) == (
        _word(Channel, envelope.channel),
        _word(Direction, envelope.direction),
        _word(Visibility, envelope.visibility),
    )
