"""Who has hold of a delivery, and how its outcome is written down, for the line as well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.outbox import Decision, Outbox
from services.notification.deliveries.taking_in import STATES
from touchline.events.v1.decisions_pb2 import (
    DELIVERY_OUTCOME_DEFERRED,
    DeliveryAttempted,
    DeliveryOutcome,
    NotificationChannel,
)
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Actor, Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.ids import decision_id
from touchline.store.v1.store_pb2 import RecordedEvent
from touchline.times import timestamp_of

SOURCE: Final = "notification"
"""The source of every event that this service decides."""

DATABASE_AWAY: Final = (
    *(asyncpg.DiskFullError, asyncpg.DeadlockDetectedError, TimeoutError),
    *UNREACHABLE,
)
"""What passes by itself: worth trying again."""

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_DURABLE: Final = "SET LOCAL synchronous_commit TO on"


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process has hold of for a while.

    Attributes:
        tenant: The tenant's number.
        notification_id: The notification.
        channel: How it goes.
        attempt: Which attempt this is, from 1.
        tries: The same since somebody asked for it to be tried again.
        lost_claims: How many earlier attempts ended without a record.
        possibly_repeated: Whether an earlier attempt may have arrived.
        expires_at_us: Until when it may be delivered, in microseconds since 1970.
        owner_key: The identity that owns the notification.
        recorded_at_us: When the store accepted the notification.
        record: The notification, sealed.
        now_us: When it was claimed, by the database's clock.
    """

    tenant: int
    notification_id: UUID
    channel: NotificationChannel.ValueType
    attempt: int
    tries: int
    lost_claims: int
    possibly_repeated: bool
    expires_at_us: int
    owner_key: bytes
    recorded_at_us: int
    record: RecordedEvent
    now_us: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an attempt.

    Attributes:
        outcome: In a word.
        reason: In words.
        retry_at_us: When it is tried again; None: it is not.
        perhaps_arrived: Whether it may have arrived although it did not work.
    """

    outcome: DeliveryOutcome.ValueType
    reason: str = ""
    retry_at_us: int | None = None
    perhaps_arrived: bool = False


class Claims:
    """Claims deliveries for one process.

    Every change is on the disk before it returns: a claim before anything is sent, so that a crash
    of anything leaves a trace of what may have been sent.

    Args:
        pool: Connections to the service's database.
        outbox: Takes what goes onto the line.
        tenants: The tenants' names by their numbers.
        owner: Names the process.
        lease: How long a claim holds.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        outbox: Outbox,
        tenants: Mapping[int, str],
        *,
        owner: UUID,
        lease: timedelta,
    ) -> None:
        self._pool = pool
        self._outbox = outbox
        self._tenants = tenants
        self._owner = owner
        self._lease = lease

    async def take(self, channel: NotificationChannel.ValueType, most: int) -> list[Claim]:
        """Claim deliveries that are due, and those whose claim ran out; the longest due first."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_DURABLE)
            rows = await connection.fetch(_SQL["claim"], channel, self._owner, self._lease, most)
        return [_claim(row) for row in rows]

    async def give_back(self, claim: Claim, pause: timedelta) -> None:
        """Undo a claim of which nothing was sent; it is due again after a pause."""
        await self._pool.execute(
            _SQL["give_back"],
            *(claim.tenant, claim.notification_id, claim.channel, claim.attempt, self._owner),
            pause,
        )

    async def settle(
        self,
        claim: Claim,
        result: Result,
        identities: Sequence[Identity],
        now_us: int,
        known_at: int,
    ) -> bool:
        """Write an outcome down, for the line as well.

        Args:
            claim: What was attempted.
            result: What became of it.
            identities: Of the customer; none when they were erased, and then nothing of it goes
                onto the line.
            now_us: When it ended.
            known_at: The position up to which the line was folded when the notification was opened.

        Returns:
            False when the claim ran out meanwhile: whoever has it now says what becomes of it.
        """
        deferred = result.outcome == DELIVERY_OUTCOME_DEFERRED
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_DURABLE)
            kept = await connection.fetchval(
                _SQL["settle"],
                *(claim.tenant, claim.notification_id, claim.channel, claim.attempt, self._owner),
                *(STATES[result.outcome], result.reason, result.retry_at_us),
                *(None if deferred else now_us, result.perhaps_arrived),
            )
            if kept is None:
                return False
            if identities:
                event = _attempted(claim, result, identities, now_us)
                decision = Decision(self._tenants[claim.tenant], event, known_at)
                await self._outbox.decide(connection, "deliveries", [decision])
        return True

    async def next_due_seconds(self, channel: NotificationChannel.ValueType) -> float | None:
        """Return in how many seconds something is due; None when nothing waits."""
        micros = await self._pool.fetchval(_SQL["next_due"], channel)
        return None if micros is None else max(0, micros) / 1e6


def _claim(row: asyncpg.Record) -> Claim:
    return Claim(
        tenant=row["tenant"],
        notification_id=row["notification_id"],
        channel=row["channel"],
        attempt=row["attempts"],
        tries=row["attempts"] - row["attempts_before"],
        lost_claims=row["lost_claims"],
        possibly_repeated=row["possibly_repeated"],
        expires_at_us=row["expires_at_us"],
        owner_key=row["owner_key"],
        recorded_at_us=row["recorded_at_us"],
        record=RecordedEvent.FromString(row["record"]),
        now_us=row["now_us"],
    )


def _attempted(claim: Claim, result: Result, identities: Sequence[Identity], now_us: int) -> Event:
    name = str(claim.notification_id)
    attempt = DeliveryAttempted(
        notification_id=name,
        channel=claim.channel,
        outcome=result.outcome,
        attempt=claim.attempt,
        reason=result.reason,
        possibly_repeated=claim.possibly_repeated,
    )
    if result.retry_at_us is not None:
        attempt.retry_at.CopyFrom(timestamp_of(result.retry_at_us))
    parts = name, "delivery_attempted", str(claim.channel), str(claim.attempt)
    return Event(
        event_id=decision_id(claim.recorded_at_us, *parts),
        identities=identities,
        occurred_at=timestamp_of(now_us),
        source=SOURCE,
        actor=Actor(kind=ACTOR_KIND_SYSTEM),
        causation_id=name,
        delivery_attempted=attempt,
    )
