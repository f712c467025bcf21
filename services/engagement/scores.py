"""The projection of what counts: one per version of a scoring model, each with its own checkpoint.

It keeps no score: a score is a function of the day sums and the day. It keeps nothing personal
either, only which events count; conditions look into opened events, and forget them. What was
erased counts no more, not even by rules that look at envelopes alone: nobody is left to have it.
"""

from asyncio import sleep
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.client import StoreClient
from libs.postgres.queries import load_queries
from libs.projection.erasing import Erasure, erasures_among, is_erased
from libs.projection.opening import open_events
from libs.projection.projection import Connection, Recorded, Table, of_customers
from libs.projection.writing import add_rows
from services.engagement.domain.model import Model
from services.engagement.domain.scoring import day_of

TABLES: Final = ("contributions", "score_retractions", "score_erasures", "day_sums")
"""What every version of every model folds into."""

MIGRATIONS: Final = Path(__file__).with_name("migrations")
_COLUMNS: Final = (
    *("scoring", "owner_key", "event_id", "rule"),
    *("type", "occurred_at_us", "recorded_at_us", "position"),
)
# Either takes some 3 ms, in which nobody else is served.
_OPENED_AT_ONCE: Final = 500
_EVALUATED_AT_ONCE: Final = 100
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))

_Event = tuple[bytes, bytes]
_Day = tuple[bytes, int, int]


@dataclass(frozen=True, slots=True)
class Scoring:
    """A published version of a scoring model, ready to be applied.

    Attributes:
        scoring: Names it within the database: the position at which it was published.
        tenant: Whose customers it scores, as a number.
        version: Its version.
        model: What it says.
    """

    scoring: int
    tenant: int
    version: int
    model: Model

    @property
    def projection(self) -> str:
        """The name of its projection."""
        return projection_name(self.tenant, self.model.name, self.version)


def projection_name(tenant: int, model: str, version: int) -> str:
    """Return the name of the projection of a version of a model."""
    return f"scores:{tenant}:{model}:{version}"


def tables_of(scoring: int) -> tuple[Table, ...]:
    """Return a version's part of the tables that all versions share in the schema public."""
    return tuple(Table(name, f"scoring = {scoring}") for name in TABLES)


