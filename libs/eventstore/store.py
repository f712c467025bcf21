"""The line of events in PostgreSQL: append, and read what was appended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.chain import GENESIS, Ancestor, Head, Lineage, extend
from libs.eventstore.errors import SealsStale, StoreFull, StoreUnavailable
from libs.eventstore.records import Row
from libs.identity.keys import PARTITIONS
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.tasks import running
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_RECORDED,
    AppendOutcome,
    EventBatch,
    GetEventsOfKeysResponse,
    GetHistoryResponse,
    RecordedEvent,
)

MIGRATIONS: Final = Path(__file__).with_name("migrations")
ROLE: Final = "touchline_store"
PAGE_BYTES: Final = 512 * 1024
PAGE_EVENTS: Final = 2000
# What packing adds to a record: partition, type, time, hash and framing, at most.
PACKED_BYTES: Final = 72
_APPENDED: Final = "touchline_appended"
_ERASED: Final = "touchline_erased"
_RECONNECT_SECONDS: Final = 0.5
_ALL: Final = (0, PARTITIONS - 1)

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_DATABASE_FULL: Final = (asyncpg.DiskFullError, asyncpg.OutOfMemoryError)


class AppendVerdict(NamedTuple):
    """What became of one row: its outcome, and its position or a duplicate's first one."""

    outcome: AppendOutcome.ValueType
    position: int | None


class Erased(NamedTuple):
    """An erasure of an identity.

    Attributes:
        position: The erasure's.
        occurred_from_us: The time range that it concerned; see touchline.events.v1.Erasure.
        occurred_before_us: Its end.
    """

    position: int
    occurred_from_us: int
    occurred_before_us: int

    @property
    def whole(self) -> bool:
        """Whether it concerned the identity itself, and all events."""
        return not self.occurred_from_us and not self.occurred_before_us

    def concerns(self, position: int, occurred_at_us: int) -> bool:
        """Tells whether it concerned an event that the identity owns."""
        if position > self.position:
            return False
        before = self.occurred_before_us
        late_enough = occurred_at_us >= self.occurred_from_us
        return self.whole or (late_enough and (not before or occurred_at_us < before))


@dataclass(frozen=True, slots=True)
class Appended:
    """What one append added to the line: the rows accepted, between two chains."""

    verdicts: list[AppendVerdict]
    rows: list[Row]
    recorded_at_us: int
    previous_position: int
    previous_chain: bytes
    chain: bytes


@asynccontextmanager
async def database_errors() -> AsyncIterator[None]:
    """Turns what a database driver raises into what it means for the store.

    Raises:
        StoreFull: the disk is full.
        StoreUnavailable: the database can't be reached, or did not answer in time.
    """
    try:
        yield
    except _DATABASE_FULL as error:
        raise StoreFull("the store's disk is full; nothing was recorded") from error
    except (TimeoutError, *UNREACHABLE) as error:
        raise StoreUnavailable(
            f"the event store can't be reached ({type(error).__name__})"
        ) from error


