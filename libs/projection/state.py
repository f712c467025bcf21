"""What a process says of a projection that it drives, or would."""

from dataclasses import dataclass

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


def state_name(state: ProjectionState.ValueType) -> str:
    """Return a state as metrics name it, such as `catching_up`."""
    return ProjectionState.Name(state).removeprefix("PROJECTION_STATE_").lower()
