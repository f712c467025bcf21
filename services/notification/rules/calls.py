"""The calls about rules: what is published, and why an event told somebody, or nobody."""

import asyncio
from typing import Final

from asyncpg.pgproto.pgproto import UUID
from eventsourcing.persistence import PersistenceError

from libs.eventstore.errors import StoreError, StoreFull
from libs.eventstore.records import event_id_text
from libs.projection.config import Reader
from libs.projection.opening import open_events
from libs.projection.profiles import views_errors
from libs.projection.projection import Recorded
from libs.rpc import errors
from services.notification.calls import Context, Parts, reader, uuid_of
from services.notification.domain.rule_checks import MAX_REFERENCE, is_reference
from services.notification.domain.rules import InvalidRule, compile_rule
from services.notification.inbox.explanations import PROJECTIONS as EXPLAINED
from services.notification.inbox.explanations import cause_of, decisions_of
from services.notification.rules.book import read_latest
from services.notification.rules.explaining import explain_rules, find_event
from services.notification.rules.published import StaleVersion
from touchline.events.v1.event_pb2 import Event
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.times import timestamp_of

LISTED: Final = ("rules",)
"""What rules are listed from: the reactor's own table."""

_EXPLAINED: Final = ("identity_graph", "timeline", "consents", *LISTED, *EXPLAINED)


class RuleCalls:
    """Answers PublishRule, ListRules and ExplainNotification; the proto is the contract."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def PublishRule(  # noqa: N802 - gRPC names it
        self, request: api.PublishRuleRequest, context: Context
    ) -> api.PublishRuleResponse:
        """Publish a new version of a rule."""
        caller = await reader(self._parts, context)
        _check(request)
        rules = self._parts.applications[caller.tenant].rules
        try:
            version, position = await asyncio.to_thread(
                rules.publish,
                request.definition,
                request.expected_version,
                request.published_by,
            )
        except StaleVersion as error:
            name = request.definition.name
            raise errors.stale_version(name, error.version, request.expected_version) from error
        except PersistenceError as error:
            if isinstance(error.__cause__, StoreFull):
                raise errors.store_full() from error
            raise errors.store_unavailable() from error
        return api.PublishRuleResponse(version=version, position=position)

    async def ListRules(  # noqa: N802 - gRPC names it
        self, request: api.ListRulesRequest, context: Context
    ) -> api.ListRulesResponse:
        """List the rules, the latest version of each."""
        caller = await reader(self._parts, context, request.after_position, LISTED)
        async with views_errors():
            rules = await read_latest(self._parts.pool)
        return api.ListRulesResponse(
            rules=[rule.message() for rule in rules if rule.tenant == caller.tenant]
        )

    async def ExplainNotification(  # noqa: N802 - gRPC names it
        self, request: api.ExplainNotificationRequest, context: Context
    ) -> api.ExplainNotificationResponse:
        """Explain a notification, or what the rules made of an event."""
        caller = await reader(self._parts, context, request.after_position, _EXPLAINED)
        try:
            async with views_errors():
                return await self._explain(caller, await self._asked_for(caller, request))
        except StoreError as error:
            raise errors.store_unavailable() from error

    async def _asked_for(self, caller: Reader, request: api.ExplainNotificationRequest) -> Recorded:
        field = request.WhichOneof("what")
        if field is None:
            raise errors.invalid_request([("what", "is missing; name a notification or an event")])
        wrong: list[tuple[str, str]] = []
        asked = uuid_of(getattr(request, field), field, wrong)
        if asked is None:
            raise errors.invalid_request(wrong)
        cause = UUID(asked.bytes)
        if field == "notification_id":
            found = await cause_of(self._parts.pool, caller.tenant, cause)
            if found is None:
                raise errors.notification_not_found()
            cause = found
        event = await find_event(self._parts.pool, caller.tenant, cause)
        if event is None:
            raise errors.event_not_found()
        return event

    async def _explain(self, caller: Reader, recorded: Recorded) -> api.ExplainNotificationResponse:
        record = recorded.record
        cause = UUID(record.event_id)
        response = api.ExplainNotificationResponse(
            notifications=await decisions_of(self._parts, caller.tenant, cause)
        )
        (event,) = await open_events(self._parts.store, [recorded])
        if event is not None:
            response.event.CopyFrom(event)
            response.rules.extend(await explain_rules(self._parts, caller, recorded, event))
        else:
            response.event.CopyFrom(
                Event(
                    event_id=event_id_text(record.event_id),
                    occurred_at=timestamp_of(record.occurred_at_us),
                    historical=record.historical,
                )
            )
        return response


def _check(request: api.PublishRuleRequest) -> None:
    wrong: list[tuple[str, str]] = []
    try:
        compile_rule(request.definition)
    except InvalidRule as error:
        wrong += error.violations
    if request.expected_version < 0:
        wrong.append(("expected_version", "must be 0 or a version"))
    if not is_reference(request.published_by):
        told = f"must be 1 to {MAX_REFERENCE} characters without blanks and @: no address"
        wrong.append(("published_by", told))
    if wrong:
        raise errors.invalid_request(wrong)
