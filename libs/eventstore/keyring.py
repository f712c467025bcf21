"""The data keys of identities: made once, wrapped by the master key, deletable."""

import asyncio
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.eventstore.errors import (
    SealBroken,
    StoreFull,
    StoreUnavailable,
    WrongIdentitySecret,
    WrongMasterKey,
)
from libs.eventstore.lru import LruCache
from libs.eventstore.records import IdentitySeal, Keys, identity_keys_of, needs_kept_key
from libs.eventstore.sealing import KEY_BYTES, DataKey, MasterKey, data_key
from libs.eventstore.store import database_errors
from libs.postgres.queries import load_queries
from touchline.store.v1.store_pb2 import RecordedEvent

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_CACHED_KEYS: Final = 200_000
_CACHED_SEALS: Final = 100_000
_LOOK_AGAIN_SECONDS: Final = 1.0
# What an event's key is bound to, before the event's id: no key of an identity passes for one.
_EVENT: Final = b"event"


class Era:
    """What a process remembers between two erasures: keys, and what was sealed with them.

    Whoever fetches keys or seals takes an era first and brings what it remembers into that one; so
    nothing that was under way when the next erasure came gets into what is remembered after it.

    Args:
        erasures: How many erasures there had been when it began.

    Attributes:
        erasures: What is sealed with what this era remembers is appended only if there are as many.
        data_keys: By tenant and identity key.
        seals: By tenant and the identity as its caller spelled it.
    """

    __slots__ = ("data_keys", "erasures", "seals")

    def __init__(self, erasures: int) -> None:
        self.erasures = erasures
        self.data_keys: LruCache[tuple[int, bytes], DataKey] = LruCache(_CACHED_KEYS)
        self.seals: LruCache[tuple[int, bytes], IdentitySeal] = LruCache(_CACHED_SEALS)


