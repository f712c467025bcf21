"""Reads what crossings are made of: the models that answer, and what counted when."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from libs.identity.keys import KEY_BYTES
from libs.postgres.queries import load_queries
from libs.projection.projection import Connection
from libs.projection.serving import Serving
from services.engagement.domain.crossings import Change
from services.engagement.domain.model import Model
from services.engagement.domain.scoring import DAY_US, ONE, THOUSAND, DaySum, points_of
from services.engagement.reading import compiled_model, in_schema_of, model_numbers
from services.engagement.scores import Scoring
from touchline.events.v1.identity_pb2 import IdentityKind

PARTS: Final = 256
"""Into how many parts the profiles are split, by the first byte of their keys."""

_PAST_ALL: Final = b"\xff" * (KEY_BYTES + 1)
_SQL: Final = load_queries(Path(__file__).with_name("levels.sql"))


class KnownIdentity(NamedTuple):
    """An identity as the graph has it, its value sealed."""

    identity_key: bytes
    kind: IdentityKind.ValueType
    first_position: int
    sealed_value: bytes
    key_id: bytes


class Levels:
    """Answers from the tables of the projections, and keeps which midnights were looked at.

    Args:
        pool: Connections to the service's database.
        serving: Says which generation of a version's projection answers.
    """

    def __init__(self, pool: asyncpg.Pool, serving: Serving) -> None:
        self._pool = pool
        self._serving = serving

    async def scorings(self) -> list[Scoring]:
        """Return the versions that answer, of those models that have levels."""
        found = [
            Scoring(position, tenant, version, compiled_model(position, definition))
            for tenant, _, version, position, definition in await self._pool.fetch(
                _SQL["serving_models"]
            )
        ]
        return [scoring for scoring in found if scoring.model.levels]

    async def roots(self, tenant: int, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the profiles that identities belong to, by identity key."""
        rows = await self._pool.fetch(_SQL["profiles_of"], tenant, keys)
        return {row["owner_key"]: row["root_key"] for row in rows}

    async def changes(
        self, scoring: Scoring, firsts: Mapping[bytes, int], last: int
    ) -> dict[bytes, list[Change]]:
        """Return what counts for profiles, position by position.

        Args:
            scoring: By what.
            firsts: By root key: from which position on each one matters; what counted before comes
                in one sum, at position 0.
            last: Up to which position.
        """
        rows: Sequence[Any] = await self._pool.fetch(
            in_schema_of(self._serving, scoring, _SQL["changes"]),
            *(scoring.scoring, scoring.tenant),
            list(firsts),
            list(firsts.values()),
            last,
        )
        found: defaultdict[bytes, list[Change]] = defaultdict(list)
        for root, rule, day, added, removed, events in rows:
            weight = events * scoring.model.rules[rule].terms.weight
            found[root].append(Change(added, rule, day, weight))
            if removed is not None:
                found[root].append(Change(removed, rule, day, -weight))
        return found

    async def is_due(self, scoring: Scoring, today: int) -> bool:
        """Tell whether a midnight is still to be looked at; one before the model's first is not."""
        named = scoring.tenant, scoring.model.name
        await self._pool.execute(_SQL["begin_sweeps"], *named, today)
        due: bool = await self._pool.fetchval(_SQL["due_sweep"], *named, today)
        return due

    async def looked(self, connection: Connection, scoring: Scoring, today: int) -> None:
        """Note in the connection's transaction that a day's midnight was looked at."""
        await connection.execute(_SQL["end_sweep"], scoring.tenant, scoring.model.name, today)

    async def moved(self, scoring: Scoring, today: int, part: int) -> list[bytes]:
        """Return the profiles that had another level the day before, as far as it is folded.

        Args:
            scoring: By what they are scored.
            today: The day, in days since 1970.
            part: Which of `PARTS` of all profiles, so that no query takes long.
        """
        rows = await self._pool.fetch(
            in_schema_of(self._serving, scoring, _SQL["moved"]),
            *(scoring.scoring, scoring.tenant),
            *model_numbers(scoring.model, today),
            [Decimal(edge) for edge in edges(scoring.model)],
            *(bytes([part]), bytes([part + 1]) if part + 1 < PARTS else _PAST_ALL),
        )
        return [row["root_key"] for row in rows]

    async def sums_at_midnight(
        self, scoring: Scoring, roots: Sequence[bytes], today: int
    ) -> dict[bytes, list[DaySum]]:
        """Return what counted for profiles when a day began."""
        rows: Sequence[Any] = await self._pool.fetch(
            in_schema_of(self._serving, scoring, _SQL["sums_before"]),
            *(scoring.scoring, scoring.tenant, roots, today * DAY_US),
        )
        found: defaultdict[bytes, list[DaySum]] = defaultdict(list)
        for root, rule, day, events in rows:
            weight = events * scoring.model.rules[rule].terms.weight
            found[root].append(DaySum(rule, day, weight))
        return found

    async def identities(
        self, tenant: int, roots: Sequence[bytes]
    ) -> dict[bytes, list[KnownIdentity]]:
        """Return the identities of profiles, by root key."""
        found: defaultdict[bytes, list[KnownIdentity]] = defaultdict(list)
        for root, *identity in await self._pool.fetch(_SQL["identities_of"], tenant, roots):
            found[root].append(KnownIdentity(*identity))
        return found


def edges(model: Model) -> list[int]:
    """Return the least score in units at which each level is reached, by rising score.

    A level is reached when the score in points, which is rounded, says so; what is less by no more
    than that rounding is among it.
    """
    return [_edge(from_score) for from_score, _ in model.levels]


def _edge(from_score: float) -> int:
    exact = ceil(Fraction(from_score) * THOUSAND * ONE)
    near = range(exact - (exact >> 52) - 1, exact + 1)
    return near[bisect_left(near, from_score, key=points_of)]
