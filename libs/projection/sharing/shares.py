"""What is whose share: a plan that each process makes for itself, of what all of them see."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from libs.projection.checkpoints import RangeState
from libs.projection.generations.generation import Generation
from libs.projection.partitions import ALL, Partitions

MOST_RANGES: Final = 8
"""How many ranges a generation has at most."""


class Worker(NamedTuple):
    """A process that lives.

    Attributes:
        owner: Names it.
        folds: Whether it takes ranges of views.
        reacts: Whether it takes reactors.
        fold_versions: The fold version of each view that it reads.
    """

    owner: UUID
    folds: bool
    reacts: bool
    fold_versions: Mapping[str, int]


class Share(NamedTuple):
    """A range that processes share, and what this one knows of its projection.

    Attributes:
        generation: Which folding of which projection.
        state: What the database says of the range.
        is_reactor: Whether its projection acts.
        divisible: Whether it may be split.
    """

    generation: Generation
    state: RangeState
    is_reactor: bool
    divisible: bool

    @property
    def partitions(self) -> Partitions:
        """Whose events."""
        return self.state.partitions

    @property
    def size(self) -> int:
        """How many partitions it has."""
        return self.partitions.last - self.partitions.first + 1

    def fits(self, worker: Worker) -> bool:
        """Tell whether a process can fold it."""
        if self.is_reactor:
            return worker.reacts
        version = worker.fold_versions.get(self.generation.projection)
        return worker.folds and version == self.generation.fold_version


class Plan(NamedTuple):
    """What a process is to do now.

    Attributes:
        take: What is its own, or free, and within its share.
        give_up: One range that is beyond its share, if any is.
        split: Its ranges that are larger than they are to be.
        merge: Its ranges whose other half is to be one with them again; they are the first halves.
    """

    take: Sequence[Share]
    give_up: Share | None
    split: Sequence[Share]
    merge: Sequence[Share]


def plan(shares: Collection[Share], workers: Collection[Worker], me: Worker) -> Plan:
    """Return what a process is to do, so that all of them come to fair shares without turmoil.

    What the same processes can fold is shared among these alone: so nothing is left lying because
    those who could take it have enough of something else.

    Args:
        shares: All ranges that somebody folds or is to fold now.
        workers: The processes that live.
        me: This one, whether it is among them or not.
    """
    living = {one.owner: one for one in (*workers, me)}
    groups: defaultdict[frozenset[UUID], list[Share]] = defaultdict(list)
    for share in sorted(shares, key=lambda one: (one.generation.id, one.partitions)):
        if share.fits(me):
            groups[frozenset(o for o, one in living.items() if share.fits(one))].append(share)
    take, beyond = list[Share](), list[Share]()
    for among, group in groups.items():
        mine = [one for one in group if _is_of(one, me)]
        fair = -(-len(group) // len(among))
        # Each begins elsewhere, so that two which come at once don't ask for the same.
        begin = sorted(among).index(me.owner) * fair
        free = [one for one in group[begin:] + group[:begin] if not one.state.leased]
        take += mine[:fair] + free[: max(0, fair - len(mine))]
        beyond += mine[fair:]
    folded = [one for members in groups.values() for one in members if one.divisible]
    split = _to_split(folded, living.values(), me)
    return Plan(
        [one for one in take if one not in split],
        beyond[-1] if beyond and not split else None,
        split,
        _to_merge(folded, living.values(), me),
    )


def _to_split(shares: Sequence[Share], workers: Collection[Worker], me: Worker) -> list[Share]:
    return [
        one
        for one in shares
        if _is_of(one, me) and not one.state.halt_reason and one.size > _size(one, workers)
    ]


def _to_merge(shares: Sequence[Share], workers: Collection[Worker], me: Worker) -> list[Share]:
    folded = {(one.generation.id, one.partitions): one for one in shares}
    found = []
    for one in shares:
        other = folded.get((one.generation.id, one.partitions.sibling))
        if (
            _is_of(one, me)
            and one.size < _size(one, workers)
            and one.partitions.first < one.partitions.sibling.first
            and other is not None
            and other.state.leased
            and not (one.state.halt_reason or other.state.halt_reason)
        ):
            found.append(one)
    return found


def _size(share: Share, workers: Collection[Worker]) -> int:
    """Return how many partitions a range is to have: there are as many ranges as processes."""
    processes = sum(share.fits(worker) for worker in workers)
    ranges = 1
    while ranges < min(processes, MOST_RANGES):
        ranges *= 2
    return (ALL.last + 1) // ranges


def _is_of(share: Share, worker: Worker) -> bool:
    return share.state.leased and share.state.owner == worker.owner
