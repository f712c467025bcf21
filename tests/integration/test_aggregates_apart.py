"""Aggregates share the line with customers and never show in a profile."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from eventsourcing.persistence import StoredEvent

from libs.eventstore.aggregates.recorders import LineApplicationRecorder
from libs.eventstore.errors import StoreError
from libs.eventstore.records import event_id_text
from libs.identity import stream_identity
from libs.postgres.pool import open_pool
from libs.projection.identity_graph import IdentityGraph
from libs.projection.projection import decode
from libs.projection.timeline import Timeline
from tests.aggregates import Lent, build_stores, lent_line
from tests.servers import MakeDatabase, OwnNats
from tests.services import build_views
from tests.store import DEFAULT, REJECTED, email, handle, said
from touchline.events.v1.facts_pb2 import AggregateChanged
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_REJECTED
from touchline.store.v1.store_pb2 import AppendEvent, AppendRequest, AppendUnit, GetStreamRequest


@pytest.fixture
async def lent(database_from_template: MakeDatabase, nats: OwnNats) -> AsyncIterator[Lent]:
    async with lent_line(await database_from_template(build_stores), nats) as lent:
        yield lent


def change(version: int) -> StoredEvent:
    return StoredEvent("a", version, "module:Moved", b"{}")


async def test_projections_of_profiles_fold_past_aggregates(
    lent: Lent, database_from_template: MakeDatabase
) -> None:
    recorder = LineApplicationRecorder(lent.borrowed, "promises")
    await asyncio.to_thread(recorder.insert_events, [change(1), change(2)])
    await lent.line.record(said("hello", who=[email("ana@example.org"), handle("ana")]))
    await asyncio.to_thread(recorder.insert_events, [change(3)])
    batch = await lent.line.store.history(0)
    assert len(batch.events) == 4
    views = await database_from_template(build_views)
    async with open_pool(views, application="test") as pool:
        graph, timeline = IdentityGraph(), Timeline()
        for first, events in ((1, batch.events[:2]), (3, batch.events[2:])):
            decoded = decode(first, events)
            async with pool.acquire() as connection, connection.transaction():
                await graph.apply(connection, decoded)
                await timeline.apply(connection, decoded)
        rows = await pool.fetch("SELECT position FROM timeline")
        assert [row["position"] for row in rows] == [3]
        assert await pool.fetchval("SELECT count(*) FROM identities") == 2
        assert await pool.fetchval("SELECT count(*) FROM identity_edges") == 1


async def test_a_caller_who_poses_as_an_aggregate_is_rejected_and_it_is_kept(lent: Lent) -> None:
    forged = said("", who=[stream_identity("promises", "a")])
    forged.aggregate_changed.CopyFrom(AggregateChanged(topic="module:Moved"))
    posing = said("hello", who=[email("ana@example.org"), stream_identity("promises", "a")])
    verdicts = await lent.line.record(forged, posing)
    assert [verdict.outcome for verdict in verdicts] == [OUTCOME_REJECTED] * 2
    assert await lent.line.kept.count(DEFAULT.sealed) == 2
    assert (await lent.line.store.head()).position == 0


async def test_a_service_can_not_append_to_anothers_stream(lent: Lent) -> None:
    recorder = LineApplicationRecorder(lent.borrowed, "promises")
    await asyncio.to_thread(recorder.insert_events, [change(1)])
    decided = said("", who=[stream_identity("rules", "a")])
    decided.aggregate_changed.CopyFrom(AggregateChanged(topic="module:Moved"))
    promises = DEFAULT.identity_keys.identify(stream_identity("promises", "a")).key
    entry = AppendEvent(event=decided, stream_id=event_id_text(promises), stream_version=2)
    request = AppendRequest(tenant="default", units=[AppendUnit(events=[entry])])
    (verdict,) = (await lent.client.append(request)).verdicts
    assert verdict.outcome == REJECTED
    assert verdict.detail.startswith("stream_id is not the stream")


async def test_a_stream_id_of_another_length_is_refused(lent: Lent) -> None:
    with pytest.raises(StoreError, match="16 bytes"):
        async for _ in lent.client.stream(GetStreamRequest(tenant=1, stream_id=b"short")):
            pass
