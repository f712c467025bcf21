"""Records events: checks, seals, appends, and says what became of each."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from libs.eventstore.appender import GROUP_EVENTS, Appender
from libs.eventstore.errors import SealsStale, StoreUnavailable
from libs.eventstore.keyring import Era, Keyring
from libs.eventstore.records import (
    NO_STREAM,
    IdentitySeal,
    Row,
    SealedTenant,
    Stream,
    event_id_bytes,
    open_event,
    same_event,
    seal_event,
    seal_identity,
)
from libs.eventstore.sealing import fresh_nonces
from libs.eventstore.store import AppendVerdict, EventStore
from libs.identity.keys import Identified, IdentityKeys
from libs.rpc.tenants import Tenant
from services.ingestion import domain
from services.ingestion.event_types import EventTypes
from services.ingestion.quarantine import Quarantine, Rejected
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_CONFLICT,
    OUTCOME_DUPLICATE,
    OUTCOME_RECORDED,
    OUTCOME_REJECTED,
    FieldViolation,
    Verdict,
)
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_CONFLICT,
    APPEND_OUTCOME_DUPLICATE,
    APPEND_OUTCOME_ERASED,
    APPEND_OUTCOME_RECORDED,
    APPEND_OUTCOME_REJECTED,
    APPEND_OUTCOME_UNIT_REFUSED,
    AppendEvent,
    AppendRequest,
    AppendResponse,
    RecordedEvent,
)
from touchline.store.v1.store_pb2 import AppendVerdict as AppendVerdictMessage

# How often something is sealed when somebody is erased each time before it is appended.
_SEALED_TIMES: Final = 20
_OUTCOMES: Final = {
    APPEND_OUTCOME_RECORDED: OUTCOME_RECORDED,
    APPEND_OUTCOME_DUPLICATE: OUTCOME_DUPLICATE,
    APPEND_OUTCOME_CONFLICT: OUTCOME_CONFLICT,
}


Append = Callable[[Sequence[Sequence[Row]], int], Awaitable[list[AppendVerdict]]]
"""Appends units that were sealed after so many erasures, and returns one verdict per event."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TenantSecrets:
    """A tenant, and what names its identities and keys its hashes."""

    tenant: Tenant
    identity_keys: IdentityKeys
    sealed: SealedTenant


class _Valid(NamedTuple):
    """An event that keeps every rule: its place in the request, and whom it concerns."""

    place: int
    event: Event
    identities: tuple[Identified, ...]
    stream: Stream = NO_STREAM


