"""Says what each rule made of an event, as of that event: whom it tells and why, or why nobody."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from libs.expressions import event_value, shown
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.outbox import may_act
from libs.projection.projection import Recorded
from services.notification.calls import Parts
from services.notification.domain.evaluation import Evaluation, evaluate
from services.notification.domain.rules import CompiledRule, InvalidRule, compile_rule, reads_of
from services.notification.domain.scopes import Scopes
from services.notification.rules.book import PublishedRule, admits, read_in_force
from services.notification.rules.decisions import chain_of
from services.notification.rules.knowing import Judged, know
from services.notification.rules.undecided import why_undecided
from touchline.events.v1.event_pb2 import Event
from touchline.notification.v1.notification_pb2 import (
    RULE_VERDICT_FAILED,
    RULE_VERDICT_MATCHED,
    RULE_VERDICT_NOT_CONCERNED,
    RULE_VERDICT_NOT_MATCHED,
    RULE_VERDICT_PAST,
    RULE_VERDICT_STOPPED,
    RuleDefinition,
    RuleExplanation,
)
from touchline.store.v1.store_pb2 import RecordedEvent

_ORDER: Final = (
    *(RULE_VERDICT_MATCHED, RULE_VERDICT_FAILED, RULE_VERDICT_STOPPED, RULE_VERDICT_PAST),
    *(RULE_VERDICT_NOT_MATCHED, RULE_VERDICT_NOT_CONCERNED),
)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


async def find_event(pool: asyncpg.Pool, tenant: int, event_id: UUID) -> Recorded | None:
    """Return an event of a customer by its id; None when none was folded."""
    row = await pool.fetchrow(_SQL["event"], tenant, event_id)
    if row is None:
        return None
    position, recorded_at_us, record = row
    return Recorded(position, recorded_at_us, RecordedEvent.FromString(record), record)


async def explain_rules(
    parts: Parts, caller: Reader, recorded: Recorded, event: Event
) -> list[RuleExplanation]:
    """Return what the rules that look at an event make of it, matches first.

    Args:
        parts: The service.
        caller: Whose event it is.
        recorded: The event as it is on the line.
        event: The same, opened.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    record = recorded.record
    explained, acting = list[RuleExplanation](), list[CompiledRule]()
    for published in await read_in_force(parts.pool, record.tenant, recorded.position):
        definition = RuleDefinition.FromString(published.definition)
        if not admits(definition.on, record):
            continue
        rule, evaluation = _before_judging(published, definition, recorded)
        if rule is not None and evaluation is None:
            acting.append(rule)
        elif evaluation is not None:
            explained.append(_explanation(definition, published.version, evaluation))
    for rule, evaluation in await _judged(parts, recorded, event, acting):
        if evaluation.verdict == RULE_VERDICT_MATCHED:
            why = await why_undecided(parts, caller, recorded, rule, evaluation)
            told = f"{evaluation.reason} ({why})" if why else evaluation.reason
            evaluation = replace(evaluation, reason=told)
        explained.append(_explanation(rule.definition, rule.version, evaluation))
    return sorted(explained, key=lambda one: (_ORDER.index(one.verdict), one.rule))


def _before_judging(
    published: PublishedRule, definition: RuleDefinition, recorded: Recorded
) -> tuple[CompiledRule | None, Evaluation | None]:
    """Return the rule, or why it does not even look at what the event says."""
    if definition.disabled:
        return None, Evaluation(RULE_VERDICT_NOT_CONCERNED, "this version of the rule is off")
    try:
        rule = compile_rule(definition, published.version)
    except InvalidRule as error:
        return None, Evaluation(RULE_VERDICT_FAILED, f"this release can't use it: {error}")
    # As old as it was when it came: that is when the rule looked at it.
    if not may_act(recorded.record, recorded.recorded_at_us, rule.max_age_us):
        return rule, Evaluation(RULE_VERDICT_PAST, _past(rule, recorded))
    return rule, None


def _past(rule: CompiledRule, recorded: Recorded) -> str:
    if recorded.record.historical:
        return "it was recorded as history, and nothing of the past acts"
    age = timedelta(microseconds=recorded.recorded_at_us - recorded.record.occurred_at_us)
    most = timedelta(microseconds=rule.max_age_us)
    return f"it was {shown(age)} old when it was recorded, and the rule acts within {shown(most)}"


async def _judged(
    parts: Parts, recorded: Recorded, event: Event, rules: Sequence[CompiledRule]
) -> Iterator[tuple[CompiledRule, Evaluation]]:
    one = Judged(recorded, event, event_value(event), tuple(rules))
    (known,) = await know(parts.pool, parts.store, [one])
    scopes, chain = Scopes(known, reads_of(rules)), chain_of(event)
    return ((rule, evaluate(rule, scopes, chain)) for rule in rules)


def _explanation(
    definition: RuleDefinition, version: int, evaluation: Evaluation
) -> RuleExplanation:
    return RuleExplanation(
        rule=definition.name,
        rule_version=version,
        verdict=evaluation.verdict,
        reason=evaluation.reason,
        condition=definition.condition,
        values=evaluation.values,
    )
