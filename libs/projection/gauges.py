"""What a process's projections tell of themselves when metrics are exported."""

import time
from collections.abc import Callable, Iterable, Sequence

from libs.projection.outbox import Sender
from libs.projection.runner import Runner
from libs.projection.state import state_name
from libs.telemetry import declared
from libs.telemetry.metrics import Attributes, Reading
from touchline.projection.v1.projection_pb2 import ProjectionState

_STATES = [state for state in ProjectionState.values() if state]


def readings(runners: Sequence[Runner]) -> dict[declared.Metric, Reading]:
    """Return the gauges of projections; their positions only where they are this process's own."""

    def owned(value: Callable[[Runner], float]) -> Reading:
        return lambda: [
            (value(one), {declared.PROJECTION: one.projection.name})
            for one in runners
            if one.state.owns
        ]

    return {
        declared.PROJECTION_POSITION: owned(lambda one: one.checkpoint.position),
        declared.PROJECTION_LAG: owned(_lag),
        declared.PROJECTION_LAG_TIME: owned(_lag_seconds),
        declared.PROJECTION_PARKED_KEYS: owned(lambda one: one.state.parked_keys),
        declared.PROJECTION_STATES: lambda: _states(runners),
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


def _lag(runner: Runner) -> float:
    return max(0, runner.state.head - runner.checkpoint.position)


def _lag_seconds(runner: Runner) -> float:
    since = runner.state.waiting_since
    return max(0.0, time.time() - since) if since else 0.0


def _states(runners: Sequence[Runner]) -> Iterable[tuple[float, Attributes]]:
    for one in runners:
        now = one.state.state
        for state in _STATES:
            attributes = {
                declared.PROJECTION: one.projection.name,
                declared.PROJECTION_STATE: state_name(state),
            }
            yield float(state == now), attributes
