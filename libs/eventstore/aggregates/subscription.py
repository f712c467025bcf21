"""Waits for an application's changes as the feed tells them."""

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

import nats.errors
from eventsourcing.persistence import ApplicationRecorder, ListenNotifySubscription

from libs.eventstore import feed
from libs.eventstore.aggregates.lending import Line
from touchline.events.v1.event_pb2 import EVENT_TYPE_AGGREGATE_CHANGED
from touchline.store.v1.store_pb2 import EventBatch

# The feed only wakes. What it did not tell, as while NATS was away, is found by looking.
_LOOK_SECONDS: Final = 2.0


class LineSubscription(ListenNotifySubscription[ApplicationRecorder]):
    """The library's subscription, woken by the feed when an aggregate of anybody changed.

    Args:
        recorder: Selects the notifications.
        line: Whose feed to hear.
        gt: The position after which to start. Default: from the beginning.
        topics: Only these. Default: all.
    """

    def __init__(
        self,
        recorder: ApplicationRecorder,
        line: Line,
        gt: int | None = None,
        topics: Sequence[str] = (),
    ) -> None:
        self._following: Future[None] | None = None
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._following = line.start(self._follow(line))

    def stop(self) -> None:
        """Stop: whoever waits for the next notification gets StopIteration."""
        super().stop()
        if self._following is not None:
            self._following.cancel()

    async def _follow(self, line: Line) -> None:
        subscription = await line.client.connection.subscribe(feed.SUBJECT)
        try:
            while not self._has_been_stopped:
                try:
                    message = await subscription.next_msg(timeout=_LOOK_SECONDS)
                except nats.errors.TimeoutError:
                    self._has_been_notified.set()
                    continue
                events = EventBatch.FromString(message.data).events
                if any(event.type == EVENT_TYPE_AGGREGATE_CHANGED for event in events):
                    self._has_been_notified.set()
        finally:
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()
