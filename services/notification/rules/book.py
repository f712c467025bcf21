"""The rules in force: folded from the line, found by an event's envelope, compiled once."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.postgres.queries import load_queries
from libs.projection.config import Reader
from libs.projection.opening import open_events
from libs.projection.projection import Connection, Recorded
from services.notification.domain.rules import CompiledRule, InvalidRule, compile_rule
from services.notification.rules.published import APPLICATION, publication_of
from touchline.events.v1.event_pb2 import EVENT_TYPE_AGGREGATE_CHANGED
from touchline.events.v1.facts_pb2 import (
    DIRECTION_PEER,
    VISIBILITY_PRIVATE,
    VISIBILITY_PUBLIC,
    VISIBILITY_UNSPECIFIED,
)
from touchline.events.v1.filter_pb2 import EventFilter
from touchline.notification.v1.notification_pb2 import Rule, RuleDefinition
from touchline.store.v1.store_pb2 import RecordedEvent
from touchline.times import timestamp_of

_UNSPECIFIED: Final = 0
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("rules")


class PublishedRule(NamedTuple):
    """A version of a rule as the table keeps it."""

    tenant: int
    name: str
    version: int
    position: int
    published_at_us: int
    published_by: str
    definition: bytes

    def message(self) -> Rule:
        """Return it as callers see it."""
        return Rule(
            definition=RuleDefinition.FromString(self.definition),
            version=self.version,
            published_at=timestamp_of(self.published_at_us),
            published_by=self.published_by,
            position=self.position,
        )


class RuleBook:
    """The rules in force at one position of the line."""

    def __init__(self, rules: Iterable[PublishedRule] = ()) -> None:
        self._compiled: dict[tuple[int, str], CompiledRule | None] = {}
        self._concerned: dict[tuple[int, ...], tuple[CompiledRule, ...]] = {}
        for rule in rules:
            self.publish(rule)

    def publish(self, rule: PublishedRule) -> None:
        """Put a version in the place of the one before it."""
        self._compiled[rule.tenant, rule.name] = _compiled(rule)
        self._concerned.clear()

    def concerned(self, record: RecordedEvent) -> tuple[CompiledRule, ...]:
        """Return the rules that look at an event, by what its envelope says.

        Most events concern no rule, so this is what every event costs.
        """
        asked = (
            *(record.tenant, record.type),
            *(record.channel, record.direction, record.visibility),
        )
        found = self._concerned.get(asked)
        if found is None:
            found = self._concerned[asked] = tuple(
                rule
                for (tenant, _), rule in sorted(self._compiled.items())
                if rule is not None and tenant == record.tenant and looks_at(rule, record)
            )
        return found


def looks_at(rule: CompiledRule, record: RecordedEvent) -> bool:
    """Say whether a rule looks at events like this one."""
    return not rule.definition.disabled and admits(rule.definition.on, record)


def admits(on: EventFilter, record: RecordedEvent) -> bool:
    """Say whether a filter lets an event through, by what its envelope says."""
    visibility = record.visibility
    if record.direction == DIRECTION_PEER and visibility != VISIBILITY_PUBLIC:
        return False  # what customers tell each other in private is nobody's business
    if visibility == VISIBILITY_UNSPECIFIED:
        visibility = VISIBILITY_PRIVATE
    return (
        record.type in on.types
        and _lets_through(on.channels, record.channel)
        and _lets_through(on.directions, record.direction)
        and _lets_through(on.visibilities, visibility)
    )


async def read_latest(pool: asyncpg.Pool) -> list[PublishedRule]:
    """Return the latest version of every rule of every tenant that was folded."""
    return [PublishedRule(*row) for row in await pool.fetch(_SQL["latest_rules"])]


async def read_in_force(pool: asyncpg.Pool, tenant: int, position: int) -> list[PublishedRule]:
    """Return the version of each rule by which an event at a position was judged."""
    rows = await pool.fetch(_SQL["rules_in_force"], tenant, position)
    return [PublishedRule(*row) for row in rows]


async def published_among(
    store: StoreClient, events: Sequence[Recorded], readers: Mapping[int, Reader]
) -> dict[int, PublishedRule]:
    """Return what events publish, by position; most publish nothing.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    namespaces = {
        number: reader.identity_keys.namespace_key(APPLICATION)
        for number, reader in readers.items()
    }
    changes = [
        event
        for event in events
        if event.record.type == EVENT_TYPE_AGGREGATE_CHANGED
        and event.record.identities[0].namespace_key == namespaces.get(event.record.tenant)
    ]
    opened = await open_events(store, changes) if changes else []
    published = {}
    for change, event in zip(changes, opened, strict=True):
        if event is not None:
            told = publication_of(event, change.record.stream_version)
            published[change.position] = PublishedRule(
                *(change.record.tenant, told.definition.name, told.version),
                *(change.position, change.recorded_at_us, told.published_by),
                told.definition.SerializeToString(deterministic=True),
            )
    return published


async def add_rules(connection: Connection, rules: Sequence[PublishedRule]) -> None:
    """Add versions to the table."""
    if rules:
        columns = [list(column) for column in zip(*rules, strict=True)]
        await connection.execute(_SQL["add_rules"], *columns)


def _lets_through(wanted: Sequence[Any], value: int) -> bool:
    return not wanted or value in wanted or _UNSPECIFIED in wanted


def _compiled(rule: PublishedRule) -> CompiledRule | None:
    try:
        return compile_rule(RuleDefinition.FromString(rule.definition), rule.version)
    except InvalidRule as error:
        # It was valid when it was published; this release understands it no more.
        _log.error("rule can't be used", rule=rule.name, version=rule.version, reason=str(error))
        return None
