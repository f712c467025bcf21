"""Appends rows of the outbox to the store, and settles what becomes of each."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from libs.eventstore import api
from libs.eventstore.client import StoreClient
from libs.eventstore.errors import SealBroken, StoreError, StoreFull, StoreUnavailable
from libs.postgres.queries import load_queries
from libs.projection.outbox.deciding import Outbox
from libs.telemetry import messaging
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_CONFLICT,
    APPEND_OUTCOME_DUPLICATE,
    APPEND_OUTCOME_ERASED,
    APPEND_OUTCOME_RECORDED,
    AppendEvent,
    AppendOutcome,
    AppendRequest,
    AppendUnit,
    AppendVerdict,
)

_MAX_ATTEMPTS: Final = 5
# Decided by an earlier run is decided: the first stands, though a rule may now say otherwise. And
# of somebody who was erased nothing is kept, no reason either.
_SETTLED: Final = frozenset(
    {
        APPEND_OUTCOME_RECORDED,
        APPEND_OUTCOME_DUPLICATE,
        APPEND_OUTCOME_CONFLICT,
        APPEND_OUTCOME_ERASED,
    }
)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("outbox")


class Row(NamedTuple):
    """A decision as the outbox keeps it."""

    id: int
    reactor: str
    tenant: str
    event_id: UUID
    sealed: bytes
    traceparent: str
    attempts: int


class Appender:
    """Puts decisions on the line. A row goes once it is there, and stays, dead, if it can't be.

    It also goes, and is on no line, if one of its identities was erased since it was decided.

    Args:
        outbox: Opens the rows.
        pool: Connections to their database.
        store: Takes the decisions.
    """

    def __init__(self, outbox: Outbox, pool: asyncpg.Pool, store: StoreClient) -> None:
        self._outbox = outbox
        self._pool = pool
        self._store = store

    async def append(self, rows: Sequence[Row]) -> None:
        """Append rows of one tenant and one trace, at most 1,000 and 900 KiB.

        Each is a unit of its own: what the store refuses holds up nobody else.

        Raises:
            StoreUnavailable: whether they were recorded is not known; append them again.
            StoreFull: nothing was recorded.
        """
        entries, broken = self._thawed(rows)
        await self._bury(broken)
        if not entries:
            return
        sound = [row for row, _ in entries]
        units = [AppendUnit(events=[entry]) for _, entry in entries]
        request = AppendRequest(tenant=sound[0].tenant, units=units)
        try:
            with messaging.send(api.APPEND, [sound[0].traceparent], messages=len(units)):
                answer = await self._store.append(request)
        except (StoreUnavailable, StoreFull):
            raise
        except StoreError as error:
            await self._apart(sound, error)
        else:
            await self._settle(sound, answer.verdicts)

    def _thawed(
        self, rows: Sequence[Row]
    ) -> tuple[list[tuple[Row, AppendEvent]], list[tuple[Row, str]]]:
        entries: list[tuple[Row, AppendEvent]] = []
        broken: list[tuple[Row, str]] = []
        for row in rows:
            try:
                entry = self._outbox.thaw(row.tenant, row.event_id.bytes, row.sealed)
                entries.append((row, entry))
            except SealBroken:
                broken.append((row, "it was sealed under another TOUCHLINE_IDENTITY_SECRET"))
        return entries, broken

    async def _apart(self, rows: Sequence[Row], error: StoreError) -> None:
        """Find the row that makes the store refuse a request; the others go through."""
        if len(rows) > 1:
            middle = len(rows) // 2
            await self.append(rows[:middle])
            await self.append(rows[middle:])
            return
        (row,) = rows
        if row.attempts + 1 >= _MAX_ATTEMPTS:
            await self._bury([(row, str(error))])
            return
        pause = timedelta(seconds=2**row.attempts)
        await self._pool.execute(_SQL["postpone"], row.id, pause, str(error))

    async def _settle(self, rows: Sequence[Row], verdicts: Sequence[AppendVerdict]) -> None:
        done, refused = [], []
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict.outcome in _SETTLED:
                done.append(row.id)
            else:
                name = AppendOutcome.Name(verdict.outcome).removeprefix("APPEND_OUTCOME_")
                refused.append((row, verdict.detail or name))
        await self._bury(refused)
        await self._pool.execute(_SQL["done"], done)

    async def _bury(self, refused: Sequence[tuple[Row, str]]) -> None:
        if not refused:
            return
        columns = [row.id for row, _ in refused], [detail for _, detail in refused]
        await self._pool.execute(_SQL["dead"], *columns)
        for row, _ in refused:  # why says the table: details may repeat what rules say
            _log.warning("decision is dead", reactor=row.reactor, event_id=str(row.event_id))
