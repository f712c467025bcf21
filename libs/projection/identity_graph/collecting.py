"""What a batch of events says of identities, and is not known yet."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from libs.eventstore.lru import LruCache
from libs.identity.decisions import joined_edges
from libs.identity.graph import Edge, edges_of
from libs.projection.projection import Recorded, of_customers
from touchline.events.v1.decisions_pb2 import IDENTITY_DECISION_KIND_MERGED, IdentityDecision
from touchline.events.v1.event_pb2 import EVENT_TYPE_IDENTITY_DECIDED, EVENT_TYPE_PROFILE_ERASED
from touchline.store.v1.store_pb2 import RecordedEvent, SealedIdentity

_CACHED: Final = 400_000
_DECIDED, _ERASED = EVENT_TYPE_IDENTITY_DECIDED, EVENT_TYPE_PROFILE_ERASED

LEFT, RIGHT, JOINED = 0, 1, 2
"""The sides of a decision on which it names an identity; joined: on neither."""

Name = tuple[int, bytes]
"""A tenant's number, and an identity key or an event's id."""

Pair = tuple[int, bytes, bytes]
"""A tenant's number, and two identity keys, the smaller first."""


@dataclass(slots=True)
class Batch:
    """What a batch says.

    Attributes:
        identities: With the positions of the first event of each, and of the event that has its
            sealed value.
        edges: With tenant, owner key and the time of recording.
        firsts: Of pairs seen together, the edge that may be the first of all.
        retractions: Tenant, event id, owner key and the time of recording.
        decisions: Events that say what a person decided.
        erasures: Position and time of recording of what erased an identity.
        has_erasures: Also when they are of a time range, and erase no identity.
    """

    identities: dict[Name, tuple[int, int, SealedIdentity]] = field(default_factory=dict)
    edges: list[tuple[int, bytes, int, Edge]] = field(default_factory=list)
    firsts: dict[Pair, Edge] = field(default_factory=dict)
    retractions: list[tuple[int, bytes, bytes, int]] = field(default_factory=list)
    decisions: list[Recorded] = field(default_factory=list)
    erasures: dict[Name, tuple[int, int]] = field(default_factory=dict)
    has_erasures: bool = False

    @property
    def revocations(self) -> Iterator[tuple[int, bytes, bytes, bool, int]]:
        """Tenant, the revoked decision, the revoking one, whether it merges, and when recorded."""
        for event in self.decisions:
            record, one = event.record, event.record.identity_decision
            merges = one.kind == IDENTITY_DECISION_KIND_MERGED
            for revoked in dict.fromkeys(one.revoked_event_ids):
                yield record.tenant, revoked, record.event_id, merges, event.recorded_at_us


class Collector:
    """Collects what batches say, and remembers what it need not say again.

    What it remembers is in the tables: identities with the data key that sealed their value, and of
    pairs an edge, after which no later one of the pair is its first.
    """

    def __init__(self) -> None:
        self._known: LruCache[Name, bytes] = LruCache(_CACHED)
        self._first_seen: LruCache[Pair, tuple[int, bytes]] = LruCache(_CACHED)

    def forget(self, pairs: Iterable[Pair]) -> None:
        """Forget pairs of which an edge no longer counts."""
        for pair in pairs:
            self._first_seen.forget(pair)

    def collect(self, events: Sequence[Recorded]) -> Batch:
        """Return what events say, in the order of their positions."""
        batch, known = Batch(), self._known
        for event in of_customers(events):
            record = event.record
            tenant, identities = record.tenant, record.identities
            for sealed in identities:
                name = (tenant, sealed.identity_key)
                if known.get(name) != sealed.key_id:
                    known.put(name, sealed.key_id)
                    first_position, *_ = batch.identities.get(name, (event.position,))
                    batch.identities[name] = (first_position, event.position, sealed)
            if record.retracts:
                # It names whom its event concerned, and may not link what that one linked.
                retraction = tenant, record.retracts, record.owner_key, event.recorded_at_us
                batch.retractions.append(retraction)
            elif len(identities) > 1:
                seen = [(sealed.identity_key, sealed.kind) for sealed in identities]
                for edge in edges_of(seen, record.occurred_at_us, record.event_id):
                    batch.edges.append((tenant, record.owner_key, event.recorded_at_us, edge))
                    self._note_first(batch, tenant, edge)
            if record.type == _DECIDED:
                batch.decisions.append(event)
                for edge in edges_decided(record):
                    batch.edges.append((tenant, record.owner_key, event.recorded_at_us, edge))
        self._collect_erasures(batch, events)
        return batch

    def _note_first(self, batch: Batch, tenant: int, edge: Edge) -> None:
        pair, order = (tenant, edge.a, edge.b), (edge.occurred_at_us, edge.event_id)
        first = self._first_seen.get(pair)
        if first is None or order < first:
            self._first_seen.put(pair, order)
            batch.firsts[pair] = edge

    def _collect_erasures(self, batch: Batch, events: Sequence[Recorded]) -> None:
        for event in events:
            if event.record.type != _ERASED:
                continue
            batch.has_erasures = True
            erasure = event.record.erasure
            if erasure.occurred_from_us or erasure.occurred_before_us:
                continue
            for key in erasure.identity_keys:
                name = (event.record.tenant, key)
                batch.erasures[name] = (event.position, event.recorded_at_us)
                self._known.forget(name)


def edges_decided(record: RecordedEvent) -> tuple[Edge, ...]:
    """Return the edges that the record of a person's decision makes."""
    one, when = record.identity_decision, (record.occurred_at_us, record.event_id)
    return joined_edges(one.kind, one.right_keys, one.joined_keys, *when)


def sides_of(decision: IdentityDecision) -> list[tuple[bytes, int]]:
    """Return the identities that a decision names, each with the side on which it does."""
    sides = {
        **{(key, LEFT): None for key in decision.left_keys},
        **{(key, RIGHT): None for key in decision.right_keys},
    }
    of_sides = {key for key, _ in sides}
    joined = {(key, JOINED): None for key in decision.joined_keys if key not in of_sides}
    return [*sides, *joined]
