"""The calls about deliveries, and about where employees and teams are reached."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from asyncpg.pgproto.pgproto import UUID

from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.profiles import views_errors
from libs.rpc import errors, page_tokens
from services.notification.calls import Context, Parts, reader, uuid_of
from services.notification.deliveries import recipients
from services.notification.deliveries.taking_in import CHANNELS
from touchline.events.v1.decisions_pb2 import NotificationChannel
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    DELIVERY_STATE_CLAIMED,
    DELIVERY_STATE_UNSPECIFIED,
    DELIVERY_STATE_WAITING,
    Delivery,
)
from touchline.times import timestamp_of

PROJECTIONS: Final = ("deliveries",)
"""What deliveries are read from."""

_OPEN: Final = (DELIVERY_STATE_WAITING, DELIVERY_STATE_CLAIMED)
_LATEST: Final = 2**62
_DURABLE: Final = "SET LOCAL synchronous_commit TO on"
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class DeliveryCalls:
    """Answers ListDeliveries, RetryDelivery, PutRecipient and ListRecipients."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ListDeliveries(  # noqa: N802 - gRPC names it
        self, request: api.ListDeliveriesRequest, context: Context
    ) -> api.ListDeliveriesResponse:
        """List deliveries, the latest decided first."""
        caller = await reader(self._parts, context, request.after_position, PROJECTIONS)
        size = page_tokens.page_size(request.page_size)
        kind, filters, before = "deliveries/1", _filters(request, caller), (_LATEST, 0)
        if request.page_token:
            before = page_tokens.decode(request.page_token, kind, filters, int, int)
        async with views_errors():
            rows = await self._parts.pool.fetch(
                _SQL["listed"], caller.tenant, _wanted(request.states), *before, size + 1
            )
        response = api.ListDeliveriesResponse(deliveries=[delivery(row) for row in rows[:size]])
        if len(rows) > size:
            last = rows[size - 1]
            response.next_page_token = page_tokens.encode(
                kind, filters, last["position"], last["channel"]
            )
        return response

    async def RetryDelivery(  # noqa: N802 - gRPC names it
        self, request: api.RetryDeliveryRequest, context: Context
    ) -> api.RetryDeliveryResponse:
        """Try a dead letter again."""
        caller = await reader(self._parts, context)
        name = _checked_name(request)
        async with (
            views_errors(),
            self._parts.pool.acquire() as connection,
            connection.transaction(),
        ):
            await connection.execute(_DURABLE)
            tried = await connection.fetchval(
                _SQL["try_again"], caller.tenant, name, request.channel
            )
            rows = await connection.fetch(_SQL["of_notifications"], caller.tenant, [name])
        found = [delivery(row) for row in rows if row["channel"] == request.channel]
        if not found:
            raise errors.notification_not_found()
        if tried is None:
            told = "is of no dead letter: only a delivery that failed is tried again"
            raise errors.invalid_request([("notification_id", told)])
        return api.RetryDeliveryResponse(delivery=found[0])

    async def PutRecipient(  # noqa: N802 - gRPC names it
        self, request: api.PutRecipientRequest, context: Context
    ) -> api.PutRecipientResponse:
        """Keep where an employee or a team is reached."""
        caller = await reader(self._parts, context)
        recipient, settings = request.recipient, self._parts.webhooks
        if wrong := list(recipients.violations(recipient, settings)):
            raise errors.invalid_request(wrong)
        async with (
            views_errors(),
            self._parts.pool.acquire() as connection,
            connection.transaction(),
        ):
            await connection.execute(_DURABLE)
            await recipients.put(connection, caller.tenant, recipient)
        response = api.PutRecipientResponse()
        if recipient.webhook_url:
            response.webhook_secret = recipients.webhook_secret(
                settings, caller.name, recipient.reference
            )
        return response

    async def ListRecipients(  # noqa: N802 - gRPC names it
        self, request: api.ListRecipientsRequest, context: Context
    ) -> api.ListRecipientsResponse:
        """List where employees and teams are reached."""
        del request
        caller = await reader(self._parts, context)
        async with views_errors():
            known = await recipients.all_of(self._parts.pool, caller.tenant)
        return api.ListRecipientsResponse(recipients=known)


def delivery(row: Any) -> Delivery:
    """Return a row of deliveries.sql's `listed` or `of_notifications` as callers see it."""
    found = Delivery(
        notification_id=str(row["notification_id"]),
        channel=row["channel"],
        state=row["state"],
        attempts=row["attempts"],
        reason=row["reason"],
        possibly_repeated=row["possibly_repeated"],
    )
    if row["state"] in _OPEN and row["due_at_us"]:
        found.due_at.CopyFrom(timestamp_of(row["due_at_us"]))
    if row["ended_at_us"] is not None:
        found.ended_at.CopyFrom(timestamp_of(row["ended_at_us"]))
    return found


async def deliveries_of(
    parts: Parts, tenant: int, names: Sequence[UUID]
) -> list[tuple[UUID, Delivery]]:
    """Return the deliveries of notifications, each with its notification, in the line's order."""
    rows = await parts.pool.fetch(_SQL["of_notifications"], tenant, list(names))
    return [(row["notification_id"], delivery(row)) for row in rows]


def _wanted(states: Iterable[int]) -> list[int] | None:
    numbers = list(states)
    return None if not numbers or DELIVERY_STATE_UNSPECIFIED in numbers else numbers


def _checked_name(request: api.RetryDeliveryRequest) -> UUID:
    wrong: list[tuple[str, str]] = []
    name = uuid_of(request.notification_id, "notification_id", wrong)
    if request.channel not in CHANNELS:
        names = " or ".join(NotificationChannel.Name(channel) for channel in CHANNELS)
        wrong.append(("channel", f"must be {names}"))
    if wrong or name is None:
        raise errors.invalid_request(wrong)
    return name


def _filters(request: api.ListDeliveriesRequest, caller: Reader) -> bytes:
    """Return what a page's successor must repeat."""
    same = api.ListDeliveriesRequest(states=request.states)
    return caller.name.encode() + b"\0" + same.SerializeToString(deterministic=True)
