"""What a process's projections tell of themselves when metrics are exported."""

import time
from collections.abc import Callable, Collection, Iterable

from libs.projection.outbox import Sender
from libs.projection.runner import Runner
from libs.projection.state import state_name
from libs.telemetry import declared
from libs.telemetry.metrics import Attributes, Reading
from touchline.projection.v1.projection_pb2 import (
    PROJECTION_STATE_CATCHING_UP,
    PROJECTION_STATE_HALTED,
    PROJECTION_STATE_LIVE,
    PROJECTION_STATE_PAUSED,
    PROJECTION_STATE_WAITING,
    ProjectionState,
)

_STATES = [state for state in ProjectionState.values() if state]
_WORST_FIRST = (
    *(PROJECTION_STATE_HALTED, PROJECTION_STATE_WAITING),
    *(PROJECTION_STATE_CATCHING_UP, PROJECTION_STATE_LIVE),
)


def readings(
    runners: Collection[Runner],
    projections: Collection[str] = (),
    is_paused: Callable[[str], bool] = lambda _: False,
) -> dict[declared.Metric, Reading]:
    """Return the gauges of projections; positions are those of this process's own ranges.

    Args:
        runners: Those that run in the process, as they are at each reading.
        projections: Names what the process could run.
        is_paused: Whether a projection is paused.
    """

    def owned(value: Callable[[list[Runner]], float]) -> Reading:
        return lambda: [
            (value(own), {declared.PROJECTION: name})
            for name, all_ in _by_projection(runners).items()
            if (own := [one for one in all_ if one.state.owns])
        ]

    return {
        declared.PROJECTION_POSITION: owned(lambda own: min(map(_position, own))),
        declared.PROJECTION_LAG: owned(lambda own: max(map(_lag, own))),
        declared.PROJECTION_LAG_TIME: owned(lambda own: max(map(_lag_seconds, own))),
        declared.PROJECTION_PARKED_KEYS: owned(
            lambda own: sum(one.state.parked_keys for one in own)
        ),
        declared.PROJECTION_STATES: lambda: _states(runners, projections, is_paused),
    }


def outbox_readings(sender: Sender) -> dict[declared.Metric, Reading]:
    """Return the gauges of an outbox; only where this process sends it."""

    def size() -> Iterable[tuple[float, Attributes]]:
        if sender.state.owns:
            yield sender.state.waiting, {declared.OUTBOX_STATE: "waiting"}
            yield sender.state.dead, {declared.OUTBOX_STATE: "dead"}

    def age() -> Iterable[tuple[float, Attributes]]:
        if sender.state.owns:
            oldest_at = sender.state.oldest_at
            yield max(0.0, time.time() - oldest_at) if oldest_at else 0.0, {}

    return {declared.OUTBOX_SIZE: size, declared.OUTBOX_AGE: age}


def _by_projection(runners: Collection[Runner]) -> dict[str, list[Runner]]:
    """Return the runners of what answers: of one projection there may be several ranges."""
    found: dict[str, list[Runner]] = {}
    for one in runners:
        if one.generation is None or one.generation.state == "serving":
            found.setdefault(one.projection.name, []).append(one)
    return found


def _position(runner: Runner) -> int:
    return runner.checkpoint.position


def _lag(runner: Runner) -> float:
    return max(0, runner.state.head - runner.checkpoint.position)


def _lag_seconds(runner: Runner) -> float:
    since = runner.state.waiting_since
    return max(0.0, time.time() - since) if since else 0.0


def _states(
    runners: Collection[Runner], projections: Collection[str], is_paused: Callable[[str], bool]
) -> Iterable[tuple[float, Attributes]]:
    running = _by_projection(runners)
    for name in sorted({*running, *projections}):
        now = PROJECTION_STATE_PAUSED if is_paused(name) else _worst(running.get(name, ()))
        for state in _STATES:
            attributes = {
                declared.PROJECTION: name,
                declared.PROJECTION_STATE: state_name(state),
            }
            yield float(state == now), attributes


def _worst(runners: Iterable[Runner]) -> ProjectionState.ValueType:
    """Return the state of the range that is worst off; waiting where another process folds."""
    states = {one.state.state for one in runners}
    return next((state for state in _WORST_FIRST if state in states), PROJECTION_STATE_WAITING)
