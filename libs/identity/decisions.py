"""What a person's decision about who is who says, for the graph to fold (docs/adr/0010)."""

from collections.abc import Collection, Iterable, Sequence

from libs.identity.graph import Cut, Edge, decided_edges
from touchline.events.v1.decisions_pb2 import IDENTITY_DECISION_KIND_MERGED


def cuts_of(
    kind: int,
    left: Collection[bytes],
    right: Collection[bytes],
    merged: Iterable[Collection[bytes]] = (),
) -> list[Cut]:
    """Return what a decision keeps apart; nothing of a merge.

    Args:
        kind: A number of `touchline.events.v1.IdentityDecisionKind`.
        left: The identity keys of the one side.
        right: Those of the other.
        merged: Of each merge that revoked it the identities of both sides. Among these it keeps
            nothing apart any more; from others it does.
    """
    if kind == IDENTITY_DECISION_KIND_MERGED:
        return []
    sides = [(frozenset(left), frozenset(right))]
    for keys in map(frozenset, merged):
        sides = [
            part
            for one, other in sides
            for part in ((one - keys, other), (one & keys, other - keys))
        ]
    return [Cut(one, other) for one, other in sides if one and other]


def joined_edges(
    kind: int,
    right: Collection[bytes],
    joined: Sequence[bytes],
    occurred_at_us: int,
    event_id: bytes,
) -> tuple[Edge, ...]:
    """Return the edges that a decision makes.

    A merge joins the first identity with each of the others. A decision that keeps two sides apart
    does so on each of them.

    Args:
        kind: A number of `touchline.events.v1.IdentityDecisionKind`.
        right: The identity keys of its right side.
        joined: The keys of the identities that it joins.
        occurred_at_us: When it was decided, in microseconds since 1970 UTC.
        event_id: Its event's UUID, 16 bytes.
    """
    return tuple(
        edge
        for keys in _persons(kind, right, joined)
        for edge in decided_edges(keys, occurred_at_us, event_id)
    )


def people_of(
    kind: int, left: Collection[bytes], right: Collection[bytes], joined: Sequence[bytes]
) -> list[frozenset[bytes]]:
    """Return the sets of identities that a decision that holds says are one person.

    Of a merge these are both sides. Of others it is a side on which it joins identities: what is
    left of a profile without the one that was detached, say, was one person before and stays one.
    No label clashes among them.

    Args:
        kind: A number of `touchline.events.v1.IdentityDecisionKind`.
        left: The identity keys of the one side.
        right: Those of the other.
        joined: The keys of the identities that it joins.
    """
    if kind == IDENTITY_DECISION_KIND_MERGED:
        return [frozenset((*left, *right, *joined))] if joined else []
    mine, theirs = _persons(kind, right, joined)
    sides = (mine, left), (theirs, right)
    return [frozenset((*keys, *side)) for keys, side in sides if len(keys) > 1]


def _persons(kind: int, right: Collection[bytes], joined: Sequence[bytes]) -> list[list[bytes]]:
    if kind == IDENTITY_DECISION_KIND_MERGED:
        return [list(joined)]
    theirs = frozenset(right).intersection(joined)
    return [[k for k in joined if k not in theirs], [k for k in joined if k in theirs]]
