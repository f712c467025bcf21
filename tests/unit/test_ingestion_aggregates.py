"""Aggregates' events are for Touchline's own services: callers can't record them or pose as one."""

import pytest
from google.protobuf import text_format

from libs.identity import changes_stream, snapshots_stream, stream_identity, strength_of
from libs.identity.keys import IdentityKeys
from services.ingestion import domain
from tests.events import an_event
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_STREAM, Identity
from touchline.uuid7 import uuid7

NOW_US = 1_700_000_000_000_000
KEYS = IdentityKeys(b"\x1d" * 32)
FACTS = ["aggregate_changed", "aggregate_snapshot"]


def decided(fact: str = "aggregate_changed", **event: object) -> Event:
    text = (
        f"event_id: '{uuid7()}' source: 'promises' occurred_at {{ seconds: 1700000000 }} "
        f"{fact} {{ topic: 'module:Given' }}"
    )
    made = text_format.Parse(text, Event(**event))  # type: ignore[arg-type]
    if not made.identities:
        made.identities.append(stream_identity("promises", "a"))
    return made


def broken(event: Event) -> list[str]:
    """What a caller of gRPC is told."""
    _, found = domain.identify(event, KEYS)
    return [path for path, _ in found + domain.violations_of(event, "default", NOW_US)]


def refused(event: Event) -> list[str]:
    """What a service is told over NATS."""
    _, found = domain.identify_stream(event, KEYS)
    rules = domain.AGGREGATE_RULES
    return [path for path, _ in found + domain.violations_of(event, "default", NOW_US, rules)]


@pytest.mark.parametrize("fact", FACTS)
def test_a_service_records_what_a_caller_can_not(fact: str) -> None:
    assert refused(decided(fact)) == []
    assert broken(decided(fact)) == ["identities[0].kind", fact]


@pytest.mark.parametrize("fact", FACTS)
def test_an_aggregates_fact_of_a_customer_is_refused_to_all(fact: str) -> None:
    event = decided(fact, identities=an_event().identities)
    assert broken(event) == [fact]
    assert refused(event) == ["identities"]


@pytest.mark.parametrize("place", [0, 1])
def test_a_stream_is_seen_together_with_nobody(place: int) -> None:
    event = an_event()
    identities = [*event.identities]
    identities.insert(place, stream_identity("promises", "a"))
    del event.identities[:]
    event.identities.extend(identities)
    assert broken(event) == [f"identities[{place}].kind"]
    both = decided(identities=identities)
    assert refused(both) == ["identities"]
    alone = decided(identities=[stream_identity("promises", "a"), stream_identity("promises", "b")])
    assert refused(alone) == ["identities"]


@pytest.mark.parametrize(
    ("application", "name", "field"),
    [("", "a", "namespace"), ("promises", "", "value"), ("promises", "a" * 513, "value")],
)
def test_a_stream_without_a_name_is_refused(application: str, name: str, field: str) -> None:
    event = decided(identities=[stream_identity(application, name)])
    assert refused(event) == [f"identities[0].{field}"]


@pytest.mark.parametrize("fact", FACTS)
def test_a_topic_is_required_and_bounded(fact: str) -> None:
    for topic in ("", "t" * 513):
        event = decided(fact)
        getattr(event, fact).topic = topic
        assert refused(event) == [f"{fact}.topic"]


def test_an_aggregates_event_belongs_to_the_stream_of_its_identity() -> None:
    key, other = b"k" * 16, b"o" * 16
    changed, snapshot = decided().aggregate_changed, decided(FACTS[1]).aggregate_snapshot
    assert domain.place_violations(changed, key, changes_stream(key)) == []
    assert domain.place_violations(snapshot, key, snapshots_stream(key)) == []
    for fact, stream in ((changed, snapshots_stream(key)), (snapshot, changes_stream(key))):
        assert [path for path, _ in domain.place_violations(fact, key, stream)] == ["stream_id"]
    found = domain.place_violations(changed, key, changes_stream(other))
    assert [path for path, _ in found] == ["stream_id"]


def test_a_stream_is_named_as_it_is_and_has_no_strength() -> None:
    spellings = [("promises", "a"), ("Promises", "a"), ("promises", "A"), ("promises", " a")]
    named = [KEYS.identify(stream_identity(*spelling)) for spelling in spellings]
    assert len({identified.key for identified in named}) == len(spellings)
    assert [(one.canonical_namespace, one.canonical_value) for one in named] == spellings
    assert named[0].namespace_key == KEYS.namespace_key("promises")
    stream = Identity(kind=IDENTITY_KIND_STREAM, namespace="promises", value="a")
    assert stream_identity("promises", "a") == stream
    with pytest.raises(ValueError, match="belongs to no profile"):
        strength_of(IDENTITY_KIND_STREAM)
