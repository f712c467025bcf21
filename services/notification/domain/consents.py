"""Whether a customer lets a channel be used, by what they said so far."""

from datetime import UTC, datetime
from typing import Final

from libs.consents import CONSENT, PREFERENCE, Said, Standing, holds
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
# What a channel of ours is to the customer. The others have no name of their own in consents, and
# nobody can avoid them: an inbox disturbs nobody.
_CHANNELS: Final = {NOTIFICATION_CHANNEL_EMAIL: (CHANNEL_EMAIL, "by email")}


def refused(
    said: Said, identity_key: bytes, purpose: str, channel: NotificationChannel.ValueType
) -> str:
    """Return why a channel may not be used; empty when it may.

    Args:
        said: What was said for the customer.
        identity_key: Under which identity the customer is told something.
        purpose: The consent that is needed; empty: none is.
        channel: How the customer would be told.
    """
    if not said.whole:
        return "the customer said more of consents and preferences than is looked through"
    named, how = _CHANNELS.get(channel, (CHANNEL_UNSPECIFIED, ""))
    if purpose:
        consent = holds(said.words, said.identity_keys, CONSENT, purpose, named)
        if consent is None:
            return f"the customer has never allowed {purpose}"
        if consent.decides.erased:
            return f"what the customer said of {purpose} may have been erased"
        if consent.status != CONSENT_STATUS_GRANTED:
            return f"the customer has not allowed {purpose} {_since(consent, identity_key)}"
    if named == CHANNEL_UNSPECIFIED:
        return ""
    for about in dict.fromkeys((purpose, _EVERYTHING)):
        liked = holds(said.words, said.identity_keys, PREFERENCE, about, named)
        if liked is not None and liked.status == PREFERENCE_STATUS_AVOIDED:
            what = f"to hear of {about}" if about else "to be told anything"
            since = _since(liked, identity_key)
            return f"the customer has preferred not {what} {how} {since}"
    return ""


def _since(standing: Standing, identity_key: bytes) -> str:
    """Return since when it is so, and whether that was said under another identity."""
    at = datetime.fromtimestamp(standing.since_us // 1_000_000, UTC)
    own = identity_key in standing.decides.identity_keys
    return f"since {at:%Y-%m-%d %H:%M} UTC{'' if own else ', under another identity'}"
