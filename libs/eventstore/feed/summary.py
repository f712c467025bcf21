"""What is on the feed, as far as it can be told without reading it."""

from dataclasses import dataclass
from datetime import datetime

import nats.js.errors
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext

from libs.eventstore import feed
from touchline.store.v1.store_pb2 import EventBatch


@dataclass(frozen=True, slots=True)
class FeedSummary:
    """A feed from outside.

    Attributes:
        batches: How many messages of events it holds.
        size: How many bytes all of it takes.
        first: The position of its first event; 0 when it has none, or its message is no batch.
        last: Likewise, of its last event.
        epoch: That of the relay that last began to publish; it counts the leaders.
        servers: On how many servers of NATS it is kept.
        made_at: When the stream was made.
    """

    batches: int
    size: int
    first: int
    last: int
    epoch: int
    servers: int
    made_at: datetime | None


async def summary(jetstream: JetStreamContext) -> FeedSummary | None:
    """Return what is on the feed; None when there is no stream.

    Raises:
        nats.errors.Error, TimeoutError: NATS does not answer.
    """
    stream = await feed.find_stream(jetstream)
    if stream is None:
        return None
    first = await _first_batch(jetstream, stream.state.first_seq)
    try:
        last = await feed.last_batch(jetstream)
    except DecodeError:
        last = None
    return FeedSummary(
        batches=feed.batches_in(stream),
        size=stream.state.bytes,
        first=first.first if first else 0,
        last=last.last if last else 0,
        epoch=await feed.leader_epoch(jetstream),
        servers=stream.config.num_replicas or 1,
        made_at=stream.created,
    )


async def _first_batch(jetstream: JetStreamContext, sequence: int) -> EventBatch | None:
    try:
        message = await jetstream.get_msg(
            feed.STREAM, max(sequence, 1), subject=feed.SUBJECT, next=True
        )
        return EventBatch.FromString(message.data or b"")
    except (nats.js.errors.NotFoundError, DecodeError):
        return None
