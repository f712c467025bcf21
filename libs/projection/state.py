"""What a process says of a projection that it drives, or would."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from libs.projection.projection import Recorded
from libs.projection.reading import Stretch
from libs.telemetry import declared, metrics
from touchline.projection.v1.projection_pb2 import ProjectionState


@dataclass(slots=True)
class RunnerState:
    """What a runner says of itself.

    Attributes:
        state: What it does.
        head: The last position of the line that it knows of.
        halt_reason: Why it halted, or empty.
        committed_at: When it last committed, in seconds since 1970, or 0.
        parked_keys: How many keys the projection has parked, where it is this process's own.
        owns: Whether the projection is this process's own.
        waiting_since: When the oldest event that it knows of and has not committed was recorded, in
            seconds since 1970; 0 when there is none.
    """

    state: ProjectionState.ValueType = ProjectionState.PROJECTION_STATE_WAITING
    head: int = 0
    halt_reason: str = ""
    committed_at: float = 0.0
    parked_keys: int = 0
    owns: bool = False
    waiting_since: float = 0.0

    def enter(self, state: ProjectionState.ValueType) -> None:
        """Note that it goes on."""
        self.state = state
        self.halt_reason = ""

    def heard(self, head: int) -> None:
        """Note how far the line goes at least."""
        self.head = max(self.head, head)

    def has_read(self, stretch: Stretch) -> None:
        """Note what is to be folded now."""
        self.heard(stretch.end.position)
        if stretch.events:
            self.waiting_since = stretch.events[0].recorded_at_us / 1e6

    def has_folded(self, events: Sequence[Recorded], position: int) -> None:
        """Note what was committed, and up to where."""
        self.committed_at = time.time()
        newest_at = events[-1].recorded_at_us / 1e6 if events else self.waiting_since
        # What follows was recorded no earlier than the newest of these.
        self.waiting_since = newest_at if position < self.head else 0.0


def measure(projection: str, state: RunnerState, events: Sequence[Recorded]) -> None:
    """Count what a generation that answers has folded, and how long after it was recorded.

    Args:
        projection: Its name.
        state: What its runner says; it has committed them.
        events: What it folded.
    """
    if events and metrics.is_exporting():
        named = {declared.PROJECTION: projection}
        metrics.add(declared.PROJECTION_EVENTS, len(events), named)
        stated = {**named, declared.PROJECTION_STATE: state_name(state.state)}
        late = state.committed_at - events[-1].recorded_at_us / 1e6
        metrics.record(declared.VISIBLE_AFTER, max(0.0, late), stated)


def state_name(state: ProjectionState.ValueType) -> str:
    """Return a state as metrics name it, such as `catching_up`."""
    return ProjectionState.Name(state).removeprefix("PROJECTION_STATE_").lower()
