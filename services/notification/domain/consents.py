"""Whether a customer lets a channel be used, by what they said so far."""

from collections.abc import Collection, Iterable
from typing import Final

from libs.consents import CONSENT, PREFERENCE, Word, holds
from touchline.events.v1.decisions_pb2 import (
    NOTIFICATION_CHANNEL_EMAIL,
    NotificationChannel,
)
from touchline.events.v1.facts_pb2 import (
    CHANNEL_EMAIL,
    CHANNEL_UNSPECIFIED,
    CONSENT_STATUS_GRANTED,
    PREFERENCE_STATUS_AVOIDED,
)

_EVERYTHING: Final = ""
# What a channel of ours is to the customer. The others have no name of their own in consents.
_CHANNELS: Final = {NOTIFICATION_CHANNEL_EMAIL: CHANNEL_EMAIL}


def refused(
    words: Collection[Word],
    identity_keys: Collection[bytes],
    purpose: str,
    channel: NotificationChannel.ValueType,
) -> str:
    """Return why a channel may not be used; empty when it may.

    Args:
        words: What was said for the customer's identities, in any order.
        identity_keys: The customer's.
        purpose: The consent that is needed; empty: none is.
        channel: How the customer would be told.
    """
    named = _CHANNELS.get(channel, CHANNEL_UNSPECIFIED)
    if purpose:
        consent = holds(words, identity_keys, CONSENT, purpose, named)
        if consent is None:
            return f"the customer never allowed {purpose}"
        if consent.status != CONSENT_STATUS_GRANTED:
            return f"the customer does not allow {purpose} on this channel"
    for about in _distinct(purpose, _EVERYTHING):
        liked = holds(words, identity_keys, PREFERENCE, about, named) if named else None
        if liked is not None and liked.status == PREFERENCE_STATUS_AVOIDED:
            return f"the customer would rather not get {about or 'anything'} on this channel"
    return ""


def _distinct(*purposes: str) -> Iterable[str]:
    return dict.fromkeys(purposes)
