"""The calls about events that were rejected and are kept."""

from collections.abc import Sequence
from typing import Final

from libs.eventstore.errors import QueueFull, SealsStale, StoreFull, StoreUnavailable
from libs.eventstore.keyring import Era
from libs.rpc import errors, page_tokens
from libs.telemetry.context import current_traceparent
from services.ingestion.calls.parts import Calls, Context, call_error
from services.ingestion.gauges import count_recorded
from services.ingestion.recording import TenantSecrets
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_DUPLICATE,
    OUTCOME_RECORDED,
    OUTCOME_REJECTED,
    Verdict,
)

MAX_RETRIED: Final = 500
_NEWEST: Final = 2**62
_ON_THE_LINE: Final = (OUTCOME_RECORDED, OUTCOME_DUPLICATE)


class QuarantineCalls(Calls):
    """Lists what was rejected, and gets it onto the line or out of the way."""

    async def ListRejectedEvents(  # noqa: N802 - gRPC names it
        self, request: api.ListRejectedEventsRequest, context: Context
    ) -> api.ListRejectedEventsResponse:
        """List rejected events, newest first."""
        tenant = self._parts.tenant_of(context)
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

    async def RetryRejectedEvents(  # noqa: N802 - gRPC names it
        self, request: api.RetryRejectedEventsRequest, context: Context
    ) -> api.RetryRejectedEventsResponse:
        """Try rejected events again as they were sent."""
        tenant = self._parts.tenant_of(context)
        after = request.after_rejected_id
        if after < 0:
            raise errors.invalid_request([("after_rejected_id", "is below 0; leave it out")])
        wanted = _ids(request.rejected_ids, least=0)
        response = api.RetryRejectedEventsResponse()
        try:
            while (room := MAX_RETRIED - len(response.retried_events)) > 0:
                retried = await self._retry(tenant, after, wanted, room)
                if not retried:
                    return response
                response.retried_events.extend(retried)
                after = retried[-1].rejected_id
            if await self._parts.quarantine.to_retry(tenant.sealed, after, wanted, 1):
                response.next_after_rejected_id = after
        except (QueueFull, StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        return response

    async def CorrectRejectedEvent(  # noqa: N802 - gRPC names it
        self, request: api.CorrectRejectedEventRequest, context: Context
    ) -> api.CorrectRejectedEventResponse:
        """Record a corrected event in place of a rejected one."""
        tenant, quarantine = self._parts.tenant_of(context), self._parts.quarantine
        rejected_id = request.rejected_id
        if not request.HasField("event"):
            raise errors.invalid_request([("event", "is missing")])
        try:
            verdict = await self._correct(tenant, rejected_id, request.event)
            if verdict.outcome in _ON_THE_LINE:
                await quarantine.remove(tenant.sealed, [rejected_id])
        except (QueueFull, StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        return api.CorrectRejectedEventResponse(verdict=verdict)

    async def DiscardRejectedEvents(  # noqa: N802 - gRPC names it
        self, request: api.DiscardRejectedEventsRequest, context: Context
    ) -> api.DiscardRejectedEventsResponse:
        """Forget rejected events for good."""
        tenant = self._parts.tenant_of(context)
        wanted = _ids(request.rejected_ids, least=1)
        try:
            discarded = await self._parts.quarantine.remove(tenant.sealed, wanted)
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        return api.DiscardRejectedEventsResponse(discarded_events=discarded)

    async def _retry(
        self, tenant: TenantSecrets, after: int, wanted: Sequence[int], limit: int
    ) -> list[api.RetriedEvent]:
        """Try some rejected events again: first they are recorded, then no longer kept."""
        quarantine, keyring = self._parts.quarantine, self._parts.keyring
        while True:
            era = await keyring.renewed()
            kept = await quarantine.to_retry(tenant.sealed, after, wanted, limit)
            if not kept:
                return []
            try:
                verdicts = await self._again(tenant, [event for _, event in kept], era)
                break
            except SealsStale:
                continue  # somebody was erased, and some of these may have been discarded
        retried = [
            api.RetriedEvent(rejected_id=rejected_id, verdict=verdict)
            for (rejected_id, _), verdict in zip(kept, verdicts, strict=True)
        ]
        still = {
            one.rejected_id: [(told.field, told.description) for told in one.verdict.violations]
            for one in retried
            if one.verdict.outcome == OUTCOME_REJECTED
        }
        await quarantine.still_rejected(tenant.sealed, still)
        gone = [one.rejected_id for one in retried if one.verdict.outcome in _ON_THE_LINE]
        await quarantine.remove(tenant.sealed, gone)
        return retried

    async def _correct(self, tenant: TenantSecrets, rejected_id: int, event: Event) -> Verdict:
        while True:
            era = await self._parts.keyring.renewed()
            if not await self._parts.quarantine.has(tenant.sealed, rejected_id):
                raise errors.rejected_event_not_found(rejected_id)
            copy = Event.FromString(event.SerializeToString())
            try:
                (verdict,) = await self._again(tenant, [copy], era)
            except SealsStale:
                continue  # somebody was erased, and it may have been discarded
            return verdict

    async def _again(
        self, tenant: TenantSecrets, events: Sequence[Event], era: Era
    ) -> list[Verdict]:
        verdicts = await self._parts.recorder.record(
            tenant, events, current_traceparent(), keeps_rejected=False, era=era
        )
        count_recorded(verdict.outcome for verdict in verdicts)
        return verdicts


def _ids(rejected_ids: Sequence[int], *, least: int) -> Sequence[int]:
    if not least <= len(rejected_ids) <= MAX_RETRIED:
        told = f"has {len(rejected_ids):,} entries; give {least or 'none, or 1'} to {MAX_RETRIED}"
        raise errors.invalid_request([("rejected_ids", told)])
    return rejected_ids
