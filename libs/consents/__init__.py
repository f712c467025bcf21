"""What a customer allows and likes: one fold for every service that asks.

words = [word_of(event, event_id, identity_keys, occurred_at_us, recorded_at_us) for event in …]
standing(words, keys, CONSENT)  ->  by purpose and channel: what holds, what decides, what was said
"""

from libs.consents.standing import Standing, holds, standing
from libs.consents.words import (
    CONSENT,
    NOTHING_SAID,
    PREFERENCE,
    TYPES,
    Said,
    Topic,
    Word,
    erased_consent,
    word_of,
)

__all__ = [
    "CONSENT",
    "NOTHING_SAID",
    "PREFERENCE",
    "TYPES",
    "Said",
    "Standing",
    "Topic",
    "Word",
    "erased_consent",
    "holds",
    "standing",
    "word_of",
]
