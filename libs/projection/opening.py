"""Opens sealed events for those that fold or decide by what is in them."""

from collections import defaultdict
from collections.abc import Sequence

import structlog

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import SealBroken
from libs.eventstore.records import Keys, event_id_text, open_event
from libs.projection.projection import Recorded
from touchline.events.v1.event_pb2 import Event
from touchline.store.v1.store_pb2 import RecordedEvent

_log = structlog.get_logger("projection")


async def open_events(
    store: StoreClient, events: Sequence[Recorded], *, identities: bool = True
) -> list[Event | None]:
    """Return events as they were sent, in their order; see `open_records`.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    records = [event.record for event in events]
    return await open_records(store, records, identities=identities)


async def open_records(
    store: StoreClient, records: Sequence[RecordedEvent], *, identities: bool = True
) -> list[Event | None]:
    """Return events as they were sent, with canonical identity values, the owner first.

    Their tenant is not in them. None stands for an event that was erased, and for one that was
    changed in the store, which is logged and which `touchline verify` finds.

    Args:
        store: Gives the data keys.
        records: The events, of any tenants.
        identities: Whether to open them too. Who only looks at what was said leaves them sealed:
            nobody's name is in memory then, and fewer keys are asked for.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    asked: defaultdict[int, list[RecordedEvent]] = defaultdict(list)
    for record in records:
        asked[record.tenant].append(record)
    keys = {
        tenant: await store.keys_of(tenant, theirs, identities=identities)
        for tenant, theirs in asked.items()
    }
    return [_opened(record, keys[record.tenant], identities=identities) for record in records]


def _opened(record: RecordedEvent, keys: Keys, *, identities: bool) -> Event | None:
    try:
        return open_event(record, keys, identities=identities)
    except SealBroken:
        _log.error("event does not open", event_id=event_id_text(record.event_id))
        return None
