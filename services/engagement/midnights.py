"""Tells when a score passes into another level by decay alone, which happens at UTC midnight."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import SealBroken, StoreError
from libs.eventstore.records import open_identity
from libs.eventstore.sealing import DataKey
from libs.identity.kinds import strength_of
from libs.postgres.pool import UNREACHABLE
from libs.projection.identity_graph import IdentityGraph
from libs.projection.outbox import Decision, Outbox
from libs.projection.waiting import Behind, Checkpoints
from libs.rpc.tenants import Tenants
from services.engagement.crossings import KIND, REACTOR, crossed
from services.engagement.domain.crossings import Crossing, midnight_crossing
from services.engagement.domain.scoring import DAY_US, day_of
from services.engagement.levels import PARTS, KnownIdentity, Levels
from services.engagement.scores import Scoring
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.ids import decision_id
from touchline.store.v1.store_pb2 import SealedIdentity
from touchline.times import timestamp_of

_LOOK_SECONDS: Final = 10.0
_WAIT_SECONDS: Final = 60.0
_AT_ONCE: Final = 500
_log = structlog.get_logger("engagement")


class Midnights:
    """Looks after each midnight whose level it moved. `run` it as a task.

    Every process does so: a row says which midnight was looked at, and who comes second decides the
    same again, which changes nothing.

    Args:
        pool: Connections to the service's database.
        levels: What counts.
        store: Tells the head, and gives the data keys of identities.
        checkpoints: Tells when the models have folded what was recorded.
        outbox: Takes the decisions.
        tenants: Names the tenants.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        levels: Levels,
        store: StoreClient,
        checkpoints: Checkpoints,
        outbox: Outbox,
        tenants: Tenants,
    ) -> None:
        self._pool = pool
        self._store = store
        self._checkpoints = checkpoints
        self._outbox = outbox
        self._tenants = {tenant.number: tenant.name for tenant in tenants.all}
        self._levels = levels

    async def run(self) -> None:
        """Look for ever; what is down is waited for."""
        while True:
            with suppress(asyncpg.PostgresError, StoreError, Behind, *UNREACHABLE):
                await self.look(day_of(time.time_ns() // 1000))
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self, today: int) -> None:
        """Decide what the midnight did with which a day began, if nobody has.

        Earlier midnights that nobody looked at are past, and nothing of the past acts.

        Args:
            today: The day, in days since 1970.

        Raises:
            StoreError: the store can't be reached.
            Behind: the models have not folded what was recorded.
        """
        for scoring in await self._levels.scorings():
            if scoring.tenant in self._tenants and await self._levels.is_due(scoring, today):
                await self._sweep(scoring, today)

    async def _sweep(self, scoring: Scoring, today: int) -> None:
        head = await self._store.head()
        names = (IdentityGraph.name, scoring.projection)
        await self._checkpoints.wait(names, head.position, _WAIT_SECONDS)
        moved = 0
        for part in range(PARTS):
            roots = await self._levels.moved(scoring, today, part)
            moved += len(roots)
            for start in range(0, len(roots), _AT_ONCE):
                await self._decide(scoring, roots[start : start + _AT_ONCE], today, head.position)
        async with self._pool.acquire() as connection:
            await self._levels.looked(connection, scoring, today)
        _log.info("midnight passed", projection=scoring.projection, moved=moved)

    async def _decide(
        self, scoring: Scoring, roots: Sequence[bytes], today: int, known_at: int
    ) -> None:
        decisions = await self._decisions(scoring, roots, today, known_at)
        async with self._pool.acquire() as connection, connection.transaction():
            await self._outbox.decide(connection, REACTOR, decisions)

    async def _decisions(
        self, scoring: Scoring, roots: Sequence[bytes], today: int, known_at: int
    ) -> list[Decision]:
        sums = await self._levels.sums_at_midnight(scoring, roots, today)
        found = {
            root: crossing
            for root, counted in sums.items()
            # What came in since then is left out, and may have made it look like one.
            if (crossing := midnight_crossing(scoring.model, counted, today))
        }
        known = await self._levels.identities(scoring.tenant, list(found))
        keys = [one.identity_key for identities in known.values() for one in identities]
        data_keys = await self._store.data_keys(scoring.tenant, keys)
        decisions = []
        for root, crossing in found.items():
            identity = _opened(known[root], data_keys)
            if identity is not None:
                event = _event(scoring, root, crossing, identity, today)
                decisions.append(Decision(self._tenants[scoring.tenant], event, known_at))
        return decisions


def _event(
    scoring: Scoring, root: bytes, crossing: Crossing, identity: Identity, today: int
) -> Event:
    at_us = today * DAY_US
    event = crossed(scoring, crossing, [identity])
    event.event_id = decision_id(at_us, root, KIND, scoring.model.name)
    event.occurred_at.CopyFrom(timestamp_of(at_us))
    return event


def _opened(
    identities: Sequence[KnownIdentity], data_keys: Mapping[bytes, DataKey]
) -> Identity | None:
    """Return the strongest identity of a profile that still opens, the first one seen of those."""
    for one in sorted(identities, key=lambda i: (strength_of(i.kind), i.first_position)):
        sealed = SealedIdentity(
            identity_key=one.identity_key,
            kind=one.kind,
            sealed_value=one.sealed_value,
            key_id=one.key_id,
        )
        with suppress(SealBroken):
            identity = open_identity(sealed, data_keys)
            if identity.value:
                return identity
    return None
