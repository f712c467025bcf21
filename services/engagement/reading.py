"""Reads scores: which version answers, what counted by when, and who has how much."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from libs.postgres.queries import load_queries
from libs.projection.profiles import views_errors
from libs.projection.projection import Connection
from libs.projection.serving import Serving
from services.engagement.domain.model import Model, compile_model
from services.engagement.domain.scoring import DaySum, Scored, factors
from services.engagement.models import from_text
from services.engagement.scores import Scoring
from touchline.engagement.v1.engagement_pb2 import ModelDefinition

LATEST: Final = 2**62
"""Later than any time in microseconds, and any position."""

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_RANKED_NOW: Final = f"WITH days AS ({_SQL['days_now']}), {_SQL['ranked']}"
_RANKED_THEN: Final = f"WITH days AS ({_SQL['days_then']}), {_SQL['ranked']}"


@dataclass(frozen=True, slots=True)
class Moment:
    """What is read: up to which time, and up to which position, so that pages fit together.

    Attributes:
        occurred_by_us: Only what had happened by then.
        recorded_by_us: Only what had been recorded by then.
        position: Only what stands up to here on the line.
    """

    occurred_by_us: int = LATEST
    recorded_by_us: int = LATEST
    position: int = LATEST


class Version(NamedTuple):
    """A published version of a model, and whether it answers."""

    name: str
    version: int
    position: int
    definition: str
    published_at_us: int
    published_by: str
    serving: int | None


class Explained(NamedTuple):
    """One event's part of a score, as the tables have it."""

    event_id: bytes
    position: int
    occurred_at_us: int
    type: int
    rule: int
    day: int


class Ranked(NamedTuple):
    """A profile by score: its root key, and its score in units, negative when the lowest lead."""

    root: bytes
    rank: int


class Scorings:
    """Answers questions about scores from the tables of the projections.

    Args:
        database: Connections to the service's database, or the one whose transaction reads.
        serving: Says which generation of a version's projection answers.
    """

    def __init__(self, database: asyncpg.Pool | Connection, serving: Serving) -> None:
        self._database = database
        self._serving = serving

    async def serving(self, tenant: int, model: str) -> Scoring | None:
        """Return the version of a model that answers; None when none does, or not yet."""
        async with views_errors():
            row: Any = await self._database.fetchrow(_SQL["serving"], tenant, model)
        if row is None:
            return None
        version, position, definition = row
        return Scoring(position, tenant, version, compiled_model(position, definition))

    async def versions(self, tenant: int, name: str = "") -> list[Version]:
        """Return the versions of a model, or of all, the latest of each first."""
        async with views_errors():
            rows = await self._database.fetch(_SQL["models_of"], tenant, name)
        return [Version(*row) for row in rows]

    async def position_of(self, tenant: int, name: str, version: int) -> int:
        """Return the position at which a version was published; 0 when it is not known here."""
        async with views_errors():
            position = await self._database.fetchval(_SQL["position_of"], tenant, name, version)
        return position or 0

    async def sums_now(self, scoring: Scoring, keys: Sequence[bytes]) -> list[DaySum]:
        """Return what counts of some identities, as far as it is folded."""
        async with views_errors():
            rows = await self._database.fetch(
                self._in(scoring, _SQL["sums_now"]), scoring.scoring, keys
            )
        return [DaySum(*row) for row in rows]

    async def sums_then(
        self, scoring: Scoring, keys: Sequence[bytes], moment: Moment
    ) -> list[DaySum]:
        """Return what counted of some identities at a moment."""
        async with views_errors():
            rows = await self._database.fetch(
                self._in(scoring, _SQL["sums_then"]), scoring.scoring, keys, *_bounds(moment)
            )
        rules = scoring.model.rules
        return [DaySum(rule, day, count * rules[rule].terms.weight) for rule, day, count in rows]

    async def explained(
        self,
        scoring: Scoring,
        keys: Sequence[bytes],
        moment: Moment,
        scored: Scored,
        page: tuple[int, int],
    ) -> list[Explained]:
        """Return the events that make a score, those that give the most first.

        Args:
            scoring: By what they count.
            keys: The profile's identities.
            moment: What is read.
            scored: The score of just that.
            page: How many to leave out, and how many to return at most.
        """
        rules, days, places = _by_points(scored)
        async with views_errors():
            rows = await self._database.fetch(
                self._in(scoring, _SQL["explained"]),
                *(scoring.scoring, keys, *_bounds(moment), rules, days, places, *page),
            )
        return [
            Explained(event_id.bytes, position, at, type_, rule, day)
            for event_id, position, at, type_, rule, day in rows
        ]

    async def ranked(
        self,
        scoring: Scoring,
        today: int,
        as_of_us: int | None,
        *,
        lowest: bool,
        after: Ranked | None,
        limit: int,
    ) -> list[Ranked]:
        """Return profiles by score, computed as `scoring.score` does, to the last unit.

        Args:
            scoring: By what.
            today: The day the scores are of, in days since 1970.
            as_of_us: What had happened and been recorded by then; None: what is folded.
            lowest: Whether the lowest lead.
            after: Only those that come after this one.
            limit: How many at most.
        """
        arguments = (
            *(scoring.scoring, scoring.tenant),
            *model_numbers(scoring.model, today),
            -1 if lowest else 1,
            *((None, b"") if after is None else (Decimal(after.rank), after.root)),
            limit,
        )
        query = _RANKED_NOW
        if as_of_us is not None:
            query = _RANKED_THEN
            arguments += (as_of_us, [rule.terms.weight for rule in scoring.model.rules])
        async with views_errors():
            rows = await self._database.fetch(self._in(scoring, query), *arguments)
        return [Ranked(row["root_key"], int(row["rank"])) for row in rows]

    def _in(self, scoring: Scoring, query: str) -> str:
        return in_schema_of(self._serving, scoring, query)

    async def degraded(
        self, tenant: int, parked: Mapping[bytes, Collection[str]], roots: Sequence[bytes]
    ) -> dict[bytes, list[str]]:
        """Return which projections lack events of some profiles, by root; asks only if any may.

        Args:
            tenant: The tenant's number.
            parked: The identities whose events projections lack, and which they are.
            roots: The profiles' root keys.
        """
        if not parked or not roots:
            return {}
        async with views_errors():
            rows = await self._database.fetch(
                _SQL["profiles_of"], tenant, list(parked), list(roots)
            )
        found = defaultdict[bytes, set[str]](set)
        for key, root in rows:
            found[root].update(parked[key])
        return {root: sorted(names) for root, names in found.items()}


