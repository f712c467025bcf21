"""Looks for what is left of an erased customer in the store and in this process' memory."""

from pathlib import Path
from typing import Final

from libs.eventstore.keyring import Keyring
from libs.eventstore.records import SealedTenant
from libs.eventstore.sealing import DataKey
from libs.eventstore.store import EventStore, database_errors
from libs.postgres.queries import load_queries
from services.ingestion.quarantine import Quarantine
from services.ingestion.surviving import Survivors, is_whole
from touchline.events.v1.decisions_pb2 import Erasure
from touchline.projection.v1.projection_service_pb2 import ErasureCheck

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


async def left_of(
    store: EventStore,
    keyring: Keyring,
    quarantine: Quarantine,
    tenant: SealedTenant,
    position: int,
) -> list[ErasureCheck] | None:
    """Return what there is of whom an erasure concerned, from before it.

    Who came back has a newer key, which counts as shut: it opens nothing of before.

    Args:
        store: The line.
        keyring: Knows the keys; what it remembers is looked at as it is.
        quarantine: Has the rejected events.
        tenant: Whose erasure it was.
        position: The erasure's. None is returned when there was none.

    Raises:
        StoreFull, StoreUnavailable: the database can't be reached.
    """
    async with database_errors():
        done = await store.pool.fetchrow(_SQL["erasure_at"], tenant.number, position)
        if done is None:
            return None
        rows = await store.pool.fetch(_SQL["erased_keys"], tenant.number, position)
    deleted = {row["identity_key"]: row["key_id"] for row in rows}
    erasure = (await store.records_at([position]))[position].erasure
    in_memory = keyring.remembered(tenant.number, deleted)
    now = await keyring.fetch(tenant.number, deleted)
    old_keys, new_keys = _tell_apart(now, deleted, erasure)
    found = await Survivors(store, keyring).opening_before(tenant.number, erasure, now, position)
    async with database_errors():
        event_keys = await store.pool.fetchval(
            _SQL["count_event_keys_of"],
            *(tenant.number, list(deleted), position),
            *(erasure.occurred_from_us, erasure.occurred_before_us),
        )
    rejected = await quarantine.count_of(tenant, erasure, done["recorded_at_us"])
    remembered = [_tell_apart(one, deleted, erasure) for one in in_memory]
    return [
        ErasureCheck(what="data keys", left=old_keys, shut=new_keys),
        ErasureCheck(what="kept event keys", left=event_keys),
        ErasureCheck(what="events", left=found, shut=done["erased_events"]),
        ErasureCheck(what="rejected events", left=rejected),
        ErasureCheck(what="data keys in memory", left=remembered[0][0], shut=remembered[0][1]),
        ErasureCheck(what="seals in memory", left=remembered[1][0], shut=remembered[1][1]),
    ]


def _tell_apart(
    keys: dict[bytes, DataKey], deleted: dict[bytes, bytes | None], erasure: Erasure
) -> tuple[int, int]:
    """Return how many keys are those that were deleted, and how many are newer ones."""
    whole = is_whole(erasure)
    old = sum(
        (key.key_id if whole else key.event_secret_id) == deleted[name]
        for name, key in keys.items()
    )
    return old, len(keys) - old
