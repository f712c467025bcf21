"""Folds a copy of a projection beside the live one, in a schema of its own that goes afterwards."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg

from libs.eventstore.chain import GENESIS, Head
from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.continuity import Discontinuity
from libs.projection.parking import Key, error_text, key_of
from libs.projection.projection import Projection, Recorded, Table
from libs.projection.reading import Stretch

SCHEMA_PREFIX: Final = "touchline_copy_"
"""What the schemas of copies begin with; whatever else is called so is dropped."""

# How many events one transaction folds: enough for COPY to pay, and soon done, since the live
# projections and the service's calls share the processor.
_BATCH: Final = 2_000
_LOCK: Final = 7_410_002  # any number that nobody else locks in a projection's database
_CLOSE_SECONDS: Final = 5.0
_SETTINGS: Final = {
    "application_name": "touchline verify",
    "synchronous_commit": "off",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
}
_START: Final = Head(b"", 0, GENESIS)
_SQL: Final = load_queries(Path(__file__).with_name("live.sql"))


class Unverifiable(Exception):
    """A projection can't be compared with a copy; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Live:
    """Where the live projection stands.

    Attributes:
        generation: The generation that answers.
        schema: Where its tables are.
        ranges: How many it is divided into.
        position: The last event that all of them folded.
        is_met: Whether all of them stand there.
        chain: The chain there.
        parked: From which position on it left out an owner's events, because it could not fold
            them; by tenant number and owner key.
    """

    generation: int
    schema: str
    ranges: int
    position: int
    is_met: bool
    chain: bytes
    parked: dict[Key, int]


@asynccontextmanager
async def scratch_schema(
    url: str, tables: Sequence[Table]
) -> AsyncIterator[tuple[asyncpg.Connection, str]]:
    """Give a connection on which the tables' names mean empty copies of them, and their schema.

    The copies go at the end.

    What an earlier process left behind when it was killed goes first.

    Args:
        url: The projection's database, for a login that may create schemas there.
        tables: Which tables to copy, of the schema `public`.

    Raises:
        Unverifiable: another verification is under way in this database, or the login may not.
    """
    connection = await asyncpg.connect(url, server_settings=_SETTINGS)
    try:
        # Held for as long as the connection lives, so that any copy found now is nobody's.
        if not await connection.fetchval(_SQL["try_lock"], _LOCK):
            raise Unverifiable(
                "another verification is under way in this database. Wait until it has ended."
            )
        for left_over in await connection.fetch(_SQL["copies"], SCHEMA_PREFIX):
            await _drop(connection, left_over["name"])
        name = SCHEMA_PREFIX + secrets.token_hex(8)
        try:
            await _create(connection, name, tables)
            yield connection, name
        finally:
            # Whatever is in the way, such as a statement that goes on: the next one drops it.
            with suppress(asyncpg.PostgresError, TimeoutError, *UNREACHABLE):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await _drop(connection, name)
    finally:
        try:
            await connection.close(timeout=_CLOSE_SECONDS)
        except (TimeoutError, *UNREACHABLE):
            connection.terminate()


async def _create(connection: asyncpg.Connection, name: str, tables: Sequence[Table]) -> None:
    try:
        await connection.execute(f"CREATE SCHEMA {name}")
    except asyncpg.InsufficientPrivilegeError as error:
        raise Unverifiable(
            "the service's login may not create a schema for the copy. Let it own its database, "
            "or grant it CREATE there."
        ) from error
    for table in tables:
        # Unlogged: nobody wants it back after a crash.
        await connection.execute(
            f"CREATE UNLOGGED TABLE {name}.{table.name} (LIKE public.{table.name} INCLUDING ALL)"
        )
    await connection.execute(f"SET search_path = {name}, public")