class Recorder:
    """Records events of callers.

    Args:
        store: Read when an id comes again with another content.
        appender: Appends.
        keyring: Makes and keeps data keys.
        quarantine: Keeps what is rejected.
        event_types: Knows what custom events must match.
    """

    def __init__(
        self,
        store: EventStore,
        appender: Appender,
        keyring: Keyring,
        quarantine: Quarantine,
        event_types: EventTypes,
    ) -> None:
        self._store = store
        self._appender = appender
        self._keyring = keyring
        self._quarantine = quarantine
        self._event_types = event_types

    async def record(
        self,
        secrets: TenantSecrets,
        events: Sequence[Event],
        traceparent: str,
        append: Append | None = None,
        *,
        keeps_rejected: bool = True,
        era: Era | None = None,
    ) -> list[Verdict]:
        """Return a verdict for each event, in the same order, when all is safe on disk.

        A rejected event never hinders the others. The events are changed: afterwards they hold
        what was sealed.

        Args:
            secrets: The tenant.
            events: What to record.
            traceparent: Is stored with them.
            append: Appends in the stead of the appender, such as when it is this call's turn.
            keeps_rejected: Whether what is rejected comes into the quarantine.
            era: Since when nobody may have been erased, because the events were read from what an
                erasure discards. Default: what is erased meanwhile has no say.

        Raises:
            SealsStale: somebody was erased since that era; nothing was recorded.
            StoreError: see Appender.append; what was recorded answers DUPLICATE when asked again.
        """
        verdicts = [Verdict(event_id=event.event_id) for event in events]
        valid, rejected = await self._check_custom(secrets, *self._check(secrets, events))
        if rejected:
            if keeps_rejected:
                kept_ones = [kept for _, kept in rejected]
                await self._quarantine.keep(secrets.sealed, secrets.identity_keys, kept_ones)
            for index, kept in rejected:
                verdicts[index].outcome = OUTCOME_REJECTED
                verdicts[index].violations.extend(
                    FieldViolation(field=field, description=said) for field, said in kept.violations
                )
        if valid:
            appending = append or self._appender.append

            async def attempt(era: Era) -> list[AppendVerdict]:
                rows = await self._seal(era, secrets, valid, traceparent)
                appended = await appending([[row] for row in rows], era.erasures)
                return await self._compare(secrets, rows, appended)

            appended = await (attempt(era) if era else self._in_an_era(attempt))
            for entry, verdict in zip(valid, appended, strict=True):
                verdicts[entry.place].outcome = _OUTCOMES[verdict.outcome]
                verdicts[entry.place].position = verdict.position or 0
        return verdicts

    async def append(
        self, secrets: TenantSecrets, request: AppendRequest, traceparent: str
    ) -> AppendResponse:
        """Append units for another service, each all or nothing, and return flat verdicts.

        Raises:
            ValueError: there are no events, too many, or a stream's id or version is no such.
            StoreError: see Appender.append.
        """
        entries = [entry for unit in request.units for entry in unit.events]
        if not 1 <= len(entries) <= GROUP_EVENTS:
            raise ValueError(f"a request has 1 to {GROUP_EVENTS} events, not {len(entries)}")
        checked = self._check_entries(secrets, entries)
        valid, rejected = await self._check_custom(secrets, *checked)
        verdicts = [AppendVerdictMessage(outcome=APPEND_OUTCOME_UNIT_REFUSED) for _ in entries]
        for index, kept in rejected:
            verdicts[index].outcome = APPEND_OUTCOME_REJECTED
            verdicts[index].detail = "; ".join(f"{field} {said}" for field, said in kept.violations)
        valid = [one._replace(stream=_stream(entries[one.place])) for one in valid]

        async def attempt(era: Era) -> None:
            open_to = await self._unless_erased(secrets, entries, valid, verdicts)
            await self._append_units(era, secrets, request, open_to, traceparent, verdicts)

        await self._in_an_era(attempt)
        return AppendResponse(verdicts=verdicts)

    async def _append_units(
        self,
        era: Era,
        secrets: TenantSecrets,
        request: AppendRequest,
        valid: Sequence[_Valid],
        traceparent: str,
        verdicts: Sequence[AppendVerdictMessage],
    ) -> None:
        """Append those units of which every event is valid, and say so in the verdicts."""
        rows = await self._seal(era, secrets, valid, traceparent)
        by_index = {entry.place: row for entry, row in zip(valid, rows, strict=True)}
        units: list[list[Row]] = []
        places: list[int] = []
        start = 0
        for unit in request.units:
            indexes = range(start, start := start + len(unit.events))
            if unit.events and all(index in by_index for index in indexes):
                units.append([by_index[index] for index in indexes])
                places += indexes
        if units:
            flat = [row for unit_rows in units for row in unit_rows]
            appended = await self._appender.append(units, era.erasures)
            appended = await self._compare(secrets, flat, appended)
            for index, verdict in zip(places, appended, strict=True):
                verdicts[index].outcome = verdict.outcome
                verdicts[index].position = verdict.position or 0

    async def _unless_erased(
        self,
        secrets: TenantSecrets,
        entries: Sequence[AppendEvent],
        valid: Sequence[_Valid],
        verdicts: Sequence[AppendVerdictMessage],
    ) -> list[_Valid]:
        """Return what may be said after all erasures; verdicts say what was decided before one."""
        decided = {one.place: entries[one.place].decided_at_position for one in valid}
        asked = [one for one in valid if decided[one.place]]
        if not asked:
            return [*valid]
        erased = await self._store.erased_since(
            secrets.sealed.number,
            {identified.key for one in asked for identified in one.identities},
            min(decided[one.place] for one in asked),
        )
        left = []
        for one in valid:
            last = max((erased.get(identified.key, 0) for identified in one.identities), default=0)
            if decided[one.place] and last > decided[one.place]:
                verdicts[one.place].outcome = APPEND_OUTCOME_ERASED
                told = f"was decided before position {last}, where a customer of it was erased"
                verdicts[one.place].detail = told
            else:
                left.append(one)
        return left

    async def _in_an_era(self, attempt: Callable[[Era], Awaitable[T]]) -> T:
        """Seal and append; again, with other keys, when somebody was erased in between.

        Raises:
            StoreUnavailable: somebody was, every time.
        """
        for _ in range(_SEALED_TIMES):
            era = await self._keyring.era()
            try:
                return await attempt(era)
            except SealsStale:
                await self._keyring.renewed()
        raise StoreUnavailable("customers are being erased all the time; nothing was recorded")

    def _check(
        self,
        secrets: TenantSecrets,
        events: Sequence[Event],
        rules: Mapping[str, domain.Rule] = domain.CALLER_RULES,
    ) -> tuple[list[_Valid], list[tuple[int, Rejected]]]:
        now_us = time.time_ns() // 1000
        valid, rejected = [], []
        for index, event in enumerate(events):
            identities, violations = domain.identify(event, secrets.identity_keys)
            violations += domain.violations_of(event, secrets.tenant.name, now_us, rules)
            if violations:
                rejected.append((index, Rejected(event, violations)))
            else:
                valid.append(_Valid(index, event, identities))
        return valid, rejected

    async def _check_custom(
        self,
        secrets: TenantSecrets,
        valid: list[_Valid],
        rejected: list[tuple[int, Rejected]],
    ) -> tuple[list[_Valid], list[tuple[int, Rejected]]]:
        """Check custom events against their types, and return what is valid and what is not."""
        custom = [one for one in valid if one.event.HasField("custom_event")]
        if not custom:
            return valid, rejected
        facts = [one.event.custom_event for one in custom]
        found = await self._event_types.violations_of(secrets.tenant.number, facts)
        broken = {
            one.place: Rejected(one.event, violations)
            for one, violations in zip(custom, found, strict=True)
            if violations
        }
        kept = [one for one in valid if one.place not in broken]
        return kept, [*rejected, *broken.items()]

    def _check_entries(
        self, secrets: TenantSecrets, entries: Sequence[AppendEvent]
    ) -> tuple[list[_Valid], list[tuple[int, Rejected]]]:
        """Check what another service appends: decisions beside what callers may."""
        now_us = time.time_ns() // 1000
        valid: list[_Valid] = []
        rejected: list[tuple[int, Rejected]] = []
        for index, entry in enumerate(entries):
            event = entry.event
            if (fact := domain.of_aggregate(event)) is None:
                taken, refused = self._check(secrets, [event], domain.SERVICE_RULES)
                if entry.stream_id and event.WhichOneof("fact") in domain.DECISION_RULES:
                    told = "must be empty: a decision about a customer is in no stream"
                    taken, refused = [], [(index, Rejected(event, [("stream_id", told)]))]
                valid += [one._replace(place=index) for one in taken]
                rejected += [(index, kept) for _, kept in refused]
                continue
            identities, violations = domain.identify_stream(event, secrets.identity_keys)
            name = secrets.tenant.name
            violations += domain.violations_of(event, name, now_us, domain.AGGREGATE_RULES)
            if not violations:
                stream = _stream(entry)
                violations = domain.place_violations(fact, identities[0].key, stream.stream_id)
            if violations:
                rejected.append((index, Rejected(event, violations)))
            else:
                valid.append(_Valid(index, event, identities))
        return valid, rejected

    async def _seal(
        self, era: Era, secrets: TenantSecrets, valid: Sequence[_Valid], traceparent: str
    ) -> list[Row]:
        tenant = secrets.sealed
        seals = await self._identity_seals(era, tenant.number, valid)
        return [
            seal_event(
                tenant, event, [seals[one.sent] for one in identities], traceparent, nonce, stream
            )
            for (_, event, identities, stream), nonce in zip(
                valid, fresh_nonces(len(valid)), strict=True
            )
        ]

    async def _identity_seals(
        self, era: Era, tenant: int, valid: Sequence[_Valid]
    ) -> dict[bytes, IdentitySeal]:
        """Return the seals of all identities of some events, by how their callers spelled them."""
        seals: dict[bytes, IdentitySeal] = {}
        unknown: dict[bytes, Identified] = {}
        for _, _, identities, _ in valid:
            for identified in identities:
                sent = identified.sent
                if sent in seals or sent in unknown:
                    continue
                seal = era.seals.get((tenant, sent))
                if seal is None:
                    unknown[sent] = identified
                else:
                    seals[sent] = seal
        if unknown:
            keys = {identified.key for identified in unknown.values()}
            data_keys = await self._keyring.ensure(tenant, keys)
            for sent, identified in unknown.items():
                seals[sent] = seal_identity(identified, data_keys[identified.key])
                era.seals.put((tenant, sent), seals[sent])
        return seals

    async def _compare(
        self, secrets: TenantSecrets, rows: Sequence[Row], verdicts: list[AppendVerdict]
    ) -> list[AppendVerdict]:
        """Look twice before saying CONFLICT: equal messages may come in different bytes."""
        doubtful = {
            index: verdict.position
            for index, verdict in enumerate(verdicts)
            if verdict.outcome == APPEND_OUTCOME_CONFLICT and verdict.position
        }
        if not doubtful:
            return verdicts
        stored = await self._store.records_at(doubtful.values())
        for index, position in doubtful.items():
            mine = RecordedEvent.FromString(rows[index].record)
            theirs = stored[position]
            keys = await self._keyring.keys_of(secrets.sealed.number, [mine, theirs])
            if same_event(open_event(mine, keys), open_event(theirs, keys)):
                verdicts[index] = AppendVerdict(APPEND_OUTCOME_DUPLICATE, position)
        return verdicts


def _stream(entry: AppendEvent) -> Stream:
    if not entry.stream_id:
        return NO_STREAM
    if entry.stream_version < 0:
        raise ValueError("a stream's versions start at 0")
    return Stream(event_id_bytes(entry.stream_id), entry.stream_version)
