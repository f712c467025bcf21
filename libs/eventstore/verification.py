"""Reads the whole line again and says whether it is what was recorded."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from libs.eventstore.chain import GENESIS, extend
from libs.eventstore.errors import SealBroken, WrongMasterKey
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import (
    Keys,
    content_hash_of,
    event_id_text,
    identity_keys_of,
    is_shut,
    needs_kept_key,
    open_identity,
    shut_identities,
)
from libs.eventstore.sealing import DataKey, unseal
from libs.eventstore.store import Erased, EventStore
from libs.identity.keys import IdentityKeys, partition_of
from libs.identity.normalise import IdentityError
from touchline.store.v1.store_pb2 import RecordedEvent, SealedIdentity

MAX_PROBLEMS: Final = 100
_IDENTITIES_REMEMBERED: Final = 20_000
# After so many events, some 3 ms, whoever appends gets the processor.
_CHECKED_AT_ONCE: Final = 100


@dataclass(slots=True)
class Verification:
    """How far a verification came, and what it found."""

    head: int
    checked: int = 0
    sealed: int = 0
    problems: list[str] = field(default_factory=list)
    finished: bool = False

    def report(self, problem: str) -> None:
        """Note what is wrong; beyond the first hundred it adds nothing."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


@dataclass(slots=True)
class _Place:
    """Where the reading stands: the last row's position, chain and time."""

    position: int = 0
    chain: bytes = GENESIS
    recorded_at_us: int = 0


async def verify(
    store: EventStore, keyring: Keyring, secrets: Mapping[int, bytes]
) -> AsyncIterator[Verification]:
    """Yield the state of a verification after each page; the last one is finished.

    Positions must be contiguous, each row's chain must be that of the hashes, times must not run
    backwards, the head must be the last row's, each event must open, its clear columns must be
    those that were sealed with it, and its hash must be that of its content. An event whose keys
    are gone counts as sealed: its hash can't be recomputed, and the chain still holds it. An
    erasure must say why they are gone, and what an erasure concerned must not open.

    What a store can't tell by itself: that its end was cut off and its head set back to match. The
    feed and the projections' checkpoints can.

    Args:
        store: The line.
        keyring: Opens the events.
        secrets: The tenants' secrets by their numbers.
    """
    end = await store.line_end()
    state, place = Verification(head=end["position"]), _Place()
    contents = _Contents(store, keyring, secrets, state)
    while rows := await store.stored_rows(place.position, state.head):
        for row in rows:
            _check_place(row, place, state)
        await contents.check(rows)
        state.checked += len(rows)
        yield state
    _check_end(end, place, state)
    if strays := await store.event_keys_of_nothing():
        state.report(f"keys are kept for {strays} events that do not exist")
    state.finished = True
    yield state


def _check_place(row: asyncpg.Record, place: _Place, state: Verification) -> None:
    position, chain = row["position"], row["chain"]
    if position != place.position + 1:  # what the chain should be is gone with the missing
        state.report(f"events {place.position + 1} to {position - 1} are missing")
    elif extend(place.chain, [row["content_hash"]]) != chain:
        state.report(f"the chain is broken at event {position}")
    if row["recorded_at_us"] < place.recorded_at_us:
        state.report(f"event {position} was recorded before the event in front of it")
    place.position, place.chain, place.recorded_at_us = position, chain, row["recorded_at_us"]


def _check_end(end: asyncpg.Record, place: _Place, state: Verification) -> None:
    if place.position < state.head:
        state.report(f"events {place.position + 1} to {state.head} are missing")
    elif place.chain != end["chain"]:
        state.report(f"the head's chain is not that of event {state.head}")
    if (end["last_stored"] or 0) > state.head:
        state.report(f"there are events after the head, up to {end['last_stored']}")
    if place.recorded_at_us > end["recorded_at_us"]:
        state.report(f"event {place.position} was recorded after the head's time")


