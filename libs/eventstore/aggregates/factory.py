"""What the library makes an application's recorders with."""

from eventsourcing.persistence import (
    InfrastructureFactory,
    NotSupportedError,
    ProcessRecorder,
    ProgrammingError,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic

from libs.eventstore.aggregates.lending import LINE, borrowed
from libs.eventstore.aggregates.recorders import LineAggregateRecorder, LineApplicationRecorder
from libs.eventstore.aggregates.stored import CHANGES, SNAPSHOTS
from libs.eventstore.aggregates.tracking import LineTrackingRecorder

_PURPOSES = {"events": CHANGES, "snapshots": SNAPSHOTS}


class Factory(InfrastructureFactory[LineTrackingRecorder]):
    """Makes recorders on the line that the environment names.

    An application's name is part of its streams' names: give it one by `name = "promises"`, since
    the library's default is the class's, and streams do not follow when that is renamed.

    Raises:
        ProgrammingError: the environment names no line that is lent now.
    """

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._line = borrowed(self.env.get(LINE))

    def aggregate_recorder(self, purpose: str = "events") -> LineAggregateRecorder:
        """Return what keeps the application's changes, or its snapshots.

        Raises:
            ProgrammingError: the purpose is another, or the application has no name.
        """
        if purpose not in _PURPOSES:
            raise ProgrammingError(f"recorders are for events or snapshots, not for {purpose}")
        return LineAggregateRecorder(self._line, self._name(), _PURPOSES[purpose])

    def application_recorder(self) -> LineApplicationRecorder:
        """Return what keeps the application's changes and tells them in order.

        Raises:
            ProgrammingError: the application has no name.
        """
        return LineApplicationRecorder(self._line, self._name())

    def tracking_recorder(
        self, tracking_recorder_class: type[LineTrackingRecorder] | None = None
    ) -> LineTrackingRecorder:
        """Return what keeps how far a view is.

        Args:
            tracking_recorder_class: The view's. Default: what TRACKING_RECORDER_TOPIC names.

        Raises:
            ProgrammingError: the view has no name, or the line was lent without a database.
        """
        topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
        if tracking_recorder_class is None:
            tracking_recorder_class = resolve_topic(topic) if topic else LineTrackingRecorder
        return tracking_recorder_class(self._line, self._name())

    def process_recorder(self) -> ProcessRecorder:
        """Refuse: an outbox in the checkpoint's transaction is how decisions follow events here.

        Raises:
            NotSupportedError: always; docs/adr/0015-aggregates.md says why.
        """
        raise NotSupportedError(
            "events and tracking lie in two databases, so no recorder keeps them in one "
            "transaction; use a reactor's outbox"
        )

    def _name(self) -> str:
        if not self.env.name:
            raise ProgrammingError("the environment has no name; name the application or view")
        return self.env.name
