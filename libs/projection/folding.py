"""Folds stretches of the line in transactions, and finds and parks what can't be folded."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import asyncpg
import structlog

from libs.eventstore.chain import Head
from libs.eventstore.feed import SUBJECT
from libs.eventstore.records import event_id_text
from libs.projection.checkpoints import Halted, Held, LostLease, Ownership
from libs.projection.continuity import Checkpoint
from libs.projection.parking import (
    MOST_PARKED,
    ParkedKeys,
    error_text,
    is_erasure,
    is_outage,
    key_of,
)
from libs.projection.projection import Connection, Projection, Recorded
from libs.projection.reading import Stretch
from libs.telemetry import declared, messaging, tracing

Note = Callable[[Connection], Awaitable[bool]]
"""Writes what belongs to a transaction; False when it must not commit."""

# Others wait while a range is held: it goes on as soon as it may.
_HELD_SECONDS: Final = 0.02
_log = structlog.get_logger("projection")


class TooManyParked(Halted):
    """Another key would have to be parked, and too many are."""

    def __init__(self, projection: str) -> None:
        super().__init__(
            f"it fails at the events of more than {MOST_PARKED} customers, so the fold is at "
            "fault: `touchline parked` has the errors. Correct it, start it again, and run "
            f"`touchline parked refold SERVICE {projection}`"
        )


class NotErased(Halted):
    """A range of some partitions fails at an erasure.

    It can't be parked there: it concerns customers of all ranges, of which each erases its own.
    """

    def __init__(self, position: int, error: Exception) -> None:
        super().__init__(
            f"it fails at the erasure at position {position} ({error_text(error)}), so the fold is "
            "at fault: correct it"
        )


class Folding:
    """Folds a range of a generation; what it says holds while the range is this process's own.

    Attributes:
        projection: What folds.
        parked: Whose events are set aside.
        checkpoint: What was committed last.
        committed_at: When, on the monotonic clock.

    Args:
        projection: What folds.
        pool: Connections to the generation's database, which find its tables.
        ownership: This process's hold on the range.
    """

    def __init__(self, projection: Projection, pool: asyncpg.Pool, ownership: Ownership) -> None:
        self.projection = projection
        self.parked = ParkedKeys(pool, ownership.generation, ownership.partitions)
        self.checkpoint = Checkpoint(epoch=0)
        self.committed_at = 0.0
        self._pool = pool
        self._ownership = ownership

    @property
    def at(self) -> Head:
        """Where it stands on the line."""
        return Head(self.checkpoint.store_id, self.checkpoint.position, self.checkpoint.chain)

    async def begin(self, checkpoint: Checkpoint) -> None:
        """Begin at a checkpoint that was just claimed, and remember nothing from before."""
        self.projection.aborted()
        self.checkpoint = checkpoint
        self.committed_at = time.monotonic()
        await self.parked.load(checkpoint.position)

    async def fold(self, stretch: Stretch, senders: Sequence[str] = ()) -> None:
        """Fold events that follow the checkpoint; where the range is held, wait until it is not.

        Args:
            stretch: The events.
            senders: Traces that sent them.

        Raises:
            LostLease: the range is another process's; nothing more of them was folded.
            TooManyParked: the fold fails at too many events.
            NotErased: it fails at an erasure, and has not all partitions.
            Exception: an outage; what is not committed can be folded again.
        """
        with messaging.process(
            SUBJECT,
            [*senders, *_traceparents(stretch.events)],
            messages=len(stretch.events),
            attributes={declared.PROJECTION: self.projection.name},
        ):
            await self._fold_as_allowed(stretch)

    async def _fold_as_allowed(self, stretch: Stretch) -> None:
        start, part = self.at, stretch
        while True:
            with suppress(Held):  # nothing of that transaction was written
                await self._fold(part)
            if self.at == stretch.end:
                return
            _, stretch = stretch.cut(start, self.at.position)
            start = self.at
            allowed = min(await self._allowed(), stretch.end.position)
            part, _ = stretch.cut(start, allowed)

    async def _allowed(self) -> int:
        """Return up to which position the range may go, once it may go on at all."""
        while (held_at := await self._ownership.hold(self.checkpoint.epoch)) is not None:
            if held_at > self.checkpoint.position:
                return held_at
            await asyncio.sleep(_HELD_SECONDS)
        return sys.maxsize

    async def _fold(self, stretch: Stretch) -> None:
        """Fold in one transaction, or, if that fails by an event, in halves until that is found.

        Of n events, one at fault costs 2·log2(n) transactions more.
        """
        try:
            await self._commit(stretch)
        except Exception as error:
            if is_outage(error) or not stretch.events:
                raise
            if len(stretch.events) > 1:
                for half in stretch.halves(self.at):
                    await self._fold(half)
            else:
                await self._park(stretch, error)

    async def _commit(self, stretch: Stretch) -> None:
        folded, aside = self.parked.apart(stretch.events)

        async def note(connection: Connection) -> bool:
            await self.parked.set_aside(connection, aside)
            return await self._ownership.advance(connection, self.checkpoint, stretch.end)

        await self.write(folded, note)
        self._committed(stretch)

    async def write(self, events: Sequence[Recorded], note: Note) -> None:
        """Apply events and note it, in one transaction of this epoch.

        Args:
            events: To be folded.
            note: Writes what else belongs to the transaction; False when the epoch is over.

        Raises:
            LostLease: the epoch is over.
            Exception: folding failed.
        """
        try:
            if events:
                await self.projection.prepare(events)
            async with self._pool.acquire() as connection, connection.transaction():
                if events:
                    await self.projection.apply(connection, events)
                if not await note(connection):
                    raise LostLease
        except asyncpg.UniqueViolationError as error:
            self.projection.aborted()
            if await self._ownership.renew(self.checkpoint.epoch):
                raise
            # Its new owner has written these rows already.
            raise LostLease from error
        except BaseException:
            self.projection.aborted()
            raise

    async def _park(self, stretch: Stretch, error: Exception) -> None:
        if len(self.parked) >= MOST_PARKED:
            raise TooManyParked(self.projection.name) from error
        (event,) = stretch.events
        if is_erasure(event) and not self._ownership.partitions.are_all:
            raise NotErased(event.position, error) from error

        async def note(connection: Connection) -> bool:
            await self.parked.park(connection, event, error)
            return await self._ownership.advance(connection, self.checkpoint, stretch.end)

        await self.write([], note)
        self.parked.was_parked(key_of(event))
        self._committed(stretch)
        _log.error(
            "events are parked",
            projection=self.projection.name,
            position=event.position,
            event_id=event_id_text(event.record.event_id),
            error=error_text(error),
        )

    def _committed(self, stretch: Stretch) -> None:
        self.checkpoint = self.checkpoint.after(stretch.end)
        self.committed_at = time.monotonic()

    async def still_ours(self, connection: Connection) -> bool:
        """Make a transaction commit in this epoch or not at all; False when it is over."""
        return await self._ownership.renew(self.checkpoint.epoch, connection)


def _traceparents(events: Sequence[Recorded]) -> list[str]:
    if not tracing.is_exporting():
        return []
    return [event.record.traceparent for event in events if event.record.traceparent]
