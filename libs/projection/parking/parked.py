"""Customers whose events a projection can't fold now: parked, so that everything else goes on.

Which keys are parked is decided by the process that folds the projection, in the transaction that
moves its checkpoint, and by nobody else: a parked key is added, counted on and removed in
transactions that commit in that process's epoch or not at all. So what it remembers is what the
table says, from the moment it claims the projection until it loses it. Whoever wants a key refolded
only marks its row, and the owner of the projection does it between two batches, with the very fold
that it drives; see libs.projection.parking.refolding and docs/adr/0022.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import nats.errors

from libs.eventstore.errors import SealBroken, StoreError
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.checkpoints import Held, LostLease
from libs.projection.generations.generation import Generation
from libs.projection.partitions import Partitions
from libs.projection.projection import Connection, Recorded
from libs.projection.waiting import Behind
from touchline.events.v1.event_pb2 import EVENT_TYPE_PROFILE_ERASED

MOST_PARKED: Final = 1000
"""So many keys, and it is the fold that is at fault, not its customers: the projection halts."""

_LONGEST_TEXT: Final = 500
# What an exception's text may quote of an event; these are ours and quote nothing.
_OURS: Final = ("libs.", "services.")
# Classes of PostgreSQL's error codes that no event can cause: the connection, the transaction, the
# tables of another release, resources, the operator, the system, damaged files.
_NO_EVENTS_FAULT: Final = (
    *("08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58"),
    *("XX001", "XX002"),
)
_OUTAGES: Final = (
    *(StoreError, Behind, nats.errors.Error, *UNREACHABLE, MemoryError),
    *(LostLease, Held),
)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))

Key = tuple[int, bytes]
"""A tenant's number, and the identity key of an owner of events."""


class ParkedKey(NamedTuple):
    """A row of parked_keys.

    Attributes:
        refold: Whether somebody asked to fold it again and it was not tried yet.
    """

    projection: str
    tenant: int
    owner_key: bytes
    position: int
    event_id: UUID
    error: str
    parked_at: datetime
    waiting_events: int
    refold: bool


def is_outage(error: BaseException) -> bool:
    """Tell whether something is away, full or in the way, so that the same events may do later.

    Everything else is the events' fault, or the fold's, which fails at them.
    """
    if isinstance(error, SealBroken):
        return False
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_NO_EVENTS_FAULT)
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return False  # a value that has no place in its column; the connection is well
    return not isinstance(error, Exception) or isinstance(error, _OUTAGES)


def error_text(error: BaseException) -> str:
    """Return what went wrong, without anything that an event says.

    PostgreSQL quotes values and Python's own exceptions may: of these only the kind is told.
    """
    kind = type(error).__name__
    if isinstance(error, asyncpg.PostgresError):
        named = getattr(error, "constraint_name", None) or getattr(error, "column_name", None)
        return f"{kind} {error.sqlstate}" + (f" ({named})" if named else "")
    text = str(error) if type(error).__module__.startswith(_OURS) else ""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    at = f" in {where.tb_frame.f_code.co_name}, line {where.tb_lineno}" if where else ""
    return (f"{kind}: {text}" if text else f"{kind}{at}")[:_LONGEST_TEXT]


