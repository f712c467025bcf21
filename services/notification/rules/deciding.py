"""The reactor `rules`: judges each event as it comes, and decides whom to tell and what to expect.

It folds two things in the order of the line: versions of rules, and events. So an event is judged
by the rules that were published before it. What most events cost is one look at their envelopes.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.expressions import Scope, event_value
from libs.projection.config import Reader
from libs.projection.opening import open_events
from libs.projection.outbox import Decision, Outbox, may_act
from libs.projection.projection import Connection, Recorded, Table
from libs.projection.waiting import Checkpoints
from libs.telemetry import declared, metrics
from services.notification.domain.business_time import NeverDue
from services.notification.domain.channels import considered
from services.notification.domain.evaluation import Evaluation, can_match, evaluate
from services.notification.domain.rules import CompiledRule, reads_of
from services.notification.domain.scopes import Scopes
from services.notification.rules.addressing import Meant, addressees_of
from services.notification.rules.book import (
    PublishedRule,
    RuleBook,
    add_rules,
    published_among,
    read_latest,
)
from services.notification.rules.decisions import chain_of, expectation_set, notification_decided
from services.notification.rules.knowing import Judged, know
from touchline.events.v1.event_pb2 import EVENT_TYPE_AGGREGATE_CHANGED, Event
from touchline.notification.v1.notification_pb2 import (
    RULE_VERDICT_FAILED,
    RULE_VERDICT_NOT_MATCHED,
    RULE_VERDICT_STOPPED,
    RuleVerdict,
)

NEEDED: Final = ("identity_graph", "timeline", "consents")
"""What must have come as far as the events that are judged."""

# So many events are opened, with what is known about each, before what is decided alone is kept.
_CHUNK: Final = 200
_WAIT_SECONDS: Final = 10.0
_Result = tuple[Judged, CompiledRule, Evaluation]
_log = structlog.get_logger("rules")


class Deciding:
    """Folds rules and judges events; see libs.projection.projection.Projection.

    Args:
        pool: The service's database.
        store: Opens events.
        outbox: Takes decisions.
        checkpoints: How far the projections came from which is read what is known.
        readers: By tenant number.
        email_is_set_up: Whether this service can send emails at all.
    """

    name = "rules"
    fold_version = 1
    divisible = False
    tables = (Table("rules"),)

    def __init__(
        self,
        pool: asyncpg.Pool,
        store: StoreClient,
        outbox: Outbox,
        checkpoints: Checkpoints,
        readers: Mapping[int, Reader],
        *,
        email_is_set_up: bool,
    ) -> None:
        self._pool = pool
        self._store = store
        self._outbox = outbox
        self._checkpoints = checkpoints
        self._readers = readers
        self._names = {number: reader.name for number, reader in readers.items()}
        self._email_is_set_up = email_is_set_up
        self._book: RuleBook | None = None
        self._published: list[PublishedRule] = []
        self._decisions: list[Decision] = []
        self._evaluated: Counter[RuleVerdict.ValueType] = Counter()

    def copy(self) -> None:
        """Only one may decide."""

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Judge the events; what comes of it is written by `apply`.

        Raises:
            StoreUnavailable: events can't be opened now.
            Behind: what is known has not come as far as the events.
        """
        if self._book is None:
            rules = await read_latest(self._pool)
            self._book = RuleBook(rule for rule in rules if rule.tenant in self._readers)
        published = await published_among(self._store, events, self._readers)
        self._published, self._decisions = list(published.values()), []
        self._evaluated.clear()
        concerned = list(_concerned(self._book, events, published, time.time_ns() // 1000))
        if not concerned:
            return
        await self._checkpoints.wait(NEEDED, concerned[-1][0].position, _WAIT_SECONDS)
        for start in range(0, len(concerned), _CHUNK):
            self._decisions += await self._decide(concerned[start : start + _CHUNK])

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add the rules that were published, and what was decided; of the erased nothing stays."""
        await add_rules(connection, self._published)
        await self._outbox.decide(connection, self.name, self._decisions)
        await self._outbox.forget(connection, self._names, events)
        for verdict, times in self._evaluated.items():
            name = RuleVerdict.Name(verdict).removeprefix("RULE_VERDICT_").lower()
            metrics.add(declared.RULES_EVALUATED, times, {declared.RULE_VERDICT: name})

    def aborted(self) -> None:
        """Forget the rules as well: they are read again as they were committed."""
        self._book = None
        self._published, self._decisions = [], []

    async def _decide(
        self, concerned: Sequence[tuple[Recorded, tuple[CompiledRule, ...]]]
    ) -> list[Decision]:
        opened = await open_events(self._store, [event for event, _ in concerned])
        judged = []
        for (recorded, rules), event in zip(concerned, opened, strict=True):
            if event is not None:
                one = _to_be_judged(recorded, event, rules)
                self._evaluated[RULE_VERDICT_NOT_MATCHED] += len(rules) - len(one.rules)
                judged += [one] if one.rules else []
        known = await know(self._pool, self._store, judged)
        results = [
            (one, rule, evaluation)
            for one, what in zip(judged, known, strict=True)
            for rule, evaluation in judge(one, Scopes(what, reads_of(one.rules)))
        ]
        self._evaluated.update(evaluation.verdict for _, _, evaluation in results)
        _log_what_did_not_work(results)
        meant = [
            (one, Meant(one.recorded, rule, told))
            for one, rule, evaluation in results
            for told in evaluation.told
        ]
        addressees = await addressees_of(self._pool, self._store, [notice for _, notice in meant])
        now_us = time.time_ns() // 1000
        decisions = list(_expectations(results))
        for (one, notice), addressee in zip(meant, addressees, strict=True):
            channels = considered(
                notice.notice, addressee, now_us, email_is_set_up=self._email_is_set_up
            )
            decisions.append((one, notification_decided(one, notice, channels)))
        return [
            Decision(self._names[one.recorded.record.tenant], event, one.recorded.position)
            for one, event in decisions
        ]


def _to_be_judged(recorded: Recorded, event: Event, rules: Sequence[CompiledRule]) -> Judged:
    """Return an event with those of its rules that can match by what it says itself."""
    value = event_value(event)
    scope = Scope({"event": reads_of(rules)["event"].of(value)})
    return Judged(recorded, event, value, tuple(rule for rule in rules if can_match(rule, scope)))


def _expectations(results: Sequence[_Result]) -> Iterator[tuple[Judged, Event]]:
    for one, rule, evaluation in results:
        if evaluation.promise:
            try:
                yield one, expectation_set(one, rule, evaluation.promise)
            except NeverDue as error:
                _log.warning("rule failed", rule=rule.name, version=rule.version, reason=str(error))


def judge(one: Judged, scopes: Scopes) -> Iterator[tuple[CompiledRule, Evaluation]]:
    """Yield what each of an event's rules makes of it."""
    chain = chain_of(one.event)
    for rule in one.rules:
        yield rule, evaluate(rule, scopes, chain)


def _concerned(
    book: RuleBook,
    events: Sequence[Recorded],
    published: Mapping[int, PublishedRule],
    now_us: int,
) -> Iterator[tuple[Recorded, tuple[CompiledRule, ...]]]:
    """Yield the events that rules look at, each with those that were in force."""
    for event in events:
        record = event.record
        if record.type == EVENT_TYPE_AGGREGATE_CHANGED:
            if rule := published.get(event.position):
                book.publish(rule)
        elif rules := book.concerned(record):
            acting = tuple(rule for rule in rules if may_act(record, now_us, rule.max_age_us))
            if acting:
                yield event, acting


def _log_what_did_not_work(results: Sequence[_Result]) -> None:
    """Log each rule that failed or was stopped, once for a batch."""
    told: Counter[tuple[str, int, RuleVerdict.ValueType, str]] = Counter(
        (rule.name, rule.version, evaluation.verdict, evaluation.reason)
        for _, rule, evaluation in results
        if evaluation.verdict in (RULE_VERDICT_FAILED, RULE_VERDICT_STOPPED)
    )
    for (name, version, verdict, reason), events in told.items():
        what = "rule failed" if verdict == RULE_VERDICT_FAILED else "rule stopped"
        _log.warning(what, rule=name, version=version, reason=reason, events=events)
