"""Who folds a range of a generation, and how far it came: its row in projection_checkpoints."""

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
from libs.projection.generations.generation import Generation
from libs.projection.partitions import Partitions
from libs.projection.projection import Connection
from libs.tasks import OrderlyEnd

MIGRATIONS: Final = Path(__file__).with_name("migrations")
LEASE: Final = timedelta(seconds=5)

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class LostLease(Exception):
    """Another process owns the range now; nothing of the batch was written."""


class Gone(Exception):
    """The range is no more: it was split or merged, or its generation was dropped."""


class Held(Exception):
    """The range may not move so far now; nothing of the batch was written.

    Attributes:
        position: How far it may.
    """

    def __init__(self, position: int) -> None:
        super().__init__(f"it is held at position {position}")
        self.position = position


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


class RangeState(NamedTuple):
    """What the database says of a range, whichever process folds it.

    Attributes:
        projection: What is folded.
        generation: The generation's id.
        partitions: Whose events.
        checkpoint: Its last one.
        halt_reason: Why it stands still, or empty.
        owner: The process that claimed it last, or None.
        leased: Whether it is that process's own still.
        held: Whether it may not move on for a moment.
        erasure_waits: Whether its generation has parked an erasure, which has to be folded before
            ranges are divided.
    """

    projection: str
    generation: int
    partitions: Partitions
    checkpoint: Checkpoint
    halt_reason: str
    owner: UUID | None
    leased: bool
    held: bool
    erasure_waits: bool


async def read_ranges(database: asyncpg.Pool | Connection) -> list[RangeState]:
    """Return what a database says of its ranges, by generation and first partition."""
    rows: list[Any] = await database.fetch(_SQL["ranges"])
    return [
        RangeState(name, generation, Partitions(first, last), Checkpoint(*rest[:4]), *rest[4:])
        for name, generation, first, last, *rest in rows
    ]


async def read_folding(database: asyncpg.Pool | Connection) -> int:
    """Return how often everything in a database was folded anew."""
    return int(await database.fetchval(_SQL["folding"]))


class Ownership:
    """One process's hold on a range of a generation.

    Attributes:
        generation: What is folded.
        partitions: Whose events.
        lease: See below.

    Args:
        pool: Connections to the generation's database.
        generation: What is folded.
        partitions: Whose events.
        owner: Names the process.
        lease: For how long the range stays the process's own without a sign of life.
        folding: How often everything in the database had been folded anew when the process began;
            None: that is not known before the range was first asked for.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        generation: Generation,
        partitions: Partitions,
        owner: UUID,
        lease: timedelta = LEASE,
        *,
        folding: int | None = None,
    ) -> None:
        self.generation, self.partitions = generation, partitions
        self.lease = lease
        self._pool = pool
        self._range = (generation.id, *partitions)
        self._owner = owner
        self._folding = folding

    async def claim(self) -> Checkpoint | None:
        """Take the range in a new epoch; None while it is another process's.

        Raises:
            FoldsAnew: another process has thrown away what was folded in this database.
            Gone: the range is no more.
        """
        row: Any = await self._pool.fetchrow(_SQL["claim"], *self._range, self._owner, self.lease)
        folding, is_there, *place = row
        if self._folding not in (None, folding):
            raise FoldsAnew("another process emptied its tables", self.folding)
        self._folding = folding
        if not is_there:
            raise Gone
        epoch, *_ = place
        return None if epoch is None else Checkpoint(*place)

    @property
    def folding(self) -> int:
        """How often everything in this database was folded anew when the process began."""
        return self._folding or 0

    async def adopt(self, at: Checkpoint, store_id: bytes) -> None:
        """Note that a place is on the line of another store.

        Raises:
            LostLease: the range is another process's now.
        """
        if await self._pool.fetchval(_SQL["adopt"], *self._at(at), store_id) is None:
            raise LostLease

    async def advance(self, connection: Connection, before: Checkpoint, end: Head) -> bool:
        """Move the checkpoint in the connection's transaction; False when it is another's now.

        Raises:
            Held: it is not to move so far now.
        """
        place = (end.store_id, end.position, end.chain)
        moved = await connection.fetchrow(_SQL["advance"], *self._at(before), *place, self.lease)
        if moved is not None:
            return True
        held_at = await connection.fetchval(_SQL["held_at"], *self._at(before))
        if held_at is not None:
            raise Held(held_at)
        return False

    async def hold(self, epoch: int) -> int | None:
        """Return beyond which position the range may not move now; None: it moves freely.

        Raises:
            LostLease: the range is another process's now.
        """
        row: Any = await self._pool.fetchrow(_SQL["hold"], *self._range, epoch)
        if row is None:
            raise LostLease
        (held_at,) = row
        return held_at  # type: ignore[no-any-return]

    async def renew(self, epoch: int, connection: Connection | None = None) -> bool:
        """Prolong the lease of an epoch; False when another has begun.

        Args:
            epoch: Of this process.
            connection: In whose transaction, which then commits in that epoch or not at all.
        """
        database = connection or self._pool
        renewed = await database.fetchval(_SQL["renew"], *self._range, epoch, self.lease)
        return renewed is not None

    async def release(self) -> None:
        """Give the lease back, so that another process need not wait for its end."""
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            await self._pool.execute(_SQL["release"], *self._range, self._owner)

    async def halt(self, epoch: int, reason: str) -> None:
        """Note why the range stands still, if the database can be reached."""
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            await self._pool.execute(_SQL["halt"], *self._range, epoch, reason)

    async def resume(self, epoch: int) -> None:
        """Take back what `halt` noted."""
        await self._pool.execute(_SQL["resume"], *self._range, epoch)

    def _at(self, place: Checkpoint) -> tuple[object, ...]:
        return *self._range, place.epoch, place.position, place.chain
