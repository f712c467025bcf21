"""The calls about the store itself and its feed."""

from collections.abc import AsyncIterator

from libs.eventstore.errors import FeedUnavailable, StoreFull, StoreUnavailable
from libs.eventstore.feed.lease import relay_report
from libs.eventstore.feed.verification import verify_feed
from libs.eventstore.verification import verify
from libs.rpc import errors
from services.ingestion.calls.parts import Calls, Context, call_error
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import StoreStatus


class StoreCalls(Calls):
    """Says where the store stands, and proves it."""

    async def GetStoreStatus(  # noqa: N802 - gRPC names it
        self, request: api.GetStoreStatusRequest, context: Context
    ) -> api.GetStoreStatusResponse:
        """Say where the store stands."""
        del request
        parts, tenant = self._parts, self._parts.tenant_of(context)
        try:
            head = await parts.store.head()
            rejected = await parts.quarantine.count(tenant.sealed)
            report = await relay_report(parts.store.pool)
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        mine = parts.relay.state
        # Who leads knows best; the others know what it last wrote down, and what stops themselves.
        problem = report.problem or ("" if report.led else mine.problem)
        return api.GetStoreStatusResponse(
            status=StoreStatus(
                store_id=head.store_id,
                head_position=head.position,
                head_chain=head.chain,
                queued_events=parts.appender.queued_events,
                rejected_events=rejected,
                relayed_position=mine.position if mine.leads else report.position,
                relay_leader=mine.leads,
                feed_problem="" if mine.leads else problem,
            )
        )

    async def RestartFeed(  # noqa: N802 - gRPC names it
        self, request: api.RestartFeedRequest, context: Context
    ) -> api.RestartFeedResponse:
        """Begin a feed anew that does not continue this store."""
        del request
        self._parts.tenant_of(context)
        try:
            done = await self._parts.relay.restart_feed()
        except FeedUnavailable as error:
            raise errors.feed_unavailable(str(error)) from error
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        return api.RestartFeedResponse(restarted=done.restarted, position=done.position)

    async def VerifyStore(  # noqa: N802 - gRPC names it
        self, request: api.VerifyStoreRequest, context: Context
    ) -> AsyncIterator[api.VerifyStoreResponse]:
        """Verify the whole store, telling the progress."""
        parts = self._parts
        parts.tenant_of(context)
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

    async def VerifyFeed(  # noqa: N802 - gRPC names it
        self, request: api.VerifyFeedRequest, context: Context
    ) -> AsyncIterator[api.VerifyFeedResponse]:
        """Verify the whole feed, telling the progress."""
        del request
        parts = self._parts
        parts.tenant_of(context)
        try:
            async for state in verify_feed(parts.nats, parts.store):
                yield api.VerifyFeedResponse(
                    checked_batches=state.checked_batches,
                    batches=state.batches,
                    checked_events=state.checked_events,
                    first_position=state.first,
                    last_position=state.last,
                    head_position=state.head,
                    problems=state.problems,
                    finished=state.finished,
                )
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
