"""The reactor that keeps what customers await, and decides that an answer kept it.

That a deadline broke it is decided beside it, by services.notification.deadlines.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.client import StoreClient
from libs.expectations import Standing, Telling, standing, telling_of
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.erasing import Erasure, erasures_among
from libs.projection.identity_graph import IdentityGraph
from libs.projection.opening import open_events, open_records
from libs.projection.outbox import Decision, Outbox
from libs.projection.profiles import find_profile
from libs.projection.projection import Connection, Recorded, Table
from libs.projection.waiting import Checkpoints
from libs.telemetry import declared, metrics
from services.notification.domain.answers import first_answer
from services.notification.expectations.answers import NEEDED, Asked, asked, triggers_among
from services.notification.expectations.promises import APPLICATION, expectation_key
from services.notification.expectations.resolutions import kept
from services.notification.inbox.notifications import reference_key
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_AGGREGATE_CHANGED,
    EVENT_TYPE_EXPECTATION_RESOLVED,
    EVENT_TYPE_EXPECTATION_SET,
    Event,
)
from touchline.events.v1.facts_pb2 import ExpectationOutcome
from touchline.store.v1.store_pb2 import RecordedEvent

NAME: Final = "expectations"
_WAIT_SECONDS: Final = 10.0
# For so long after a deadline the proof that it was met is looked for.
_PROOF_US: Final = 30 * 86_400_000_000
_KNOWS_ERASED: Final = (IdentityGraph.name,)
_TYPES: Final = (EVENT_TYPE_EXPECTATION_SET, EVENT_TYPE_EXPECTATION_RESOLVED)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))

_Key = tuple[int, bytes]
"""A tenant's number, and the keyed hash of an expectation's id."""


@dataclass(slots=True)
class _Batch:
    """What is to be folded of some events.

    Attributes:
        known_at: How far it was known who was erased, before anything was opened.
    """

    known_at: int = 0
    tellings: list[tuple[Any, ...]] = field(default_factory=list)
    touched: set[_Key] = field(default_factory=set)
    retracted: list[tuple[Any, ...]] = field(default_factory=list)
    versions: list[tuple[Any, ...]] = field(default_factory=list)
    asked: dict[_Key, Asked] = field(default_factory=dict)
    erasures: list[Erasure] = field(default_factory=list)


class Expectations:
    """Keeps what customers await; see libs.projection.projection.Projection.

    Attributes:
        changed: Set when a deadline may have changed.
        changed_at: The position whose checkpoint makes that change visible.

    Args:
        pool: The service's database.
        store: Opens events.
        outbox: Takes decisions.
        checkpoints: How far the projections came that say what a customer's contacts are.
        readers: By tenant number.
    """

    name = NAME
    fold_version = 1
    divisible = False
    tables = (
        Table("expectation_tellings"),
        Table("expectation_retractions"),
        Table("expectations"),
        Table("promise_versions"),
    )

    def __init__(
        self,
        pool: asyncpg.Pool,
        store: StoreClient,
        outbox: Outbox,
        checkpoints: Checkpoints,
        readers: Mapping[int, Reader],
    ) -> None:
        self.changed = asyncio.Event()
        self.changed_at = 0
        self._pool = pool
        self._store = store
        self._outbox = outbox
        self._checkpoints = checkpoints
        self._readers = readers
        self._names = {number: reader.name for number, reader in readers.items()}
        self._batch = _Batch()

    def copy(self) -> None:
        """Only one may decide."""

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Open what is told of expectations, and find what may be answers.

        Raises:
            StoreUnavailable: events can't be opened now.
            Behind: who is who, or what happened, is not known as far as these events.
        """
        events = [event for event in events if event.record.tenant in self._readers]
        batch = self._batch = _Batch(known_at=self._checkpoints.position(_KNOWS_ERASED))
        batch.erasures = erasures_among(events)
        told = [event for event in events if event.record.type in _TYPES]
        opened = await open_events(self._store, told) if told else []
        for one, event in zip(told, opened, strict=True):
            if event is not None:
                self._take_in(batch, one, event)
        for one in events:
            record = one.record
            if record.retracts:
                batch.retracted.append((record.tenant, UUID(record.retracts), record.owner_key))
            elif record.type == EVENT_TYPE_AGGREGATE_CHANGED and self._is_promise(record):
                batch.versions.append((record.tenant, record.owner_key, record.stream_version))
        await self._find_answers(batch, events, list(zip(told, opened, strict=True)))

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Fold what was told, and decide what answers kept."""
        batch = self._batch
        if batch.tellings:
            await connection.execute(_SQL["add_tellings"], *_columns(batch.tellings))
        if batch.retracted:
            rows = await connection.fetch(_SQL["retract"], *_columns(batch.retracted))
            batch.touched |= {(tenant, key) for tenant, key in rows}
        if batch.versions:
            await connection.execute(_SQL["put_versions"], *_columns(batch.versions))
        for erasure in batch.erasures:
            await self._erase(connection, erasure)
        if batch.touched:
            await _refold(connection, sorted(batch.touched))
        if batch.asked:
            await self._keep(connection, batch.asked)
        await self._outbox.forget(connection, self._names, events)
        if batch.touched or batch.asked:
            self.changed_at = events[-1].position
            self.changed.set()

    def aborted(self) -> None:
        """What was prepared is prepared anew."""
        self._batch = _Batch()

    async def _erase(self, connection: Connection, erasure: Erasure) -> None:
        """Delete what erased events told: a fold anew could not open it."""
        batch = self._batch
        rows = await connection.fetch(_SQL["erase"], *erasure.arguments)
        for key in {(erasure.tenant, row["expectation_key"]) for row in rows}:
            batch.touched.add(key)
            batch.asked.pop(key, None)  # it was opened before

    def _is_promise(self, record: RecordedEvent) -> bool:
        keys = self._readers[record.tenant].identity_keys
        return record.identities[0].namespace_key == keys.namespace_key(APPLICATION)

    def _take_in(self, batch: _Batch, one: Recorded, event: Event) -> None:
        record, keys = one.record, self._readers[one.record.tenant].identity_keys
        told = telling_of(
            *(event, record.event_id, record.occurred_at_us),
            recorded_at_us=one.recorded_at_us,
            historical=record.historical,
        )
        if told is None:
            return
        team_key, answers = None, None
        if record.type == EVENT_TYPE_EXPECTATION_SET:
            awaited = event.expectation_set
            key = expectation_key(keys, awaited.expectation_id)
            team_key = reference_key(keys, awaited.team) if awaited.team else None
            answers = UUID(awaited.answers) if awaited.answers else None
        else:
            key = expectation_key(keys, event.expectation_resolved.expectation_id)
            _count(told.outcome, record)
        batch.touched.add((record.tenant, key))
        batch.tellings.append(
            (
                *(record.tenant, key, UUID(told.event_id), record.owner_key, one.position),
                *(told.occurred_at_us, told.recorded_at_us, told.outcome, told.due_at_us),
                *(told.by_deadline, told.historical, team_key, answers, one.record_bytes),
            )
        )

    async def _find_answers(
        self,
        batch: _Batch,
        events: Sequence[Recorded],
        told: Sequence[tuple[Recorded, Event | None]],
    ) -> None:
        new = [
            (one, event)
            for one, event in told
            if event is not None and event.expectation_set.answers and not event.historical
        ]
        triggers = triggers_among(events)
        if not triggers or not (new or await self._pool.fetchval(_SQL["any_awaiting"])):
            return
        # Parked events come late: contacts with the customer's other identities are folded already.
        folded = await self._pool.fetchval(_SQL["folded"], NAME) or 0
        last = max(events[-1].position, folded)
        long_ago_us = events[-1].recorded_at_us - _PROOF_US
        await self._checkpoints.wait(NEEDED, last, _WAIT_SECONDS)
        for one, event in new:
            tenant, owner_key = one.record.tenant, one.record.owner_key
            profile = await find_profile(self._pool, tenant, owner_key)
            place, keys = (tenant, one.position), profile.keys if profile else (owner_key,)
            key = self._key(tenant, event)
            batch.asked[key] = await asked(self._pool, self._store, event, place, keys, last)
        await self._find_awaiting(batch, triggers, last, long_ago_us)

    async def _find_awaiting(
        self, batch: _Batch, triggers: Sequence[Recorded], up_to_position: int, due_since_us: int
    ) -> None:
        named: defaultdict[int, set[bytes]] = defaultdict(set)
        for one in triggers:
            named[one.record.tenant].update(i.identity_key for i in one.record.identities)
        for tenant, identity_keys in named.items():
            rows = await self._pool.fetch(
                _SQL["awaiting_of"], tenant, list(identity_keys), due_since_us
            )
            records = [RecordedEvent.FromString(row["record"]) for row in rows]
            opened = await open_records(self._store, records)
            for row, event in zip(rows, opened, strict=True):
                key = (tenant, row["expectation_key"])
                if event is not None and key not in batch.asked:
                    place = (tenant, row["position"])
                    batch.asked[key] = await asked(
                        self._pool, self._store, event, place, row["keys"], up_to_position
                    )

    def _key(self, tenant: int, event: Event) -> _Key:
        keys = self._readers[tenant].identity_keys
        return tenant, expectation_key(keys, event.expectation_set.expectation_id)

    async def _keep(self, connection: Connection, questions: Mapping[_Key, Asked]) -> None:
        """Decide what the contacts so far keep, of what is awaited still."""
        decisions = []
        for tenant, key, due_at_us, since_us in await connection.fetch(
            _SQL["awaited"], *_columns(sorted(questions))
        ):
            one = questions[tenant, key]
            answer = first_answer(one.question(due_at_us, since_us), one.contacts)
            if answer is not None:
                event = kept(one.event, key, due_at_us, answer)
                decisions.append(Decision(self._names[tenant], event, self._batch.known_at))
                await connection.execute(_SQL["keep"], tenant, key)
        await self._outbox.decide(connection, NAME, decisions)


async def _refold(connection: Connection, touched: Sequence[_Key]) -> None:
    told: defaultdict[_Key, dict[bytes, tuple[Telling, Any]]] = defaultdict(dict)
    for row in await connection.fetch(_SQL["tellings"], *_columns(touched)):
        event_id = row["event_id"].bytes
        telling = Telling(
            *(event_id, row["occurred_at_us"], row["outcome"], row["due_at_us"]),
            *(row["by_deadline"], row["recorded_at_us"], row["historical"]),
        )
        told[row["tenant"], row["expectation_key"]][event_id] = telling, row
    rows, gone = [], []
    for key in touched:
        now = standing(telling for telling, _ in told[key].values())
        if now is None:
            gone.append(key)
        else:
            _, content = told[key][now.content.event_id]
            rows.append(_row(key, now, content))
    if rows:
        await connection.execute(_SQL["put"], *_columns(rows))
    if gone:
        await connection.execute(_SQL["forget"], *_columns(gone))


def _row(key: _Key, now: Standing, content: Any) -> tuple[Any, ...]:
    def named(telling: Telling | None) -> UUID | None:
        return None if telling is None else UUID(telling.event_id)

    return (
        *(*key, content["owner_key"], now.state, now.due_at_us, now.since_us),
        *(content["team_key"], content["answers"], named(now.first), named(now.content)),
        *(named(now.due), named(now.ended), named(now.said), int(now.remark)),
        *(now.breakable, now.answerable),
    )


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _count(outcome: ExpectationOutcome.ValueType, record: RecordedEvent) -> None:
    if not record.historical and outcome in ExpectationOutcome.values():
        name = ExpectationOutcome.Name(outcome).removeprefix("EXPECTATION_OUTCOME_").lower()
        metrics.add(declared.EXPECTATIONS_RESOLVED, 1, {declared.EXPECTATION_OUTCOME: name})
