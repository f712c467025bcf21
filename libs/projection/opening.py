"""Opens sealed events for those that fold or decide by what is in them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import SealBroken
from libs.eventstore.records import event_id_text, identity_keys, open_event
from libs.eventstore.sealing import DataKey
from libs.projection.projection import Recorded
from touchline.events.v1.event_pb2 import Event
from touchline.store.v1.store_pb2 import RecordedEvent

_log = structlog.get_logger("projection")


async def open_events(store: StoreClient, events: Sequence[Recorded]) -> list[Event | None]:
    """Return events as they were sent, in their order; see `open_records`.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    return await open_records(store, [event.record for event in events])


async def open_records(store: StoreClient, records: Sequence[RecordedEvent]) -> list[Event | None]:
    """Return events as they were sent, with canonical identity values, the owner first.

    Their tenant is not in them. None stands for an event whose owner was erased, and for one that
    was changed in the store, which is logged and which `touchline verify` finds.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    asked: defaultdict[int, set[bytes]] = defaultdict(set)
    for record in records:
        asked[record.tenant].update(identity_keys(record))
    data_keys = {tenant: await store.data_keys(tenant, keys) for tenant, keys in asked.items()}
    return [_opened(record, data_keys[record.tenant]) for record in records]


def _opened(record: RecordedEvent, data_keys: Mapping[bytes, DataKey]) -> Event | None:
    try:
        return open_event(record, data_keys)
    except SealBroken:
        _log.error("event does not open", event_id=event_id_text(record.event_id))
        return None
