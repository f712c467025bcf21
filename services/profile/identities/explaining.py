"""Why identities are one person, or are not: each link, its rule and its event, and who decided."""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.eventstore.records import event_id_text
from libs.identity.graph import Edge
from libs.identity.kinds import Strength
from libs.postgres.queries import load_queries
from libs.projection.clusters import Cluster, Decision, count_events
from libs.projection.config import Reader
from libs.projection.opening import open_records
from libs.projection.profiles import views_errors
from libs.rpc import errors
from services.profile.identities.showing import open_identities
from touchline.events.v1.event_pb2 import Event
from touchline.profile.v1.identities_pb2 import (
    LINK_EFFECT_CLASHES,
    LINK_EFFECT_CONFIRMS,
    LINK_EFFECT_CUT,
    LINK_EFFECT_JOINS,
    LINK_RULE_COOKIE,
    LINK_RULE_DECIDED,
    LINK_RULE_DEVICE,
    LINK_RULE_SOCIAL,
    LINK_RULE_STRONG,
    IdentityLink,
    IdentityVerdict,
    LinkEffect,
    LinkRule,
)
from touchline.profile.v1.profile_pb2 import ProfileIdentity
from touchline.store.v1.store_pb2 import RecordedEvent
from touchline.times import timestamp_of

MOST_VERDICTS: Final = 500
"""How many decisions are told with a profile's links."""

RULES: Final[dict[int, LinkRule.ValueType]] = {
    Strength.DECIDED: LINK_RULE_DECIDED,
    Strength.STRONG: LINK_RULE_STRONG,
    Strength.SOCIAL: LINK_RULE_SOCIAL,
    Strength.DEVICE: LINK_RULE_DEVICE,
    Strength.COOKIE: LINK_RULE_COOKIE,
}
"""The rule by which an edge of a strength counts."""

# What joins comes first, then what joins nothing, then what says the same once more.
_RANKS: Final[dict[LinkEffect.ValueType, int]] = {
    LINK_EFFECT_JOINS: 0,
    LINK_EFFECT_CLASHES: 1,
    LINK_EFFECT_CUT: 2,
    LINK_EFFECT_CONFIRMS: 3,
}
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Linked:
    """A link between two identities, and what it does."""

    edge: Edge
    effect: LinkEffect.ValueType


class Explanation:
    """What a cluster says of one of its profiles, and why.

    Args:
        cluster: All that says who is who around an identity.
        key: The identity.
    """

    def __init__(self, cluster: Cluster, key: bytes) -> None:
        self._cluster = cluster
        self._fold = fold = cluster.fold()
        self._roots = fold.components
        self._joining = frozenset(fold.joining)
        # Of one pair's edges the fold tells the first.
        self._cut = {(edge.a, edge.b) for edge in fold.cut}
        self.keys = self.profile_of(key)

    def profile_of(self, key: bytes) -> frozenset[bytes]:
        """Return the identities of the profile that has one; none when it is not known."""
        root = self._roots.get(key)
        return frozenset(one for one, of in self._roots.items() if root is not None and of == root)

    def links(self) -> list[Linked]:
        """Return every link of the profile's identities, those that join first."""
        held = [edge for one in self._cluster.holding() for edge in one.edges]
        edges = [
            edge
            for edge in (*self._cluster.links, *held)
            if (edge.a in self.keys or edge.b in self.keys)
            and edge.a in self._roots
            and edge.b in self._roots
        ]
        return sorted((Linked(edge, self._effect(edge)) for edge in edges), key=_link_order)

    def between(self, one: bytes, other: bytes) -> list[Linked]:
        """Return the way by which two identities are one person, or what does not join them."""
        if other in self.keys:
            return [Linked(edge, LINK_EFFECT_JOINS) for edge in self._path(one, other)]
        others = self.profile_of(other)
        return [link for link in self.links() if {link.edge.a, link.edge.b} & others]

    def verdicts(self, others: Collection[bytes] = ()) -> list[Decision]:
        """Return what people decided about the profile, newest first.

        Args:
            others: Only what names one of these as well. Default: everything.
        """
        mine, theirs = self.keys, frozenset(others)
        found = []
        for one in reversed(self._cluster.decisions):
            named = frozenset((*one.left, *one.right, *one.joined))
            if named & mine and (not theirs or named & theirs):
                found.append(one)
        return found[:MOST_VERDICTS]

    def _effect(self, edge: Edge) -> LinkEffect.ValueType:
        if edge in self._joining:
            return LINK_EFFECT_JOINS
        if self._roots[edge.a] == self._roots[edge.b]:
            return LINK_EFFECT_CONFIRMS
        return LINK_EFFECT_CUT if (edge.a, edge.b) in self._cut else LINK_EFFECT_CLASHES

    def _path(self, one: bytes, other: bytes) -> list[Edge]:
        """Return the joining links from one identity to another: there is one way."""
        around: defaultdict[bytes, list[Edge]] = defaultdict(list)
        for edge in self._fold.joining:
            around[edge.a].append(edge)
            around[edge.b].append(edge)
        came_by: dict[bytes, Edge | None] = {one: None}
        waiting = deque([one])
        while waiting and other not in came_by:
            here = waiting.popleft()
            for edge in around[here]:
                there = edge.b if edge.a == here else edge.a
                if there not in came_by:
                    came_by[there] = edge
                    waiting.append(there)
        path, here = [], other
        while (by := came_by[here]) is not None:
            path.append(by)
            here = by.a if by.b == here else by.b
        return path[::-1]


