"""Who drives a projection, and how far it came: its row in projection_checkpoints."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from libs.eventstore.chain import Head
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.continuity import Checkpoint
from libs.projection.projection import Connection

MIGRATIONS: Final = Path(__file__).with_name("migrations")
LEASE: Final = timedelta(seconds=5)

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Claimed(NamedTuple):
    """A projection that is this process's own now, and the version of the fold that filled it."""

    checkpoint: Checkpoint
    folded_by: int


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

    async def claim(self, fold_version: int) -> Claimed | None:
        """Take the projection in a new epoch; None while it is another process's.

        Args:
            fold_version: What a projection that was never folded is folded by.
        """
        await self._pool.execute(_SQL["introduce"], self._projection, fold_version)
        row = await self._pool.fetchrow(_SQL["claim"], self._projection, self._owner, self.lease)
        if row is None:
            return None
        epoch, store_id, position, chain, folded_by = row
        return Claimed(Checkpoint(epoch, store_id, position, chain), folded_by)

    async def advance(self, connection: Connection, before: Checkpoint, end: Head) -> bool:
        """Move the checkpoint in the connection's transaction; False when it is another's now."""
        moved = await connection.fetchrow(
            _SQL["advance"],
            *(self._projection, before.epoch, before.position, before.chain),
            *(end.store_id, end.position, end.chain, self.lease),
        )
        return moved is not None

    async def renew(self, epoch: int) -> bool:
        """Prolong the lease of an epoch; False when another has begun."""
        renewed = await self._pool.fetchval(_SQL["renew"], self._projection, epoch, self.lease)
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
