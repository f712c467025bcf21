"""The ingestion service as its callers see it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from libs.eventstore.appender import Appender
from libs.eventstore.errors import QueueFull, StoreFull, StoreUnavailable
from libs.eventstore.keyring import Keyring
from libs.eventstore.relay import Relay
from libs.eventstore.store import EventStore
from libs.eventstore.verification import verify
from libs.rpc import errors, page_tokens
from libs.rpc.tenants import Tenants
from libs.telemetry.context import current_traceparent
from services.ingestion.gauges import count_recorded
from services.ingestion.quarantine import Quarantine
from services.ingestion.recording import Recorder, TenantSecrets
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import StoreStatus, Verdict
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceServicer

MAX_BATCH: Final = 1000
_RETRY_SECONDS: Final = 0.25
_NEWEST: Final = 2**62

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of; `__main__` puts it together."""

    store: EventStore
    appender: Appender
    keyring: Keyring
    quarantine: Quarantine
    recorder: Recorder
    relay: Relay
    tenants: Tenants
    secrets: dict[int, TenantSecrets]


def call_error(error: Exception) -> errors.CallError:
    """Return a store's error as its caller sees it."""
    match error:
        case QueueFull():
            return errors.queue_full(error.queued, _RETRY_SECONDS)
        case StoreFull():
            return errors.store_full()
        case StoreUnavailable():
            return errors.store_unavailable()
        case _:
            raise error


class IngestionService(IngestionServiceServicer):
    """Implements touchline.ingestion.v1.IngestionService; the proto is the contract."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def RecordEvent(  # noqa: N802 - gRPC names it
        self, request: api.RecordEventRequest, context: Context
    ) -> api.RecordEventResponse:
        """Record one event."""
        if not request.HasField("event"):
            raise errors.invalid_request([("event", "is missing")])
        (verdict,) = await self._record([request.event], context)
        return api.RecordEventResponse(verdict=verdict)

    async def BatchRecordEvents(  # noqa: N802 - gRPC names it
        self, request: api.BatchRecordEventsRequest, context: Context
    ) -> api.BatchRecordEventsResponse:
        """Record up to a thousand events."""
        count = len(request.events)
        if not 1 <= count <= MAX_BATCH:
            told = f"has {count:,} entries; send 1 to {MAX_BATCH:,} events in a call"
            raise errors.invalid_request([("events", told)])
        return api.BatchRecordEventsResponse(verdicts=await self._record(request.events, context))

    async def ListRejectedEvents(  # noqa: N802 - gRPC names it
        self, request: api.ListRejectedEventsRequest, context: Context
    ) -> api.ListRejectedEventsResponse:
        """List rejected events, newest first."""
        tenant = self._tenant(context)
        size = page_tokens.page_size(request.page_size)
        before, kind, filters = _NEWEST, "rejected/1", tenant.tenant.name.encode()
        if request.page_token:
            (before,) = page_tokens.decode(request.page_token, kind, filters, int)
        try:
            page, more = await self._parts.quarantine.list(tenant.sealed, before, size)
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        response = api.ListRejectedEventsResponse(rejected_events=page)
        if more:
            response.next_page_token = page_tokens.encode(kind, filters, page[-1].rejected_id)
        return response

    async def GetStoreStatus(  # noqa: N802 - gRPC names it
        self, request: api.GetStoreStatusRequest, context: Context
    ) -> api.GetStoreStatusResponse:
        """Say where the store stands."""
        del request
        parts, tenant = self._parts, self._tenant(context)
        try:
            head = await parts.store.head()
            rejected = await parts.quarantine.count(tenant.sealed)
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        return api.GetStoreStatusResponse(
            status=StoreStatus(
                store_id=head.store_id,
                head_position=head.position,
                head_chain=head.chain,
                queued_events=parts.appender.queued_events,
                rejected_events=rejected,
                relayed_position=parts.relay.state.position,
                relay_leader=parts.relay.state.leads,
            )
        )

    async def VerifyStore(  # noqa: N802 - gRPC names it
        self, request: api.VerifyStoreRequest, context: Context
    ) -> AsyncIterator[api.VerifyStoreResponse]:
        """Verify the whole store, telling the progress."""
        self._tenant(context)
        parts = self._parts
        secrets = {number: entry.sealed.secret for number, entry in parts.secrets.items()}
        try:
            async for state in verify(parts.store, parts.keyring, secrets):
                response = api.VerifyStoreResponse(
                    checked_events=state.checked,
                    head_position=state.head,
                    sealed_events=state.sealed,
                    problems=state.problems,
                    finished=state.finished,
                )
                if state.finished:
                    for position in request.chain_positions:
                        if chain := await parts.store.chain_at(position):
                            response.chains[position] = chain
                yield response
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error

    def _tenant(self, context: Context) -> TenantSecrets:
        return self._parts.secrets[self._parts.tenants.tenant_of(context).number]

    async def _record(self, events: Sequence[Event], context: Context) -> list[Verdict]:
        tenant = self._tenant(context)
        try:
            verdicts = await self._parts.recorder.record(tenant, events, current_traceparent())
        except (QueueFull, StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        count_recorded(verdict.outcome for verdict in verdicts)
        return verdicts
