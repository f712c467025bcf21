"""Erases customers: deletes the keys of what is theirs, and records on the line that it did."""

import asyncio
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from libs.eventstore import api
from libs.eventstore.errors import NothingToErase, StoreUnavailable
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import Row, event_id_bytes, seal_event, seal_identity
from libs.eventstore.store import EventStore, database_errors
from libs.identity.keys import KEY_BYTES
from libs.identity.streams import stream_identity
from libs.postgres.queries import load_queries
from services.ingestion.quarantine import Quarantine
from services.ingestion.recording import TenantSecrets
from services.ingestion.surviving import Reading, Survivors, is_whole
from touchline.events.v1.decisions_pb2 import Erasure, ProfileErased
from touchline.events.v1.event_pb2 import ACTOR_KIND_EMPLOYEE, Actor, Event
from touchline.ids import DIGEST_BYTES, uuid8
from touchline.store.v1.store_pb2 import EraseRequest, EraseResponse
from touchline.times import timestamp_of

NAMESPACE: Final = "erasures"
"""Of the streams that own ProfileErased: they name an erasure, and no customer."""

_SOURCE: Final = "touchline"
_REASON_CHARACTERS: Final = 256
_REQUESTED_BY_CHARACTERS: Final = 128
# Each time something came in between; what was read is not read again if it was an event.
_ATTEMPTS: Final = 50
# What the function erase_identities answers; after the others the loop looks again.
_ERASED: Final = 1
_OTHERS_ERASED: Final = 3
_NO_KEYS: Final = 5
_ID_TAKEN: Final = 6

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Erasing:
    """Erases identities, whole or what happened to them in a time.

    Args:
        store: The line.
        keyring: Knows the keys.
        quarantine: Has rejected events that may name who is erased.
    """

    def __init__(self, store: EventStore, keyring: Keyring, quarantine: Quarantine) -> None:
        self._store = store
        self._pool = store.pool
        self._keyring = keyring
        self._quarantine = quarantine
        self._survivors = Survivors(store, keyring)
        # Another erasure makes this one read anew.
        self._one_at_a_time = asyncio.Lock()
        self.done = asyncio.Event()
        """Set after each erasure, for `sweeping`."""

    async def erase(
        self, secrets: TenantSecrets, request: EraseRequest, traceparent: str
    ) -> EraseResponse:
        """Delete the keys and append ProfileErased, in one transaction, and say what was done.

        Asked again with the same erasure_id it answers as the first time, also when the customer
        has other identities besides by now; those were not erased. Every event of the identities is
        read before, in pages. For a time range the keys of those that stay open are kept then;
        should it break off there, nothing has changed, since they derived before.

        Raises:
            ValueError: the request makes no sense, or its erasure_id is another erasure's.
            NothingToErase: none of the identities has a data key.
            ErasureRefused: events in the time range can't be singled out.
            StoreFull, StoreUnavailable: whether it was done is not known; ask again.
        """
        erasure_id = _checked(request)
        async with self._one_at_a_time:
            await self._quarantine.read_unread(secrets.sealed, secrets.identity_keys)
            return await self._erase(secrets, erasure_id, request, traceparent)

    async def _erase(
        self, secrets: TenantSecrets, erasure_id: bytes, request: EraseRequest, traceparent: str
    ) -> EraseResponse:
        tenant, erasure = secrets.sealed.number, request.erasure
        keeps = not is_whole(erasure)
        reading: Reading | None = None
        for _ in range(_ATTEMPTS):
            if answer := await self._answer(tenant, erasure_id, request):
                return answer
            reading = reading or await self._survivors.begin(tenant, erasure)
            reading = await self._survivors.read_on(tenant, erasure, reading, keeps=keeps)
            if reading is None:
                continue
            outcome = await self._commit(secrets, erasure_id, request, reading, traceparent)
            if outcome == _NO_KEYS:
                raise NothingToErase(
                    "none of the identities has a data key: nobody is to be erased"
                )
            if outcome == _ID_TAKEN:
                raise ValueError("an event has the id that is this erasure_id's; choose another")
            if outcome == _OTHERS_ERASED:
                reading = None
            elif outcome == _ERASED:
                self.done.set()
        raise StoreUnavailable("their events kept coming; ask again with the same erasure_id")

    async def _answer(
        self, tenant: int, erasure_id: bytes, request: EraseRequest
    ) -> EraseResponse | None:
        """Return what was answered to an erasure; None when it was not done yet."""
        async with database_errors():
            row = await self._pool.fetchrow(_SQL["erasure"], tenant, UUID(bytes=erasure_id))
        if row is None:
            return None
        record = (await self._store.records_at([row["position"]]))[row["position"]]
        if not _is_retry(request.erasure, record.erasure):
            raise ValueError("the erasure_id is that of another erasure; choose another")
        return EraseResponse(**row)

    async def _commit(
        self,
        secrets: TenantSecrets,
        erasure_id: bytes,
        request: EraseRequest,
        reading: Reading,
        traceparent: str,
    ) -> int:
        """Delete keys and append, in one call; see erase_identities."""
        tenant, erasure = secrets.sealed.number, request.erasure
        row = await self._sealed(secrets, erasure_id, request, traceparent)
        known = [(name, reading.data_keys.get(name)) for name in erasure.identity_keys]
        if is_whole(erasure):
            wrapped = None
            key_ids = [key and key.key_id for _, key in known]
        else:
            anew = self._keyring.with_new_event_secret
            wrapped = [key and anew(tenant, name, key) for name, key in known]
            key_ids = [key and key.event_secret_id for _, key in known]
        async with database_errors():
            done: Any = await self._pool.fetchrow(
                _SQL["erase"],
                *(tenant, UUID(bytes=erasure_id), list(erasure.identity_keys)),
                *(erasure.occurred_from_us, erasure.occurred_before_us, wrapped, key_ids),
                *(reading.era.erasures, reading.up_to),
                *(reading.erased_events, reading.kept_events),
                *(UUID(bytes=row.event_id), row.owner_key, row.partition, row.type),
                *(row.content_hash, row.record),
            )
        await self._keyring.renewed()
        outcome: int = done["outcome"]
        return outcome

    async def _sealed(
        self,
        secrets: TenantSecrets,
        erasure_id: bytes,
        request: EraseRequest,
        traceparent: str,
    ) -> Row:
        """Return ProfileErased as a row, owned by the erasure's own stream."""
        tenant = secrets.sealed
        event = Event(
            event_id=_event_id(tenant.secret, erasure_id),
            occurred_at=timestamp_of(time.time_ns() // 1000),
            source=_SOURCE,
            actor=Actor(kind=ACTOR_KIND_EMPLOYEE, reference=request.requested_by),
            profile_erased=ProfileErased(erasure=request.erasure, reason=request.reason),
        )
        name = str(UUID(bytes=erasure_id))
        owner = secrets.identity_keys.identify(stream_identity(NAMESPACE, name))
        keys = await self._keyring.ensure(tenant.number, [owner.key])
        return seal_event(tenant, event, [seal_identity(owner, keys[owner.key])], traceparent)


def _checked(request: EraseRequest) -> bytes:
    """Return the erasure's id of a request that makes sense.

    Raises:
        ValueError: it makes none; says why.
    """
    erasure, keys = request.erasure, request.erasure.identity_keys
    if not 1 <= len(keys) <= api.MAX_ERASED_KEYS:
        raise ValueError(f"erase 1 to {api.MAX_ERASED_KEYS:,} identities, not {len(keys):,}")
    if any(len(key) != KEY_BYTES for key in keys) or len(set(keys)) < len(keys):
        raise ValueError(f"identity keys have {KEY_BYTES} bytes, and each is named once")
    since, before = erasure.occurred_from_us, erasure.occurred_before_us
    if since < 0 or before < 0 or (before and before <= since):
        raise ValueError("the time range ends before it begins, or begins before 1970")
    if not 1 <= len(request.reason) <= _REASON_CHARACTERS:
        raise ValueError(f"give a reason of 1 to {_REASON_CHARACTERS} characters")
    if len(request.requested_by) > _REQUESTED_BY_CHARACTERS:
        raise ValueError(f"requested_by may have {_REQUESTED_BY_CHARACTERS} characters")
    try:
        return event_id_bytes(request.erasure_id)
    except ValueError as error:
        raise ValueError("the erasure_id is no UUID") from error


def _is_retry(asked: Erasure, done: Erasure) -> bool:
    """Tell whether an erasure is one that was done: of the same time, and of who it was then.

    A customer may have got identities since, or lost some to somebody else; the answer tells whom
    it concerned.
    """
    asked_range = asked.occurred_from_us, asked.occurred_before_us
    done_range = done.occurred_from_us, done.occurred_before_us
    return asked_range == done_range and not set(asked.identity_keys).isdisjoint(done.identity_keys)


def _event_id(tenant_secret: bytes, erasure_id: bytes) -> str:
    """Return the id of an erasure's event: derived, so that a retry's is the same."""
    digest = blake2b(erasure_id, key=tenant_secret, digest_size=DIGEST_BYTES, person=b"erasure")
    return uuid8(0, digest.digest())
