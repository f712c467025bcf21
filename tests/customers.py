"""Customers who exist nowhere else, what happens to them, and recording it."""

from __future__ import annotations

from itertools import count

from google.protobuf.message import Message

from services.profile.domain import Touch
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_COOKIE,
    IDENTITY_KIND_DEVICE,
    IDENTITY_KIND_EMAIL,
    IDENTITY_KIND_EXTERNAL_ID,
    IDENTITY_KIND_PHONE,
    Identity,
)
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_DUPLICATE, OUTCOME_RECORDED, Verdict
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.views_pb2 import ViewKind

_numbers = count(1)


def new_email() -> Identity:
    """An email address that no other test of this process has."""
    return email(f"customer-{next(_numbers)}@example.com")


def new_phone() -> Identity:
    """A phone number that no other test of this process has."""
    return Identity(kind=IDENTITY_KIND_PHONE, value=f"+4930{next(_numbers):08}")


def new_device() -> Identity:
    """A device that no other test of this process has."""
    return Identity(kind=IDENTITY_KIND_DEVICE, value=f"device-{next(_numbers)}")


def email(value: str) -> Identity:
    """An email address."""
    return Identity(kind=IDENTITY_KIND_EMAIL, value=value)


def cookie(value: str) -> Identity:
    """A browser's cookie."""
    return Identity(kind=IDENTITY_KIND_COOKIE, value=value)


def number_in(system: str, value: str) -> Identity:
    """A customer's number in a system."""
    return Identity(kind=IDENTITY_KIND_EXTERNAL_ID, namespace=system, value=value)


def told(touch: Touch, *identities: Identity) -> Event:
    """A touch as a caller sends it: the event, and whom it concerns."""
    event = Event()
    event.CopyFrom(touch.event)
    event.identities.extend(identities)
    return event


async def record(client: Client, *events: Event) -> int:
    """Records events, and returns the position of the last.

    On a busy machine an answer may come too late, and the client's next attempt finds its events.
    """
    verdicts = await client.record(events)
    safe = {OUTCOME_RECORDED, OUTCOME_DUPLICATE}
    assert {verdict.outcome for verdict in verdicts} <= safe, _why_not(verdicts)
    return verdicts[-1].position


def of(identity: Identity) -> ProfileReference:
    """The profile of an identity."""
    return ProfileReference(identity=identity)


async def profile_id(client: Client, identity: Identity, after: int = 0) -> str:
    """The id of an identity's profile, once a position is folded."""
    request = api.ResolveProfileRequest(identity=identity, after_position=after)
    return str((await client.profile.ResolveProfile(request)).profile_id)


async def timeline(
    client: Client, identity: Identity, after: int = 0, **filters: object
) -> list[Event]:
    """The newest page of an identity's timeline, once a position is folded."""
    request = api.ListTimelineEventsRequest(
        profile=of(identity),
        after_position=after,
        **filters,  # type: ignore[arg-type]
    )
    return [entry.event for entry in (await client.profile.ListTimelineEvents(request)).entries]


async def view(
    client: Client, identity: Identity, kind: ViewKind.ValueType, after: int = 0
) -> Message:
    """A view of an identity's profile, once a position is folded."""
    request = api.GetViewRequest(profile=of(identity), view=kind, after_position=after)
    response = await client.profile.GetView(request)
    shown: Message = getattr(response, response.WhichOneof("view") or "")
    return shown


def ids(*touches: Touch) -> list[str]:
    """The event ids of touches."""
    return [touch.event.event_id for touch in touches]


def _why_not(verdicts: list[Verdict]) -> list[str]:
    return [f"{one.field} {one.description}" for told in verdicts for one in told.violations]
