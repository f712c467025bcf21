"""Says what of a batch comes next: by chain, never by number alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from libs.eventstore.chain import GENESIS, Head, extend
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent


class Discontinuity(Exception):
    """A batch does not continue a checkpoint."""


class Gap(Discontinuity):
    """Events between the checkpoint and the batch are missing: read them from history."""


class Fork(Discontinuity):
    """The batch comes from another store, or from another past of this one."""


class Damaged(Discontinuity):
    """The batch is not what was sent: its events don't make up its chain."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a projection committed: an epoch's owner, and where it stands on the line."""

    epoch: int
    store_id: bytes = b""
    position: int = 0
    chain: bytes = GENESIS

    def after(self, head: Head) -> "Checkpoint":
        """Return the checkpoint once everything up to `head` is folded."""
        return replace(self, store_id=head.store_id, position=head.position, chain=head.chain)


def head_of(batch: EventBatch) -> Head:
    """Return where a batch ends."""
    return Head(batch.store_id, batch.last, batch.chain)


def next_events(at: Head, batch: EventBatch) -> Sequence[PackedEvent]:
    """Return the events of a batch that come after a place on the line; none if it has them all.

    Raises:
        Gap: the batch starts later.
        Fork: it has another store id or another chain there.
        Damaged: its events are not those its chain covers.
    """
    if at.store_id and batch.store_id != at.store_id:
        raise Fork(f"comes from store {batch.store_id.hex()}, not {at.store_id.hex()}")
    if batch.last - batch.first + 1 != len(batch.events):
        raise Damaged(f"says {batch.first} to {batch.last} and has {len(batch.events)} events")
    if batch.first > at.position + 1:
        raise Gap(f"starts at {batch.first}, after {at.position}")
    known = min(at.position - batch.first + 1, len(batch.events))
    hashes = [event.content_hash for event in batch.events]
    chain = extend(batch.previous_chain, hashes[:known])
    if batch.last >= at.position and chain != at.chain:
        raise Fork(f"has another chain at position {at.position}")
    if extend(chain, hashes[known:]) != batch.chain:
        raise Damaged(
            f"has events from {batch.first} to {batch.last} that its chain does not cover"
        )
    return batch.events[known:]
