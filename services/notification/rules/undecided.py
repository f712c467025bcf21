"""Says why nothing was decided by a rule whose condition is true."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID

from libs.expressions import shown
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.outbox import may_act
from libs.projection.projection import Recorded
from services.notification.calls import Parts
from services.notification.domain.evaluation import Evaluation
from services.notification.domain.rules import CompiledRule
from services.notification.rules.decisions import expectation_id, notification_id

_OF_EVENT: Final = frozenset({"event", "now"})
_STATES: Final = {
    "waiting": "the decision waits to be recorded",
    "dead": "the store refused the decision, and the outbox has the reason",
}
_MERGED: Final = "the condition became true when more identities turned out to be one customer"
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


async def why_undecided(
    parts: Parts, caller: Reader, recorded: Recorded, rule: CompiledRule, evaluation: Evaluation
) -> str:
    """Return why no decision of a rule that matches is known; empty if one is, or none is due.

    Args:
        parts: The service.
        caller: Whose event it is.
        recorded: The event.
        rule: The rule.
        evaluation: What the rule makes of the event now.
    """
    names = [notification_id(recorded, rule, told.notice) for told in evaluation.told]
    if evaluation.promise:
        names.append(expectation_id(recorded, rule))
    if not names:
        return ""
    state = await parts.pool.fetchval(
        _SQL["state_of_decisions"], caller.tenant, [UUID(name) for name in names], caller.name
    )
    if state == "decided":
        return ""
    why = _STATES.get(state) or _why_none(parts, recorded, rule)
    return f"no decision is on the line: {why}"


def _why_none(parts: Parts, recorded: Recorded, rule: CompiledRule) -> str:
    if parts.checkpoints.position(("rules",)) < recorded.position:
        return "the rules have not come to this event yet"
    if may_act(recorded.record, time.time_ns() // 1000, rule.max_age_us):
        reasons = ["the decision is on its way"]
    else:
        most = shown(timedelta(microseconds=rule.max_age_us))
        reasons = [f"most likely the rules came to this event more than {most} after it occurred"]
    if not rule.needs <= _OF_EVENT:
        reasons.append(_MERGED)
    return ", or ".join(reasons)
