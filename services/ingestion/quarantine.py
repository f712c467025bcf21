"""Keeps what was rejected, sealed, until it is corrected."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from libs.eventstore.chain import content_hash
from libs.eventstore.records import SealedTenant
from libs.eventstore.sealing import MasterKey, seal, unseal
from libs.eventstore.store import database_errors
from libs.postgres.queries import load_queries
from services.ingestion.domain import Violation
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import FieldViolation, RejectedEvent

MIGRATIONS: Final = Path(__file__).with_name("migrations")

# Below the 4 MiB that gRPC clients take unless told otherwise.
_PAGE_BYTES: Final = 3 * 1024 * 1024

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


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

    async def keep(self, tenant: SealedTenant, rejected: Sequence[Rejected]) -> None:
        """Keep events with the reasons why they were rejected."""
        bodies = [entry.event.SerializeToString(deterministic=True) for entry in rejected]
        async with database_errors():
            await self._pool.execute(
                _SQL["keep_rejected"],
                tenant.number,
                [content_hash(tenant.secret, body) for body in bodies],
                [json.dumps(entry.violations) for entry in rejected],
                [seal(self._cipher, body, _clear(tenant.number)) for body in bodies],
            )

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

    def _open(self, tenant: SealedTenant, row: asyncpg.Record) -> RejectedEvent:
        body = unseal(self._cipher, row["sealed_event"], _clear(tenant.number))
        rejected = RejectedEvent(
            rejected_id=row["rejected_id"],
            event=Event.FromString(body),
            violations=[
                FieldViolation(field=field, description=description)
                for field, description in json.loads(row["violations"])
            ],
        )
        rejected.rejected_at.FromDatetime(row["rejected_at"])
        return rejected


def _clear(tenant: int) -> bytes:
    return b"rejected" + tenant.to_bytes(2, "big")
