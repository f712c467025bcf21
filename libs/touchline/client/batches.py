"""How many events one message carries."""

from collections.abc import Iterable, Iterator
from typing import Final

from touchline.events.v1.event_pb2 import Event

MAXIMUM_BATCH_EVENTS: Final = 1000
MAXIMUM_BATCH_BYTES: Final = 3 * 1024 * 1024
"""Well below the 8 MiB a service takes, so that a batch is answered within its deadline."""


def size_of(event: Event) -> int:
    """Return how many bytes an event has.

    Raises:
        ValueError: It has no id.
    """
    if not event.event_id:
        raise ValueError("An event has no event_id; set one, such as touchline.uuid7.uuid7().")
    return event.ByteSize()


def batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Split events, in their order, into batches that one call may carry.

    Raises:
        ValueError: An event has no id.
    """
    batch: list[Event] = []
    size = 0
    for event in events:
        event_bytes = size_of(event)
        full = len(batch) == MAXIMUM_BATCH_EVENTS or size + event_bytes > MAXIMUM_BATCH_BYTES
        if batch and full:
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += event_bytes
    if batch:
        yield batch
