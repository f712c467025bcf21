"""Says how projections stand: what the database knows of them, and this process of its own."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from libs.postgres.queries import load_queries
from libs.projection.checkpoints import RangeState, read_ranges
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import generations
from libs.projection.parking import count_parked
from libs.projection.projection import Projection
from libs.projection.runner import Runner
from libs.rpc import errors
from touchline.projection.v1 import projection_pb2 as api

_STATES: Final = {
    "filling": api.GENERATION_STATE_FILLING,
    "following": api.GENERATION_STATE_FOLLOWING,
    "serving": api.GENERATION_STATE_SERVING,
    "retired": api.GENERATION_STATE_RETIRED,
    "failed": api.GENERATION_STATE_FAILED,
}
# The first that one of several ranges is in says it of all.
_WORST_FIRST: Final = (
    *(api.PROJECTION_STATE_HALTED, api.PROJECTION_STATE_WAITING),
    *(api.PROJECTION_STATE_CATCHING_UP, api.PROJECTION_STATE_LIVE),
)
_NEARLY: Final = 1000
_SQL: Final = load_queries(Path(__file__).with_name("telling.sql"))


class Folds(Protocol):
    """What a process folds or could.

    Attributes:
        projections: All of the service's, by name.
        runners: Those that run in this process now.
    """

    @property
    def projections(self) -> Mapping[str, Projection]:
        """See above."""

    @property
    def runners(self) -> Sequence[Runner]:
        """See above."""


def named(folds: Folds, name: str) -> Projection:
    """Return the projection of a name.

    Raises:
        CallError: PROJECTION_NOT_FOUND.
    """
    found = folds.projections.get(name)
    if found is None:
        raise errors.projection_not_found(name)
    return found


@dataclass(slots=True)
class Known:
    """What a database says of its projections.

    Attributes:
        generations: By projection, the oldest first.
        ranges: By generation's id.
        parked: How many keys each generation has parked.
        workers: The names of processes.
        pauses: Why projections are paused.
    """

    generations: defaultdict[str, list[Generation]] = field(
        default_factory=lambda: defaultdict(list)
    )
    ranges: defaultdict[int, list[RangeState]] = field(default_factory=lambda: defaultdict(list))
    parked: Mapping[int, int] = field(default_factory=dict)
    workers: dict[UUID, str] = field(default_factory=dict)
    pauses: dict[str, str] = field(default_factory=dict)

    def position(self, generation: int) -> int:
        """Return what all ranges of a generation have folded."""
        return min((one.checkpoint.position for one in self.ranges[generation]), default=0)


async def read_known(pool: asyncpg.Pool) -> Known:
    """Return what a database says of its projections."""
    known = Known()
    for generation in await generations(pool):
        known.generations[generation.projection].append(generation)
    for one in await read_ranges(pool):
        known.ranges[one.generation].append(one)
    known.parked = await count_parked(pool)
    known.workers = {row["owner"]: row["name"] for row in await pool.fetch(_SQL["workers"])}
    known.pauses = {row["projection"]: row["reason"] for row in await pool.fetch(_SQL["pauses"])}
    return known


async def indexed(pool: asyncpg.Pool, generation: Generation) -> float | None:
    """Return how much of the index is made that is being made; None when none is."""
    share: float | None = await pool.fetchval(_SQL["indexing"], generation.schema)
    return share


def tell(
    projection: Projection, runners: Sequence[Runner], known: Known, head: int
) -> api.Projection:
    """Return what is said of a projection.

    Args:
        projection: Which one.
        runners: Those of it that run in this process.
        known: What the database says.
        head: The last position of the line, as far as anybody has heard.
    """
    its = known.generations[projection.name]
    answers = next(
        (
            one
            for one in its
            if one.state == "serving" and one.fold_version == projection.fold_version
        ),
        # A reactor has one for ever; its version may be another release's.
        its[0] if its and projection.copy() is None else None,
    )
    told = api.Projection(
        name=projection.name,
        fold_version=projection.fold_version,
        is_reactor=projection.copy() is None,
        pause_reason=known.pauses.get(projection.name, ""),
        generations=[_generation(one, known) for one in its],
    )
    own = [one for one in runners if answers and one.generation and one.generation.id == answers.id]
    ranges = known.ranges[answers.id] if answers else []
    if ranges:
        _tell_place(told, ranges)
    elif own:  # the database is away, and this process knows
        place = own[0].checkpoint
        told.position, told.chain, told.store_id = place.position, place.chain, place.store_id
    told.head_position = max(head, told.position)
    told.parked_keys = known.parked.get(answers.id, 0) if answers else 0
    told.halt_reason = _halt_reason(ranges, own)
    told.state = _state(told, ranges, own, is_paused=projection.name in known.pauses)
    _tell_times(told, own)
    return told


def _tell_place(told: api.Projection, ranges: Sequence[RangeState]) -> None:
    place = min(ranges, key=lambda one: one.checkpoint.position).checkpoint
    told.position, told.chain, told.store_id = place.position, place.chain, place.store_id


def _tell_times(told: api.Projection, own: Sequence[Runner]) -> None:
    committed = max((one.state.committed_at for one in own), default=0.0)
    if committed:
        told.committed_at.FromNanoseconds(int(committed * 1e9))
    waiting = [one.state.waiting_since for one in own if one.state.waiting_since]
    if waiting and told.position < told.head_position:
        told.behind_since.FromNanoseconds(int(min(waiting) * 1e9))


def _halt_reason(ranges: Sequence[RangeState], own: Sequence[Runner]) -> str:
    reasons = [one.state.halt_reason for one in own] + [one.halt_reason for one in ranges]
    return next(filter(None, reasons), "")


def _state(
    told: api.Projection,
    ranges: Sequence[RangeState],
    own: Sequence[Runner],
    *,
    is_paused: bool,
) -> api.ProjectionState.ValueType:
    if is_paused:
        return api.PROJECTION_STATE_PAUSED
    if told.halt_reason:
        return api.PROJECTION_STATE_HALTED
    states = [one.state.state for one in own if one.state.owns or not ranges]
    if len(states) < len(ranges):  # other processes have the rest, and the database tells of those
        folded = all(one.leased for one in ranges)
        behind = told.head_position - told.position > _NEARLY
        others = api.PROJECTION_STATE_CATCHING_UP if behind else api.PROJECTION_STATE_LIVE
        states.append(others if folded else api.PROJECTION_STATE_WAITING)
    if not states:
        return api.PROJECTION_STATE_WAITING
    return next(state for state in _WORST_FIRST if state in states)


def _generation(one: Generation, known: Known) -> api.Generation:
    told = api.Generation(
        generation=one.id,
        fold_version=one.fold_version,
        state=_STATES[one.state],
        position=known.position(one.id),
        ranges=[_range(each, known) for each in known.ranges[one.id]],
        failure=one.failure,
        compared_position=one.compared_position,
        differing_rows=one.differing_rows,
    )
    _tell_time(told.begun_at, one.begun_at)
    for at, when in ((told.served_at, one.served_at), (told.retired_at, one.retired_at)):
        if when is not None:
            _tell_time(at, when)
    return told


def _range(one: RangeState, known: Known) -> api.PartitionRange:
    worker = ""
    if one.leased and one.owner:
        # Those that fill a generation don't tell their names; two of them are two all the same.
        worker = known.workers.get(one.owner, f"worker {one.owner.hex[:8]}")
    return api.PartitionRange(
        first=one.partitions.first,
        last=one.partitions.last,
        position=one.checkpoint.position,
        worker=worker,
    )


def _tell_time(into: Timestamp, when: datetime) -> None:
    into.FromDatetime(when)
