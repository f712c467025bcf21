"""What is known about a customer, and how it is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from services.profile.domain.field_policy import FieldPolicy
from services.profile.domain.touches import Seen, Touch, of_type, see, timestamp
from touchline.events.v1 import event_pb2
from touchline.profile.v1 import erasure_pb2, profile_pb2

POLICY = FieldPolicy(
    frozenset(
        {
            "event_id",  # provenance
            "source",  # provenance
            "traits_observed.traits",
        }
    )
)
READS = POLICY.reads


@dataclass(frozen=True, slots=True)
class Known:
    """One attribute as it stands.

    Attributes:
        name: Its name.
        value: Its value.
        since_us: From when on it had this value without a break, in microseconds since 1970.
        told: What said so last.
    """

    name: str
    value: str
    since_us: int
    told: Seen


def known(history: Sequence[Seen]) -> list[Known]:
    """The attributes in a history, by name; an empty value has removed what was known."""
    latest: dict[str, Known] = {}
    for seen in of_type(history, event_pb2.EVENT_TYPE_TRAITS_OBSERVED):
        for name, value in seen.event.traits_observed.traits.items():
            before = latest.get(name)
            unchanged = before is not None and before.value == value
            since = before.since_us if before is not None and unchanged else seen.at_us
            latest[name] = Known(name, value, since, seen)
    return [latest[name] for name in sorted(latest) if latest[name].value]


def attributes(touches: Iterable[Touch]) -> list[profile_pb2.Attribute]:
    """The attributes of a profile, by name, each with the event that said so last.

    Args:
        touches: Events of one profile in any order, any of them more than once.
    """
    told = list(touches)
    history = see(told, POLICY)
    recorded_us = {touch.event_id: touch.recorded_at_us for touch in told}
    observations = Counter(
        name
        for seen in of_type(history, event_pb2.EVENT_TYPE_TRAITS_OBSERVED)
        for name in seen.event.traits_observed.traits
    )
    return [
        profile_pb2.Attribute(
            name=one.name,
            value=one.value,
            event_id=one.told.event.event_id,
            occurred_at=timestamp(one.told.at_us),
            source=one.told.event.source,
            recorded_at=timestamp(recorded_us[one.told.event_id]),
            observations=observations[one.name],
        )
        for one in known(history)
    ]


def observed(touches: Iterable[Touch], later: set[str]) -> Iterator[erasure_pb2.AttributeValue]:
    """All that events say of attributes, in the order of the events, then by name.

    Args:
        touches: Events of one profile, the latest first, none of them retracted.
        later: The attributes that later events spoke of; those that these speak of are added. Of
            each, the observation that is not later spoken of is the one that holds.
    """
    for touch in touches:
        event = touch.event
        for name, value in sorted(event.traits_observed.traits.items()):
            yield erasure_pb2.AttributeValue(
                name=name,
                value=value,
                event_id=event.event_id,
                occurred_at=timestamp(touch.occurred_at_us),
                recorded_at=timestamp(touch.recorded_at_us),
                source=event.source,
                actor_reference=event.actor.reference,
                current=name not in later,
            )
            later.add(name)
