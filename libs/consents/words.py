"""What was said of a consent or a preference, once per event."""

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_CONSENT_CHANGED,
    EVENT_TYPE_PREFERENCE_CHANGED,
    Event,
)
from touchline.events.v1.facts_pb2 import (
    CHANNEL_UNSPECIFIED,
    CONSENT_STATUS_WITHDRAWN,
    PREFERENCE_STATUS_AVOIDED,
    Channel,
)


class Topic(Enum):
    """What a word is about. Its value is the strictest status.

    The statuses of a topic are numbered from the mildest to the strictest, so that the greater
    number is the stricter word.
    """

    CONSENT = int(CONSENT_STATUS_WITHDRAWN)
    PREFERENCE = int(PREFERENCE_STATUS_AVOIDED)


CONSENT: Final = Topic.CONSENT
PREFERENCE: Final = Topic.PREFERENCE
TYPES: Final = frozenset({EVENT_TYPE_CONSENT_CHANGED, EVENT_TYPE_PREFERENCE_CHANGED})
"""The types of events that are words."""


@dataclass(frozen=True, slots=True)
class Word:
    """One event that says what a customer allows or likes.

    Attributes:
        topic: What it is about.
        event_id: The event's UUID, 16 bytes.
        identity_keys: Every identity that the event names: it speaks for each of them.
        occurred_at_us: When it was said, in microseconds since 1970.
        recorded_at_us: When it was recorded.
        purpose: What for; of a preference empty for everything.
        channel: On which channel; 0 for every one.
        status: A ConsentStatus or a PreferenceStatus; the greater, the stricter.
        proof: The proof of a consent, or the note of a preference.
        source: The system that reported it; empty when it was erased.
        erased: It can't be read any more. It may have been the strictest word, of any purpose and
            on every channel, so it counts as that.
    """

    topic: Topic
    event_id: bytes
    identity_keys: tuple[bytes, ...]
    occurred_at_us: int
    recorded_at_us: int
    purpose: str
    channel: Channel.ValueType
    status: int
    proof: str = ""
    source: str = ""
    erased: bool = False


class Said(NamedTuple):
    """What was said for a customer.

    Attributes:
        identity_keys: The customer's.
        words: In any order.
        whole: False when so much was said that words are missing: a restriction may be among them.
    """

    identity_keys: tuple[bytes, ...] = ()
    words: tuple[Word, ...] = ()
    whole: bool = True


NOTHING_SAID: Final = Said()


def word_of(
    event: Event,
    event_id: bytes,
    identity_keys: tuple[bytes, ...],
    occurred_at_us: int,
    recorded_at_us: int,
) -> Word | None:
    """Return what an opened event says; None when it says nothing of this.

    Args:
        event: The event.
        event_id: Its UUID, 16 bytes.
        identity_keys: Those of its envelope.
        occurred_at_us: When it happened, in microseconds since 1970.
        recorded_at_us: When the store accepted it.
    """
    match event.WhichOneof("fact"):
        case "consent_changed":
            consent = event.consent_changed
            topic, status, proof = CONSENT, int(consent.status), consent.proof
            purpose, channel = consent.purpose, consent.channel
        case "preference_changed":
            liked = event.preference_changed
            topic, status, proof = PREFERENCE, int(liked.status), liked.note
            purpose, channel = liked.purpose, liked.channel
        case _:
            return None
    return Word(
        *(topic, event_id, identity_keys, occurred_at_us, recorded_at_us),
        *(purpose, channel, status, proof, event.source),
    )


def erased_consent(
    event_id: bytes, identity_keys: tuple[bytes, ...], occurred_at_us: int, recorded_at_us: int
) -> Word:
    """Return the word that a ConsentChanged is once it can't be opened; see `word_of`."""
    return Word(
        *(CONSENT, event_id, identity_keys, occurred_at_us, recorded_at_us),
        *("", CHANNEL_UNSPECIFIED, int(CONSENT_STATUS_WITHDRAWN)),
        erased=True,
    )
