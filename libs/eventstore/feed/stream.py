"""The live tail of the line: a JetStream stream of packed batches."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final
from uuid import uuid4

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client as NatsClient
from nats.js import JetStreamContext
from nats.js.api import (
    ConsumerConfig,
    DeliverPolicy,
    RetentionPolicy,
    StorageType,
    StoreCompression,
    StreamConfig,
    StreamInfo,
)

from libs.eventstore.errors import DamagedBatch
from touchline.store.v1.store_pb2 import EventBatch

STREAM: Final = "touchline-feed"
SUBJECT: Final = "touchline.feed.batches"
LEADERS: Final = "touchline.feed.leaders"
_SUBJECTS: Final = [SUBJECT, LEADERS]
KEPT_SECONDS: Final = 7 * 24 * 3600
DUPLICATE_WINDOW_SECONDS: Final = 120

# A server can't always make a stream while it clears a removed one away; it takes milliseconds.
_CLEARING_SECONDS: Final = (0.01, 0.05, 0.25)

# Headers of JetStream: names a message, and refuses it unless it follows the one it should.
MESSAGE_ID: Final = "Nats-Msg-Id"
EXPECTED_LAST_MESSAGE_ID: Final = "Nats-Expected-Last-Msg-Id"
EXPECTED_LAST_SEQUENCE: Final = "Nats-Expected-Last-Sequence"
# Of ours: the SHA-256 of a batch's bytes. The chain covers what callers sent, not each byte of how
# it is kept.
DIGEST: Final = "Touchline-Digest"


@dataclass(frozen=True, slots=True)
class Place:
    """The last message of the stream, as the next publish expects it: number and name."""

    sequence: int
    message_id: str

    def expected(self) -> dict[str, str]:
        """Return the headers by which the server refuses what does not come right after it."""
        return {
            EXPECTED_LAST_SEQUENCE: str(self.sequence),
            EXPECTED_LAST_MESSAGE_ID: self.message_id,
        }


def message_id(batch: EventBatch) -> str:
    """Return a batch's name on the feed: where it ends, and the chain there."""
    return f"{batch.last}:{batch.chain.hex()}"


def digest_of(data: bytes) -> str:
    """Return what goes with a batch's bytes as DIGEST, so that a change of any of them shows."""
    return sha256(data).hexdigest()


def batch_in(data: bytes, headers: Mapping[str, str] | None) -> EventBatch:
    """Return the batch of a message; one without a digest was sent by a former release.

    Raises:
        DamagedBatch: bytes are missing or were changed.
    """
    digest = (headers or {}).get(DIGEST)
    if digest is not None and digest != digest_of(data):
        raise DamagedBatch(f"a message of {len(data)} bytes is not the one that was sent")
    try:
        return EventBatch.FromString(data)
    except DecodeError as error:
        raise DamagedBatch(f"a message of {len(data)} bytes is no batch of events") from error


async def find_stream(jetstream: JetStreamContext) -> StreamInfo | None:
    """Return the feed's stream, or None when there is none."""
    try:
        return await jetstream.stream_info(STREAM, subjects_filter=SUBJECT)
    except nats.js.errors.NotFoundError:
        return None


def batches_in(stream: StreamInfo) -> int:
    """Return how many batches a stream that `find_stream` found holds, beside other messages."""
    return (stream.state.subjects or {}).get(SUBJECT, 0)


async def ensure_stream(jetstream: JetStreamContext, replicas: int = 1) -> StreamInfo:
    """Make the feed's stream unless it exists, and keep it on so many servers."""
    found = await find_stream(jetstream)
    if found is None:
        return await _made(jetstream, replicas)
    if (found.config.num_replicas, found.config.subjects) != (replicas, _SUBJECTS):
        changed = replace(found.config, num_replicas=replicas, subjects=_SUBJECTS)
        return await jetstream.update_stream(changed)
    return found


async def _made(jetstream: JetStreamContext, replicas: int) -> StreamInfo:
    for pause in _CLEARING_SECONDS:
        with suppress(nats.js.errors.ServerError):
            return await jetstream.add_stream(_new_stream(replicas))
        await asyncio.sleep(pause)
    return await jetstream.add_stream(_new_stream(replicas))


def _new_stream(replicas: int) -> StreamConfig:
    return StreamConfig(
        name=STREAM,
        subjects=_SUBJECTS,
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        compression=StoreCompression.S2,
        max_age=KEPT_SECONDS,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        num_replicas=replicas,
        allow_direct=True,
        # No two streams made one after the other share a sequence, so that what a frozen leader
        # was about to publish on the one is refused by the other.
        first_seq=time.time_ns() // 1000,
    )


async def begin_leading(jetstream: JetStreamContext, epoch: int, after: int) -> Place:
    """Tell the stream who leads from now on, and return the place of that message.

    It moves the stream's last sequence, so nothing that an earlier leader still has in its hands
    can follow. Consumers of batches never see it: it has a subject of its own.

    Args:
        jetstream: Where.
        epoch: Counts the leaders.
        after: The sequence that must be the stream's last.

    Raises:
        nats.js.errors.BadRequestError: something else was published since.
    """
    name = f"leader:{epoch}:{uuid4().hex}"
    headers = {MESSAGE_ID: name, EXPECTED_LAST_SEQUENCE: str(after)}
    told = json.dumps({"epoch": epoch}).encode()
    acknowledged = await jetstream.publish(LEADERS, told, headers=headers, stream=STREAM)
    return Place(acknowledged.seq, name)


async def leader_epoch(jetstream: JetStreamContext) -> int:
    """Return the epoch of the leader that last began to publish, or 0."""
    try:
        message = await jetstream.get_last_msg(STREAM, LEADERS)
        return int(json.loads(message.data or b"")["epoch"])
    except (nats.js.errors.NotFoundError, ValueError, TypeError, KeyError):
        return 0


async def last_batch(jetstream: JetStreamContext) -> EventBatch | None:
    """Return the feed's last batch; None when it has none.

    Raises:
        DecodeError: the last message is no batch.
    """
    try:
        message = await jetstream.get_last_msg(STREAM, SUBJECT)
    except nats.js.errors.NotFoundError:
        return None
    return EventBatch.FromString(message.data or b"")


@asynccontextmanager
async def follow_feed(
    connection: NatsClient,
) -> AsyncIterator[JetStreamContext.PushSubscription]:
    """Follow the feed from now on, in order; the subscription ends with the block.

    JetStream's ordered consumer starts itself again after a gap or a lost server. What it may still
    miss shows in the chain, and is read from history.
    """
    jetstream = connection.jetstream()
    subscription: Any = await jetstream.subscribe(
        SUBJECT,
        stream=STREAM,
        ordered_consumer=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.NEW),
        pending_bytes_limit=64 * 1024 * 1024,
    )
    try:
        yield subscription
    finally:
        if not connection.is_closed:
            # The server forgets an ordered consumer by itself.
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()
