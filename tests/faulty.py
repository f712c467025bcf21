"""A projection that fails when a test says so, around a real one."""

from __future__ import annotations

from collections.abc import Sequence

from libs.projection.projection import Connection, Projection, Recorded, Table

SECRET = "nobody may read ana@example.org in an error"


class Faulty:
    """A projection that fails at the events of some owners until it is fixed.

    Attributes:
        fails_at: The owners' keys.
        since: Before this position it does not fail.
        in_prepare: Whether it fails before the transaction, not in it.
        outages: How many times to lose the database, after rows are written.
        attempts: How many times events were given to it.
    """

    def __init__(self, fold: Projection) -> None:
        self.name, self.fold_version = fold.name, fold.fold_version
        self.divisible = fold.divisible
        self.fails_at: set[bytes] = set()
        self.since = 0
        self.in_prepare = False
        self.outages = 0
        self.attempts = 0
        self._fold = fold

    @property
    def tables(self) -> tuple[Table, ...]:
        """Those of the fold."""
        return self._fold.tables

    def copy(self) -> Projection | None:
        """The fold itself."""
        return self._fold.copy()

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Fails, or prepares."""
        self.attempts += 1
        if self.in_prepare:
            self._fail(events)
        await self._fold.prepare(events)

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Folds, and may fail afterwards."""
        await self._fold.apply(connection, events)
        self._fail(events)
        if self.outages:
            self.outages -= 1
            raise ConnectionError("the test wants the database to be away here")

    def aborted(self) -> None:
        """As the fold."""
        self._fold.aborted()

    def _fail(self, events: Sequence[Recorded]) -> None:
        for event in events:
            if event.record.owner_key in self.fails_at and event.position >= self.since:
                raise ValueError(SECRET)
