"""Keeps what was rejected, sealed, until it is corrected."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from libs.eventstore.chain import content_hash
from libs.eventstore.records import SealedTenant
from libs.eventstore.sealing import MasterKey, seal, unseal
from libs.eventstore.store import database_errors
from libs.identity.keys import IdentityKeys
from libs.postgres.queries import load_queries
from services.ingestion.domain import Violation, named_keys, occurred_at_us
from touchline.events.v1.decisions_pb2 import Erasure
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import FieldViolation, RejectedEvent

MIGRATIONS: Final = Path(__file__).with_name("migrations")

# Below the 4 MiB that gRPC clients take unless told otherwise.
_PAGE_BYTES: Final = 3 * 1024 * 1024

_UNREAD_AT_ONCE: Final = 200

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


_RETRIED_BYTES: Final = 3 * 1024 * 1024
"""What is retried in one go: it is all in memory."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event and the rules it breaks."""

    event: Event
    violations: list[Violation]


class Quarantine:
    """Keeps rejected events, each once however often it is sent.

    Whose they are can't be told, so they have no data key of their own: a key derived from the
    master key seals them all.

    Args:
        pool: Connections to the store's database.
        master_key: The store's.
    """

    def __init__(self, pool: asyncpg.Pool, master_key: MasterKey) -> None:
        self._pool = pool
        self._cipher = master_key.derive(b"rejected events")

    async def keep(
        self, tenant: SealedTenant, keys: IdentityKeys, rejected: Sequence[Rejected]
    ) -> None:
        """Keep events with the reasons why they were rejected.

        Args:
            tenant: Whose they are.
            keys: Names whom they name, so that they can be discarded with them.
            rejected: The events.
        """
        bodies = [entry.event.SerializeToString(deterministic=True) for entry in rejected]
        async with database_errors():
            await self._pool.execute(
                _SQL["keep_rejected"],
                tenant.number,
                [content_hash(tenant.secret, body) for body in bodies],
                [json.dumps(entry.violations) for entry in rejected],
                [seal(self._cipher, body, _clear(tenant.number)) for body in bodies],
                [b"".join(named_keys(entry.event, keys)) for entry in rejected],
                [occurred_at_us(entry.event) for entry in rejected],
            )

    async def read_unread(self, tenant: SealedTenant, keys: IdentityKeys) -> None:
        """Note whom those events name that an older release kept."""
        after = 0
        while True:
            async with database_errors():
                rows = await self._pool.fetch(
                    _SQL["rejected_unread"], tenant.number, after, _UNREAD_AT_ONCE
                )
                if not rows:
                    return
                events = [self._event(tenant, row["sealed_event"]) for row in rows]
                await self._pool.executemany(
                    _SQL["rejected_read"],
                    [
                        (row["rejected_id"], named_keys(event, keys), occurred_at_us(event))
                        for row, event in zip(rows, events, strict=True)
                    ],
                )
            after = rows[-1]["rejected_id"]

    async def count_of(self, tenant: SealedTenant, erasure: Erasure, rejected_until_us: int) -> int:
        """Return how many events are kept that an erasure concerns and that were rejected by then.

        Args:
            tenant: Whose.
            erasure: Whom and what time it concerns.
            rejected_until_us: In microseconds since 1970.
        """
        async with database_errors():
            count: int = await self._pool.fetchval(
                _SQL["count_rejected_of"],
                *(tenant.number, list(erasure.identity_keys), rejected_until_us),
                *(erasure.occurred_from_us, erasure.occurred_before_us),
            )
        return count

    async def list(
        self, tenant: SealedTenant, before: int, limit: int
    ) -> tuple[list[RejectedEvent], bool]:
        """Return rejected events with a smaller id than `before`, newest first, and if more follow.

        A page has at most `limit` events, and 3 MiB of them unless a single one has more.
        """
        async with database_errors():
            rows = await self._pool.fetch(
                _SQL["list_rejected"], tenant.number, before, limit + 1, _PAGE_BYTES
            )
        page = [row for row in rows[:limit] if row["sealed_event"] is not None]
        return [self._open(tenant, row) for row in page], len(page) < len(rows)

    async def count(self, tenant: SealedTenant) -> int:
        """Return how many events of a tenant are kept."""
        async with database_errors():
            count: int = await self._pool.fetchval(_SQL["count_rejected"], tenant.number)
        return count

    async def to_retry(
        self, tenant: SealedTenant, after: int, rejected_ids: Sequence[int], limit: int
    ) -> Sequence[tuple[int, Event]]:
        """Return rejected events with a larger id than `after`, the oldest first.

        Args:
            tenant: Whose.
            after: A rejected_id; 0 for the first.
            rejected_ids: Only those; empty for all.
            limit: How many at most; fewer come when they are large. None come when none are left.
        """
        async with database_errors():
            rows = await self._pool.fetch(
                _SQL["rejected_to_retry"],
                *(tenant.number, after, list(rejected_ids) or None, limit, _RETRIED_BYTES),
            )
        return [(row["rejected_id"], self._event(tenant, row["sealed_event"])) for row in rows]

    async def still_rejected(
        self, tenant: SealedTenant, violations: Mapping[int, Sequence[Violation]]
    ) -> None:
        """Keep the rules that rejected events break now, by rejected_id."""
        async with database_errors():
            await self._pool.execute(
                _SQL["still_rejected"],
                tenant.number,
                list(violations),
                [json.dumps(found) for found in violations.values()],
            )

    async def remove(self, tenant: SealedTenant, rejected_ids: Collection[int]) -> int:
        """Forget rejected events, and return how many of them there were."""
        async with database_errors():
            removed: int = await self._pool.fetchval(
                _SQL["remove_rejected"], tenant.number, list(rejected_ids)
            )
        return removed

    async def has(self, tenant: SealedTenant, rejected_id: int) -> bool:
        """Tell whether a tenant has a rejected event."""
        async with database_errors():
            found: bool = await self._pool.fetchval(_SQL["is_rejected"], tenant.number, rejected_id)
        return found

    def _event(self, tenant: SealedTenant, sealed_event: bytes) -> Event:
        return Event.FromString(unseal(self._cipher, sealed_event, _clear(tenant.number)))

    def _open(self, tenant: SealedTenant, row: asyncpg.Record) -> RejectedEvent:
        rejected = RejectedEvent(
            rejected_id=row["rejected_id"],
            event=self._event(tenant, row["sealed_event"]),
            violations=[
                FieldViolation(field=field, description=description)
                for field, description in json.loads(row["violations"])
            ],
        )
        rejected.rejected_at.FromDatetime(row["rejected_at"])
        return rejected


def _clear(tenant: int) -> bytes:
    return b"rejected" + tenant.to_bytes(2, "big")
