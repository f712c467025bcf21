"""Where a projection stands on the line, and why a batch may not continue that."""

from dataclasses import dataclass, replace

from libs.eventstore.chain import GENESIS, Head


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
