"""Decisions, frozen and sealed in the transaction that decides."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.eventstore.records import event_id_bytes
from libs.eventstore.sealing import seal, unseal
from libs.postgres.queries import load_queries
from libs.projection.projection import Connection
from libs.telemetry.context import current_traceparent
from touchline.events.v1.event_pb2 import Event
from touchline.store.v1.store_pb2 import AppendEvent, RecordedEvent

DAY_US: Final = 86_400_000_000
# What the key is for is hashed, so that it equals none that the secret is used for elsewhere.
_PURPOSE: Final = b"outbox\0"
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Decision:
    """An event that a reactor decided.

    Attributes:
        tenant: The tenant's name.
        event: The event, with a `decision_id` and the identities of what it follows from.
    """

    tenant: str
    event: Event


class Outbox:
    """Keeps decisions until they are on the line. They hold what is personal, so rows are sealed.

    Args:
        secret: The installation's identity secret, from which the outbox's key derives.
    """

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(hmac.digest(secret, _PURPOSE, "sha256"))

    async def decide(
        self, connection: Connection, reactor: str, decisions: Sequence[Decision]
    ) -> None:
        """Add decisions in the connection's transaction; one that is there already stays as it is.

        The transaction's commit then waits for the disk, and wakes the sender.

        Args:
            connection: Within the transaction that also moves the reactor's checkpoint or state.
            reactor: Who decides.
            decisions: What it decided, in the order in which they are to be appended.
        """
        if not decisions:
            return
        tenants = [decision.tenant for decision in decisions]
        ids = [event_id_bytes(decision.event.event_id) for decision in decisions]
        sealed = [
            seal(self._cipher, _frozen(decision.event), _bound(decision.tenant, event_id))
            for decision, event_id in zip(decisions, ids, strict=True)
        ]
        await connection.execute(
            _SQL["decide"],
            *(reactor, tenants, [UUID(one) for one in ids], sealed, current_traceparent()),
        )
        await connection.execute(_SQL["announce"])

    def thaw(self, tenant: str, event_id: bytes, sealed: bytes) -> AppendEvent:
        """Return a decision as it was frozen.

        Raises:
            SealBroken: another secret sealed it, or it was changed.
        """
        return AppendEvent.FromString(unseal(self._cipher, sealed, _bound(tenant, event_id)))


def may_act(record: RecordedEvent, now_us: int, max_age_us: int = DAY_US) -> bool:
    """Return whether an event may have effects on the world: nothing of the past acts.

    Args:
        record: The event's envelope.
        now_us: The time, in microseconds since 1970.
        max_age_us: For how long after it occurred it may.
    """
    return not record.historical and now_us - record.occurred_at_us < max_age_us


def _frozen(event: Event) -> bytes:
    return AppendEvent(event=event).SerializeToString(deterministic=True)


def _bound(tenant: str, event_id: bytes) -> bytes:
    return event_id + tenant.encode()