async def _drop(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


async def live_state(connection: asyncpg.Connection, projection: Projection) -> Live:
    """Return where the live projection stands, as one snapshot sees it.

    Raises:
        Unverifiable: it was never folded, halted, or was folded by another release.
    """
    rows = await connection.fetch(_SQL["live_state"], projection.name, projection.fold_version)
    if not rows:
        raise Unverifiable(
            f"{projection.name} was never folded in this database by version "
            f"{projection.fold_version} of the fold, which is this release's."
        )
    halted = next((row["halt_reason"] for row in rows if row["halt_reason"]), "")
    if halted:
        raise Unverifiable(f"{projection.name} halted: {halted}")
    parked = {
        (row["tenant"], row["owner_key"]): row["parked_position"]
        for row in rows
        if row["owner_key"] is not None
    }
    hindmost = min(rows, key=lambda row: row["position"])
    return Live(
        *(hindmost["generation"], hindmost["schema_name"]),
        ranges=len({row["first_partition"] for row in rows}),
        position=hindmost["position"],
        is_met=all(row["position"] == hindmost["position"] for row in rows),
        chain=hindmost["chain"],
        parked=parked,
    )


@dataclass(slots=True)
class Copy:
    """A fold that goes on in a scratch schema.

    Attributes:
        projection: A copy that remembers nothing yet.
        connection: Of `scratch_schema`.
        store: History.
        at: Where the copy stands.
    """

    projection: Projection
    connection: asyncpg.Connection
    store: StoreClient
    at: Head = _START
    _left_out: dict[Key, int] = field(default_factory=dict)

    async def fold_up_to(self, live: Live) -> AsyncGenerator[int]:
        """Fold up to where the live projection stands; yield the position after each transaction.

        Args:
            live: No earlier than at the call before.

        Raises:
            Unverifiable: history is not what the live projection folded, or can't be folded, or the
                live projection was folded anew, or parked identities were, meanwhile.
            StoreError: the store can't be reached.
        """
        self._leave_out(live)
        stretch = await self._read(self.at, live.position)
        while stretch.events:
            # What comes next is read while this is folded.
            following = asyncio.create_task(self._read(stretch.end, live.position))
            try:
                await self._fold(stretch)
                yield self.at.position
                stretch = await following
            finally:
                following.cancel()
        if self.at.position < live.position:
            raise Unverifiable(
                f"the store's history ends at position {self.at.position}, and "
                f"{self.projection.name} stands at {live.position}."
            )
        if self.at.chain != live.chain:
            raise Unverifiable(
                f"{self.projection.name} has another chain at position {live.position} than the "
                "store's history: it folded another line."
            )

    def _leave_out(self, live: Live) -> None:
        """Note whose events wait; what the copy left out so far must still be just that."""
        before = {key: at for key, at in live.parked.items() if at <= self.at.position}
        if live.position < self.at.position or before != self._left_out:
            raise Unverifiable(
                f"{self.projection.name} was folded anew, or parked customers of it were, while it "
                "was copied. Verify it again."
            )
        self._left_out = live.parked

    async def _read(self, start: Head, up_to: int) -> Stretch:
        stretch = Stretch(start)
        while len(stretch.events) < _BATCH and stretch.end.position < up_to:
            page = await self.store.history(stretch.end.position)
            try:
                stretch.add_page(page)
            except Discontinuity as error:
                raise Unverifiable(f"the store's history {error}.") from error
            if not page.batch.events:
                break
        if stretch.end.position > up_to:
            stretch, _ = stretch.cut(start, up_to)
        return stretch

    async def _fold(self, stretch: Stretch) -> None:
        events = [event for event in stretch.events if not self._is_left_out(event)]
        if events:
            try:
                await self.projection.prepare(events)
                async with self.connection.transaction():
                    await self.projection.apply(self.connection, events)
            except (StoreError, asyncpg.DiskFullError, *UNREACHABLE):
                raise
            except Exception as error:
                raise Unverifiable(
                    f"the events from {events[0].position} to {events[-1].position} can't be "
                    f"folded into the copy of {self.projection.name} ({error_text(error)})."
                ) from error
        self.at = stretch.end

    def _is_left_out(self, event: Recorded) -> bool:
        if not self._left_out:
            return False
        parked = self._left_out.get(key_of(event))
        return parked is not None and event.position >= parked
