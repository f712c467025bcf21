"""From a cluster of the identity graph and what a person wants to the decision that says so.

Nothing is read or written here. What a decision has to name, so that its fold needs no thinking, is
found by the fold of libs.identity.graph itself, with what the decision would change.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from libs.identity.graph import Cut, GraphFold, Node
from libs.projection.clusters import Cluster, Decision
from touchline.events.v1.decisions_pb2 import (
    IDENTITY_DECISION_KIND_DETACHED,
    IDENTITY_DECISION_KIND_MERGED,
    IDENTITY_DECISION_KIND_SUGGESTION_REJECTED,
    IDENTITY_DECISION_KIND_UNMERGED,
    IdentityDecision,
    IdentityDecisionKind,
)

MOST_KEYS: Final = 5000
"""How many identities a decision names at most, on both sides."""


class SameProfile(Exception):
    """Both sides are one profile already."""


class NotMerged(Exception):
    """Nothing that holds made this one profile."""


class NotDetachable(Exception):
    """The identity is not, or is all there is, of the profile."""


class NotSuggested(Exception):
    """No link that only a person can judge suggests that these two profiles are one."""


class TooLarge(Exception):
    """There are more identities than a decision can name.

    Attributes:
        identities: How many there are.
    """

    def __init__(self, identities: int) -> None:
        super().__init__(f"{identities} identities")
        self.identities = identities


Judge = Callable[[Cluster, bytes, bytes], "Decided"]
"""Accepts or rejects the suggestion that the profiles of two roots are one."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What is decided, and what comes of it.

    Attributes:
        kind: Merged, un-merged, detached or rejected.
        left: The identities of one side, in the order they were first seen.
        right: Those of the other.
        joined: Identities that are one person from now on: the first and each of the others.
        revoked: The decisions that no longer hold, by event id.
        before: The roots of the profiles that it concerns, the one that was named first first.
        after: The profiles that it leaves, by root, each with its identities in their order.
    """

    kind: IdentityDecisionKind.ValueType
    left: tuple[bytes, ...]
    right: tuple[bytes, ...]
    joined: tuple[bytes, ...]
    revoked: tuple[bytes, ...]
    before: tuple[bytes, ...]
    after: Mapping[bytes, tuple[bytes, ...]]

    @property
    def message(self) -> IdentityDecision:
        """What every service folds, but for the versions of the profiles."""
        return IdentityDecision(
            kind=self.kind,
            joined_keys=self.joined,
            left_keys=self.left,
            right_keys=self.right,
            revoked_event_ids=self.revoked,
        )


def merge(cluster: Cluster, one: bytes, other: bytes) -> Decided:
    """Say that two profiles are one person.

    What kept any identity of the one apart from one of the other no longer holds.

    Args:
        cluster: All that says who is who among both.
        one: An identity of the profile that was named first.
        other: An identity of the other.

    Raises:
        SameProfile: they are one already.
        TooLarge: they have too many identities.
    """
    profiles = _Profiles(cluster.nodes, cluster.fold())
    left, right = profiles.of(one), profiles.of(other)
    if left == right:
        raise SameProfile
    _check_size(left, right)
    revoked = _separating(cluster.holding(), left, right)
    roots = (left[0], right[0])
    # What a revoked decision joined may have held one of them together.
    alone = _Profiles(cluster.nodes, cluster.fold(revoked=revoked, joined=roots))
    strays = [root for root in alone.roots_of((*left, *right)) if root != alone.root_of(left[0])]
    joined = (*roots, *strays)
    merged = _Profiles(cluster.nodes, cluster.fold(revoked=revoked, joined=joined))
    return Decided(
        *(IDENTITY_DECISION_KIND_MERGED, left, right, joined, tuple(revoked), roots),
        merged.holding((*left, *right)),
    )


def unmerge(cluster: Cluster, profile: bytes, merge_event_id: bytes) -> Decided:
    """Take a merge back: what was one side of it and what was the other stay apart.

    Identities that came since go with the side to which they are linked more strongly.

    Args:
        cluster: All that says who is who around the profile.
        profile: An identity of it.
        merge_event_id: The merge's event, 16 bytes.

    Raises:
        NotMerged: there is no such merge, it does not hold, or another profile is what it made.
        TooLarge: the profile has too many identities.
    """
    profiles = _Profiles(cluster.nodes, cluster.fold())
    whole = frozenset(profiles.of(profile))
    for made in _merges(cluster.holding()):
        left, right = whole.intersection(made.left), whole.intersection(made.right)
        if made.event_id == merge_event_id and left and right:
            return _apart(cluster, profiles.of(profile), left, right, {merge_event_id})
    raise NotMerged


def unmerge_absorbed(cluster: Cluster, profile: bytes, absorbed: bytes) -> Decided:
    """Take back the last merge that made a profile of this root part of another.

    Args:
        cluster: All that says who is who around the profile.
        profile: An identity of it.
        absorbed: The key that the absorbed profile's id was.

    Raises:
        NotMerged: no merge that holds absorbed it into this profile.
        TooLarge: the profile has too many identities.
    """
    order = {node.key: number for number, node in enumerate(cluster.nodes)}
    for made in reversed(_merges(cluster.holding())):
        ends = made.joined[:2]
        if absorbed in ends and absorbed == max(ends, key=lambda key: order.get(key, -1)):
            return unmerge(cluster, profile, made.event_id)
    raise NotMerged


def separate(cluster: Cluster, profile: bytes, one: bytes, other: bytes) -> Decided:
    """Say that two identities of one profile are two persons, whatever links them.

    If a merge had them on its two sides, that is what is taken back. Otherwise each of the other
    identities goes with the one to which it is linked more strongly.

    Args:
        cluster: All that says who is who around the profile.
        profile: An identity of it.
        one: The identity that was named first.
        other: The other.

    Raises:
        NotMerged: they are not both of the profile.
        TooLarge: the profile has too many identities.
    """
    profiles = _Profiles(cluster.nodes, cluster.fold())
    whole = profiles.of(profile)
    if one == other or one not in whole or other not in whole:
        raise NotMerged
    for made in reversed(_merges(cluster.holding())):
        for ours, theirs in ((made.left, made.right), (made.right, made.left)):
            if one in ours and other in theirs:
                left, right = set(whole).intersection(ours), set(whole).intersection(theirs)
                return _apart(cluster, whole, left, right, {made.event_id})
    return _apart(cluster, whole, {one}, {other}, set())


def detach(cluster: Cluster, profile: bytes, identity: bytes) -> Decided:
    """Say that one identity of a profile is somebody else's; the others stay one profile.

    Args:
        cluster: All that says who is who around the profile.
        profile: An identity of it.
        identity: The one that belongs to somebody else.

    Raises:
        NotDetachable: it is not, or is all there is, of the profile.
        TooLarge: the profile has too many identities.
    """
    before = _Profiles(cluster.nodes, cluster.fold())
    whole = before.of(profile)
    others = tuple(key for key in whole if key != identity)
    if identity not in whole or not others:
        raise NotDetachable
    _check_size(whole)
    cut = Cut(others, (identity,))
    alone = _Profiles(cluster.nodes, cluster.fold(cuts=[cut]))
    # Some may have been of this profile through the identity alone.
    roots = alone.roots_of(others)
    joined = roots if len(roots) > 1 else ()
    apart = _Profiles(cluster.nodes, cluster.fold(joined=joined, cuts=[cut]))
    return Decided(
        *(IDENTITY_DECISION_KIND_DETACHED, others, (identity,), joined, ()),
        _concerned(whole[0], apart.roots_of((*others, identity))),
        apart.holding((*others, identity)),
    )


def accept(cluster: Cluster, one: bytes, other: bytes) -> Decided:
    """Say that two profiles that were suggested are one person; see `merge`.

    Raises:
        NotSuggested: they are not suggested, or not any more.
        TooLarge: they have too many identities.
    """
    _suggested(cluster, one, other)
    return merge(cluster, one, other)


def reject(cluster: Cluster, one: bytes, other: bytes) -> Decided:
    """Say that two profiles that were suggested are two persons, whatever links them.

    Args:
        cluster: All that says who is who among both.
        one: The root of one profile.
        other: That of the other.

    Raises:
        NotSuggested: they are not suggested, or not any more.
        TooLarge: they have too many identities.
    """
    profiles = _suggested(cluster, one, other)
    left, right = profiles.of(one), profiles.of(other)
    _check_size(left, right)
    return Decided(
        *(IDENTITY_DECISION_KIND_SUGGESTION_REJECTED, left, right, (), (), (one, other)),
        profiles.holding((one, other)),
    )


class _Profiles:
    """What a fold says: profiles with their identities in the order they were first seen."""

    def __init__(self, nodes: Iterable[Node], fold: GraphFold) -> None:
        self._roots = fold.components
        self._members: dict[bytes, list[bytes]] = {}
        for node in nodes:
            self._members.setdefault(self._roots[node.key], []).append(node.key)

    def root_of(self, key: bytes) -> bytes:
        return self._roots[key]

    def of(self, key: bytes) -> tuple[bytes, ...]:
        """Return the identities of the profile that has one, its root first."""
        return tuple(self._members[self._roots[key]])

    def roots_of(self, keys: Iterable[bytes]) -> tuple[bytes, ...]:
        """Return the roots of the profiles that have identities, in the order of these."""
        return tuple(dict.fromkeys(self._roots[key] for key in keys))

    def holding(self, keys: Iterable[bytes]) -> dict[bytes, tuple[bytes, ...]]:
        """Return the profiles that have identities, by root, in the order of these."""
        return {root: self.of(root) for root in self.roots_of(keys)}


def _suggested(cluster: Cluster, one: bytes, other: bytes) -> _Profiles:
    fold = cluster.fold()
    profiles = _Profiles(cluster.nodes, fold)
    pairs = ({profiles.root_of(edge.a), profiles.root_of(edge.b)} for edge in fold.clashing)
    if not any(pair == {one, other} for pair in pairs):
        raise NotSuggested
    return profiles


def _apart(
    cluster: Cluster,
    whole: tuple[bytes, ...],
    left: Collection[bytes],
    right: Collection[bytes],
    revoked: set[bytes],
) -> Decided:
    """Take a profile apart between two sets of its identities."""
    _check_size(whole)
    split = _Profiles(cluster.nodes, cluster.fold(revoked=revoked, cuts=[Cut(left, right)]))
    of_left, of_right = (frozenset(map(split.root_of, side)) for side in (left, right))
    sides = (
        tuple(key for key in whole if split.root_of(key) in of_left),
        tuple(key for key in whole if split.root_of(key) in of_right),
    )
    # A merge that reaches across is what this takes back, whichever it names.
    gone = revoked.union(
        made.event_id
        for made in _merges(cluster.holding(revoked))
        if any(_crosses(made.joined, *ends) for ends in (sides, sides[::-1]))
    )
    after = _Profiles(cluster.nodes, cluster.fold(revoked=gone, cuts=[Cut(*sides)]))
    kept = (*sides[0], *sides[1], *whole)
    return Decided(
        *(IDENTITY_DECISION_KIND_UNMERGED, *sides, (), tuple(sorted(gone))),
        _concerned(whole[0], after.roots_of(kept)),
        after.holding(kept),
    )


def _concerned(profile: bytes, roots: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the profile that was decided about, and the first of the others that this leaves."""
    return tuple(dict.fromkeys((profile, *roots)))[:2]


def _merges(decisions: Iterable[Decision]) -> list[Decision]:
    return [one for one in decisions if one.kind == IDENTITY_DECISION_KIND_MERGED]


def _crosses(joined: tuple[bytes, ...], one: Collection[bytes], other: Collection[bytes]) -> bool:
    return joined[:1] != () and joined[0] in one and any(key in other for key in joined[1:])


def _separating(
    decisions: Iterable[Decision], left: Iterable[bytes], right: Iterable[bytes]
) -> list[bytes]:
    """Return the decisions that keep an identity of the one side apart from one of the other."""
    sides = frozenset(left), frozenset(right)
    return [
        one.event_id
        for one in decisions
        if any(
            not here.isdisjoint(cut.left) and not there.isdisjoint(cut.right)
            for cut in one.cuts
            for here, there in (sides, sides[::-1])
        )
    ]


def _check_size(*sides: Collection[bytes]) -> None:
    identities = sum(map(len, sides))
    if identities > MOST_KEYS:
        raise TooLarge(identities)
