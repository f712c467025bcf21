"""The events of the load: each unique, all of them made from the seed."""

import random
from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from google.protobuf import text_format

from tests.faults.history import Sent, content_of
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_DEVICE,
    IDENTITY_KIND_EMAIL,
    IDENTITY_KIND_EXTERNAL_ID,
    IDENTITY_KIND_SOCIAL_HANDLE,
    Identity,
)
from touchline.ids import uuid8

CUSTOMERS: Final = 300
_SHARED_DEVICES: Final = 40
_REMEMBERED: Final = 200
_FACTS: Final = (
    "note_added { text: 'No. %d.' }",
    "interaction { channel: CHANNEL_EMAIL direction: DIRECTION_INBOUND title: 'Where?' "
    "text: 'Mail %d.' }",
    "interaction { channel: CHANNEL_CHAT direction: DIRECTION_OUTBOUND text: 'Answer %d.' }",
    "order_changed { order_id: '%d' status: ORDER_STATUS_PLACED }",
    "product_used { product: 'app' feature: 'map' duration_seconds: %d }",
    "case_changed { case_id: 'c-%d' status: CASE_STATUS_OPEN subject: 'Late' }",
    "campaign_touched { campaign: 'c-%d' action: CAMPAIGN_ACTION_CLICKED channel: CHANNEL_EMAIL }",
    "traits_observed { traits { key: 'city' value: 'No. %d' } }",
    "expectation_set { expectation_id: 'e-%d' promise: 'Call back' due_at { seconds: 1 } }",
    "payment_attempted { payment_id: 'p-%d' status: PAYMENT_STATUS_DECLINED method: 'card' }",
)


@dataclass(slots=True)
class Maker:
    """Makes one client's events; the same seed and name make the same ones.

    Attributes:
        seed: Of the whole run.
        client: Whose events.
        started_at: When the run began, in seconds since 1970: events occur around then.
    """

    seed: int
    client: str
    started_at: int
    chance: random.Random = field(init=False)
    _number: int = 0
    _before: deque[Event] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{self.seed}/{self.client}")

    def batch(self, size: int) -> list[Event]:
        """Return so many events: most of them new, some sent before, some in conflict, some wrong.

        Never two of one id: which of them a batch records first is the store's own tests' matter.
        """
        made: dict[str, Event] = {}
        while len(made) < size:
            event = self._one()
            made.setdefault(event.event_id, event)
        return list(made.values())

    def fact(self) -> Event:
        """Return a new event."""
        self._number += 1
        number = self._number
        digest = blake2b(f"{self.seed}/{self.client}/{number}".encode(), digest_size=16).digest()
        occurred = self.started_at + self.chance.randrange(-3600, 60)
        fact = self.chance.choice(_FACTS) % (number % 1_000_000 + 1)
        event = text_format.Parse(f"source: 'faults' {fact}", Event())
        event.event_id = uuid8(occurred * 1000, digest)
        event.occurred_at.seconds = occurred
        event.historical = self.chance.random() < 0.3
        event.identities.extend(self._identities())
        event.correlation_id = self.client
        if event.HasField("expectation_set"):  # it breaks during the run, unless that is short
            event.expectation_set.expectation_id += f"-{self.client}"
            event.expectation_set.due_at.seconds = self.started_at + self.chance.randrange(60)
        return event

    def _one(self) -> Event:
        chance = self.chance.random()
        if self._before and chance < 0.04:
            return self._again()
        if self._before and chance < 0.06:
            conflicting = self._again()
            conflicting.source = f"faults-{self.chance.randrange(3)}"
            return conflicting
        event = self.fact()
        if chance > 0.98:
            return self._wrong(event)
        if self._before and chance > 0.95:
            retracted = self._again()
            event.ClearField("identities")
            event.identities.extend(retracted.identities)
            event.event_retracted.event_id = retracted.event_id
            return event
        self._before.append(event)
        return event

    def _again(self) -> Event:
        return Event.FromString(self.chance.choice(self._before).SerializeToString())

    def _wrong(self, event: Event) -> Event:
        match self.chance.randrange(3):
            case 0:
                event.source = ""
            case 1:
                event.identities[0].kind = IDENTITY_KIND_EMAIL
                event.identities[0].value = "nobody at nowhere"
            case _:
                event.ClearField("occurred_at")
        return event

    def _identities(self) -> list[Identity]:
        customer = self.chance.randrange(CUSTOMERS)
        own = [
            Identity(kind=IDENTITY_KIND_EMAIL, value=f"customer-{customer}@example.com"),
            Identity(kind=IDENTITY_KIND_EXTERNAL_ID, namespace="crm", value=f"c-{customer}"),
            Identity(
                kind=IDENTITY_KIND_SOCIAL_HANDLE, namespace="mastodon", value=f"user{customer}"
            ),
            # A household's: two customers each.
            Identity(kind=IDENTITY_KIND_DEVICE, value=f"device-{customer % _SHARED_DEVICES}"),
        ]
        weights = (1, 1, 1, 2, 2, 3)
        return self.chance.sample(own, self.chance.choice(weights))


def sent(event: Event, stream: str = "", version: int = 0) -> Sent:
    """Return what the history keeps of an event."""
    return Sent(event.event_id, content_of(event), stream, version)
