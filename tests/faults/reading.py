"""Reads everything back: the store's rows past its own code, the feed, and what is left waiting."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg
import nats
from nats.js.errors import NotFoundError

from libs.eventstore import feed
from libs.eventstore.client import StoreClient
from libs.eventstore.errors import SealBroken
from libs.eventstore.records import Keys, open_event
from tests.faults.checking import Batch, Row
from tests.faults.cluster import INGESTION, PROJECTING, Cluster
from tests.faults.history import content_of
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_AGGREGATE_CHANGED,
    EVENT_TYPE_AGGREGATE_SNAPSHOT,
    EVENT_TYPE_DELIVERY_ATTEMPTED,
    EVENT_TYPE_EXPECTATION_RESOLVED,
    EVENT_TYPE_EXPECTATION_SET,
    EVENT_TYPE_NOTIFICATION_DECIDED,
    EVENT_TYPE_NOTIFICATION_READ,
    EVENT_TYPE_SCORE_CROSSED,
    Event,
)
from touchline.store.v1.store_pb2 import EventBatch, RecordedEvent

_PAGE: Final = 2000
_OF_SERVICES: Final = frozenset(
    {
        EVENT_TYPE_AGGREGATE_CHANGED,
        EVENT_TYPE_AGGREGATE_SNAPSHOT,
        EVENT_TYPE_SCORE_CROSSED,
        EVENT_TYPE_NOTIFICATION_DECIDED,
        EVENT_TYPE_DELIVERY_ATTEMPTED,
        EVENT_TYPE_NOTIFICATION_READ,
        # What follows from a rule or from a deadline.
        EVENT_TYPE_EXPECTATION_SET,
        EVENT_TYPE_EXPECTATION_RESOLVED,
    }
)
_SQL: Final = """
    SELECT position, event_id, content_hash, chain, record, stream_id, stream_version, type
    FROM events WHERE position > $1 ORDER BY position LIMIT $2
"""


async def head_of(cluster: Cluster) -> tuple[bytes, int, bytes]:
    """Return the store's id, last position and chain, from its database."""
    async with connected(cluster.database(INGESTION[0])) as connection:
        store_id, position, chain = await connection.fetchrow(
            "SELECT store_id, position, chain FROM store_head"
        )
    return store_id.bytes, position, chain


async def read_rows(cluster: Cluster, store: StoreClient) -> list[Row]:
    """Return the whole line in the order of positions, each event opened."""
    rows: list[Row] = []
    async with connected(cluster.database(INGESTION[0])) as connection:
        after = 0
        while page := await connection.fetch(_SQL, after, _PAGE):
            records = [RecordedEvent.FromString(one["record"]) for one in page]
            keys = await store.keys_of(1, records)
            for one, record in zip(page, records, strict=True):
                rows.append(_row(one, _opened(record, keys)))
            after = page[-1]["position"]
    return rows


async def read_feed(cluster: Cluster) -> list[Batch]:
    """Return all messages of the feed, in order."""
    connection = await nats.connect(cluster.nats.url)
    try:
        jetstream = connection.jetstream(timeout=10)
        state = (await jetstream.stream_info(feed.STREAM)).state
        batches: list[Batch] = []
        for sequence in range(state.first_seq, state.last_seq + 1):
            # A message that is not there leaves a gap, which the checker finds.
            with suppress(NotFoundError):
                message = await jetstream.get_msg(feed.STREAM, sequence)
                if message.subject == feed.SUBJECT:  # not who leads the relay
                    batches.append(_batch(EventBatch.FromString(message.data or b"")))
        return batches
    finally:
        await connection.close()


async def left_waiting(cluster: Cluster) -> dict[str, int]:
    """Return what waits in outboxes or is dead, and what is parked, by service."""
    left = {}
    for member in PROJECTING:
        async with connected(cluster.database(member)) as connection:
            for state in ("waiting", "dead"):
                query = "SELECT count(*) FROM outbox WHERE state = $1"
                left[f"{member}, {state} in the outbox"] = await connection.fetchval(query, state)
            query = "SELECT count(*) FROM parked_keys"
            left[f"{member}, parked"] = await connection.fetchval(query)
    return left


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Give a connection to a database, as its superuser."""
    connection = await asyncpg.connect(url, timeout=30)
    try:
        yield connection
    finally:
        await connection.close()


def _opened(record: RecordedEvent, keys: Keys) -> Event | None:
    try:
        return open_event(record, keys)
    except SealBroken:
        return None


def _row(stored: asyncpg.Record, event: Event | None) -> Row:
    # Snapshots are taken at some versions only.
    in_stream = stored["stream_id"] and stored["type"] != EVENT_TYPE_AGGREGATE_SNAPSHOT
    of_load = event is not None and event.source.startswith("faults")
    of_service = stored["type"] in _OF_SERVICES and not of_load
    decision: Sequence[str] = _decision(event) if event is not None and of_service else ()
    return Row(
        position=stored["position"],
        event_id=str(stored["event_id"]),
        content=b"" if event is None else content_of(event),
        content_hash=stored["content_hash"],
        chain=stored["chain"],
        record=stored["record"],
        stream=str(stored["stream_id"]) if in_stream else "",
        version=stored["stream_version"] if in_stream else 0,
        decision=tuple(decision),
        cause=event.causation_id if event is not None and decision else "",
        of_service=of_service,
    )


def _decision(event: Event) -> Sequence[str]:
    """Return what makes a decision this one and no other; empty for what is in a stream."""
    kind, cause = event.WhichOneof("fact") or "", event.causation_id
    match kind:
        case "score_crossed":
            crossed = event.score_crossed
            return kind, cause, crossed.model, "" if cause else _whom_and_when(event)
        case "notification_decided":
            told = event.notification_decided
            return kind, cause, told.rule, told.recipient.SerializeToString().hex()
        case "expectation_set":
            return kind, event.expectation_set.expectation_id
        case "expectation_resolved":
            resolved = event.expectation_resolved
            due = cause or str(event.occurred_at.seconds)
            return kind, resolved.expectation_id, str(resolved.outcome), due
        case "delivery_attempted":
            tried = event.delivery_attempted
            return kind, tried.notification_id, str(tried.channel), str(tried.attempt)
        case "notification_read":
            return kind, event.notification_read.notification_id
    return ()


def _whom_and_when(event: Event) -> str:
    whom = event.identities[0].value if event.identities else ""
    return f"{whom} {event.occurred_at.seconds}"


def _batch(batch: EventBatch) -> Batch:
    return Batch(
        batch.store_id,
        batch.previous_chain,
        batch.chain,
        batch.first,
        batch.last,
        [(event.content_hash, event.record) for event in batch.events],
    )
