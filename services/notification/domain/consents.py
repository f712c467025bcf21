"""Whether a customer allows being told something, by what they said so far."""

from collections.abc import Sequence
from typing import Final

from touchline.events.v1.decisions_pb2 import (
    NOTIFICATION_CHANNEL_EMAIL,
    NotificationChannel,
)
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import (
    CHANNEL_EMAIL,
    CHANNEL_UNSPECIFIED,
    CONSENT_STATUS_GRANTED,
    CONSENT_STATUS_UNSPECIFIED,
    CONSENT_STATUS_WITHDRAWN,
    Channel,
    ConsentStatus,
)

# What a channel of ours is to the customer. The others have no name of their own in consents.
_CHANNELS: Final = {NOTIFICATION_CHANNEL_EMAIL: CHANNEL_EMAIL}


def allows(history: Sequence[Event], purpose: str, channel: NotificationChannel.ValueType) -> bool:
    """Return whether a customer's consent lets a channel be used.

    The last word on the channel counts, else the last word on every channel; in doubt the stricter
    one, as in the profile service: of a grant and a withdrawal at the same time the withdrawal, and
    a grant for every channel doesn't undo the withdrawal for one.

    Args:
        history: The customer's ConsentChanged events that count, in any order.
        purpose: The consent that is needed; empty: none is.
        channel: How the customer would be told.
    """
    if not purpose:
        return True
    changes = [event for event in history if event.consent_changed.purpose == purpose]
    named = _CHANNELS.get(channel, CHANNEL_UNSPECIFIED)
    status = _status(changes, named)
    if named and not any(event.consent_changed.channel == named for event in changes):
        status = _status(changes, CHANNEL_UNSPECIFIED)
    return status == CONSENT_STATUS_GRANTED


def _status(changes: Sequence[Event], channel: Channel.ValueType) -> ConsentStatus.ValueType:
    """Return the last word on a channel; withdrawals for every channel are words on each."""
    said = [event for event in changes if _concerns(event, channel)]
    if not said:
        return CONSENT_STATUS_UNSPECIFIED
    return max(said, key=_strictest_last).consent_changed.status


def _concerns(event: Event, channel: Channel.ValueType) -> bool:
    change = event.consent_changed
    everywhere = change.channel == CHANNEL_UNSPECIFIED
    return change.channel == channel or (everywhere and change.status == CONSENT_STATUS_WITHDRAWN)


def _strictest_last(event: Event) -> tuple[int, bool, str]:
    withdrawn = event.consent_changed.status == CONSENT_STATUS_WITHDRAWN
    return event.occurred_at.ToNanoseconds(), withdrawn, event.event_id
