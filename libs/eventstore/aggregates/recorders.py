"""The library's recorders of events, on the line."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InternalError,
    Notification,
    ProgrammingError,
    StoredEvent,
    Subscription,
)

from libs.eventstore.aggregates.appending import append_unit, persistence_errors
from libs.eventstore.aggregates.lending import Line
from libs.eventstore.aggregates.stored import (
    CHANGES,
    Purpose,
    Saving,
    entry_of,
    owner_of,
    stored_of,
)
from libs.eventstore.aggregates.subscription import LineSubscription
from libs.eventstore.records import open_event
from touchline.store.v1.store_pb2 import (
    GetChangesRequest,
    GetStreamRequest,
    PositionedEvent,
    RecordedEvent,
)


class LineAggregateRecorder(AggregateRecorder):
    """Keeps an application's streams on the line; any thread may call it but the loop's.

    Args:
        line: The tenant's line.
        application: The application's name: streams of two applications never meet.
        purpose: Changes or snapshots.
    """

    def __init__(self, line: Line, application: str, purpose: Purpose = CHANGES) -> None:
        self.line = line
        self._application = application
        self._purpose = purpose

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Append events as one unit; see `Saving` for what else may be said.

        Raises:
            IntegrityError: another writer has one of the versions; nothing was recorded.
            DataError: the store does not take one of them; nothing was recorded.
            ProgrammingError: there are facts and no events.
            OperationalError: the store can't be reached; whether they were recorded is not known.
        """
        self.line.run(self._insert(stored_events, Saving(**kwargs)))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Return events of an aggregate; none when it was erased.

        Raises:
            InternalError: they are not what was recorded.
            OperationalError: the store can't be reached.
        """
        if limit is not None and limit < 1:
            return []
        request = GetStreamRequest(
            tenant=self.line.tenant.number,
            after_version=gt,
            up_to_version=lte,
            newest_first=desc,
            limit=limit or 0,
        )
        return self.line.run(self._select(originator_id, request))

    async def _insert(self, stored_events: Sequence[StoredEvent], saving: Saving) -> list[int]:
        keys = self.line.keys
        entries = [
            entry_of(stored, keys, self._application, self._purpose, saving)
            for stored in stored_events
        ]
        if not entries:
            if saving.facts:
                raise ProgrammingError("facts go with a change, and nothing was changed")
            return []
        unit = [*entries, *saving.facts]
        async with persistence_errors():
            positions = await append_unit(self.line.client, self.line.tenant.name, unit)
        return positions[: len(entries)]

    async def _select(
        self, originator_id: UUID | str, request: GetStreamRequest
    ) -> list[StoredEvent]:
        owner = owner_of(self.line.keys, self._application, originator_id)
        request.stream_id = self._purpose.stream_of(owner.key)
        records: list[RecordedEvent] = []
        async with persistence_errors():
            async for change in self.line.client.stream(request):
                record = RecordedEvent.FromString(change.event.record)
                if record.stream_id != request.stream_id:
                    raise InternalError(f"event {change.position} is of another stream")
                records.append(record)
            keys = await self.line.client.keys_of(self.line.tenant.number, records)
            return [
                stored_of(event, record.stream_version, self._purpose)
                for record in records
                if (event := open_event(record, keys)) is not None
            ]


class LineApplicationRecorder(LineAggregateRecorder, ApplicationRecorder):
    """Also tells an application's changes in their order; an id is a position on the line."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Append events as LineAggregateRecorder does, and return their positions."""
        return self.line.run(self._insert(stored_events, Saving(**kwargs)))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Return changes in the order of the line, without those of erased aggregates.

        Args:
            start: The position to start at, or after. Default: the beginning.
            limit: How many at most.
            stop: The last position to look at. Default: the head.
            topics: Only these. Default: all. They are sealed, so all are read.
            inclusive_of_start: False to start after `start`.

        Raises:
            OperationalError: the store can't be reached.
        """
        after = max(0, (start or 0) - (1 if inclusive_of_start else 0))
        if limit < 1 or (stop is not None and stop <= after):
            return []
        request = self._changes(after_position=after, up_to_position=stop or 0)
        if not topics:
            request.limit = limit
        return self.line.run(self._select_changes(request, limit, topics))

    def max_notification_id(self) -> int | None:
        """Return the position of the application's last change; None when it has none.

        Raises:
            OperationalError: the store can't be reached.
        """
        return self.line.run(self._last(self._changes(newest_first=True, limit=1)))

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """Return an iterator of changes that waits for those to come."""
        return LineSubscription(self, self.line, gt, topics)

    def _changes(self, **what: Any) -> GetChangesRequest:
        namespace_key = self.line.keys.namespace_key(self._application)
        tenant = self.line.tenant.number
        return GetChangesRequest(tenant=tenant, namespace_key=namespace_key, **what)

    async def _last(self, request: GetChangesRequest) -> int | None:
        async with persistence_errors(), aclosing(self.line.client.changes(request)) as pages:
            async for page in pages:
                if page:
                    return page[0].position
        return None

    async def _select_changes(
        self, request: GetChangesRequest, limit: int, topics: Sequence[str]
    ) -> list[Notification]:
        found: list[Notification] = []
        async with persistence_errors(), aclosing(self.line.client.changes(request)) as pages:
            async for page in pages:
                opened = await self._notifications(page)
                found += [one for one in opened if not topics or one.topic in topics]
                if len(found) >= limit:
                    break
        return found[:limit]

    async def _notifications(self, page: list[PositionedEvent]) -> list[Notification]:
        records = [RecordedEvent.FromString(change.event.record) for change in page]
        keys = await self.line.client.keys_of(self.line.tenant.number, records)
        return [
            Notification(
                **vars(stored_of(event, record.stream_version, CHANGES)), id=change.position
            )
            for change, record in zip(page, records, strict=True)
            if (event := open_event(record, keys)) is not None
        ]