class Telling:
    """Opens what explains who is who, for people to read.

    Args:
        pool: Connections to the service's database.
        store: Gives the data keys that open events.
        reader: Whose they are.
    """

    def __init__(self, pool: asyncpg.Pool, store: StoreClient, reader: Reader) -> None:
        self._pool = pool
        self._store = store
        self._reader = reader

    async def links(
        self,
        links: Sequence[Linked],
        decisions: Iterable[Decision] = (),
        as_of_us: int | None = None,
    ) -> list[IdentityLink]:
        """Return links with their identities, the systems that reported them, and how often.

        Args:
            links: The links.
            decisions: Those by which some of them count.
            as_of_us: Only events of then are counted. Default: all.

        Raises:
            CallError: VIEWS_UNAVAILABLE or STORE_UNAVAILABLE.
        """
        edges = [one.edge for one in links]
        owners = {one.event_id: one.owner_key for one in decisions}
        told = await self._events(
            (owner, edge.occurred_at_us, edge.event_id)
            for edge in edges
            for owner in {edge.a, edge.b, owners.get(edge.event_id, edge.a)}
        )
        pairs = {(edge.a, edge.b) for edge in edges if edge.strength != Strength.DECIDED}
        async with views_errors():
            counts = await count_events(self._pool, self._reader.tenant, pairs, as_of_us=as_of_us)
        keys = {key for edge in edges for key in (edge.a, edge.b)}
        opened = await open_identities(self._pool, self._store, self._reader, keys)
        return [_link(one, opened, told.get(one.edge.event_id), counts) for one in links]

    async def verdicts(self, decisions: Sequence[Decision]) -> list[IdentityVerdict]:
        """Return decisions with who made them and why, in their order.

        Raises:
            CallError: VIEWS_UNAVAILABLE or STORE_UNAVAILABLE.
        """
        told = await self._events(
            (one.owner_key, one.occurred_at_us, one.event_id) for one in decisions
        )
        return [_verdict(one, told.get(one.event_id)) for one in decisions]

    async def _events(self, names: Iterable[tuple[bytes, int, bytes]]) -> dict[bytes, Event]:
        """Return events by id, opened, of those named by owner, time and id that can be."""
        columns = [list(column) for column in zip(*sorted(set(names)), strict=True)]
        if not columns:
            return {}
        owners, times, ids = columns
        async with views_errors():
            rows = await self._pool.fetch(
                _SQL["records"],
                *(self._reader.tenant, owners, times),
                [event_id_text(one) for one in ids],
            )
        records = [RecordedEvent.FromString(row["record"]) for row in rows]
        try:
            events = await open_records(self._store, records)
        except StoreError as error:
            raise errors.store_unavailable() from error
        opened = zip(records, events, strict=True)
        return {record.event_id: event for record, event in opened if event is not None}


def _link_order(link: Linked) -> tuple[int, int, int, bytes, bytes, bytes]:
    edge = link.edge
    when = edge.strength, edge.occurred_at_us, edge.event_id
    return _RANKS[link.effect], *when, edge.a, edge.b


def _link(
    link: Linked,
    opened: dict[bytes, ProfileIdentity],
    event: Event | None,
    counts: dict[tuple[bytes, bytes], int],
) -> IdentityLink:
    edge = link.edge
    decided = edge.strength == Strength.DECIDED
    return IdentityLink(
        left=opened.get(edge.a),
        right=opened.get(edge.b),
        rule=RULES[edge.strength],
        effect=link.effect,
        event_id=event_id_text(edge.event_id),
        occurred_at=timestamp_of(edge.occurred_at_us),
        source="" if event is None else event.source,
        events=1 if decided else counts.get((edge.a, edge.b), 0),
    )


def _verdict(one: Decision, event: Event | None) -> IdentityVerdict:
    return IdentityVerdict(
        event_id=event_id_text(one.event_id),
        kind=one.kind,  # type: ignore[arg-type]  # as the envelope had it
        decided_at=timestamp_of(one.occurred_at_us),
        decided_by="" if event is None else event.actor.reference,
        reason="" if event is None else event.identity_decided.reason,
        revoked=one.taken_back,
        left_identities=len(one.left),
        right_identities=len(one.right),
    )