def in_schema_of(serving: Serving, scoring: Scoring, query: str) -> str:
    """Return a query that reads the tables in which a version's contributions are.

    Many versions have tables of the same names, so no search path can tell them apart.

    Args:
        serving: Says which generation answers.
        scoring: The version.
        query: With `{schema}.` before each of those tables.
    """
    return query.replace("{schema}", serving.schema(scoring.projection))


@lru_cache(maxsize=256)
def compiled_model(position: int, definition: str) -> Model:
    """Return a published version of a model, compiled once.

    Args:
        position: Where it was published.
        definition: What it says, as the tables have it.
    """
    del position  # two tenants' equal definitions remember nothing of each other
    return compile_model(from_text(definition))


def definition_of(version: Version) -> ModelDefinition:
    """Return what a version says."""
    return from_text(version.definition)


def _bounds(moment: Moment) -> tuple[int, int, int]:
    return moment.occurred_by_us, moment.recorded_by_us, moment.position


def _by_points(scored: Scored) -> tuple[list[int], list[int], list[int]]:
    """Return rules, days and places: days whose events give the same share a place."""
    shares = {
        (number, day): rule.share(day)
        for number, rule in enumerate(scored.rules)
        for day in rule.days
    }
    places = {
        points: place for place, points in enumerate(sorted({*shares.values()}, reverse=True))
    }
    return (
        [rule for rule, _ in shares],
        [day for _, day in shares],
        [places[points] for points in shares.values()],
    )


def model_numbers(model: Model, today: int) -> tuple[object, ...]:
    """Return the model as arrays: rules, caps, where each rule's factors start and how many."""
    first: list[int] = []
    ages: list[int | None] = []
    every: list[int] = []
    for terms in model.terms:
        own = [] if terms.half_life_ns is None else factors(terms.half_life_ns, today)
        first.append(len(every) + 1)  # PostgreSQL counts from 1
        ages.append(None if terms.half_life_ns is None else len(own))
        every += own
    return (
        list(range(len(model.rules))),
        [terms.day_cap for terms in model.terms],
        [terms.total_cap for terms in model.terms],
        *(first, ages, today, every),
    )
