"""The profile service when what it stands on breaks: it says so, skips nothing and recovers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from libs.embedded import create_database, database_url_for
from libs.identity.keys import IdentityKeys, tenant_secret
from libs.projection.identity_graph import IdentityGraph
from tests.customers import new_email, new_phone, of, profile_id, record, timeline, told, view
from tests.given import call, note, traits
from tests.servers import OwnNats, OwnPostgres, SharedPostgres
from tests.services import TENANTS, Stores, Touchline, new_stores, touchline_on
from touchline.events.v1.event_pb2 import EVENT_TYPE_INTERACTION, EVENT_TYPE_NOTE_ADDED
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.views_pb2 import VIEW_KIND_SALES
from touchline.projection.v1.projection_pb2 import (
    PROJECTION_STATE_HALTED,
    PROJECTION_STATE_LIVE,
    Projection,
)
from touchline.projection.v1.projection_service_pb2 import ListProjectionsRequest


async def projections(touchline: Touchline) -> list[Projection]:
    stub = touchline.client.projections["profile"]
    answer = await stub.ListProjections(ListProjectionsRequest())
    return list(answer.projections)


async def until_all(touchline: Touchline, holds: Callable[[Projection], bool]) -> list[Projection]:
    async with asyncio.timeout(30):
        while not all(holds(one) for one in await projections(touchline)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # no event tells of another process
    return await projections(touchline)


def is_live(projection: Projection) -> bool:
    return projection.state == PROJECTION_STATE_LIVE


def is_halted(projection: Projection) -> bool:
    return projection.state == PROJECTION_STATE_HALTED


async def use_store(touchline: Touchline, url: str) -> None:
    """Puts another event store behind the same NATS."""
    await touchline.ingestion.stop()
    environment = {**touchline.ingestion.environment, "TOUCHLINE_DATABASE_URL": url}
    touchline.ingestion.environment = environment
    await touchline.ingestion.start()


async def backup_of(servers: SharedPostgres, touchline: Touchline) -> str:
    """Copies the event store as it is now."""
    await touchline.ingestion.stop()
    original = touchline.stores.events.rpartition("/")[2]
    await create_database(servers.url, f"backup_of_{original}", original)
    await touchline.ingestion.start()
    return database_url_for(servers.url, f"backup_of_{original}")


async def test_given_an_older_backup_then_projections_halt_until_the_store_is_back(
    servers: SharedPostgres, touchline: Touchline
) -> None:
    client, who = touchline.client, new_email()
    await record(client, told(note("2024-01-01", "Kept"), who))
    older = await backup_of(servers, touchline)
    last = await record(client, told(note("2024-01-02", "Lost"), who))
    before = await timeline(client, who, last)
    checkpoints = [(one.position, one.chain) for one in await until_all(touchline, is_live)]

    # Nothing is recorded: even a silent store is found out.
    await use_store(touchline, older)
    halted = await until_all(touchline, is_halted)
    assert [(one.position, one.chain) for one in halted] == checkpoints
    for one in halted:
        assert "restore of an older backup" in one.halt_reason
        assert "become_another_store()" in one.halt_reason

    # It goes past where the projections stand, and they still fold nothing of it.
    strange = await record(client, *[told(note("2024-01-03", "Strange"), who) for _ in range(4)])
    request = api.ListTimelineEventsRequest(profile=of(who), after_position=strange)
    with pytest.raises(CallFailed, match="halted because") as failed, readable_failures():
        await touchline.client.profile.ListTimelineEvents(request)
    assert failed.value.reason == "PROJECTION_HALTED"
    assert await timeline(client, who, last) == before
    assert [(one.position, one.chain) for one in await projections(touchline)] == checkpoints

    await use_store(touchline, touchline.stores.events)
    await until_all(touchline, is_live)
    request.after_position = last + 1
    with pytest.raises(CallFailed) as behind, readable_failures():
        await touchline.client.profile.ListTimelineEvents(request, timeout=0.7)
    assert behind.value.reason == "PROJECTION_BEHIND"  # halted no more, only not there yet
    after = await record(client, told(note("2024-01-04", "Goes on"), who))
    texts = [event.note_added.text for event in await timeline(client, who, after)]
    assert texts == ["Goes on", "Lost", "Kept"]


async def test_given_another_store_then_projections_halt_until_dropped_and_fold_its_line(
    servers: SharedPostgres, touchline: Touchline
) -> None:
    client, who = touchline.client, new_email()
    last = await record(client, told(note("2024-01-01", "Another past"), who))
    await timeline(client, who, last)
    await use_store(touchline, (await new_stores(servers)).events)
    await until_all(touchline, is_halted)

    # What the reason says to do.
    await touchline.profile.stop()
    tables = ", ".join(["projection_checkpoints", *(one.name for one in IdentityGraph.tables)])
    await touchline.execute(
        touchline.stores.views, f"TRUNCATE {tables}, timeline, timeline_retractions"
    )
    await touchline.profile.start()
    last = await record(client, told(note("2024-01-02", "The line"), who))

    assert [event.note_added.text for event in await timeline(client, who, last)] == ["The line"]


async def test_given_a_data_key_that_is_gone_then_its_entries_are_erased_and_others_are_not(
    touchline: Touchline,
) -> None:
    client, address, phone = touchline.client, new_email(), new_phone()
    last = await record(
        client,
        told(call("2024-01-01", text="Secret"), address),
        told(note("2024-01-02", "Both"), address, phone),
        told(traits("2024-01-03", {"city": "Kiel"}), phone),
        told(note("2024-01-04", "Open"), phone),
    )
    await timeline(client, phone, last)
    await forget(touchline, address)

    request = api.ListTimelineEventsRequest(profile=of(phone), after_position=last)
    listed = (await client.profile.ListTimelineEvents(request)).entries
    profile = (await client.profile.GetProfile(api.GetProfileRequest(profile=of(phone)))).profile

    assert [entry.erased for entry in listed] == [False, False, True, True]
    assert [entry.type for entry in listed[2:]] == [EVENT_TYPE_NOTE_ADDED, EVENT_TYPE_INTERACTION]
    for entry in listed[2:]:
        assert entry.event.WhichOneof("fact") is None
        assert entry.event.event_id
        assert entry.event.HasField("occurred_at")
        assert not entry.event.identities
    kinds = {one.identity.kind: one.identity.canonical_value for one in profile.identities}
    assert kinds == {address.kind: "", phone.kind: phone.value}
    assert [attribute.value for attribute in profile.attributes] == ["Kiel"]
    assert profile.event_count == 4
    assert b"Secret" not in b"".join(entry.SerializeToString() for entry in listed)
    await view(client, phone, VIEW_KIND_SALES)


async def forget(touchline: Touchline, identity: Identity) -> None:
    """Deletes an identity's data key; services that start afterwards can't have it."""
    secret = bytes.fromhex(touchline.profile.environment["TOUCHLINE_IDENTITY_SECRET"])
    key = IdentityKeys(tenant_secret(secret, TENANTS[0])).identify(identity).key
    statement = "DELETE FROM data_keys WHERE identity_key = $1"
    assert await touchline.execute(touchline.stores.events, statement, key) == "DELETE 1"
    await touchline.ingestion.restart()
    await touchline.profile.restart()


async def test_given_ingestion_away_then_sealed_events_cannot_be_opened_until_it_is_back(
    touchline: Touchline,
) -> None:
    client, known, unknown = touchline.client, new_email(), new_email()
    last = await record(
        client, told(note("2024-01-01", "Read"), known), told(note("2024-01-01", "Not"), unknown)
    )
    await timeline(client, known, last)
    await touchline.ingestion.stop()

    assert len(await timeline(client, known)) == 1  # its key was fetched before
    with pytest.raises(CallFailed, match="event store") as failed, readable_failures():
        await client.profile.ListTimelineEvents(
            api.ListTimelineEventsRequest(profile=of(unknown)), timeout=5
        )
    assert failed.value.reason == "STORE_UNAVAILABLE"
    assert await profile_id(client, unknown)  # who it is needs no key

    await touchline.ingestion.start()
    assert [event.note_added.text for event in await timeline(client, unknown)] == ["Not"]


async def test_given_its_postgresql_killed_then_reads_say_so_and_nothing_is_lost_or_doubled(
    servers: SharedPostgres, own_postgres: OwnPostgres, nats: OwnNats
) -> None:
    events = (await new_stores(servers)).events
    await create_database(own_postgres.url, "views")
    stores = Stores(events, database_url_for(own_postgres.url, "views"))
    who = new_email()
    async with touchline_on(stores, nats) as touchline:
        client = touchline.client
        sent = [told(note("2024-01-01", f"{i}"), who, new_phone()) for i in range(300)]
        last = await record(client, *sent[:100])
        await timeline(client, who, last)

        await own_postgres.kill()
        with pytest.raises(CallFailed) as failed, readable_failures():
            await client.profile.GetProfile(api.GetProfileRequest(profile=of(who)), timeout=5)
        assert failed.value.reason == "VIEWS_UNAVAILABLE"
        await record(client, *sent[100:200])  # events are recorded all the same
        await own_postgres.start()

        last = await record(client, *sent[200:])
        request = api.GetProfileRequest(profile=of(who), after_position=last)
        profile = (await client.profile.GetProfile(request)).profile
        assert profile.event_count == 300
        # It has one phone at a time at most: the others were left as suggestions.
        assert len(profile.identities) == 2
        population = await client.profile.GetPopulation(api.GetPopulationRequest())
        assert (population.events, population.identities) == (300, 301)
        listed = await timeline(client, who, page_size=500)
        assert sorted(e.event_id for e in listed) == sorted(e.event_id for e in sent)
