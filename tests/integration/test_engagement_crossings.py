"""Crossings of score levels: told once and by what happens now, and by nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.pool import open_pool
from libs.projection.outbox import Outbox
from libs.projection.serving import Serving
from libs.projection.waiting import follow_checkpoints
from libs.rpc.tenants import Tenants
from services.engagement.config import read_config
from services.engagement.domain.scoring import DAY_US, day_of
from services.engagement.levels import Levels
from services.engagement.midnights import Midnights
from tests.customers import new_device, new_email, new_phone, profile_id, record, timeline
from tests.servers import SharedPostgres, start_nats
from tests.services import (
    Service,
    Touchline,
    engagement_on,
    new_scores,
    new_stores,
    touchline_on,
)
from touchline.client import Client
from touchline.engagement.v1.engagement_pb2 import (
    MODEL_STATE_SERVING,
    ModelDefinition,
    ScoreLevel,
    ScoringRule,
)
from touchline.engagement.v1.engagement_service_pb2 import ListModelsRequest, PublishModelRequest
from touchline.events.v1.decisions_pb2 import ScoreCrossed
from touchline.events.v1.event_pb2 import (
    ACTOR_KIND_SYSTEM,
    EVENT_TYPE_NOTE_ADDED,
    EVENT_TYPE_SCORE_CROSSED,
    Event,
)
from touchline.events.v1.facts_pb2 import EventRetracted, NoteAdded, ProductUsed
from touchline.events.v1.filter_pb2 import EventFilter
from touchline.events.v1.identity_pb2 import Identity
from touchline.uuid7 import uuid7

MODEL = "notes"


@dataclass(slots=True)
class Scene:
    """A Touchline with an engagement service, and a model in which each note is a point."""

    touchline: Touchline
    service: Service
    client: Client
    url: str

    async def tell(self, *events: Event) -> int:
        """Records events, and returns the last position."""
        return await record(self.client, *events)

    async def crossings(self, customer: Identity, position: int) -> list[ScoreCrossed]:
        """What was decided about a customer by the model, the first first."""
        return [event.score_crossed for event in await self.decisions(customer, position)]

    async def decisions(self, customer: Identity, position: int) -> list[Event]:
        """The same as events, once everything up to a position was decided."""
        other = new_email()
        after = await self.tell(*notes(other, 2))
        # Decisions come onto the line in the order of their causes.
        end = await self._first_decision(other, max(after, position))
        found = await timeline(self.client, customer, end, types=[EVENT_TYPE_SCORE_CROSSED])
        return [event for event in reversed(found) if event.score_crossed.model == MODEL]

    async def _first_decision(self, customer: Identity, position: int) -> int:
        types = [EVENT_TYPE_SCORE_CROSSED]
        async with asyncio.timeout(30):
            while True:
                events = await timeline(self.client, customer, position, types=types)
                if any(event.score_crossed.model == MODEL for event in events):
                    return await self.tell(note(new_device()))  # after everything else
                await asyncio.sleep(0.05)

    async def publish(self, expected: int, **levels: float) -> None:
        """Publishes the model, and waits until it answers."""
        definition = ModelDefinition(
            name=MODEL,
            rules=[
                ScoringRule(
                    name="notes",
                    weight=1,
                    half_life=Duration(seconds=86_400),
                    on=EventFilter(types=[EVENT_TYPE_NOTE_ADDED]),
                )
            ],
            levels=[ScoreLevel(name=name, from_score=score) for name, score in levels.items()],
        )
        request = PublishModelRequest(
            definition=definition, expected_version=expected, published_by="tester"
        )
        published = await self.client.engagement.PublishModel(request)
        asked = ListModelsRequest(name=MODEL, after_position=published.position)
        async with asyncio.timeout(30):
            while True:
                models = (await self.client.engagement.ListModels(asked)).models
                if models[0].state == MODEL_STATE_SERVING:
                    return
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def scene(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        nats = await start_nats(tmp_path_factory.mktemp("nats"))
        stack.push_async_callback(nats.stop)
        touchline = await stack.enter_async_context(touchline_on(await new_stores(servers), nats))
        url = await new_scores(servers)
        service, client = await stack.enter_async_context(engagement_on(touchline, url))
        scene = Scene(touchline, service, client, url)
        await scene.publish(0, some=2, many=4)
        yield scene


def note(*customer: Identity, ago: timedelta = timedelta(), historical: bool = False) -> Event:
    event = Event(event_id=uuid7(), identities=customer, source="test", historical=historical)
    event.occurred_at.FromDatetime(datetime.now(UTC) - ago)
    event.note_added.CopyFrom(NoteAdded(text="A note"))
    return event


def notes(customer: Identity, count: int, *, historical: bool = False) -> list[Event]:
    return [note(customer, historical=historical) for _ in range(count)]


def levels(crossed: list[ScoreCrossed]) -> list[tuple[str, str]]:
    return [(one.from_level, one.to_level) for one in crossed]


async def test_a_score_that_rises_is_told_once_with_its_cause(scene: Scene) -> None:
    customer = new_email()
    events = notes(customer, 5)
    events[1].correlation_id = "visit-7"
    end = await scene.tell(*events)
    first, second = await scene.decisions(customer, end)

    assert first.score_crossed == ScoreCrossed(
        model=MODEL, model_version=1, to_level="some", score=2, rising=True
    )
    assert second.score_crossed == ScoreCrossed(
        model=MODEL, model_version=1, from_level="some", to_level="many", score=4, rising=True
    )
    assert first.causation_id == events[1].event_id
    assert first.occurred_at == events[1].occurred_at
    assert first.correlation_id == "visit-7"
    assert (first.source, first.actor.kind) == ("engagement", ACTOR_KIND_SYSTEM)
    assert [identity.value for identity in first.identities] == [customer.value]
    assert second.causation_id == events[3].event_id


async def test_events_that_are_delivered_twice_decide_once(scene: Scene) -> None:
    customer = new_email()
    events = notes(customer, 3)
    end = await scene.tell(*events)
    assert levels(await scene.crossings(customer, end)) == [("", "some")]
    await scene.client.record(events)  # duplicates, all of them
    await scene.service.stop()
    # The reactor folds everything again, as after a restored backup.
    statement = "DELETE FROM projection_checkpoints WHERE projection = 'score_levels'"
    await scene.touchline.execute(scene.url, statement)
    await scene.service.start()
    assert levels(await scene.crossings(customer, end)) == [("", "some")]


async def test_the_imported_past_is_told_to_nobody_but_counts(scene: Scene) -> None:
    customer = new_email()
    await scene.tell(*notes(customer, 3, historical=True), note(customer, ago=timedelta(hours=25)))
    end = await scene.tell(note(new_device()))
    assert await scene.crossings(customer, end) == []
    end = await scene.tell(note(customer))
    assert levels(await scene.crossings(customer, end)) == [("some", "many")]


async def test_an_event_amid_the_imported_past_is_not_blamed_for_it(scene: Scene) -> None:
    customer = new_email()
    past = notes(customer, 4, historical=True)
    end = await scene.tell(*past[:2], note(customer), *past[2:], note(customer))
    assert await scene.crossings(customer, end) == []


async def test_a_retraction_makes_a_score_fall(scene: Scene) -> None:
    customer = new_email()
    events = notes(customer, 2)
    await scene.tell(*events)
    retraction = note(customer)
    retraction.event_retracted.CopyFrom(EventRetracted(event_id=events[0].event_id))
    end = await scene.tell(retraction)
    risen, fallen = await scene.decisions(customer, end)
    assert (risen.score_crossed.rising, fallen.score_crossed.rising) == (True, False)
    assert levels([fallen.score_crossed]) == [("some", "")]
    assert fallen.causation_id == retraction.event_id


async def test_what_was_retracted_before_it_came_moves_nothing(scene: Scene) -> None:
    customer = new_email()
    events = notes(customer, 2)
    retraction = note(customer)
    retraction.event_retracted.CopyFrom(EventRetracted(event_id=events[0].event_id))
    end = await scene.tell(retraction, *events)
    assert await scene.crossings(customer, end) == []


async def test_profiles_that_become_one_are_no_alarm(scene: Scene) -> None:
    one, other = new_email(), new_phone()
    end = await scene.tell(*notes(one, 2), *notes(other, 2))
    assert levels(await scene.crossings(one, end)) == [("", "some")]
    met = note(one, other)
    met.product_used.CopyFrom(ProductUsed(product="app"))
    end = await scene.tell(met)
    assert await profile_id(scene.client, one, end) == await profile_id(scene.client, other, end)
    assert levels(await scene.crossings(one, end)) == [("", "some"), ("", "some")]
    end = await scene.tell(*notes(other, 2))
    assert len(await scene.crossings(one, end)) == 2  # they are many already


async def test_at_midnight_what_fell_by_decay_is_told_once(scene: Scene) -> None:
    weak, customer, still = new_device(), new_email(), new_phone()
    both = note(weak, customer)
    end = await scene.tell(both, *notes(customer, 1), *notes(still, 1))
    assert levels(await scene.crossings(customer, end)) == [("", "some")]

    tomorrow = day_of(time.time_ns() // 1000) + 1
    await pass_midnight(scene, tomorrow - 1)
    await pass_midnight(scene, tomorrow)
    await pass_midnight(scene, tomorrow)

    assert await scene.crossings(still, end) == []
    risen, fallen = await scene.decisions(customer, end)
    assert levels([risen.score_crossed, fallen.score_crossed]) == [("", "some"), ("some", "")]
    assert fallen.score_crossed == ScoreCrossed(
        model=MODEL, model_version=1, from_level="some", score=1
    )
    assert fallen.occurred_at.ToMicroseconds() == tomorrow * DAY_US
    assert [identity.value for identity in fallen.identities] == [customer.value]


async def pass_midnight(scene: Scene, today: int) -> None:
    """Looks at a midnight as the service does on its day."""
    config = read_config(scene.service.environment)
    async with (
        open_pool(scene.url, application="test") as pool,
        connect_nats(scene.touchline.nats.service_url, "test") as nats,
        follow_checkpoints(scene.url, pool) as reached,
    ):
        outbox, tenants = Outbox(config.identity_secret), Tenants(("default",))
        store, levels = StoreClient(nats), Levels(pool, Serving())
        await Midnights(pool, levels, store, reached, outbox, tenants).look(today)


async def test_another_version_of_the_model_is_no_alarm(scene: Scene) -> None:
    customer = new_email()
    end = await scene.tell(*notes(customer, 3))
    assert levels(await scene.crossings(customer, end)) == [("", "some")]
    await scene.publish(1, few=1, some=2, plenty=3)
    assert levels(await scene.crossings(customer, end)) == [("", "some")]
    retraction = note(customer)
    retraction.event_retracted.CopyFrom(EventRetracted(event_id=uuid7()))
    end = await scene.tell(retraction, note(customer))
    assert levels(await scene.crossings(customer, end)) == [("", "some")]