class _Contents:
    """Checks what rows hold."""

    def __init__(
        self,
        store: EventStore,
        keyring: Keyring,
        secrets: Mapping[int, bytes],
        state: Verification,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._secrets = secrets
        self._identity_keys = {
            tenant: IdentityKeys(secret, cached=_IDENTITIES_REMEMBERED)
            for tenant, secret in secrets.items()
        }
        self._state = state
        self._missing: set[bytes] = set()

    async def check(self, rows: Sequence[asyncpg.Record]) -> None:
        records = {row["position"]: record for row in rows if (record := self._parsed(row))}
        wanted: dict[int, list[RecordedEvent]] = {}
        for record in records.values():
            wanted.setdefault(record.tenant, []).append(record)
        keys = {tenant: await self._keys_of(tenant, theirs) for tenant, theirs in wanted.items()}
        erasures = {
            tenant: await self._store.erasures_of(tenant, identity_keys_of(theirs))
            for tenant, theirs in wanted.items()
        }
        for number, row in enumerate(rows):
            if not number % _CHECKED_AT_ONCE:
                await asyncio.sleep(0)
            if record := records.get(row["position"]):
                self._check_columns(row, record)
                self._check_content(row, record, keys[record.tenant])
                self._check_erased(
                    row["position"], record, keys[record.tenant], erasures[record.tenant]
                )

    def _parsed(self, row: asyncpg.Record) -> RecordedEvent | None:
        try:
            record = RecordedEvent.FromString(row["record"])
        except DecodeError:
            record = RecordedEvent()
        if not record.identities or record.identities[0].identity_key != record.owner_key:
            self._state.report(f"event {row['position']} has a record that can't be read")
            return None
        if record.tenant not in self._secrets:
            told = f"event {row['position']} belongs to a tenant the settings do not name"
            self._state.report(told)
            return None
        return record

    async def _keys_of(self, tenant: int, records: Sequence[RecordedEvent]) -> Keys:
        try:
            return await self._keyring.keys_of(tenant, records)
        except WrongMasterKey:
            pass  # which one is it?
        data_keys: dict[bytes, DataKey] = {}
        for key in identity_keys_of(records):
            try:
                data_keys |= await self._keyring.fetch(tenant, [key])
            except WrongMasterKey:
                self._state.report(f"the data key of identity {key.hex()} was changed")
                self._missing.add(key)
        event_keys: dict[bytes, bytes] = {}
        for record in records:
            if needs_kept_key(record, data_keys):
                try:
                    event_keys |= await self._keyring.event_keys(tenant, [record.event_id])
                except WrongMasterKey:
                    told = event_id_text(record.event_id)
                    self._state.report(f"the key that is kept for event {told} was changed")
        return Keys(data_keys, {name: AESGCM(key) for name, key in event_keys.items()})

    def _check_columns(self, row: asyncpg.Record, record: RecordedEvent) -> None:
        columns = (row["tenant"], row["event_id"].bytes, row["owner_key"], row["type"])
        stream = ((row["stream_id"] and row["stream_id"].bytes) or b"", row["stream_version"] or 0)
        told = (record.tenant, record.event_id, record.owner_key, record.type)
        if columns != told or stream != (record.stream_id, record.stream_version):
            self._state.report(f"event {row['position']} has other columns than its record says")
        if row["partition"] != partition_of(record.owner_key):
            self._state.report(f"event {row['position']} has another partition than its owner")

    def _check_content(self, row: asyncpg.Record, record: RecordedEvent, keys: Keys) -> None:
        position, report = row["position"], self._state.report
        try:
            found = content_hash_of(self._secrets[record.tenant], record, keys)
            if not self._identities_are_named(record, keys.data_keys):
                report(f"event {position} names an identity otherwise than it is sealed")
        except (SealBroken, DecodeError):
            report(f"event {position} does not open: its record was changed")
            return
        if found is None:
            self._state.sealed += 1
        elif found != row["content_hash"]:
            report(f"event {position} has another content than its hash says")

    def _check_erased(
        self,
        position: int,
        record: RecordedEvent,
        keys: Keys,
        erasures: Mapping[bytes, Sequence[Erased]],
    ) -> None:
        """Check that an event is shut if, and only if, an erasure says so, and its identities."""
        shut = is_shut(record, keys)
        concerned = any(
            one.concerns(position, record.occurred_at_us)
            for one in erasures.get(record.owner_key, ())
        )
        if concerned and not shut:
            self._state.report(f"event {position} opens though it was erased")
        for key in shut_identities(record, keys):
            erased = any(one.whole and one.position > position for one in erasures.get(key, ()))
            if not erased and key not in self._missing:
                self._missing.add(key)
                told = (
                    f"the data key of identity {key.hex()}, which event {position} names, is gone"
                )
                self._state.report(f"{told}, and no erasure says so")
        if shut and not concerned and record.owner_key not in self._missing:
            self._state.report(f"event {position} does not open, and no erasure says so")

    def _identities_are_named(
        self, record: RecordedEvent, data_keys: Mapping[bytes, DataKey]
    ) -> bool:
        """Tells whether each identity's clear fields are those of what is sealed beside them."""
        keys = self._identity_keys[record.tenant]
        for sealed in record.identities:
            identity = open_identity(sealed, data_keys)
            if not identity.value:
                if _opens(sealed, data_keys):
                    return False  # it says another key sealed it, and that is not so
                continue
            try:
                identified = keys.identify(identity)
            except IdentityError:
                continue  # an older release took it; its name can't be made again
            if (sealed.kind, sealed.namespace_key) != (identity.kind, identified.namespace_key):
                return False
        return True


def _opens(sealed: SealedIdentity, data_keys: Mapping[bytes, DataKey]) -> bool:
    key = data_keys.get(sealed.identity_key)
    if key is None:
        return False
    try:
        unseal(key.cipher, sealed.sealed_value, sealed.identity_key)
    except SealBroken:
        return False
    return True
