"""The reactor that tells when an event moves a customer's score into another level."""

import time
from asyncio import sleep
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from libs.eventstore.client import StoreClient
from libs.projection.identity_graph import IdentityGraph
from libs.projection.opening import open_events
from libs.projection.outbox import Decision, Outbox, may_act
from libs.projection.projection import Connection, Recorded, Table, of_customers
from libs.projection.waiting import Checkpoints
from libs.rpc.tenants import Tenants
from services.engagement.domain.crossings import Crossing, crossings
from services.engagement.domain.scoring import day_of
from services.engagement.levels import Levels
from services.engagement.models import PublishedModels
from services.engagement.scores import Scoring
from touchline.events.v1.decisions_pb2 import ScoreCrossed
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Actor, Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.ids import decision_id

REACTOR: Final = "score_levels"
SOURCE: Final = "engagement"
KIND: Final = "score_crossed"

# A model that is folded again from the start answers nothing meanwhile, and is asked again.
_WAIT_SECONDS: Final = 5.0
_AT_ONCE: Final = 100


class _Found(NamedTuple):
    event: Recorded
    scoring: Scoring
    crossing: Crossing


class ScoreLevels:
    """Decides ScoreCrossed; see libs.projection.projection.

    Args:
        levels: What counts.
        store: Gives the data keys that open the events that moved a score.
        checkpoints: Tells when the graph and the models have folded a batch.
        outbox: Takes the decisions.
        tenants: Names the tenants.
    """

    name = REACTOR
    fold_version = 1
    divisible = False
    tables: tuple[Table, ...] = ()

    def __init__(
        self,
        levels: Levels,
        store: StoreClient,
        checkpoints: Checkpoints,
        outbox: Outbox,
        tenants: Tenants,
    ) -> None:
        self._levels = levels
        self._store = store
        self._checkpoints = checkpoints
        self._outbox = outbox
        self._tenants = {tenant.number: tenant.name for tenant in tenants.all}
        self._decisions: list[Decision] = []

    def copy(self) -> None:
        """Only one may decide."""

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Find what the events that may act did to scores, once the models have folded them."""
        self._decisions = []
        now_us = time.time_ns() // 1000
        acting = [event for event in of_customers(events) if may_act(event.record, now_us)]
        if not acting:
            return
        last = acting[-1].position
        base = (PublishedModels.name, IdentityGraph.name)
        await self._checkpoints.wait(base, last, _WAIT_SECONDS)
        found: list[_Found] = []
        for scoring in await self._levels.scorings():
            found += await self._crossed(scoring, acting)
        found.sort(key=lambda one: one.event.position)
        opened = await open_events(self._store, [one.event for one in found])
        for one, cause in zip(found, opened, strict=True):
            if cause is not None:  # an erased customer's crossing is nobody's
                self._decisions.append(self._decision(one, cause))

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Put what was decided into the outbox; of the erased nothing stays there."""
        await self._outbox.decide(connection, self.name, self._decisions)
        await self._outbox.forget(connection, self._tenants, events)

    def aborted(self) -> None:
        """Forget what was decided."""
        self._decisions = []

    async def _crossed(self, scoring: Scoring, acting: Sequence[Recorded]) -> list[_Found]:
        """Return what events did to scores by one model."""
        own = {event.position: event for event in acting if _may_move(scoring, event)}
        if not own:
            return []
        last = max(own)
        await self._checkpoints.wait([scoring.projection], last, _WAIT_SECONDS)
        by_root = await self._by_root(scoring.tenant, list(own.values()))
        firsts = {root: events[0].position for root, events in by_root.items()}
        changes = await self._levels.changes(scoring, firsts, last)
        found: list[_Found] = []
        for number, (root, events) in enumerate(by_root.items(), 1):
            passed = crossings(scoring.model, changes.get(root, ()), _days(events))
            found += [_Found(own[one.position], scoring, one) for one in passed]
            if number % _AT_ONCE == 0:
                await sleep(0)  # the models are folded in this process too
        return found

    async def _by_root(
        self, tenant: int, events: Sequence[Recorded]
    ) -> Mapping[bytes, list[Recorded]]:
        owners = list({event.record.owner_key for event in events})
        roots = await self._levels.roots(tenant, owners)
        found: defaultdict[bytes, list[Recorded]] = defaultdict(list)
        for event in events:
            root = roots.get(event.record.owner_key)
            if root is not None:
                found[root].append(event)
        return found

    def _decision(self, found: _Found, cause: Event) -> Decision:
        record = found.event.record
        event = crossed(found.scoring, found.crossing, cause.identities)
        event.event_id = decision_id(
            found.event.recorded_at_us, record.event_id, KIND, found.scoring.model.name
        )
        event.occurred_at.CopyFrom(cause.occurred_at)
        event.causation_id = cause.event_id
        event.correlation_id = cause.correlation_id
        return Decision(self._tenants[record.tenant], event, found.event.position)


def crossed(scoring: Scoring, crossing: Crossing, identities: Sequence[Identity]) -> Event:
    """Return the event that says a score crossed a level, but for its id, time and cause.

    Args:
        scoring: By what.
        crossing: How.
        identities: Whose score; those that can't be opened any more are left out.
    """
    return Event(
        identities=[identity for identity in identities if identity.value],
        source=SOURCE,
        actor=Actor(kind=ACTOR_KIND_SYSTEM),
        score_crossed=ScoreCrossed(
            model=scoring.model.name,
            model_version=scoring.version,
            from_level=crossing.from_level,
            to_level=crossing.to_level,
            score=crossing.score,
            rising=crossing.rising,
        ),
    )


def _may_move(scoring: Scoring, event: Recorded) -> bool:
    """Tell whether an event can move a score: it counts, or takes back; and the model was there."""
    record = event.record
    if record.tenant != scoring.tenant or event.position <= scoring.scoring:
        return False
    return bool(record.retracts) or any(scoring.model.candidates(record))


def _days(events: Sequence[Recorded]) -> dict[int, int]:
    return {event.position: day_of(event.recorded_at_us) for event in events}
