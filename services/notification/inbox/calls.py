"""The calls about inboxes: what is in them, what comes in, and what was read."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.errors import StoreError, StoreFull
from libs.eventstore.records import event_id_text
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.identity_graph import IdentityGraph
from libs.projection.opening import open_records
from libs.projection.profiles import views_errors
from libs.rpc import errors, page_tokens
from services.notification.calls import (
    MAX_REFERENCE,
    Context,
    Parts,
    degraded,
    profile_of,
    reader,
    uuid_of,
)
from services.notification.inbox.notifications import reference_key
from services.notification.inbox.reading import read_events
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import InboxItem
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_REJECTED,
    AppendEvent,
    AppendRequest,
    AppendUnit,
    RecordedEvent,
)
from touchline.times import timestamp_of

PROJECTIONS: Final = ("identity_graph", "notifications")
"""What inboxes are read from: what was decided, and who is one customer."""

_MAX_READ: Final = 500
_LATEST: Final = 2**62
_WATCHED_PAGE: Final = 200
_WATCH_SECONDS: Final = 60.0
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class _Inbox:
    """An inbox as the tables know it.

    Attributes:
        owner: Whether it is a `customer`'s, or whoever's a `reference` names.
        key: By what it is found.
        degraded: The projections that lack events of the customer.
    """

    owner: str
    key: bytes | tuple[bytes, ...]
    degraded: Sequence[str] = ()

    def query(self, what: str) -> str:
        return _SQL[f"{what}_of_{self.owner}"]


class InboxCalls:
    """Answers ListInbox, WatchInbox and MarkRead; the proto is the contract."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ListInbox(  # noqa: N802 - gRPC names it
        self, request: api.ListInboxRequest, context: Context
    ) -> api.ListInboxResponse:
        """List an inbox, the newest first."""
        caller = await reader(self._parts, context, request.after_position, PROJECTIONS)
        size = page_tokens.page_size(request.page_size)
        kind, filters, before = "inbox/1", _filters(request, caller), _LATEST
        if request.page_token:
            (before,) = page_tokens.decode(request.page_token, kind, filters, int)
        inbox = await self._inbox(caller, request.inbox)
        # In one snapshot: the count is of the lines that are listed.
        async with (
            views_errors(),
            self._parts.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = await connection.fetch(
                inbox.query("inbox"),
                *(caller.tenant, inbox.key, before, request.unread_only, size + 1),
            )
            unread = await connection.fetchval(inbox.query("unread"), caller.tenant, inbox.key)
        response = api.ListInboxResponse(
            items=await self._items(caller, rows[:size]),
            unread=unread,
            degraded_projections=inbox.degraded,
        )
        if len(rows) > size:
            last = rows[size - 1]["position"]
            response.next_page_token = page_tokens.encode(kind, filters, last)
        return response

    async def WatchInbox(  # noqa: N802 - gRPC names it
        self, request: api.WatchInboxRequest, context: Context
    ) -> AsyncIterator[api.WatchInboxResponse]:
        """Tell what comes into an inbox or is read, in the order of the line."""
        caller = await reader(self._parts, context)
        checkpoints, position = self._parts.checkpoints, request.after_position
        while True:
            reached = checkpoints.position(PROJECTIONS)
            # Looked up anew each time: the customer's profile may have been merged meanwhile.
            inbox = await self._inbox(caller, request.inbox)
            async with views_errors():
                rows = await self._parts.pool.fetch(
                    inbox.query("changes"),
                    *(caller.tenant, inbox.key, position, reached, _WATCHED_PAGE),
                )
            for row, item in zip(rows, await self._items(caller, rows), strict=True):
                item.position = row["changed"]
                yield api.WatchInboxResponse(item=item)
            if len(rows) == _WATCHED_PAGE:
                position = rows[-1]["changed"]
                continue
            position = max(position, reached)
            # When nothing happens it looks again, and hears of a caller that left.
            await checkpoints.moved_beyond(PROJECTIONS, position, _WATCH_SECONDS)

    async def MarkRead(  # noqa: N802 - gRPC names it
        self, request: api.MarkReadRequest, context: Context
    ) -> api.MarkReadResponse:
        """Mark notifications as read, on every channel."""
        caller = await reader(self._parts, context)
        names = _checked_names(request)
        async with views_errors():
            rows = await self._parts.pool.fetch(_SQL["named"], caller.tenant, names)
        if {row["notification_id"] for row in rows} != set(names):
            raise errors.notification_not_found()
        unread = [row for row in rows if row["read_at_us"] is None]
        return api.MarkReadResponse(position=await self._mark(caller, unread, request.reader))

    async def _mark(self, caller: Reader, rows: Sequence[Any], who: str) -> int:
        """Record that notifications were read; return the position of the last, 0 for none."""
        # How far it is known who was erased, before anything is opened.
        known_at = max(1, self._parts.checkpoints.position((IdentityGraph.name,)))
        try:
            records = [RecordedEvent.FromString(row["record"]) for row in rows]
            opened = await open_records(self._parts.store, records)
            events = read_events(
                [
                    (row["recorded_at_us"], event)
                    for row, event in zip(rows, opened, strict=True)
                    if event is not None  # erased: nobody is left whom it would concern
                ],
                who,
            )
            if not events:
                return 0
            entries = [AppendEvent(event=one, decided_at_position=known_at) for one in events]
            units = [AppendUnit(events=[entry]) for entry in entries]
            answer = await self._parts.store.append(AppendRequest(tenant=caller.name, units=units))
        except StoreFull as error:
            raise errors.store_full() from error
        except StoreError as error:
            raise errors.store_unavailable() from error
        if any(one.outcome == APPEND_OUTCOME_REJECTED for one in answer.verdicts):
            raise errors.internal()
        return max(verdict.position for verdict in answer.verdicts)

    async def _inbox(self, caller: Reader, inbox: api.Inbox) -> _Inbox:
        match inbox.WhichOneof("owner"):
            case "reference" if 0 < len(inbox.reference) <= MAX_REFERENCE:
                return _Inbox("reference", reference_key(caller.identity_keys, inbox.reference))
            case "reference":
                told = f"must have 1 to {MAX_REFERENCE} characters"
                raise errors.invalid_request([("inbox.reference", told)])
            case "customer":
                found = await profile_of(self._parts, caller, inbox.customer, "inbox.customer")
                lacking = degraded(self._parts, caller, found, PROJECTIONS)
                return _Inbox("customer", found.keys, lacking)
            case _:
                raise errors.invalid_request(
                    [("inbox", "is missing; give a reference or a customer")]
                )

    async def _items(self, caller: Reader, rows: Sequence[Any]) -> list[InboxItem]:
        records = [RecordedEvent.FromString(row["record"]) for row in rows]
        try:
            opened = await open_records(self._parts.store, records)
        except StoreError as error:
            raise errors.store_unavailable() from error
        owners = list({record.owner_key for record in records})
        async with views_errors():
            profiles = await self._parts.pool.fetch(
                _SQL["profiles_of_owners"], caller.tenant, owners
            )
        roots: dict[bytes, bytes] = {key: root for key, root in profiles}  # noqa: C416
        items = []
        for row, record, event in zip(rows, records, opened, strict=True):
            item = InboxItem(
                notification_id=event_id_text(record.event_id),
                decided_at=timestamp_of(row["recorded_at_us"]),
                profile_id=roots.get(record.owner_key, record.owner_key).hex(),
                position=row["position"],
            )
            if event is not None:
                item.notification.CopyFrom(event.notification_decided)
                item.cause_event_id = event.causation_id
            if row["read_at_us"] is not None:
                item.read_at.CopyFrom(timestamp_of(row["read_at_us"]))
            items.append(item)
        return items


def _checked_names(request: api.MarkReadRequest) -> list[UUID]:
    wrong: list[tuple[str, str]] = []
    if not 0 < len(request.notification_ids) <= _MAX_READ:
        wrong.append(("notification_ids", f"must be 1 to {_MAX_READ}"))
    if len(request.reader) > MAX_REFERENCE:
        wrong.append(("reader", f"must have at most {MAX_REFERENCE} characters"))
    names = []
    for place, text in enumerate(request.notification_ids):
        if (name := uuid_of(text, f"notification_ids[{place}]", wrong)) is not None:
            names.append(name)
    if wrong:
        raise errors.invalid_request(wrong)
    return list(dict.fromkeys(names))


def _filters(request: api.ListInboxRequest, caller: Reader) -> bytes:
    """Return what a page's successor must repeat."""
    same = api.ListInboxRequest(inbox=request.inbox, unread_only=request.unread_only)
    return caller.name.encode() + b"\0" + same.SerializeToString(deterministic=True)