class Scores:
    """Folds events into contributions and day sums; see libs.projection.projection.Projection.

    Args:
        scoring: What counts.
        store: Gives the data keys that open events which a condition looks into.
    """

    fold_version = 2
    divisible = True

    def __init__(self, scoring: Scoring, store: StoreClient) -> None:
        self.name = scoring.projection
        self._scoring = scoring
        self._store = store
        # By position, the rules whose condition an event of the batch meets.
        self._met: dict[int, tuple[int, ...]] = {}
        self._has_retractions = False

    @property
    def tables(self) -> tuple[Table, ...]:
        """Its part of the tables that all models share."""
        return tables_of(self._scoring.scoring)

    def copy(self) -> "Scores":
        """The same fold, remembering nothing."""
        return Scores(self._scoring, self._store)

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Open the events that a condition looks into, and evaluate it."""
        self._met.clear()
        model = self._scoring.model
        own = of_customers(self._own(events))
        asked = [event for event in own if model.candidates(event.record).conditional]
        for start in range(0, len(asked), _OPENED_AT_ONCE):
            part = asked[start : start + _OPENED_AT_ONCE]
            opened = await open_events(self._store, part, identities=False)
            for number, (event, said) in enumerate(zip(part, opened, strict=True)):
                if number % _EVALUATED_AT_ONCE == 0:
                    await sleep(0)  # others fold in this process too
                if said is not None:  # an erased one meets no condition
                    conditional = model.candidates(event.record).conditional
                    self._met[event.position] = model.met(conditional, said)

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add what counts, take back what was retracted, and keep the sums."""
        own = self._own(events)
        sums: defaultdict[_Day, int] = defaultdict(int)
        new = await self._retract(connection, own)
        if new:
            await self._take_back(connection, new, sums)
        erasures = erasures_among(own)
        for erasure in erasures:
            await self._erase(connection, erasure, sums)
        counting = await self._not_erased(connection, own)
        rows = [row for event in counting for row in self._rows(event)]
        if rows:
            insert = _SQL["add_contributions"]
            await add_rows(connection, "contributions", _COLUMNS, rows, insert)
            retracted = await self._retracted_among(connection, rows)
            for _, owner_key, event_id, rule, _, occurred_at_us, _, _ in rows:
                if (owner_key, event_id.bytes) not in retracted:
                    day = (owner_key, rule, day_of(occurred_at_us))
                    sums[day] += self._scoring.model.rules[rule].terms.weight
        await self._add_sums(connection, sums, shrinking=bool(new or erasures))

    def aborted(self) -> None:
        """Forget what was evaluated, and what was seen in a transaction that did not commit."""
        self._met.clear()
        self._has_retractions = False

    def _own(self, events: Sequence[Recorded]) -> list[Recorded]:
        tenant = self._scoring.tenant
        return [event for event in events if event.record.tenant == tenant]

    def _rows(self, event: Recorded) -> Iterable[tuple[int, bytes, UUID, int, int, int, int, int]]:
        record = event.record
        matched = self._scoring.model.candidates(record).certain
        matched += self._met.get(event.position, ())
        for rule in sorted(matched):
            yield (
                *(self._scoring.scoring, record.owner_key, UUID(record.event_id), rule),
                *(record.type, record.occurred_at_us, event.recorded_at_us, event.position),
            )

    async def _retract(self, connection: Connection, events: Sequence[Recorded]) -> list[_Event]:
        """Add tombstones, and return those that are new."""
        first: dict[_Event, Recorded] = {}
        for event in events:
            if event.record.retracts:
                first.setdefault((event.record.owner_key, event.record.retracts), event)
        if not first:
            return []
        rows = await connection.fetch(
            _SQL["add_retractions"],
            self._scoring.scoring,
            [owner_key for owner_key, _ in first],
            [UUID(event_id) for _, event_id in first],
            [event.recorded_at_us for event in first.values()],
            [event.position for event in first.values()],
        )
        self._has_retractions = True
        return [(row["owner_key"], row["event_id"].bytes) for row in rows]

    async def _take_back(
        self, connection: Connection, retracted: Sequence[_Event], sums: dict[_Day, int]
    ) -> None:
        rows = await connection.fetch(
            _SQL["contributions_of_events"],
            self._scoring.scoring,
            [owner_key for owner_key, _ in retracted],
            [UUID(event_id) for _, event_id in retracted],
        )
        for owner_key, rule, occurred_at_us in rows:
            weight = self._scoring.model.rules[rule].terms.weight
            sums[owner_key, rule, day_of(occurred_at_us)] -= weight

    async def _erase(self, connection: Connection, erasure: Erasure, sums: dict[_Day, int]) -> None:
        """Add a tombstone per identity, and take back what erased events counted so far."""
        scoring = self._scoring.scoring
        _, keys, from_us, before_us, position = erasure.arguments
        bounds = (scoring, keys, from_us, before_us, position)
        await connection.execute(_SQL["add_erasures"], *bounds)
        for owner_key, rule, occurred_at_us in await connection.fetch(_SQL["erase"], *bounds):
            weight = self._scoring.model.rules[rule].terms.weight
            sums[owner_key, rule, day_of(occurred_at_us)] -= weight

    async def _not_erased(
        self, connection: Connection, events: Sequence[Recorded]
    ) -> Sequence[Recorded]:
        """Return the events that count: no erasure of this batch, or folded before, is of them.

        Events come before their erasure but for those of a batch, and those that are folded late
        since their owner was parked.
        """
        # An erasure is nobody's, and every range gets it: no rule counts it, whatever its filter.
        told = of_customers(events)
        counting = [event for event in told if any(self._scoring.model.candidates(event.record))]
        if not counting:
            return []
        owners = list({event.record.owner_key for event in counting})
        first = min(event.position for event in counting)
        rows = await connection.fetch(_SQL["erasures_of"], self._scoring.scoring, owners, first)
        if not rows:
            return counting
        erasures = [
            Erasure(self._scoring.tenant, position, frozenset([owner_key]), from_us, before_us)
            for owner_key, position, from_us, before_us in rows
        ]
        return [event for event in counting if not is_erased(event, erasures)]

    async def _retracted_among(
        self,
        connection: Connection,
        rows: Sequence[tuple[int, bytes, UUID, int, int, int, int, int]],
    ) -> set[_Event]:
        scoring = self._scoring.scoring
        if not self._has_retractions:
            self._has_retractions = await connection.fetchval(_SQL["has_retractions"], scoring)
        if not self._has_retractions:
            return set()
        asked = {(row[1], row[2]) for row in rows}
        owners, event_ids = zip(*asked, strict=True)
        found = await connection.fetch(_SQL["retracted_among"], scoring, owners, event_ids)
        return {(row["owner_key"], row["event_id"].bytes) for row in found}

    async def _add_sums(
        self, connection: Connection, sums: dict[_Day, int], *, shrinking: bool
    ) -> None:
        changed = sorted((*day, weight) for day, weight in sums.items() if weight)
        if not changed:
            return
        owners, rules, days, weights = zip(*changed, strict=True)
        scoring = self._scoring.scoring
        await connection.execute(_SQL["add_day_sums"], scoring, owners, rules, days, weights)
        if shrinking:
            empty = _SQL["remove_empty_day_sums"]
            await connection.execute(empty, scoring, owners, rules, days)
