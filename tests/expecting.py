"""What customers are promised and await, on a running notification service, in few words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.customers import of, record
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import (
    CHANNEL_SOCIAL,
    DIRECTION_INBOUND,
    DIRECTION_OUTBOUND,
    VISIBILITY_PUBLIC,
    EventRetracted,
    ExpectationOutcome,
    ExpectationResolved,
    ExpectationSet,
    Interaction,
)
from touchline.events.v1.identity_pb2 import Identity
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import Expectation, ExpectationState
from touchline.profile.v1 import profile_service_pb2
from touchline.times import timestamp_of

HOUR = 3_600_000_000
SECOND = 1_000_000
EVERY_STATE = [ExpectationState.EXPECTATION_STATE_UNSPECIFIED]


def now_us() -> int:
    """The time in microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class Awaiting:
    """A customer, and what we know of what they await.

    Attributes:
        client: Calls both services.
        identity: The customer.
        position: The last that was recorded here.
    """

    client: Client
    identity: Identity
    position: int = field(init=False, default=0)

    def event(self, at_us: int, *others: Identity, **fact: Any) -> Event:
        """An event of the customer that happened at a time."""
        return Event(
            event_id=str(uuid4()),
            identities=[self.identity, *others],
            occurred_at=timestamp_of(at_us),
            source="test",
            **fact,
        )

    def complaint(self, at_us: int, **said: Any) -> Event:
        """A public complaint."""
        contact = Interaction(
            channel=CHANNEL_SOCIAL,
            network="w",
            direction=DIRECTION_INBOUND,
            visibility=VISIBILITY_PUBLIC,
            intent="complaint",
            text="It broke again.",
        )
        return self.event(at_us, interaction=contact, **said)

    def answer(self, at_us: int, in_reply_to: str = "", **said: Any) -> Event:
        """A contact from the company."""
        contact = Interaction(
            channel=CHANNEL_SOCIAL,
            network="w",
            direction=DIRECTION_OUTBOUND,
            visibility=VISIBILITY_PUBLIC,
            in_reply_to=in_reply_to,
            text="We are sorry.",
        )
        return self.event(at_us, interaction=contact, **said)

    def expected(
        self, at_us: int, name: str, due_us: int, *, answers: str = "", **said: Any
    ) -> Event:
        """An expectation that another system set."""
        awaited = ExpectationSet(
            expectation_id=name,
            promise="An answer",
            due_at=timestamp_of(due_us),
            team="team:care",
            rules=["by-hand"],
            answers=answers,
        )
        return self.event(at_us, expectation_set=awaited, **said)

    def ended(
        self, at_us: int, name: str, outcome: str, due_us: int = 0, reason: str = ""
    ) -> Event:
        """How an expectation ended or changed."""
        told = ExpectationResolved(
            expectation_id=name,
            outcome=ExpectationOutcome.Value(f"EXPECTATION_OUTCOME_{outcome.upper()}"),
            due_at=timestamp_of(due_us) if due_us else None,
            reason=reason,
        )
        return self.event(at_us, expectation_resolved=told)

    def retraction(self, event: Event) -> Event:
        """That an event no longer counts."""
        return self.event(now_us(), event_retracted=EventRetracted(event_id=event.event_id))

    async def record(self, *events: Event) -> None:
        """Records events, one after the other."""
        self.position = await record(self.client, *events)

    async def all(self, *states: ExpectationState.ValueType) -> list[Expectation]:
        """What the customer awaits, in every state or in some."""
        answer = await self.client.notification.ListExpectations(
            api.ListExpectationsRequest(
                profile=of(self.identity),
                states=states or EVERY_STATE,
                after_position=self.position,
            )
        )
        return list(answer.expectations)

    async def one(self) -> Expectation:
        """The only thing that the customer awaits."""
        (expectation,) = await self.all()
        return expectation

    async def until(self, state: ExpectationState.ValueType, within: float = 30.0) -> Expectation:
        """The only thing that the customer awaits and that stands so, once there is one."""
        async with asyncio.timeout(within):
            while len(found := await self.all(state)) != 1:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        return found[0]

    async def resolutions(self) -> list[Event]:
        """The resolutions on the customer's timeline, the oldest first."""
        answer = await self.client.profile.ListTimelineEvents(
            profile_service_pb2.ListTimelineEventsRequest(
                profile=of(self.identity), after_position=await self._head()
            )
        )
        return [
            entry.event
            for entry in reversed(answer.entries)
            if entry.event.HasField("expectation_resolved")
        ]

    async def _head(self) -> int:
        """Positions that are reached only once what was decided is on the timeline."""
        mark = self.event(now_us(), note_added={"text": "mark"})
        return await record(self.client, mark)


def outcomes(events: Sequence[Event]) -> list[str]:
    """How resolutions say that something ended."""
    return [
        ExpectationOutcome.Name(event.expectation_resolved.outcome)
        .removeprefix("EXPECTATION_OUTCOME_")
        .lower()
        for event in events
    ]
