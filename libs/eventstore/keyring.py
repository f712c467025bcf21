"""The data keys of identities: made once, wrapped by the master key, deletable."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import asyncpg

from libs.eventstore.errors import SealBroken, WrongIdentitySecret, WrongMasterKey
from libs.eventstore.lru import LruCache
from libs.eventstore.sealing import KEY_BYTES, DataKey, MasterKey, data_key
from libs.eventstore.store import database_errors
from libs.postgres.queries import load_queries

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_CACHED_KEYS: Final = 200_000


class Keyring:
    """Makes, wraps, keeps and remembers data keys.

    Args:
        pool: Connections to the store's database.
        master_key: Wraps the data keys.
    """

    def __init__(self, pool: asyncpg.Pool, master_key: MasterKey) -> None:
        self._pool = pool
        self._master_key = master_key
        self._cache: LruCache[tuple[int, bytes], DataKey] = LruCache(_CACHED_KEYS)

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

    async def ensure(self, tenant: int, identity_keys: Collection[bytes]) -> dict[bytes, DataKey]:
        """Returns the data keys of identities, making those that do not exist yet.

        New keys are on disk before this returns: an event is never safer than its key.
        """
        keys = await self.fetch(tenant, identity_keys)
        if new := [key for key in identity_keys if key not in keys]:
            keys |= await self._make(tenant, new)
        return keys

    async def fetch(self, tenant: int, identity_keys: Iterable[bytes]) -> dict[bytes, DataKey]:
        """Returns the data keys that exist."""
        found, missing = {}, []
        for identity_key in identity_keys:
            key = self._cache.get((tenant, identity_key))
            if key is None:
                missing.append(identity_key)
            else:
                found[identity_key] = key
        if missing:
            async with database_errors():
                rows = await self._pool.fetch(_SQL["data_keys"], tenant, missing)
            for identity_key, wrapped in rows:
                found[identity_key] = self._unwrap(tenant, identity_key, wrapped)
        return found

    async def _make(self, tenant: int, identity_keys: list[bytes]) -> dict[bytes, DataKey]:
        made = {identity_key: os.urandom(KEY_BYTES) for identity_key in identity_keys}
        wrapped = [self._master_key.wrap(secret, tenant, key) for key, secret in made.items()]
        async with database_errors():
            mine = await self._pool.fetchval(_SQL["add_data_keys"], tenant, list(made), wrapped)
        won = {key: self._remember(tenant, key, made[key]) for key in mine or ()}
        # Another process made the others in the meantime: theirs count.
        lost = [key for key in identity_keys if key not in won]
        return won | (await self.fetch(tenant, lost) if lost else {})

    def _unwrap(self, tenant: int, identity_key: bytes, wrapped_key: bytes) -> DataKey:
        try:
            secret = self._master_key.unwrap(wrapped_key, tenant, identity_key)
        except SealBroken as error:
            raise WrongMasterKey("a data key of this store does not unwrap") from error
        return self._remember(tenant, identity_key, secret)

    def _remember(self, tenant: int, identity_key: bytes, secret: bytes) -> DataKey:
        key = data_key(secret)
        self._cache.put((tenant, identity_key), key)
        return key
