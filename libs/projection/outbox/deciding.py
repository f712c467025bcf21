"""Decisions, frozen and sealed in the transaction that decides."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.eventstore.errors import SealBroken
from libs.eventstore.records import event_id_bytes
from libs.eventstore.sealing import seal, unseal
from libs.identity.keys import IdentityKeys, tenant_secret
from libs.postgres.queries import load_queries
from libs.projection.erasing.erasures import Erasure, erasures_among
from libs.projection.projection import Connection, Recorded
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
        decided_at: The position of what it follows from, or up to which the service's identity
            graph had come before anything was opened for it. Of somebody who was erased later than
            that nothing more is told: the decision may say what was to be forgotten.
    """

    tenant: str
    event: Event
    decided_at: int


class Outbox:
    """Keeps decisions until they are on the line. They hold what is personal, so rows are sealed.

    Args:
        secret: The installation's identity secret, from which the outbox's key derives.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = AESGCM(hmac.digest(secret, _PURPOSE, "sha256"))
        self._identity_keys: dict[str, IdentityKeys] = {}

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
        rows = [
            (one.tenant, UUID(event_id), self._sealed(one, event_id), _looked_at(one), keys)
            for one in decisions
            for event_id in [event_id_bytes(one.event.event_id)]
            # An array of arrays would have to be square: the keys, of one length, are one string.
            for keys in [b"".join(self._keys_of(one.tenant, one.event))]
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        await connection.execute(_SQL["decide"], reactor, current_traceparent(), *columns)
        await connection.execute(_SQL["announce"])

    async def forget(
        self, connection: Connection, tenants: Mapping[int, str], events: Sequence[Recorded]
    ) -> None:
        """Delete what was decided of those whom events say were erased, waiting or dead.

        A reactor calls it in the transaction that folds the events. What is decided before an
        erasure and comes here after it, the store refuses.

        Args:
            connection: Within that transaction.
            tenants: The tenants' names by their numbers.
            events: What is folded; most erase nobody.
        """
        for erasure in erasures_among(events, tenants):
            tenant, keys = tenants[erasure.tenant], sorted(erasure.identity_keys)
            await connection.execute(_SQL["forget"], tenant, keys, erasure.position)
            await self._forget_unnamed(connection, tenant, erasure)

    async def _forget_unnamed(self, connection: Connection, tenant: str, erasure: Erasure) -> None:
        """Delete what an older release decided, and did not note of whom."""
        found = []
        for number, event_id, sealed in await connection.fetch(_SQL["unnamed"], tenant):
            try:
                event = self.thaw(tenant, event_id.bytes, sealed).event
            except SealBroken:
                continue  # nobody opens it any more
            if not erasure.identity_keys.isdisjoint(self._keys_of(tenant, event)):
                found.append(number)
        if found:
            await connection.execute(_SQL["done"], found)

    def thaw(self, tenant: str, event_id: bytes, sealed: bytes) -> AppendEvent:
        """Return a decision as it was frozen.

        Raises:
            SealBroken: another secret sealed it, or it was changed.
        """
        return AppendEvent.FromString(unseal(self._cipher, sealed, _bound(tenant, event_id)))

    def _sealed(self, decision: Decision, event_id: bytes) -> bytes:
        frozen = AppendEvent(event=decision.event, decided_at_position=_looked_at(decision))
        plaintext = frozen.SerializeToString(deterministic=True)
        return seal(self._cipher, plaintext, _bound(decision.tenant, event_id))

    def _keys_of(self, tenant: str, event: Event) -> list[bytes]:
        if tenant not in self._identity_keys:
            # It remembers none: they are in plain words.
            named = IdentityKeys(tenant_secret(self._secret, tenant), cached=0)
            self._identity_keys[tenant] = named
        return [self._identity_keys[tenant].identify(one).key for one in event.identities]


def may_act(record: RecordedEvent, now_us: int, max_age_us: int = DAY_US) -> bool:
    """Return whether an event may have effects on the world: nothing of the past acts.

    Args:
        record: The event's envelope.
        now_us: The time, in microseconds since 1970.
        max_age_us: For how long after it occurred it may.
    """
    return not record.historical and now_us - record.occurred_at_us < max_age_us


def _looked_at(decision: Decision) -> int:
    return max(1, decision.decided_at)  # at 0 nobody would look whether somebody was erased since


def _bound(tenant: str, event_id: bytes) -> bytes:
    return event_id + tenant.encode()
