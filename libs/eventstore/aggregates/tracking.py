"""The library's tracking of how far a view has come, in the service's own database."""

from pathlib import Path
from typing import Final

import asyncpg
from eventsourcing.persistence import (
    IntegrityError,
    OperationalError,
    ProgrammingError,
    Tracking,
    TrackingRecorder,
)

from libs.eventstore.aggregates.lending import Line
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries

MIGRATIONS: Final = Path(__file__).with_name("migrations")
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class LineTrackingRecorder(TrackingRecorder):
    """Keeps the position up to which a view folded an application's changes.

    A view subclasses it, and calls `track` in the transaction that changes its own tables.

    Args:
        line: Whose service has the database.
        view: Names the view within that database.
    """

    def __init__(self, line: Line, view: str) -> None:
        if line.pool is None:
            raise ProgrammingError("the line was lent without a database; lend it with its pool")
        self.line = line
        self._pool = line.pool
        self._view = view

    def insert_tracking(self, tracking: Tracking) -> None:
        """Keep how far the view is.

        Raises:
            IntegrityError: it is as far already, or farther.
            OperationalError: the database can't be reached.
        """
        self.line.run(self._insert(tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """Return how far the view is with an application; None when it has nothing of it.

        Raises:
            OperationalError: the database can't be reached.
        """
        return self.line.run(self._tracked(application_name))

    async def track(self, connection: Connection, tracking: Tracking) -> None:
        """Keep how far the view is, within the connection's transaction.

        Raises:
            IntegrityError: it is as far already, or farther; the transaction must not commit.
        """
        moved = await connection.fetchval(
            _SQL["track"], self._view, tracking.application_name, tracking.notification_id
        )
        if not moved:
            raise IntegrityError(
                f"{self._view} has come to {tracking.notification_id} of "
                f"{tracking.application_name} before"
            )

    async def _insert(self, tracking: Tracking) -> None:
        try:
            async with self._pool.acquire() as connection:
                await self.track(connection, tracking)
        except (TimeoutError, *UNREACHABLE) as error:
            raise _unreachable(error) from error

    async def _tracked(self, application_name: str) -> int | None:
        try:
            found: int | None = await self._pool.fetchval(
                _SQL["tracked"], self._view, application_name
            )
        except (TimeoutError, *UNREACHABLE) as error:
            raise _unreachable(error) from error
        return found


def _unreachable(error: BaseException) -> OperationalError:
    return OperationalError(f"the service's database can't be reached ({type(error).__name__})")
