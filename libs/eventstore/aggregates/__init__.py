"""Aggregates of the `eventsourcing` library on the one line of events.

The library's persistence module: `lend` yields the environment that leads an application to the
line of the running service. The library is synchronous, so call applications from a thread
(`asyncio.to_thread`); recorders hand their work to the service's event loop and wait.

    with lend(client, tenant, identity_keys) as environment:
        promises = Promises(env=environment)
        await asyncio.to_thread(promises.give, ...)

Notification ids are positions on the line, so they have gaps where other events lie. What is not
here, and why, says docs/adr/0015-aggregates.md.
"""

from libs.eventstore.aggregates.factory import Factory
from libs.eventstore.aggregates.lending import lend, lend_to_each
from libs.eventstore.aggregates.topics import give_topics
from libs.eventstore.aggregates.tracking import MIGRATIONS, LineTrackingRecorder

__all__ = ["MIGRATIONS", "Factory", "LineTrackingRecorder", "give_topics", "lend", "lend_to_each"]