class ParkedKeys:
    """What the process that folds a range of a generation remembers and writes of its parked keys.

    Args:
        pool: Connections to the generation's database.
        generation: What is folded.
        partitions: Whose events.
    """

    def __init__(self, pool: asyncpg.Pool, generation: Generation, partitions: Partitions) -> None:
        self._pool = pool
        self._projection = generation.projection
        self._generation = generation.id
        self._partitions = partitions
        self._keys: set[Key] = set()

    def __len__(self) -> int:
        return len(self._keys)

    async def load(self, position: int) -> None:
        """Remember what the table says; called when the projection was claimed.

        Args:
            position: Of the checkpoint. What is parked after it is of tables that were emptied by
                hand, or waits no more.
        """
        own = (self._generation, *self._partitions)
        await self._pool.execute(_SQL["forget_parked_after"], *own, position)
        rows = await self._pool.fetch(_SQL["parked"], *own)
        self._keys = {(row["tenant"], row["owner_key"]) for row in rows}

    def apart(self, events: Sequence[Recorded]) -> tuple[Sequence[Recorded], list[Recorded]]:
        """Return the events that can be folded, and those of parked keys."""
        if not self._keys:
            return events, []
        folded, aside = list[Recorded](), list[Recorded]()
        for event in events:
            (aside if key_of(event) in self._keys else folded).append(event)
        return folded, aside

    async def set_aside(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Count events of parked keys that wait from now on."""
        if events:
            counted = sorted(Counter(map(key_of, events)).items())
            rows = [(*key, count) for key, count in counted]
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(_SQL["set_aside"], self._generation, *columns)

    async def park(self, connection: Connection, event: Recorded, error: BaseException) -> None:
        """Park an event's owner; `was_parked` once it is committed."""
        row = (self._generation, self._projection, *_failure(event, error), is_erasure(event))
        await connection.execute(_SQL["park"], *row)

    async def next_to_refold(self) -> tuple[Key, int] | None:
        """Return a key that somebody asked to fold again, and where its events begin to wait."""
        if not self._keys:
            return None
        own = (self._generation, *self._partitions)
        row: Any = await self._pool.fetchrow(_SQL["to_refold"], *own)
        return row and ((row["tenant"], row["owner_key"]), row["position"])

    async def refolded(self, connection: Connection, key: Key, next_at: int, events: int) -> None:
        """Note that some of a key's events wait no more, and where the others begin."""
        await connection.execute(_SQL["refolded"], self._generation, *key, next_at, events)

    async def unpark(self, connection: Connection, key: Key) -> None:
        """Note that nothing of a key waits any more; `was_unparked` once it is committed."""
        await connection.execute(_SQL["unpark"], self._generation, *key)

    async def failed_again(
        self, connection: Connection, event: Recorded, error: BaseException
    ) -> None:
        """Note at which event a key failed again, and why."""
        await connection.execute(_SQL["failed_again"], self._generation, *_failure(event, error))

    def was_parked(self, key: Key) -> None:
        """Remember that a key was parked, now that the transaction is committed."""
        self._keys.add(key)

    def was_unparked(self, key: Key) -> None:
        """Remember that a key is parked no more, now that the transaction is committed."""
        self._keys.discard(key)


def key_of(event: Recorded) -> Key:
    """Return whose an event is."""
    return event.record.tenant, event.record.owner_key


def is_erasure(event: Recorded) -> bool:
    """Tell whether an event erases, which concerns customers of all partitions."""
    return event.record.type == EVENT_TYPE_PROFILE_ERASED


def _failure(event: Recorded, error: BaseException) -> tuple[object, ...]:
    # Whatever is wrong with the event, it can be parked.
    event_id = UUID(bytes=event.record.event_id[:16].ljust(16, b"\0"))
    return *key_of(event), event.position, event_id, error_text(error)


async def list_parked(
    pool: asyncpg.Pool, tenants: Collection[int], after: tuple[str, int, bytes], limit: int
) -> list[ParkedKey]:
    """Return parked keys of tenants by projection, position and key.

    Args:
        pool: Connections to the database of the projections.
        tenants: By number.
        after: Where to begin: what the last one of the page before had of these three.
        limit: How many at most.
    """
    rows = await pool.fetch(_SQL["list_parked"], list(tenants), *after, limit)
    return [ParkedKey(*row) for row in rows]


async def count_parked(pool: asyncpg.Pool) -> dict[int, int]:
    """Return how many keys are parked, by generation; those that have none are left out."""
    return {row["generation"]: row["keys"] for row in await pool.fetch(_SQL["count_parked"])}


async def ask_to_refold(
    pool: asyncpg.Pool, projection: str, tenant: int | None, owner_keys: Collection[bytes]
) -> list[Key]:
    """Ask whoever folds a projection to fold parked keys again; return those that are parked.

    Args:
        pool: Connections to the projection's database.
        projection: Its name.
        tenant: The tenant's number; None asks for all that the projection has parked.
        owner_keys: Whose, of that tenant.
    """
    rows = await pool.fetch(_SQL["ask_to_refold"], projection, tenant, list(owner_keys))
    return sorted({(row["tenant"], row["owner_key"]) for row in rows})


async def still_parked(
    pool: asyncpg.Pool, projection: str, keys: Collection[Key]
) -> list[ParkedKey]:
    """Return those of some keys that a projection has parked now, by position."""
    if not keys:
        return []
    columns = [list(column) for column in zip(*keys, strict=True)]
    rows = await pool.fetch(_SQL["parked_of"], projection, *columns)
    return [ParkedKey(*row) for row in rows]


async def halt_reason(pool: asyncpg.Pool, projection: str) -> str:
    """Return why a projection stands still, or nothing."""
    return await pool.fetchval(_SQL["halt_reason"], projection) or ""
