"""The calls that record events."""

from collections.abc import Sequence
from typing import Final

from libs.eventstore.errors import QueueFull, StoreFull, StoreUnavailable
from libs.rpc import errors
from libs.telemetry.context import current_traceparent
from services.ingestion.calls.parts import Calls, Context, Parts, call_error
from services.ingestion.gauges import count_recorded
from services.ingestion.recording import Append, TenantSecrets
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import Verdict

MAX_BATCH: Final = 1000


class RecordingCalls(Calls):
    """Records what callers send."""

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

    async def _record(self, events: Sequence[Event], context: Context) -> list[Verdict]:
        return await record(self._parts, self._parts.tenant_of(context), events)


async def record(
    parts: Parts, tenant: TenantSecrets, events: Sequence[Event], append: Append | None = None
) -> list[Verdict]:
    """Record events, count what became of them, and return a verdict for each.

    Raises:
        CallError: The store can't take them now.
    """
    try:
        verdicts = await parts.recorder.record(tenant, events, current_traceparent(), append)
    except (QueueFull, StoreFull, StoreUnavailable) as error:
        raise call_error(error) from error
    count_recorded(verdict.outcome for verdict in verdicts)
    return verdicts
