"""Generations of tests: lines to fill them from, their rows, and what is live to compare with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from uuid import UUID, uuid4

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp

from libs.eventstore.client import StoreClient
from libs.identity.keys import IdentityKeys
from libs.postgres.pool import open_pool
from libs.projection.config import Reader
from libs.projection.consents import Consents
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import generations, serving
from libs.projection.identity_graph import IdentityGraph
from libs.projection.partitions import Partitions
from libs.projection.projection import Projection
from libs.projection.runner import Runner
from libs.projection.timeline import Timeline
from libs.tasks import running
from services.profile.attributes import AttributeValues
from tests.waiting import until
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import (
    CHANNEL_EMAIL,
    CONSENT_STATUS_GRANTED,
    CONSENT_STATUS_WITHDRAWN,
    ConsentChanged,
    EventRetracted,
    NoteAdded,
    TraitsObserved,
)
from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_EMAIL,
    IDENTITY_KIND_EXTERNAL_ID,
    IDENTITY_KIND_PHONE,
    Identity,
)

BEGIN, STEP = 1_700_000_000, 40_000
PEOPLE = 40
FOLDS = ("timeline", "identity_graph", "consents", "attributes")
"""The views of the profile service."""


def fold_of(name: str, store: StoreClient, tenant: int, keys: IdentityKeys) -> Projection:
    """Returns a view of the profile service that remembers nothing."""
    folds: dict[str, Projection] = {
        "timeline": Timeline(),
        "identity_graph": IdentityGraph(),
        "consents": Consents(),
        "attributes": AttributeValues(store, {tenant: Reader(tenant, "default", keys)}),
    }
    return folds[name]


def email_of(person: int) -> Identity:
    """The address by which a person is known."""
    return Identity(kind=IDENTITY_KIND_EMAIL, value=f"person{person}@filled.example")


def varied(count: int, seed: int) -> list[Event]:
    """Events of some people under several names: notes, traits, consents, and some taken back."""
    random, events = Random(seed), list[Event]()
    for _ in range(count):
        person = random.randrange(PEOPLE)
        event = Event(
            event_id=str(UUID(int=random.getrandbits(128), version=4)),
            occurred_at=Timestamp(seconds=BEGIN + random.randrange(30) * STEP),
            source="filled",
        )
        names = [
            email_of(person),
            Identity(kind=IDENTITY_KIND_PHONE, value=f"+4366410{person % 25:05}"),
            Identity(kind=IDENTITY_KIND_EXTERNAL_ID, namespace="crm", value=f"{person % 31}"),
        ]
        event.identities.extend(random.sample(names, random.choice((1, 1, 2, 3))))
        _add_fact(event, events, random)
        events.append(event)
    return events


def _add_fact(event: Event, before: Sequence[Event], random: Random) -> None:
    match random.randrange(10):
        case 0 if before:
            taken_back = random.choice(before[-50:])
            del event.identities[:]
            event.identities.extend(taken_back.identities)
            event.event_retracted.CopyFrom(EventRetracted(event_id=taken_back.event_id))
        case 1 | 2 | 3:
            traits = {"city": random.choice(("Linz", "Graz")), "size": str(random.randrange(9))}
            event.traits_observed.CopyFrom(TraitsObserved(traits=traits))
        case 4 | 5:
            status = random.choice((CONSENT_STATUS_GRANTED, CONSENT_STATUS_WITHDRAWN))
            said = ConsentChanged(purpose="news", channel=CHANNEL_EMAIL, status=status)
            event.consent_changed.CopyFrom(said)
        case _:
            event.note_added.CopyFrom(NoteAdded(text="x" * random.randrange(1, 300)))


async def rows_of(
    pool: asyncpg.Pool, generation: Generation, fold: Projection
) -> dict[str, list[str]]:
    """Every row of a generation's tables as ordered text, and the keys that it has parked."""
    found = {}
    for table in fold.tables:
        name = f"{generation.schema}.{table.name}"
        texts = await pool.fetch(f"SELECT t::text AS said FROM {name} t WHERE {table.rows}")
        found[table.name] = sorted(row["said"] for row in texts)
    parked = await pool.fetch(
        "SELECT (tenant, owner_key, position, event_id, error, waiting_events)::text AS said "
        "FROM parked_keys WHERE generation = $1",
        generation.id,
    )
    return {**found, "parked": sorted(row["said"] for row in parked)}


async def indexes_of(pool: asyncpg.Pool, generation: Generation, fold: Projection) -> list[str]:
    """The indexes and constraints of a generation's tables, without what differs by schema."""
    found = list[str]()
    for table in fold.tables:
        name = f"{generation.schema}.{table.name}"
        rows = await pool.fetch(
            "SELECT pg_get_indexdef(indexrelid) AS said, indisprimary FROM pg_index "
            "WHERE indrelid = to_regclass($1)",
            name,
        )
        for row in rows:
            what = row["said"].partition(" ON ")[2].removeprefix(f"{generation.schema}.")
            found.append(f"{what} {row['indisprimary']}")
    return sorted(found)


async def generation_named(pool: asyncpg.Pool, generation: int) -> Generation:
    """What the database says of a generation now."""
    (found,) = [one for one in await generations(pool) if one.id == generation]
    return found


async def place_of(pool: asyncpg.Pool, generation: int) -> int:
    """How far the slowest range of a generation came."""
    query = "SELECT min(position) FROM projection_checkpoints WHERE generation = $1"
    return int(await pool.fetchval(query, generation))


async def live_generation(fold: Projection, pool: asyncpg.Pool, store: StoreClient) -> Generation:
    """Folds up to the head as a service does, and returns what answers."""
    head = (await store.head()).position
    runner = Runner(fold, pool, store, uuid4())
    async with running(runner.run()):
        await until(lambda: runner.checkpoint.position >= head, within=60)
    await runner.stop()
    found = await serving(pool, fold.name, fold.fold_version)
    assert found is not None
    return found


async def follow_up(fold: Projection, generation: Generation, url: str, store: StoreClient) -> None:
    """Folds every range of a generation up to the head, as those do who follow the feed."""
    head = (await store.head()).position
    settings = {"search_path": generation.search_path}
    async with open_pool(url, application="following", settings=settings) as pool:
        ranges = await pool.fetch(
            "SELECT first_partition, last_partition FROM projection_checkpoints "
            "WHERE generation = $1",
            generation.id,
        )
        runners = []
        for row in ranges:
            copy, own = fold.copy(), Partitions(*row)
            assert copy is not None
            runners.append(
                Runner(copy, pool, store, uuid4(), generation=generation, partitions=own)
            )
        async with running(*[one.run() for one in runners]):
            await until(lambda: all(one.checkpoint.position >= head for one in runners))
        await asyncio.gather(*[one.stop() for one in runners])
