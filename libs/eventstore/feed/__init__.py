"""The feed: the live tail of the line as a JetStream stream, and who keeps it.

`stream` says what it is and follows it, `relay` publishes it under a `lease`, `end` finds where it
ends and whose it is, `verification` holds all of it against the store.
"""

from libs.eventstore.feed.stream import (
    DIGEST,
    DUPLICATE_WINDOW_SECONDS,
    EXPECTED_LAST_MESSAGE_ID,
    EXPECTED_LAST_SEQUENCE,
    KEPT_SECONDS,
    LEADERS,
    MESSAGE_ID,
    STREAM,
    SUBJECT,
    Place,
    batch_in,
    batches_in,
    begin_leading,
    digest_of,
    ensure_stream,
    find_stream,
    follow_feed,
    last_batch,
    leader_epoch,
    message_id,
)

__all__ = [
    "DIGEST",
    "DUPLICATE_WINDOW_SECONDS",
    "EXPECTED_LAST_MESSAGE_ID",
    "EXPECTED_LAST_SEQUENCE",
    "KEPT_SECONDS",
    "LEADERS",
    "MESSAGE_ID",
    "STREAM",
    "SUBJECT",
    "Place",
    "batch_in",
    "batches_in",
    "begin_leading",
    "digest_of",
    "ensure_stream",
    "find_stream",
    "follow_feed",
    "last_batch",
    "leader_epoch",
    "message_id",
]
