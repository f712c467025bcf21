"""Erasures as projections fold them.

Rebuilt is live: a fold anew can't open an erased event, and the live one did. So whoever opens
events while it folds deletes, at an erasure, all that came of the events which that concerns; what
envelopes say stays, since they say it still.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from libs.projection.projection import Recorded
from touchline.events.v1.event_pb2 import EVENT_TYPE_PROFILE_ERASED

_EVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class Erasure:
    """Identities whose events can't be opened any more: all up to a position, or of a time range.

    Attributes:
        tenant: The tenant's number.
        position: Of the erasure. What came later is not concerned: whoever comes back has new keys.
        identity_keys: The identities, 16 bytes each.
        from_us: Only events that occurred then or later, in microseconds since 1970 UTC.
        before_us: Only events that occurred before then.
    """

    tenant: int
    position: int
    identity_keys: frozenset[bytes]
    from_us: int = -_EVER
    before_us: int = _EVER

    @property
    def is_whole(self) -> bool:
        """Whether the identities themselves were erased, and not only a time range."""
        return (self.from_us, self.before_us) == (-_EVER, _EVER)

    @property
    def arguments(self) -> tuple[int, list[bytes], int, int, int]:
        """What queries are given: tenant, identity keys, from, before, position."""
        keys = sorted(self.identity_keys)
        return self.tenant, keys, self.from_us, self.before_us, self.position

    def concerns(self, event: Recorded) -> bool:
        """Tell whether an event can't be opened any more because of this."""
        record = event.record
        return (
            event.position < self.position
            and record.tenant == self.tenant
            and record.owner_key in self.identity_keys
            and self.from_us <= record.occurred_at_us < self.before_us
        )


def erasures_among(
    events: Sequence[Recorded], tenants: Collection[int] | None = None
) -> list[Erasure]:
    """Return the erasures among events, in their order.

    Args:
        events: Some events.
        tenants: Only those of these tenants, by number. Default: of all.
    """
    return [
        erasure_of(event)
        for event in events
        if event.record.type == EVENT_TYPE_PROFILE_ERASED
        and (tenants is None or event.record.tenant in tenants)
    ]


def erasure_of(event: Recorded) -> Erasure:
    """Return the erasure that an event of the type PROFILE_ERASED says."""
    told = event.record.erasure
    return Erasure(
        event.record.tenant,
        event.position,
        frozenset(told.identity_keys),
        told.occurred_from_us or -_EVER,
        told.occurred_before_us or _EVER,
    )


def is_erased(event: Recorded, erasures: Iterable[Erasure]) -> bool:
    """Tell whether one of some erasures concerns an event."""
    return any(erasure.concerns(event) for erasure in erasures)
