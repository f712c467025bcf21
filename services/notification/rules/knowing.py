"""Loads what rules want to know when they judge events, for many events at once.

Everything is as of the event: what was recorded later, retractions too, has no say. Only who is one
and the same customer is taken as it is known when one asks.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from libs.consents import NOTHING_SAID, Said
from libs.eventstore.client import StoreClient
from libs.expressions import event_value
from libs.postgres.queries import load_queries
from libs.projection.consents import words_before
from libs.projection.opening import open_records
from libs.projection.projection import Recorded
from services.notification.domain.knowledge import attributes_in, consents_in, scores_in
from services.notification.domain.rule_checks import MAX_RECENT
from services.notification.domain.rules import CompiledRule
from services.notification.domain.scopes import Known, Value
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_DELIVERY_ATTEMPTED,
    EVENT_TYPE_EVENT_RETRACTED,
    EVENT_TYPE_NOTIFICATION_READ,
    EVENT_TYPE_SCORE_CROSSED,
    EVENT_TYPE_TRAITS_OBSERVED,
    Event,
)
from touchline.events.v1.facts_pb2 import DIRECTION_PEER, VISIBILITY_PUBLIC
from touchline.store.v1.store_pb2 import RecordedEvent

_MAX_KNOWN: Final = 1000
_TYPES: Final = {
    "attributes": EVENT_TYPE_TRAITS_OBSERVED,
    "scores": EVENT_TYPE_SCORE_CROSSED,
}
# They say nothing of the customer.
_NOT_RECENT: Final = (
    EVENT_TYPE_EVENT_RETRACTED,
    EVENT_TYPE_DELIVERY_ATTEMPTED,
    EVENT_TYPE_NOTIFICATION_READ,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Judged:
    """An event that rules are to judge.

    Attributes:
        recorded: As it is on the line.
        event: The same, opened.
        value: The same, as expressions see it.
        rules: Those that look at it.
    """

    recorded: Recorded
    event: Event
    value: Value
    rules: tuple[CompiledRule, ...]


@dataclass(slots=True)
class _Loaded:
    """What was loaded for the events of one batch, by their places in it."""

    recent: defaultdict[int, list[tuple[int, Value]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    known: defaultdict[int, list[Event]] = field(default_factory=lambda: defaultdict(list))
    said: dict[int, Said] = field(default_factory=dict)


async def know(pool: asyncpg.Pool, store: StoreClient, judged: Sequence[Judged]) -> list[Known]:
    """Return what the rules of each event need to know.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    loaded = _Loaded()
    rows = await _recent_rows(pool, judged)
    opened = await _opened_once(store, [row["record"] for row in rows])
    values: dict[bytes, Value] = {}
    for asked, _, occurred_at_us, record in rows:
        event = opened[record]
        if event is not None and not _is_private(event):
            if record not in values:
                values[record] = event_value(event)
            loaded.recent[asked].append((occurred_at_us, values[record]))
    wanted = [(place, one.recorded, _known_types(one.rules)) for place, one in enumerate(judged)]
    loaded.known = await known_events(pool, store, wanted)
    asking = {
        place: one.recorded
        for place, one in enumerate(judged)
        if any("consents" in rule.needs for rule in one.rules)
    }
    loaded.said = await words_before(pool, store, asking)
    return [_known(place, one, loaded) for place, one in enumerate(judged)]


async def known_events(
    pool: asyncpg.Pool, store: StoreClient, wanted: Iterable[tuple[int, Recorded, Collection[int]]]
) -> defaultdict[int, list[Event]]:
    """Return what customers' traits and scores come from, up to and with an event.

    Args:
        pool: The service's database.
        store: Gives the data keys.
        wanted: A number that names what is asked, the event, and the types of events to find.

    Returns:
        By that number the events, the latest to occur first.
    """
    found: defaultdict[int, list[Event]] = defaultdict(list)
    by_types: defaultdict[tuple[int, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for asked, recorded, types in wanted:
        if types:
            record = recorded.record
            by_types[tuple(sorted(types))].append(
                (asked, record.tenant, record.owner_key, recorded.position, recorded.recorded_at_us)
            )
    for kinds, asking in by_types.items():
        columns = [list(column) for column in zip(*asking, strict=True)]
        rows = await pool.fetch(_SQL["known"], *columns, list(kinds), _MAX_KNOWN)
        opened = await _opened_once(store, [row["record"] for row in rows])
        for asked, _, record in rows:
            event = opened[record]
            if event is not None:
                found[asked].append(event)
    return found


def _known_types(rules: Iterable[CompiledRule]) -> set[int]:
    names = frozenset().union(*(rule.needs for rule in rules))
    return {number for name, number in _TYPES.items() if name in names}


def _known(place: int, one: Judged, loaded: _Loaded) -> Known:
    told, said = loaded.known[place], loaded.said.get(place, NOTHING_SAID)
    return Known(
        event=one.value,
        occurred_at_us=one.recorded.record.occurred_at_us,
        now=_EPOCH + timedelta(microseconds=one.recorded.recorded_at_us),
        recent=loaded.recent[place][:MAX_RECENT],
        attributes=attributes_in(told),
        consents=consents_in(said.words, said.identity_keys),
        scores=scores_in(told),
    )


async def _recent_rows(pool: asyncpg.Pool, judged: Sequence[Judged]) -> list[asyncpg.Record]:
    asking = []
    for place, one in enumerate(judged):
        window_us = max((rule.window_us for rule in one.rules if "recent" in rule.needs), default=0)
        if window_us:
            position, recorded_at_us, record, _ = one.recorded
            asking.append(
                (
                    *(place, record.tenant, record.owner_key, position, recorded_at_us),
                    *(record.occurred_at_us - window_us, record.occurred_at_us),
                )
            )
    if not asking:
        return []
    columns = [list(column) for column in zip(*asking, strict=True)]
    rows: list[asyncpg.Record] = await pool.fetch(
        _SQL["recent"], *columns, list(_NOT_RECENT), MAX_RECENT
    )
    return rows


async def _opened_once(
    store: StoreClient, records: Iterable[bytes]
) -> Mapping[bytes, Event | None]:
    """Return each record opened; events near each other ask for the same ones."""
    distinct = list(dict.fromkeys(records))
    parsed = [RecordedEvent.FromString(one) for one in distinct]
    opened = await open_records(store, parsed, identities=False)
    return dict(zip(distinct, opened, strict=True))


def _is_private(event: Event) -> bool:
    """Say whether it is what customers told each other, which is nobody's business."""
    contact = event.interaction
    return contact.direction == DIRECTION_PEER and contact.visibility != VISIBILITY_PUBLIC
