"""Reads decision streams: one by its versions, and an application's changes in their order."""

from pathlib import Path
from typing import Final

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.store import PACKED_BYTES, PAGE_BYTES, PAGE_EVENTS, database_errors
from libs.postgres.queries import load_queries
from touchline.store.v1.store_pb2 import (
    GetChangesRequest,
    GetChangesResponse,
    GetStreamRequest,
    GetStreamResponse,
    PositionedEvent,
    RecordedEvent,
)

_LAST: Final = 2**63 - 1
# Other applications' changes lie between, so a short page looks at some more than it may answer.
_LOOKED_AT: Final = 100
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


async def stream_page(pool: asyncpg.Pool, request: GetStreamRequest) -> GetStreamResponse:
    """Return events of a stream in the order of their versions, a page of at most 512 KiB."""
    limit = min(request.limit or PAGE_EVENTS, PAGE_EVENTS)
    async with database_errors():
        rows = await pool.fetch(
            _SQL["stream_newest_first" if request.newest_first else "stream"],
            *(request.tenant, UUID(request.stream_id)),
            request.after_version if request.HasField("after_version") else -1,
            request.up_to_version if request.HasField("up_to_version") else _LAST,
            limit,
        )
    page, size = GetStreamResponse(), 0
    for row in rows:
        event = _positioned(row)
        size += len(event.event.record) + PACKED_BYTES
        if size > PAGE_BYTES and page.events:
            break
        page.events.append(event)
    full = len(page.events) < len(rows) or len(rows) == PAGE_EVENTS
    page.more = full and len(page.events) != request.limit
    return page


async def changes_page(pool: asyncpg.Pool, request: GetChangesRequest) -> GetChangesResponse:
    """Return changes of an application's aggregates in the order of the line, or newest first.

    The events of all applications share an index, so a page looks at a bounded number of them and
    may find none of this one; `continue_at` says where the next page goes on.
    """
    limit = min(request.limit or PAGE_EVENTS, PAGE_EVENTS)
    looked_at = max(limit, _LOOKED_AT)
    async with database_errors():
        rows = await pool.fetch(
            _SQL["changes_newest_first" if request.newest_first else "changes"],
            *(request.tenant, request.after_position, request.up_to_position or _LAST, looked_at),
        )
    page, size = GetChangesResponse(), 0
    for row in rows:
        if len(page.events) == limit:
            return page
        event = _positioned(row)
        record = RecordedEvent.FromString(event.event.record)
        if record.identities[0].namespace_key == request.namespace_key:
            size += len(event.event.record) + PACKED_BYTES
            if size > PAGE_BYTES and page.events:
                return page
            page.events.append(event)
        page.continue_at = event.position
    if len(rows) < looked_at:
        page.continue_at = 0
    return page


def _positioned(row: asyncpg.Record) -> PositionedEvent:
    position, partition, kind, recorded_at_us, content_hash, record = row
    positioned = PositionedEvent(position=position)
    event = positioned.event
    event.partition, event.type, event.recorded_at_us = partition, kind, recorded_at_us
    event.content_hash, event.record = content_hash, record
    return positioned