@asynccontextmanager
async def listen(
    url: str, appended: Callable[[int], None], erased: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """Tell what any process does, until the block ends.

    Args:
        url: Of the store's database.
        appended: Called with the new head after each append.
        erased: Called after each erasure, and whenever one may have been missed.
    """

    async def follow() -> None:
        while True:
            with suppress(*UNREACHABLE):
                await _hear(url, appended, erased)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async with running(follow()):
        yield


async def _hear(url: str, appended: Callable[[int], None], erased: Callable[[], None]) -> None:
    """Listen on a connection of its own until the connection is lost."""
    lost = asyncio.Event()
    connection = await asyncpg.connect(url)
    try:
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(_APPENDED, lambda *told: appended(int(str(told[-1]))))
        await connection.add_listener(_ERASED, lambda *_: erased())
        row: Any = await connection.fetchrow(_SQL["head"])
        appended(row["position"])  # what was appended before
        erased()
        await lost.wait()
    finally:
        connection.terminate()


class EventStore:
    """Appends to the line and reads it.

    Args:
        pool: Connections to the store's database, in the role `touchline_store`.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        # By partitions, how much of a page an event took lately.
        self._packed_bytes: dict[tuple[int, int], int] = {}

    @property
    def pool(self) -> asyncpg.Pool:
        """The connections, for other questions to the line."""
        return self._pool

    async def append(self, units: Sequence[Sequence[Row]], erasures: int = 0) -> Appended:
        """Appends units, each all or nothing, and returns when they are safe on disk.

        Args:
            units: The units.
            erasures: How many erasures there had been when their keys were got; see Keyring.era.

        Raises:
            SealsStale: somebody was erased since; nothing was recorded.
            StoreFull: nothing was recorded.
            StoreUnavailable: whether they were recorded is not known; ask again with the same ids.
        """
        rows = [row for unit in units for row in unit]
        columns = tuple(zip(*rows, strict=True))
        tenants, event_ids, owner_keys, partitions, types, content_hashes, records = columns[:7]
        stream_ids, versions = columns[7:]
        streams = any(stream_ids)
        # Facts with ids that differ, the usual case, are decided without looking at one another.
        distinct = len(set(zip(tenants, event_ids, strict=True)))
        numbers = None
        if streams or not len(units) == len(rows) == distinct:
            numbers = [number for number, unit in enumerate(units) for _ in unit]
        async with database_errors():
            result: Any = await self._pool.fetchrow(
                _SQL["append"],
                numbers,
                tenants,
                list(map(UUID, event_ids)),
                owner_keys,
                partitions,
                types,
                content_hashes,
                records,
                [stream_id and UUID(stream_id) for stream_id in stream_ids] if streams else None,
                versions if streams else None,
                erasures,
            )
        if result["outcomes"] is None:
            raise SealsStale("somebody was erased since this was sealed; nothing was recorded")
        outcomes, positions, recorded_at_us, previous_position, previous_chain, chain, _ = result
        return Appended(
            verdicts=list(map(AppendVerdict, outcomes, positions)),
            rows=list(compress(rows, [one == APPEND_OUTCOME_RECORDED for one in outcomes])),
            recorded_at_us=recorded_at_us,
            previous_position=previous_position,
            previous_chain=previous_chain,
            chain=chain,
        )

    async def head(self) -> Head:
        """Returns where the line ends."""
        async with database_errors():
            row: Any = await self._pool.fetchrow(_SQL["head"])
        return Head(row["store_id"].bytes, row["position"], row["chain"])

    async def lineage(self) -> Lineage:
        """Returns where the line ends, and the stores that this one was restored from."""
        async with database_errors():
            rows = await self._pool.fetch(_SQL["lineage"])
        return Lineage(
            head=Head(rows[0]["store_id"].bytes, rows[0]["position"], rows[0]["chain"]),
            ancestors=tuple(
                Ancestor(row["ancestor_id"].bytes, row["ancestor_position"], row["ancestor_chain"])
                for row in rows
                if row["ancestor_id"] is not None
            ),
        )

    async def chain_at(self, position: int) -> bytes | None:
        """Returns the chain after an event, or None past the head."""
        if position == 0:
            return GENESIS
        async with database_errors():
            chain: bytes | None = await self._pool.fetchval(_SQL["chain_at"], position)
        return chain

    async def history(self, after: int, *, page_bytes: int = PAGE_BYTES) -> EventBatch:
        """Returns the events after a position, at most a page of them.

        The page's previous_chain is empty when the position is past the head.
        """
        return (await self.history_page(after, page_bytes=page_bytes)).batch

    async def history_page(
        self,
        after: int,
        partitions: tuple[int, int] = _ALL,
        up_to: int = 0,
        *,
        page_bytes: int = PAGE_BYTES,
    ) -> GetHistoryResponse:
        """Returns the events after a position, at most a page of them, and where the line ends.

        Args:
            after: The position.
            partitions: Whose records are in it, from the first partition to the last; those of
                other events are empty.
            up_to: The last position that is wanted; 0: as many events as the page holds.
            page_bytes: How large the page is at most.
        """
        async with database_errors():
            start: Any = await self._pool.fetchrow(_SQL["history_start"], after)
            # To read more than the page can hold takes as long as the page.
            limit = min(PAGE_EVENTS, page_bytes // self._packed_bytes.get(partitions, 1) + 1)
            if up_to:
                limit = max(min(limit, up_to - after), 0)
            rows = await self._pool.fetch(_SQL["history"], after, limit, *partitions)
        # Built where it is sent from: a batch that is put into an answer is copied.
        answer = GetHistoryResponse()
        batch = answer.batch
        batch.store_id = start["store_id"].bytes
        batch.first, batch.last = after + 1, after
        batch.previous_chain = batch.chain = (start["chain"] if after else GENESIS) or b""
        if rows:
            self._packed_bytes[partitions] = _fill_page(batch, rows, page_bytes)
        answer.head_position = max(start["position"], batch.last)
        return answer

    async def events_of_keys(
        self, tenant: int, owner_keys: Collection[bytes], after: int, up_to: int
    ) -> GetEventsOfKeysResponse:
        """Returns events that identities own, a page of at most 512 KiB in order of position."""
        last = up_to or (await self.head()).position
        async with database_errors():
            rows = await self._pool.fetch(
                _SQL["events_of_keys"], tenant, list(owner_keys), after, last, PAGE_EVENTS
            )
        page, size = GetEventsOfKeysResponse(), 0
        for position, partition, kind, recorded_at_us, content_hash, record in rows:
            size += len(record) + PACKED_BYTES
            if size > PAGE_BYTES and page.events:
                break
            event = page.events.add(position=position).event
            event.partition, event.type, event.recorded_at_us = partition, kind, recorded_at_us
            event.content_hash, event.record = content_hash, record
        if len(page.events) < len(rows) or len(rows) == PAGE_EVENTS:
            page.next_after_position = page.events[-1].position
        return page

    async def erased_since(
        self, tenant: int, identity_keys: Collection[bytes], position: int
    ) -> dict[bytes, int]:
        """Returns whom erasures concerned after a position, with the position of the latest one."""
        async with database_errors():
            rows = await self._pool.fetch(
                _SQL["erased_since"], tenant, list(identity_keys), position
            )
        return {row["identity_key"]: row["position"] for row in rows}

    async def erasures_of(
        self, tenant: int, identity_keys: Collection[bytes]
    ) -> dict[bytes, list[Erased]]:
        """Returns the erasures that concerned identities; those that none did are not in it."""
        async with database_errors():
            rows = await self._pool.fetch(_SQL["erasures_of"], tenant, list(identity_keys))
        found: dict[bytes, list[Erased]] = {}
        for identity_key, *erased in rows:
            found.setdefault(identity_key, []).append(Erased(*erased))
        return found

    async def event_keys_of_nothing(self) -> int:
        """Returns how many keys are kept for events that do not exist."""
        async with database_errors():
            count: int = await self._pool.fetchval(_SQL["event_keys_of_nothing"])
        return count

    async def line_end(self) -> asyncpg.Record:
        """Returns the head's own columns beside the last position that is stored."""
        async with database_errors():
            (end,) = await self._pool.fetch(_SQL["line_end"])
        return end

    async def stored_rows(self, after: int, up_to: int) -> list[asyncpg.Record]:
        """Returns rows as they are stored, every column, in pages."""
        async with database_errors():
            rows: list[asyncpg.Record] = await self._pool.fetch(
                _SQL["stored_rows"], after, up_to, PAGE_EVENTS
            )
        return rows

    async def records_at(self, positions: Collection[int]) -> dict[int, RecordedEvent]:
        """Returns the records at some positions."""
        async with database_errors():
            rows = await self._pool.fetch(_SQL["events_at"], list(positions))
        return {position: RecordedEvent.FromString(record) for position, record in rows}


def _fill_page(batch: EventBatch, rows: Sequence[asyncpg.Record], page_bytes: int) -> int:
    """Add what a page holds of at least one row to it; return how much of it an event took."""
    add, size, last, chain = batch.events.add, 0, batch.last, b""
    for position, partition, kind, recorded_at_us, content_hash, chain_there, record in rows:
        taken = len(record) + PACKED_BYTES
        if size + taken > page_bytes and size:
            break
        event = add()
        event.partition, event.type, event.recorded_at_us = partition, kind, recorded_at_us
        event.content_hash, event.record = content_hash, record
        last, chain, size = position, chain_there, size + taken
    batch.last, batch.chain = last, chain
    return size // len(batch.events)


def pack(store_id: bytes, appended: Appended) -> list[EventBatch]:
    """Returns what was appended as batches for the feed, each of at most 512 KiB."""
    batches: list[EventBatch] = []
    size = 0
    for position, row in enumerate(appended.rows, appended.previous_position + 1):
        size += len(row.record) + PACKED_BYTES
        if not batches or size > PAGE_BYTES:
            size = len(row.record) + PACKED_BYTES
            batches.append(EventBatch(store_id=store_id, first=position))
        batches[-1].events.add(
            partition=row.partition,
            type=row.type,
            recorded_at_us=appended.recorded_at_us,
            content_hash=row.content_hash,
            record=row.record,
        )
    chain = appended.previous_chain
    for batch in batches:
        batch.previous_chain = chain
        batch.last = batch.first + len(batch.events) - 1
        # A single batch ends where the append ended: the database has hashed it already.
        only = len(batches) == 1
        chain = appended.chain if only else extend(chain, [e.content_hash for e in batch.events])
        batch.chain = chain
    return batches
