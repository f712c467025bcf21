"""What a customer allowed or forbade."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from services.profile.domain.touches import Seen, of_type, timestamp
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.profile.v1 import views_pb2

_EVERY_CHANNEL = facts_pb2.CHANNEL_UNSPECIFIED


def consents(history: Sequence[Seen]) -> list[views_pb2.Consent]:
    """The consents in a history, by purpose and channel.

    The last word counts, and in doubt the stricter one: of a grant and a withdrawal at the same
    time the withdrawal; a withdrawal for every channel holds on each of them, while a grant for
    every channel doesn't undo the withdrawal for one.
    """
    by_purpose: dict[str, list[Seen]] = defaultdict(list)
    for seen in of_type(history, event_pb2.EVENT_TYPE_CONSENT_CHANGED):
        by_purpose[seen.event.consent_changed.purpose].append(seen)
    return [
        _consent(purpose, channel, told)
        for purpose, told in sorted(by_purpose.items())
        for channel in sorted({seen.event.consent_changed.channel for seen in told})
    ]


def _consent(
    purpose: str, channel: facts_pb2.Channel.ValueType, told: Iterable[Seen]
) -> views_pb2.Consent:
    status, since_us, at_us, proof = facts_pb2.CONSENT_STATUS_UNSPECIFIED, 0, 0, ""
    for seen in sorted((one for one in told if _concerns(one, channel)), key=_strictest_first):
        change = seen.event.consent_changed
        same_time = status and seen.at_us == at_us
        if same_time and change.status != status:
            continue
        if change.status != status:
            status, since_us, proof = change.status, seen.at_us, ""
        at_us, proof = seen.at_us, change.proof or proof
    return views_pb2.Consent(
        purpose=purpose, channel=channel, status=status, since=timestamp(since_us), proof=proof
    )


def _concerns(seen: Seen, channel: facts_pb2.Channel.ValueType) -> bool:
    change = seen.event.consent_changed
    everywhere = change.channel == _EVERY_CHANNEL
    return change.channel == channel or (
        everywhere and change.status == facts_pb2.CONSENT_STATUS_WITHDRAWN
    )


def _strictest_first(seen: Seen) -> tuple[int, bool, bytes]:
    granted = seen.event.consent_changed.status != facts_pb2.CONSENT_STATUS_WITHDRAWN
    return seen.at_us, granted, seen.event_id