class Keyring:
    """Makes, wraps, keeps and remembers data keys.

    Args:
        pool: Connections to the store's database.
        master_key: Wraps the data keys.
        forget: Called when somebody was erased, to forget what else is remembered of identities.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        master_key: MasterKey,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._master_key = master_key
        self._forget = forget
        self._era: Era | None = None
        self._erased = asyncio.Event()

    async def check_master_key(self) -> None:
        """Makes sure that this store's data keys are wrapped by this master key.

        Raises:
            WrongMasterKey: they are wrapped by another.
        """
        mine = self._master_key.check()
        async with database_errors():
            known = await self._pool.fetchval(_SQL["remember_key_check"], mine)
        if known != mine:
            raise WrongMasterKey(
                "the data keys of this store are wrapped by another master key. Start with the "
                "TOUCHLINE_MASTER_KEY this store was made with; nothing was changed."
            )

    async def check_identity_secret(self, mine: bytes) -> None:
        """Makes sure that this store's identities are named under this identity secret.

        Args:
            mine: What `libs.identity.keys.secret_check` tells of it.

        Raises:
            WrongIdentitySecret: they are named under another.
        """
        async with database_errors():
            known = await self._pool.fetchval(_SQL["remember_identity_check"], mine)
        if known != mine:
            raise WrongIdentitySecret(
                "the identities of this store are named under another identity secret. Start with "
                "the TOUCHLINE_IDENTITY_SECRET this store was made with, here and in every other "
                "service; nothing was changed."
            )

    def erased(self) -> None:
        """Tells that somebody was erased, or may have been."""
        self._erased.set()

    async def follow(self) -> None:
        """Forgets what is remembered when somebody was erased, for ever; run it as a task.

        No key of theirs is used in any case. This is for what lies in memory of who asks nothing.
        """
        while True:
            await self._erased.wait()
            self._erased.clear()
            try:
                await self.renewed()
            except (StoreUnavailable, StoreFull):
                self._erased.set()
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def era(self) -> Era:
        """Returns what is remembered, without looking whether anybody was erased since.

        To append what was sealed with it is what tells (SealsStale).
        """
        return self._era or await self.renewed()

    async def renewed(self) -> Era:
        """Returns what is remembered; nothing is if anybody was erased since."""
        async with database_errors():
            erasures: int = await self._pool.fetchval(_SQL["erasures"])
        era = self._era
        if era is None or erasures != era.erasures:
            self._forget()
            era = self._era = Era(erasures)
        return era

    def remembered(
        self, tenant: int, identity_keys: Collection[bytes]
    ) -> tuple[dict[bytes, DataKey], dict[bytes, DataKey]]:
        """Returns the data keys of identities that lie in memory: by themselves, and in seals."""
        if self._era is None:
            return {}, {}
        found = {key: self._era.data_keys.get((tenant, key)) for key in identity_keys}
        wanted = frozenset(identity_keys)
        seals = [seal for seal in self._era.seals.values() if seal.identity_key in wanted]
        alone = {key: known for key, known in found.items() if known is not None}
        return alone, {seal.identity_key: seal.key for seal in seals}

    async def ensure(self, tenant: int, identity_keys: Collection[bytes]) -> dict[bytes, DataKey]:
        """Returns the data keys of identities, making those that do not exist yet.

        New keys are on disk before this returns: an event is never safer than its key. Whoever
        seals with them has taken an era before.
        """
        era = await self.era()
        keys = await self._known(era, tenant, identity_keys)
        if new := [key for key in identity_keys if key not in keys]:
            keys |= await self._make(era, tenant, new)
        return keys

    async def fetch(self, tenant: int, identity_keys: Iterable[bytes]) -> dict[bytes, DataKey]:
        """Returns the data keys that exist now."""
        return await self._known(await self.renewed(), tenant, identity_keys)

    async def keys_of(self, tenant: int, records: Sequence[RecordedEvent]) -> Keys:
        """Returns the keys that open some events of one tenant now."""
        data_keys = await self.fetch(tenant, identity_keys_of(records))
        kept = [record.event_id for record in records if needs_kept_key(record, data_keys)]
        found = await self.event_keys(tenant, kept) if kept else {}
        return Keys(data_keys, {event_id: AESGCM(key) for event_id, key in found.items()})

    async def event_keys(self, tenant: int, event_ids: Iterable[bytes]) -> dict[bytes, bytes]:
        """Returns the keys that were kept for single events."""
        async with database_errors():
            rows = await self._pool.fetch(_SQL["event_keys"], tenant, list(map(UUID, event_ids)))
        return {
            event_id.bytes: self._unwrap(tenant, _EVENT + event_id.bytes, wrapped)
            for event_id, wrapped in rows
        }

    def wrap_event_key(self, tenant: int, event_id: bytes, key: bytes) -> bytes:
        """Returns an event's key as the store keeps it."""
        return self._master_key.wrap(key, tenant, _EVENT + event_id)

    def with_new_event_secret(self, tenant: int, identity_key: bytes, key: DataKey) -> bytes:
        """Returns a data key as the store keeps it, with another event secret."""
        while True:
            new = data_key(key.secret, os.urandom(KEY_BYTES), ready=True)
            if new.event_secret_id != key.event_secret_id:
                return self._master_key.wrap(new.secret + new.event_secret, tenant, identity_key)

    async def _known(
        self, era: Era, tenant: int, identity_keys: Iterable[bytes]
    ) -> dict[bytes, DataKey]:
        found, missing = {}, []
        for identity_key in identity_keys:
            key = era.data_keys.get((tenant, identity_key))
            if key is None:
                missing.append(identity_key)
            else:
                found[identity_key] = key
        if missing:
            async with database_errors():
                rows = await self._pool.fetch(_SQL["data_keys"], tenant, missing)
            for identity_key, wrapped in rows:
                secret = self._unwrap(tenant, identity_key, wrapped)
                found[identity_key] = _remember(era, tenant, identity_key, secret)
        return found

    async def _make(
        self, era: Era, tenant: int, identity_keys: list[bytes]
    ) -> dict[bytes, DataKey]:
        made = {identity_key: os.urandom(2 * KEY_BYTES) for identity_key in identity_keys}
        wrapped = [self._master_key.wrap(secret, tenant, key) for key, secret in made.items()]
        async with database_errors():
            mine = await self._pool.fetchval(_SQL["add_data_keys"], tenant, list(made), wrapped)
        won = {key: _remember(era, tenant, key, made[key]) for key in mine or ()}
        # Another process made the others in the meantime: theirs count.
        lost = [key for key in identity_keys if key not in won]
        return won | (await self._known(era, tenant, lost) if lost else {})

    def _unwrap(self, tenant: int, bound_to: bytes, wrapped_key: bytes) -> bytes:
        try:
            return self._master_key.unwrap(wrapped_key, tenant, bound_to)
        except SealBroken as error:
            raise WrongMasterKey("a key of this store does not unwrap") from error


def _remember(era: Era, tenant: int, identity_key: bytes, secrets: bytes) -> DataKey:
    key = data_key(secrets[:KEY_BYTES], secrets[KEY_BYTES:], ready=True)
    era.data_keys.put((tenant, identity_key), key)
    return key
