"""What people decide, folded with what was seen: merges, un-merges, detachments, rejections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from libs.identity.graph import Cut, Edge, GraphFold, Node, fold
from libs.projection.clusters import Cluster, Decision
from tests.lines import KINDS, Decides, Told, key_of
from tests.who import (
    DETACHED,
    MERGED,
    REJECTED,
    UNMERGED,
    Link,
    edges_and_decisions,
    histories,
    nodes_of,
    who_is_who,
)
from touchline.events.v1.decisions_pb2 import IdentityDecisionKind

ANNA, BEN = ("anna@", "+49"), ("ben@", "+44")


def folded(line: Sequence[Told]) -> GraphFold:
    """The fold of a line."""
    return fold(nodes_of(line), *edges_and_decisions(line))


def people(components: Mapping[bytes, bytes]) -> frozenset[frozenset[str]]:
    """Who is one person, by name."""
    members: dict[bytes, set[str]] = {}
    for key, root in components.items():
        members.setdefault(root, set()).add(name_of(key))
    return frozenset(map(frozenset, members.values()))


def name_of(key: bytes) -> str:
    return key.rstrip(b".").decode()


def people_of(line: Sequence[Told]) -> frozenset[frozenset[str]]:
    return people(folded(line).components)


def suggested(one: GraphFold) -> dict[frozenset[frozenset[str]], Link]:
    """By pair of people the first clashing edge."""
    members: dict[bytes, set[str]] = {}
    for key, root in one.components.items():
        members.setdefault(root, set()).add(name_of(key))
    found: dict[frozenset[frozenset[str]], Link] = {}
    for e in one.clashing:
        sides = (frozenset(members[one.components[key]]) for key in (e.a, e.b))
        link = Link(e.strength, e.occurred_at_us, e.event_id, name_of(e.a), name_of(e.b))
        found.setdefault(frozenset(sides), link)
    return found


def merge(number: int, left: Sequence[str], right: Sequence[str], *revokes: int) -> Told:
    joined = (left[0], right[0])
    return Told(
        number, (left[0],), 9, None, Decides(MERGED, tuple(left), tuple(right), joined, revokes)
    )


def cut(
    number: int,
    left: Sequence[str],
    right: Sequence[str],
    *revokes: int,
    kind: IdentityDecisionKind.ValueType = UNMERGED,
) -> Told:
    return Told(
        number, (left[0],), 9, None, Decides(kind, tuple(left), tuple(right), revokes=revokes)
    )


FACTS = [
    Told(1, ANNA),
    Told(2, BEN),
    Told(3, ("anna@", "tablet"), 2),
    Told(4, ("ben@", "tablet"), 3),
]


def test_given_a_merge_then_two_with_an_email_each_are_one_and_a_third_email_still_clashes() -> (
    None
):
    merged = [*FACTS, merge(50, ANNA, BEN)]

    assert people_of(merged) == {frozenset({*ANNA, *BEN, "tablet"})}
    assert folded(merged).clashing == ()


def test_given_a_merge_and_an_unmerge_that_revokes_it_then_they_are_as_before() -> None:
    unmerged = [*FACTS, merge(50, ANNA, BEN), cut(51, (*ANNA, "tablet"), BEN, 50)]

    assert people_of(unmerged) == people_of(FACTS)
    assert folded(unmerged).clashing == ()
    assert [(edge.a, edge.b) for edge in folded(unmerged).cut] == [
        (key_of("ben@"), key_of("tablet"))
    ]


def test_given_a_cut_then_neither_a_merge_nor_any_later_link_joins_across_it() -> None:
    line = [
        *FACTS,
        cut(50, ANNA, BEN),
        merge(51, ANNA, BEN),
        Told(5, ("@anna", "anna@"), 5),
        Told(6, ("@anna", "ben@"), 6),
    ]
    assert people_of(line) == {frozenset({*ANNA, "tablet", "@anna"}), frozenset(BEN)}
    assert people_of([*line, merge(52, ANNA, BEN, 50)]) == {
        frozenset({*ANNA, *BEN, "tablet", "@anna"})
    }


def test_given_an_automatic_link_that_is_cut_then_each_keeps_what_else_was_theirs() -> None:
    facts = [
        Told(1, ("anna@", "+49")),
        Told(2, ("+49", "tablet"), 2),
        Told(3, ("anna@", "@anna"), 3),
    ]

    assert people_of([*facts, cut(50, ["anna@"], ["+49"])]) == {
        frozenset({"anna@", "@anna"}),
        frozenset({"+49", "tablet"}),
    }


def test_given_an_identity_detached_then_the_others_stay_together_and_it_is_alone() -> None:
    facts = [Told(1, ("anna@", "+49")), Told(2, ("+49", "tablet"), 2)]
    others = ("anna@", "tablet")
    detached = Told(50, ("anna@",), 9, None, Decides(DETACHED, others, ("+49",), others))

    assert people_of([*facts, detached]) == {frozenset(others), frozenset({"+49"})}


def test_given_the_detached_merged_again_and_unmerged_then_the_others_stay_together() -> None:
    facts = [Told(1, ("anna@", "+49")), Told(2, ("+49", "tablet"), 2)]
    others = ("anna@", "tablet")
    detached = Told(50, ("anna@",), 9, None, Decides(DETACHED, others, ("+49",), others))
    again, apart = merge(51, others, ["+49"], 50), cut(52, others, ["+49"], 51)

    assert people_of([*facts, detached, again]) == {frozenset({*others, "+49"})}
    assert people_of([*facts, detached, again, apart]) == {frozenset(others), frozenset({"+49"})}


def test_given_a_merge_across_a_cut_then_whom_it_does_not_merge_stays_apart() -> None:
    facts = [Told(1, ("anna@",)), Told(2, ("+49",)), Told(3, ("tablet",))]
    apart = cut(50, ["anna@"], ["+49", "tablet"])
    line = [*facts, apart, merge(51, ["anna@"], ["+49"], 50), Told(4, ("anna@", "tablet"), 5)]

    assert people_of(line) == {frozenset({"anna@", "+49"}), frozenset({"tablet"})}


def test_given_a_suggestion_rejected_then_it_is_none_and_the_next_link_makes_none() -> None:
    rejected = [*FACTS, cut(50, (*ANNA, "tablet"), BEN, kind=REJECTED)]
    later = [*rejected, Told(7, ("+44", "tablet"), 8), Told(8, ("ben@", "@anna"), 8)]

    assert len(folded(FACTS).clashing) == 1
    assert folded(rejected).clashing == ()
    assert folded([*later, Told(9, ("@anna", "anna@"), 9)]).clashing == ()


def seen_together(one: bytes, other: bytes, at: int) -> Edge:
    return Edge(min(one, other), max(one, other), 3, at, bytes([at]) * 16)


def test_given_a_family_tablet_then_nobody_is_glued_and_each_of_the_others_is_suggested() -> None:
    family = ["anna@", "ben@", "cara@", "dan@"]
    nodes = [Node(key_of(name), (2, b""), i) for i, name in enumerate(family)]
    nodes.append(Node(key_of("tablet"), None, 9))
    seen = [
        seen_together(key_of(name), key_of("tablet"), at) for at, name in enumerate(family * 5, 1)
    ]
    one = fold(nodes, seen)

    assert len(set(one.components.values())) == len(family)
    assert one.components[key_of("tablet")] == key_of("anna@")
    assert len(one.clashing) == len(family) - 1


@given(histories())
def test_given_any_history_then_the_fold_says_what_a_slow_obvious_one_says(
    line: list[Told],
) -> None:
    answer, one = who_is_who(line), folded(line)

    assert people(one.components) == answer.people
    assert suggested(one) == answer.suggested


@given(histories(), st.randoms(use_true_random=False))
def test_given_any_order_of_arrival_and_all_of_it_twice_then_people_are_the_same(
    line: list[Told], random: Random
) -> None:
    shuffled = [*line, *line]
    random.shuffle(shuffled)

    assert people_of(shuffled) == people_of(line)
    assert suggested(folded(shuffled)) == suggested(folded(line))


@given(histories())
def test_given_any_history_then_each_edge_joins_confirms_clashes_or_is_cut(
    line: list[Told],
) -> None:
    one = folded(line)
    edges, cuts, _ = edges_and_decisions(line)
    joined = {(edge.a, edge.b) for edge in one.joining}
    apart = {(edge.a, edge.b) for edge in (*one.clashing, *one.cut)}

    known = one.components
    across = {
        (e.a, e.b) for e in edges if e.a in known and e.b in known and known[e.a] != known[e.b]
    }
    assert apart == across
    assert not joined & apart
    assert len(one.joining) == len(known) - len(set(known.values()))
    assert all(edge.strength > 0 for edge in one.clashing)
    for keys in cuts:
        assert not {known.get(key) for key in keys.left} & {
            known.get(key, b"none") for key in keys.right
        }


def decision(
    event_id: bytes,
    kind: IdentityDecisionKind.ValueType,
    left: Iterable[bytes],
    right: Iterable[bytes],
    joined: tuple[bytes, ...] = (),
) -> Decision:
    """A decision that holds, made last."""
    sides = tuple(left), tuple(right), joined
    return Decision(event_id, kind, b"", 10**15, 10**15, 1, *sides, holds=True)


def cluster_of(line: Sequence[Told]) -> Cluster:
    """All of a line as one cluster."""
    edges, *_ = edges_and_decisions([told for told in line if told.decides is None])
    decided = [(told, told.decides) for told in line if told.decides is not None]
    decisions = []
    for told, one in decided:
        by = [other for _, other in decided if told.number in other.revokes]
        merged = [(*other.left, *other.right) for other in by if other.kind == MERGED]
        retracted = any(t.retracts == told.number and t.names[:1] == told.names[:1] for t in line)
        sides = [tuple(map(key_of, keys)) for keys in (one.left, one.right, one.joined)]
        decisions.append(
            replace(
                decision(told.event_id, one.kind, *sides),
                occurred_at_us=told.occurred_at_us,
                holds=len(merged) == len(by) and not retracted,
                merged=tuple(tuple(map(key_of, names)) for names in merged),
            )
        )
    return Cluster(tuple(nodes_of(line)), tuple(edges), tuple(decisions))


@given(histories())
def test_given_any_history_then_its_cluster_says_the_same(line: list[Told]) -> None:
    assert cluster_of(line).fold() == folded(line)


@given(
    histories(),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(sorted(KINDS)),
    st.booleans(),
)
def test_given_a_merge_then_an_unmerge_restores_both_sides_exactly(
    line: list[Told], one: str, other: str, facts_between: bool
) -> None:
    before = cluster_of(line)
    first = before.fold()
    components = first.components
    left, right = (members(components, key_of(name)) for name in (one, other))
    if not left or not right or left == right:
        return
    merged = as_merged(before, left, right)
    together = merged.fold().components
    assert together[min(left)] == together[min(right)]
    assert left | right <= members(together, min(left))

    if facts_between:  # which would glue the two, were it not for the un-merge
        glue = seen_together(max(left), max(right), 99)
        merged = Cluster(merged.nodes, (*merged.links, glue), merged.decisions)
    unmerged = as_unmerged(merged).fold()

    assert unmerged.components == components
    assert set(unmerged.clashing) == {
        edge
        for edge in first.clashing
        if not ({edge.a, edge.b} & left and {edge.a, edge.b} & right)
    }


def members(components: Mapping[bytes, bytes], key: bytes) -> frozenset[bytes]:
    """The component of an identity."""
    if key not in components:
        return frozenset()
    return frozenset(other for other, root in components.items() if root == components[key])


def as_merged(cluster: Cluster, left: frozenset[bytes], right: frozenset[bytes]) -> Cluster:
    """The cluster after two profiles are merged; what kept them apart is revoked."""
    revoked = [
        one.event_id
        for one in cluster.holding()
        for cut in one.cuts
        if (left & {*cut.left} and right & {*cut.right})
        or (left & {*cut.right} and right & {*cut.left})
    ]
    joined = (min(left), min(right))
    merge = decision(b"m" * 16, MERGED, left, right, joined)
    decisions = [
        replace(one, merged=(*one.merged, (*left, *right))) if one.event_id in revoked else one
        for one in cluster.decisions
    ]
    merged = replace(cluster, decisions=(*decisions, merge))
    foreseen = cluster.fold(revoked=revoked, joined=joined)
    assert foreseen.components == merged.fold().components
    return merged


def as_unmerged(cluster: Cluster) -> Cluster:
    """The cluster after its last merge is taken back."""
    *others, merge = cluster.decisions
    apart = cluster.fold(revoked=[merge.event_id], cuts=[Cut(merge.left, merge.right)]).components
    left, right = (
        {key for one in side for key in members(apart, one)} for side in (merge.left, merge.right)
    )
    taken_back = decision(b"u" * 16, UNMERGED, left, right)
    return replace(cluster, decisions=(*others, replace(merge, holds=False), taken_back))
