"""The calls about what customers await: promises, and how each expectation stands."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from eventsourcing.persistence import DataError, OperationalError

from libs.eventstore.errors import StoreError, StoreFull
from libs.eventstore.records import event_id_text
from libs.expectations import Remark, in_words
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.identity_graph import IdentityGraph
from libs.projection.opening import open_records
from libs.projection.profiles import views_errors
from libs.projection.waiting import waiting_errors
from libs.rpc import errors, page_tokens
from libs.rpc.deadlines import remaining
from services.notification.calls import (
    MAX_REFERENCE,
    Context,
    Parts,
    degraded,
    profile_of,
    reader,
)
from services.notification.expectations.keeping import NAME
from services.notification.expectations.promises import (
    PromiseEnded,
    PromiseExists,
    PromiseNotFound,
    Saved,
    StaleVersion,
    expectation_key,
    promise_id,
)
from services.notification.expectations.promising import (
    asked,
    change_of,
    check_given,
    check_resolved,
    given,
    resolved,
)
from services.notification.inbox.notifications import reference_key
from touchline.events.v1.event_pb2 import Event
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    EXPECTATION_STATE_BROKEN,
    EXPECTATION_STATE_OPEN,
    EXPECTATION_STATE_UNSPECIFIED,
    Expectation,
    ExpectationState,
)
from touchline.store.v1.store_pb2 import RecordedEvent
from touchline.times import micros_of, timestamp_of

PROJECTIONS: Final = ("identity_graph", NAME)
"""What expectations are read from."""

_RECORDS: Final = ("first", "content", "ended", "said")
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class ExpectationCalls:
    """Answers GivePromise, ResolvePromise and ListExpectations; the proto is the contract."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def GivePromise(  # noqa: N802 - gRPC names it
        self, request: api.GivePromiseRequest, context: Context
    ) -> api.GivePromiseResponse:
        """Promise something to a customer."""
        caller = await reader(self._parts, context)
        keys = caller.identity_keys
        check_given(request, keys)
        row = await self._content(caller, request.expectation_id)
        if row is not None and row["version"] is None:
            raise errors.expectation_exists()  # a rule's, or another system's
        promises = self._parts.applications[caller.tenant].promises
        with _promise_errors():
            saved = await asyncio.to_thread(
                promises.give,
                promise_id(keys, request.expectation_id),
                micros_of(request.due_at),
                asked(keys, request),
                given(keys, request),
            )
        return api.GivePromiseResponse(version=saved.version, position=saved.position)

    async def ResolvePromise(  # noqa: N802 - gRPC names it
        self, request: api.ResolvePromiseRequest, context: Context
    ) -> api.ResolvePromiseResponse:
        """Say how a promise ended, or renegotiate it."""
        caller = await reader(self._parts, context)
        check_resolved(request)
        saved = await self._resolve(caller, request, context)
        return api.ResolvePromiseResponse(version=saved.version, position=saved.position)

    async def ListExpectations(  # noqa: N802 - gRPC names it
        self, request: api.ListExpectationsRequest, context: Context
    ) -> api.ListExpectationsResponse:
        """List expectations, the earliest due first."""
        caller = await reader(self._parts, context, request.after_position, PROJECTIONS)
        size = page_tokens.page_size(request.page_size)
        kind, filters, after = "expectations/1", _filters(request, caller), (0, b"")
        if request.page_token:
            after = page_tokens.decode(request.page_token, kind, filters, int, bytes)
        response, owners = api.ListExpectationsResponse(), None
        if request.HasField("profile"):
            profile = await profile_of(self._parts, caller, request.profile, "profile")
            lacking = degraded(self._parts, caller, profile, PROJECTIONS)
            response.degraded_projections.extend(lacking)
            owners = profile.keys
        rows = await self._page(caller, request, owners, after, size + 1)
        response.expectations.extend(await self._opened(rows[:size]))
        if len(rows) > size:
            last = rows[size - 1]
            response.next_page_token = page_tokens.encode(
                kind, filters, last["due_at_us"], last["expectation_key"]
            )
        return response

    async def _resolve(
        self, caller: Reader, request: api.ResolvePromiseRequest, context: Context
    ) -> Saved:
        keys = caller.identity_keys
        promises = self._parts.applications[caller.tenant].promises
        name = promise_id(keys, request.expectation_id)
        with _promise_errors(request.expected_version):
            if await asyncio.to_thread(promises.find, name) is None:
                raise PromiseNotFound
            # How far it is known who was erased, before anything is opened.
            known_at = self._parts.checkpoints.position((IdentityGraph.name,))
            told = await self._told(caller, request.expectation_id, context)
            fact, change = resolved(keys, request, told), change_of(keys, request)
            return await asyncio.to_thread(promises.resolve, name, change, fact, known_at)

    async def _told(self, caller: Reader, expectation_id: str, context: Context) -> Event:
        """Return what set a promise that was given: it says whom it concerns.

        Raises:
            PromiseNotFound: the customer was erased.
        """
        row = await self._content(caller, expectation_id)
        if row is None:  # it was given a moment ago
            head = await self._head()
            with waiting_errors(head):
                await self._parts.checkpoints.wait((NAME,), head, remaining(context))
            row = await self._content(caller, expectation_id)
        if row is None:
            raise PromiseNotFound
        (told,) = await self._open([row["record"]])
        if told is None:
            raise PromiseNotFound
        return told

    async def _head(self) -> int:
        try:
            return (await self._parts.store.head()).position
        except StoreError as error:
            raise errors.store_unavailable() from error

    async def _content(self, caller: Reader, expectation_id: str) -> Any:
        key = expectation_key(caller.identity_keys, expectation_id)
        async with views_errors():
            return await self._parts.pool.fetchrow(_SQL["content"], caller.tenant, key)

    async def _page(
        self,
        caller: Reader,
        request: api.ListExpectationsRequest,
        owners: Sequence[bytes] | None,
        after: tuple[int, bytes],
        limit: int,
    ) -> list[Any]:
        team = None
        if len(request.team) > MAX_REFERENCE:
            told = f"must have at most {MAX_REFERENCE} characters"
            raise errors.invalid_request([("team", told)])
        if request.team:
            team = reference_key(caller.identity_keys, request.team)
        query = _SQL["page" if owners is None else "page_of_customer"]
        of_customer = () if owners is None else (owners,)
        wanted = (caller.tenant, _states(request), team, *after, limit, *of_customer)
        # One snapshot: what moves on in between must not leave the page.
        async with (
            views_errors(),
            self._parts.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            found = [row["expectation_key"] for row in await connection.fetch(query, *wanted)]
            return await connection.fetch(_SQL["details"], caller.tenant, found)

    async def _opened(self, rows: Sequence[Any]) -> list[Expectation]:
        records = dict.fromkeys(
            row[name] for row in rows for name in _RECORDS if row[name] is not None
        )
        events = dict(zip(records, await self._open(list(records)), strict=True))
        return [_expectation(row, events) for row in rows]

    async def _open(self, records: Sequence[bytes]) -> list[Event | None]:
        try:
            return await open_records(
                self._parts.store, [RecordedEvent.FromString(record) for record in records]
            )
        except StoreError as error:
            raise errors.store_unavailable() from error


@contextmanager
def _promise_errors(expected_version: int = 0) -> Iterator[None]:
    try:
        yield
    except (PromiseNotFound, DataError) as error:  # the latter when the customer was just erased
        raise errors.expectation_not_found() from error
    except PromiseEnded as error:
        raise errors.expectation_ended() from error
    except PromiseExists as error:
        raise errors.expectation_exists() from error
    except StaleVersion as error:
        raise errors.stale_version("The promise", error.version, expected_version) from error
    except OperationalError as error:
        if isinstance(error.__cause__, StoreFull):
            raise errors.store_full() from error
        raise errors.store_unavailable() from error


def _states(request: api.ListExpectationsRequest) -> list[int]:
    known = ExpectationState.values()
    if EXPECTATION_STATE_UNSPECIFIED in request.states:
        return list(known)
    if not request.states:
        return [EXPECTATION_STATE_OPEN, EXPECTATION_STATE_BROKEN]
    return [state for state in request.states if state in known]


def _filters(request: api.ListExpectationsRequest, caller: Reader) -> bytes:
    """Return what a page's successor must repeat."""
    same = api.ListExpectationsRequest(
        profile=request.profile if request.HasField("profile") else None,
        states=request.states,
        team=request.team,
    )
    return caller.name.encode() + b"\0" + same.SerializeToString(deterministic=True)


def _expectation(row: Any, events: dict[bytes, Event | None]) -> Expectation:
    """Return an expectation as callers see it; what was erased is left empty."""
    first, content, ended, said = (_envelope(row[name], events) for name in _RECORDS)
    awaited = content.expectation_set
    reason = in_words(Remark(row["remark"]), said.expectation_resolved.reason)
    expectation = Expectation(
        expectation_id=awaited.expectation_id,
        profile_id=(row["root_key"] or b"").hex(),
        promise=awaited.promise,
        due_at=timestamp_of(row["due_at_us"]),
        state=row["state"],
        team=awaited.team,
        promised_by=awaited.promised_by,
        rule=awaited.rules[-1] if awaited.rules else "",
        set_at=first.occurred_at,
        reason=reason,
        set_by_event_id=first.event_id,
        version=row["version"] or 0,
    )
    if ended.event_id:
        expectation.ended_at.CopyFrom(ended.occurred_at)
        expectation.ended_by_event_id = ended.event_id
    return expectation


def _envelope(record: bytes | None, events: dict[bytes, Event | None]) -> Event:
    """Return an event opened, or of one that was erased what its envelope says; empty for none."""
    if record is None:
        return Event()
    opened = events[record]
    if opened is not None:
        return opened
    envelope = RecordedEvent.FromString(record)
    return Event(
        event_id=event_id_text(envelope.event_id),
        occurred_at=timestamp_of(envelope.occurred_at_us),
    )
