"""Lines of events as projections see them: envelopes, with whatever is sealed left sealed.

Told(7, ("anna@", "tablet"), at=3)      event 7, of those identities, the owner first
Told(8, ("anna@",), retracts=7)         takes event 7 back
Told(9, ("anna@",), decides=Decides(MERGED, ("anna@",), ("ben@",), ("anna@", "ben@")))
Told(10, erases=("anna@",))             erases an identity; what comes later has another data key
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from uuid import UUID

import asyncpg
from hypothesis import strategies as st

from libs.eventstore.chain import GENESIS, extend
from libs.identity.graph import Edge, Node, clash_label, edges_of, fold
from libs.identity.keys import partition_of
from libs.projection.batches import Batch
from libs.projection.partitions import ALL, Partitions
from libs.projection.projection import Connection, Projection, Recorded
from touchline.events.v1.decisions_pb2 import (
    IdentityDecision,
    IdentityDecisionKind,
    ProfileVersion,
)
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_EVENT_RETRACTED,
    EVENT_TYPE_IDENTITY_DECIDED,
    EVENT_TYPE_NOTE_ADDED,
    EVENT_TYPE_PROFILE_ERASED,
)
from touchline.events.v1.identity_pb2 import IdentityKind
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent, RecordedEvent, SealedIdentity

TENANT = 1
STORE = b"s" * 16
KINDS = {
    "anna@": (IdentityKind.IDENTITY_KIND_EMAIL, b""),
    "ben@": (IdentityKind.IDENTITY_KIND_EMAIL, b""),
    "+49": (IdentityKind.IDENTITY_KIND_PHONE, b""),
    "+44": (IdentityKind.IDENTITY_KIND_PHONE, b""),
    "crm:1": (IdentityKind.IDENTITY_KIND_EXTERNAL_ID, b"crm"),
    "crm:2": (IdentityKind.IDENTITY_KIND_EXTERNAL_ID, b"crm"),
    "@anna": (IdentityKind.IDENTITY_KIND_SOCIAL_HANDLE, b"mastodon"),
    "tablet": (IdentityKind.IDENTITY_KIND_DEVICE, b""),
    "cookie": (IdentityKind.IDENTITY_KIND_COOKIE, b""),
}
"""Identities by name: their kind, and the hash of their namespace."""


@dataclass(frozen=True, slots=True)
class Decides:
    """What a person decides: its kind, the two sides, whom it joins, the events it revokes."""

    kind: IdentityDecisionKind.ValueType
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    revokes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """An event: its number, its identities with the owner first, its day, what it takes back."""

    number: int
    names: tuple[str, ...] = ()
    at: int = 1
    retracts: int | None = None
    decides: Decides | None = None
    erases: tuple[str, ...] = ()

    @property
    def event_id(self) -> bytes:
        """The UUID, 16 bytes."""
        return UUID(int=self.number).bytes

    @property
    def occurred_at_us(self) -> int:
        """When it happened, in microseconds since 1970."""
        return self.at * 86_400_000_000


def key_of(name: str) -> bytes:
    """The identity key of a name, 16 bytes."""
    return name.encode().ljust(16, b".")


def recorded(line: Iterable[Told]) -> list[Recorded]:
    """The events as the store hands them out, at positions from 1 on."""
    erasures = Counter[str]()
    events = []
    for position, told in enumerate(line, 1):
        events.append(_recorded(position, told, erasures))
        erasures.update(told.erases)
    return events


def recorded_at_us(position: int) -> int:
    """When the store accepted the event at a position, in microseconds since 1970."""
    return 10**15 + position


def _recorded(position: int, told: Told, erasures: Counter[str]) -> Recorded:
    retracts = told.retracts
    record = RecordedEvent(
        event_id=told.event_id,
        tenant=TENANT,
        owner_key=key_of(told.names[0] if told.names else "erasure"),
        identities=[
            SealedIdentity(
                identity_key=key_of(name),
                kind=KINDS[name][0],
                namespace_key=KINDS[name][1],
                sealed_value=b"sealed",
                key_id=b"key%d" % erasures[name],
            )
            for name in told.names
        ],
        type=EVENT_TYPE_NOTE_ADDED if retracts is None else EVENT_TYPE_EVENT_RETRACTED,
        occurred_at_us=told.occurred_at_us,
        retracts=b"" if retracts is None else UUID(int=retracts).bytes,
        sealed_event=b"sealed %d" % told.number,
    )
    if told.decides is not None:
        record.type = EVENT_TYPE_IDENTITY_DECIDED
        record.identity_decision.CopyFrom(_decision(told.decides, position))
    if told.erases:
        record.type = EVENT_TYPE_PROFILE_ERASED
        record.erasure.identity_keys.extend(map(key_of, told.erases))
    return Recorded(position, recorded_at_us(position), record, record.SerializeToString())


def _decision(decides: Decides, version: int) -> IdentityDecision:
    return IdentityDecision(
        kind=decides.kind,
        profiles=[
            ProfileVersion(root_key=key_of(side[0]), version=version)
            for side in (decides.left, decides.right)
            if side
        ],
        joined_keys=map(key_of, decides.joined),
        left_keys=map(key_of, decides.left),
        right_keys=map(key_of, decides.right),
        revoked_event_ids=[UUID(int=number).bytes for number in decides.revokes],
    )


def batches_of(
    events: Sequence[Recorded], sizes: Iterable[int] = (), wanted: Partitions = ALL
) -> list[Batch]:
    """Events from position 1 on as they are sent, in batches of some sizes, the rest at once.

    Args:
        events: The line.
        sizes: How many events the first batches have.
        wanted: Whose records are in them: those of others are left empty.
    """
    packed = [
        PackedEvent(
            partition=partition_of(event.record.owner_key),
            type=event.record.type,
            recorded_at_us=event.recorded_at_us,
            content_hash=sha256(b"%d" % event.position).digest(),
            record=event.record_bytes if wanted.own([event]) else b"",
        )
        for event in events
    ]
    sent, chain, done = list[Batch](), GENESIS, 0
    for size in [*sizes, len(packed)]:
        if own := packed[done : done + size]:
            batch = EventBatch(store_id=STORE, previous_chain=chain, first=done + 1, events=own)
            done += len(own)
            batch.chain = chain = extend(chain, [event.content_hash for event in own])
            batch.last = done
            sent.append(Batch(batch))
    return sent


async def project(
    connection: Connection,
    projection: Projection,
    events: Sequence[Recorded],
    sizes: Iterable[int] = (),
) -> None:
    """Folds events in batches of some sizes, and the rest at once, within a transaction."""
    start = 0
    for size in [*sizes, len(events)]:
        if events[start : start + size]:
            await projection.prepare(events[start : start + size])
            await projection.apply(connection, events[start : start + size])
        start += size


def people_by_reference(line: Sequence[Told]) -> set[frozenset[str]]:
    """Who is one person, by folding every edge that was not taken back, all at once."""
    first: dict[str, int] = {}
    for position, told in enumerate(line, 1):
        for name in told.names:
            first.setdefault(name, position)
    taken_back = {(told.retracts, told.names[0]) for told in line if told.retracts is not None}
    edges: list[Edge] = []
    for told in line:
        if told.retracts is None and (told.number, told.names[0]) not in taken_back:
            seen = [(key_of(name), int(KINDS[name][0])) for name in told.names]
            edges += edges_of(seen, told.occurred_at_us, told.event_id)
    nodes = [Node(key_of(n), clash_label(*KINDS[n]), position) for n, position in first.items()]
    return groups(fold(nodes, edges).components.items())


def groups(roots: Iterable[Sequence[bytes] | asyncpg.Record]) -> set[frozenset[str]]:
    """Sets of names that have one root, from pairs of key and root."""
    members: dict[bytes, set[str]] = {}
    for key, root in roots:
        members.setdefault(root, set()).add(key.rstrip(b".").decode())
    return {frozenset(names) for names in members.values()}


@asynccontextmanager
async def undone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Leaves a database as it was."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


@st.composite
def lines(draw: st.DrawFn) -> list[Told]:
    """Lines of up to 16 events of few identities, some of which take others back, in any order."""
    size = draw(st.integers(1, 16))
    names = st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4, unique=True)
    line = [
        Told(number, tuple(draw(names)), draw(st.integers(1, 4))) for number in range(1, size + 1)
    ]
    for target in draw(st.lists(st.sampled_from(line), max_size=4)):
        # A caller names the same owner, and maybe the others.
        named = draw(st.sampled_from([target.names, target.names[:1]]))
        number = 100 + len(line)
        line.append(Told(number, named, draw(st.integers(1, 4)), target.number))
    Random(draw(st.integers(0, 10**6))).shuffle(line)
    return line


batch_sizes = st.lists(st.integers(1, 6), max_size=8)
"""Sizes of the first batches of a line."""
