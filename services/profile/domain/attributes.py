"""What is known about a customer, and how it is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.profile.domain.field_policy import FieldPolicy
from services.profile.domain.touches import Seen, Touch, of_type, see, timestamp
from touchline.events.v1 import event_pb2
from touchline.profile.v1 import profile_pb2

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
    return [
        profile_pb2.Attribute(
            name=one.name,
            value=one.value,
            event_id=one.told.event.event_id,
            occurred_at=timestamp(one.told.at_us),
            source=one.told.event.source,
        )
        for one in known(see(touches, POLICY))
    ]
