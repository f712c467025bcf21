"""What callers read doesn't depend on how events arrived: shuffled, twice, in batches of any size.

Invariant 9. Each arrival gets a tenant of its own, so that ids may be the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count
from random import Random
from uuid import UUID

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from services.profile.domain import VIEWS, Touch
from tests.customers import email, number_in, of, told
from tests.given import (
    call,
    campaign,
    case,
    consent,
    contact,
    order,
    outcome,
    promise,
    signal,
    touch,
    traits,
    used,
)
from tests.given import email as mail
from tests.servers import SharedPostgres, start_nats
from tests.services import Touchline, new_stores, touchline_on
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import EventRetracted
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_PHONE, Identity
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_DUPLICATE, OUTCOME_RECORDED
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.profile_pb2 import Profile

IDENTITIES = (
    email("anna@example.com"),
    Identity(kind=IDENTITY_KIND_PHONE, value="+493012345678"),
    number_in("crm", "7"),
)
HAPPENINGS = (
    *(
        lambda day: traits(day, {"city": "Kiel"}),
        lambda day: traits(day, {"city": "", "tier": "a"}),
    ),
    *(lambda day: order(day, "o-1", "placed"), lambda day: order(day, "o-1", "shipped")),
    *(lambda day: case(day, "c-1", "open"), lambda day: case(day, "c-1", "solved")),
    *(lambda day: consent(day, "mail", "granted"), lambda day: consent(day, "mail", "withdrawn")),
    *(lambda day: promise(day, "p-1", "2024-02-01"), lambda day: outcome(day, "p-1", "kept")),
    *(call, mail, lambda day: contact(day, "chat", "outbound")),
    *(lambda day: used(day, "app"), lambda day: signal(day, "delay")),
    *(lambda day: campaign(day, "spring", "sent"), lambda day: campaign(day, "spring", "opened")),
)
"""What may happen, on a day."""

_tenants = count()


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events of one customer, on few days so that times tie, some of which are taken back."""
    events: list[Event] = []
    chosen = draw(st.lists(st.sampled_from(HAPPENINGS), min_size=1, max_size=12))
    for number, happening in enumerate(chosen, 1):
        day = f"2024-01-0{draw(st.integers(1, 3))}"
        events.append(_event(number, happening(day), draw(st.sampled_from(IDENTITIES))))
    for number, event in enumerate(draw(st.lists(st.sampled_from(events), max_size=3)), 50):
        taken = touch("2024-01-04", event_retracted=EventRetracted(event_id=event.event_id))
        events.append(_event(number, taken, *event.identities))
    link = touch(
        "2024-01-01", traits_observed=traits("2024-01-01", {"x": "y"}).event.traits_observed
    )
    return [*events, _event(90, link, *IDENTITIES)]


def _event(number: int, happened: Touch, *identities: Identity) -> Event:
    event = told(happened, *identities)
    event.event_id = str(UUID(int=number))
    return event


@pytest.fixture(scope="module")
async def many_tenants(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Touchline]:
    """Both services with more tenants than the examples below need."""
    nats = await start_nats(tmp_path_factory.mktemp("nats_of_many"))
    names = ",".join(["default", *[f"t{number}" for number in range(2000)]])
    environment = {"TOUCHLINE_TENANTS": names}
    async with touchline_on(await new_stores(servers), nats, environment) as running:
        yield running
    await nats.stop()


async def what_is_read(touchline: Touchline, arrival: Sequence[Sequence[Event]]) -> list[Message]:
    """Records batches as a tenant of their own, and reads the profile and all views."""
    async with touchline.client_of(f"t{next(_tenants)}") as client:
        after = 0
        for batch in arrival:
            verdicts = await client.record(batch)
            assert {one.outcome for one in verdicts} <= {OUTCOME_RECORDED, OUTCOME_DUPLICATE}
            # A batch of duplicates has their first positions.
            after = max(after, *[one.position for one in verdicts])
        profile = await _profile(client, after)
        return [profile, *[view async for view in _views(client, after)]]


async def _profile(client: Client, after: int) -> Profile:
    request = api.GetProfileRequest(profile=of(IDENTITIES[0]), after_position=after)
    profile = (await client.profile.GetProfile(request)).profile
    # Which identity came first, and when what was recorded, is about arrival; who they are is not.
    identities = sorted((one.identity for one in profile.identities), key=lambda one: one.kind)
    profile.ClearField("identities")
    for identity in identities:
        profile.identities.add(identity=identity)
    # So is when the store accepted what was observed.
    for attribute in profile.attributes:
        attribute.ClearField("recorded_at")
    profile.profile_id = ""
    profile.ClearField("alias_profile_ids")
    return profile


async def _views(client: Client, after: int) -> AsyncIterator[Message]:
    for kind in VIEWS:
        request = api.GetViewRequest(profile=of(IDENTITIES[0]), view=kind, after_position=after)
        response = await client.profile.GetView(request)
        response.profile_id = ""
        yield response


def _cut(events: Sequence[Event], random: Random) -> Iterator[Sequence[Event]]:
    start = 0
    while start < len(events):
        size = random.randint(1, len(events))
        yield events[start : start + size]
        start += size


@settings(max_examples=25, deadline=None)
@given(history=histories(), seed=st.integers())
async def test_given_any_arrival_each_event_twice_then_profile_and_views_are_the_same(
    many_tenants: Touchline, history: list[Event], seed: int
) -> None:
    random = Random(seed)
    again = history * 2
    random.shuffle(again)
    in_order = await what_is_read(many_tenants, [history])
    shuffled = await what_is_read(many_tenants, list(_cut(again, random)))
    assert shuffled == in_order
