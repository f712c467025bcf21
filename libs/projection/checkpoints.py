"""Who drives a projection, and how far it came: its row in projection_checkpoints."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from libs.eventstore.chain import Head
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.continuity import Checkpoint
from libs.projection.projection import Connection
from libs.tasks import OrderlyEnd

MIGRATIONS: Final = Path(__file__).with_name("migrations")
LEASE: Final = timedelta(seconds=5)

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class LostLease(Exception):
    """Another process owns the projection now; nothing of the batch was written."""


class Halted(Exception):
    """The projection can't go on without skipping events, and stops instead."""


class FoldsAnew(OrderlyEnd):
    """What this database has folded is thrown away, and the process must end: it has acted on it.

    Attributes:
        folding: How often that had happened before, as the process knew it at its start.
    """

    def __init__(self, reason: str, folding: int) -> None:
        super().__init__(f"{reason}; it folds anew from position 1 once it is started again")
        self.folding = folding


class Claimed(NamedTuple):
    """A projection that is this process's own now, and the version of the fold that filled it."""

    checkpoint: Checkpoint
    folded_by: int


class Committed(NamedTuple):
    """What the database says of a projection, whichever process folds it.

    Attributes:
        checkpoint: Its last one.
        halt_reason: Why it stands still, or empty.
    """

    checkpoint: Checkpoint
    halt_reason: str


async def read_committed(pool: asyncpg.Pool) -> dict[str, Committed]:
    """Return what a database says of its projections, by their names."""
    return {
        name: Committed(Checkpoint(*place), halt_reason)
        for name, *place, halt_reason in await pool.fetch(_SQL["checkpoints"])
    }


class Ownership:
    """One process's hold on a projection.

    Args:
        pool: Connections to the projection's database.
        projection: Its name.
        owner: Names the process.
        lease: For how long the projection stays the process's own without a sign of life.
    """

    def __init__(
        self, pool: asyncpg.Pool, projection: str, owner: UUID, lease: timedelta = LEASE
    ) -> None:
        self.lease = lease
        self._pool = pool
        self._projection = projection
        self._owner = owner
        self._folding: int | None = None

    async def claim(self, fold_version: int) -> Claimed | None:
        """Take the projection in a new epoch; None while it is another process's.

        Args:
            fold_version: What a projection that was never folded is folded by.

        Raises:
            FoldsAnew: another process has thrown away what was folded in this database.
        """
        await self._pool.execute(_SQL["introduce"], self._projection, fold_version)
        row: Any = await self._pool.fetchrow(
            _SQL["claim"], self._projection, self._owner, self.lease
        )
        folding, epoch, store_id, position, chain, folded_by = row
        if self._folding not in (None, folding):
            raise FoldsAnew("another process emptied its tables", self.folding)
        self._folding = folding
        if epoch is None:
            return None
        return Claimed(Checkpoint(epoch, store_id, position, chain), folded_by)

    @property
    def folding(self) -> int:
        """How often everything in this database was folded anew when the process began."""
        return self._folding or 0

    async def adopt(self, at: Checkpoint, store_id: bytes) -> None:
        """Note that a place is on the line of another store.

        Raises:
            LostLease: the projection is another process's now.
        """
        row = self._projection, at.epoch, at.position, at.chain, store_id
        if await self._pool.fetchval(_SQL["adopt"], *row) is None:
            raise LostLease

    async def advance(self, connection: Connection, before: Checkpoint, end: Head) -> bool:
        """Move the checkpoint in the connection's transaction; False when it is another's now."""
        moved = await connection.fetchrow(
            _SQL["advance"],
            *(self._projection, before.epoch, before.position, before.chain),
            *(end.store_id, end.position, end.chain, self.lease),
        )
        return moved is not None

    async def renew(self, epoch: int, connection: Connection | None = None) -> bool:
        """Prolong the lease of an epoch; False when another has begun.

        Args:
            epoch: Of this process.
            connection: In whose transaction, which then commits in that epoch or not at all.
        """
        database = connection or self._pool
        renewed = await database.fetchval(_SQL["renew"], self._projection, epoch, self.lease)
        return renewed is not None

    async def release(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            await self._pool.execute(_SQL["release"], self._projection, self._owner)

    async def halt(self, epoch: int, reason: str) -> None:
        """Note why the projection stands still, if the database can be reached."""
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            await self._pool.execute(_SQL["halt"], self._projection, epoch, reason)

    async def resume(self, epoch: int) -> None:
        """Take back what `halt` noted."""
        await self._pool.execute(_SQL["resume"], self._projection, epoch)
