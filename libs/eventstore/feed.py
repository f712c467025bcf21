"""The live tail of the line: a JetStream stream of packed batches."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final

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
)

from libs.eventstore.errors import FeedForked
from touchline.store.v1.store_pb2 import EventBatch

STREAM: Final = "touchline-feed"
SUBJECT: Final = "touchline.feed.batches"
KEPT_SECONDS: Final = 7 * 24 * 3600
DUPLICATE_WINDOW_SECONDS: Final = 120

# Headers of JetStream: names a message, and refuses it unless it follows the one it should.
MESSAGE_ID: Final = "Nats-Msg-Id"
EXPECTED_LAST_MESSAGE_ID: Final = "Nats-Expected-Last-Msg-Id"
EXPECTED_LAST_SEQUENCE: Final = "Nats-Expected-Last-Sequence"


def message_id(batch: EventBatch) -> str:
    """Return a batch's name on the feed: where it ends, and the chain there."""
    return f"{batch.last}:{batch.chain.hex()}"


async def ensure_stream(jetstream: JetStreamContext, replicas: int = 1) -> None:
    """Make the feed's stream unless it exists, and keep it on so many servers."""
    config = StreamConfig(
        name=STREAM,
        subjects=[SUBJECT],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        compression=StoreCompression.S2,
        max_age=KEPT_SECONDS,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        num_replicas=replicas,
        allow_direct=True,
    )
    try:
        found = await jetstream.stream_info(STREAM)
    except nats.js.errors.NotFoundError:
        await jetstream.add_stream(config)
    else:
        if found.config.num_replicas != replicas:
            await jetstream.update_stream(replace(found.config, num_replicas=replicas))


async def last_batch(jetstream: JetStreamContext) -> EventBatch | None:
    """Return the feed's last batch; None when it has none.

    Raises:
        FeedForked: the last message is no batch.
    """
    try:
        message = await jetstream.get_last_msg(STREAM, SUBJECT)
    except nats.js.errors.NotFoundError:
        return None
    try:
        return EventBatch.FromString(message.data or b"")
    except DecodeError as error:
        raise FeedForked(
            f"the last message of the stream {STREAM} is no batch of events. Delete the stream: "
            "the feed then starts at the store's head."
        ) from error


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
