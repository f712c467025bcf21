"""The graph fold: given what was seen together, then who is one person, in any order."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.identity import Cut, Edge, GraphFold, Node, Strength, clash_label, edges_of, fold
from touchline.events.v1.identity_pb2 import IdentityKind

EXTERNAL_ID = IdentityKind.IDENTITY_KIND_EXTERNAL_ID
EMAIL = IdentityKind.IDENTITY_KIND_EMAIL
PHONE = IdentityKind.IDENTITY_KIND_PHONE
HANDLE = IdentityKind.IDENTITY_KIND_SOCIAL_HANDLE
DEVICE = IdentityKind.IDENTITY_KIND_DEVICE
COOKIE = IdentityKind.IDENTITY_KIND_COOKIE

KINDS = {
    "anna@": (EMAIL, b""),
    "ben@": (EMAIL, b""),
    "+49": (PHONE, b""),
    "+44": (PHONE, b""),
    "crm:1": (EXTERNAL_ID, b"crm"),
    "crm:2": (EXTERNAL_ID, b"crm"),
    "erp:1": (EXTERNAL_ID, b"erp"),
    "@anna": (HANDLE, b"mastodon"),
    "@ben": (HANDLE, b"mastodon"),
    "tablet": (DEVICE, b""),
    "laptop": (DEVICE, b""),
    "cookie": (COOKIE, b""),
}
NODES = [Node(name.encode(), clash_label(*kind), i) for i, (name, kind) in enumerate(KINDS.items())]
LABELS = {node.key: node.clash for node in NODES}
POSITIONS = {node.key: node.first_position for node in NODES}

Seen = tuple[int, Sequence[str]]


def edges(*events: Seen) -> list[Edge]:
    """Return the edges of events told as (time, names with the owner first)."""
    return [
        edge
        for i, (at, names) in enumerate(events)
        for edge in edges_of([(n.encode(), KINDS[n][0]) for n in names], at, i.to_bytes(16, "big"))
    ]


def people(folded: GraphFold) -> set[frozenset[str]]:
    """Return the components of more than one identity, by name."""
    members: dict[bytes, set[str]] = {}
    for key, root in folded.components.items():
        members.setdefault(root, set()).add(key.decode())
    return {frozenset(names) for names in members.values() if len(names) > 1}


def suggested(folded: GraphFold) -> list[tuple[str, str]]:
    return [(edge.a.decode(), edge.b.decode()) for edge in folded.clashing]


def test_given_identities_seen_together_then_they_are_one_person() -> None:
    folded = fold(NODES, edges((1, ["anna@", "+49", "tablet"]), (2, ["crm:1", "+49"])))

    assert people(folded) == {frozenset({"anna@", "+49", "tablet", "crm:1"})}
    assert folded.clashing == ()


def test_given_identities_never_seen_together_then_each_is_a_person_of_its_own() -> None:
    assert fold(NODES, []).components == {node.key: node.key for node in NODES}


def test_given_a_family_tablet_then_two_people_are_not_glued_and_it_goes_with_the_first() -> None:
    told = edges((2, ["ben@", "tablet"]), (1, ["anna@", "tablet"]))
    folded = fold(NODES, told)

    assert people(folded) == {frozenset({"anna@", "tablet"})}
    assert suggested(folded) == [("ben@", "tablet")]


def test_given_a_handle_linked_late_then_it_still_comes_before_an_early_shared_device() -> None:
    told = edges(
        (1, ["@ben", "tablet"]),
        (2, ["anna@", "tablet"]),
        (3, ["ben@", "@ben"]),
    )
    folded = fold(NODES, told)

    assert people(folded) == {frozenset({"ben@", "@ben", "tablet"})}
    assert suggested(folded) == [("anna@", "tablet")]


def test_given_two_emails_seen_together_then_they_stay_apart_and_the_device_is_the_owners() -> None:
    folded = fold(NODES, edges((1, ["anna@", "ben@", "tablet"])))

    assert people(folded) == {frozenset({"anna@", "tablet"})}
    assert suggested(folded) == [("anna@", "ben@")]


def test_given_ids_of_two_systems_then_they_are_one_person_and_two_of_one_system_are_not() -> None:
    folded = fold(NODES, edges((1, ["crm:1", "erp:1"]), (2, ["crm:2", "erp:1"])))

    assert people(folded) == {frozenset({"crm:1", "erp:1"})}
    assert suggested(folded) == [("crm:2", "erp:1")]


def test_given_a_component_then_its_root_was_named_first_and_equals_go_by_key() -> None:
    nodes = [Node(b"c", None, 7), Node(b"a", None, 9), Node(b"b", None, 7)]
    told = [Edge(b"a", b"c", 3, 1, b"e"), Edge(b"a", b"b", 3, 2, b"f")]

    assert set(fold(nodes, told).components.values()) == {b"b"}


def test_given_one_node_twice_then_its_smallest_position_counts() -> None:
    nodes = [Node(b"a", None, 5), Node(b"b", None, 3), Node(b"a", None, 1)]

    assert fold(nodes, [Edge(b"a", b"b", 3, 1, b"e")]).components[b"b"] == b"a"


@pytest.mark.parametrize(
    ("names", "strengths"),
    [
        (["anna@"], []),
        (["anna@", "crm:1"], [Strength.STRONG]),
        (["anna@", "@anna", "tablet", "cookie"], [2, 3, 4]),
        (["@anna", "@ben", "tablet", "cookie"], [2, 3, 4]),
        (["tablet", "laptop", "cookie"], [3, 4]),
        (["anna@", "anna@", "+49", "+49"], [Strength.STRONG]),
    ],
)
def test_given_an_event_then_its_edges_are_a_star_as_strong_as_their_weaker_end(
    names: list[str], strengths: list[int]
) -> None:
    star = edges((1, names))

    assert [edge.strength for edge in star] == strengths
    assert all(edge.a < edge.b for edge in star)
    assert all(names[0].encode() in (edge.a, edge.b) for edge in star)


def test_given_an_edge_or_a_cut_of_an_unknown_node_then_it_says_nothing() -> None:
    nodes = [Node(b"a", None, 1), Node(b"b", None, 2)]
    told = [Edge(b"a", b"b", 3, 1, b"e"), Edge(b"a", b"c", 3, 1, b"e")]

    folded = fold(nodes, told, [Cut([b"a"], [b"c"])])

    assert folded == GraphFold({b"a": b"a", b"b": b"a"}, (told[0],), (), ())


def test_given_one_node_with_two_labels_then_it_is_refused() -> None:
    with pytest.raises(ValueError, match="two clash labels"):
        fold([Node(b"a", (2, b""), 1), Node(b"a", None, 1)], [])


def test_given_a_kind_from_the_future_then_it_is_refused_by_number() -> None:
    with pytest.raises(ValueError, match="kind 77"):
        clash_label(77, b"")


# Few names and few times make collisions, shared devices and ties common.
events = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=4, unique=True),
    ),
    max_size=14,
)


def reference(told: Iterable[Edge]) -> tuple[dict[bytes, bytes], set[tuple[bytes, bytes]]]:
    """Fold slowly: whole sets, moved about, checked pair by pair."""
    groups = [{key} for key in LABELS]
    kept_apart: set[tuple[bytes, bytes]] = set()
    for edge in sorted(told, key=lambda e: (e.strength, e.occurred_at_us, e.event_id, e.a, e.b)):
        one = next(group for group in groups if edge.a in group)
        other = next(group for group in groups if edge.b in group)
        if one is other:
            continue
        together = [LABELS[key] for key in one | other if LABELS[key] is not None]
        if any(x == y for x, y in combinations(together, 2)):
            kept_apart.add((edge.a, edge.b))
        else:
            groups = [group for group in groups if group is not one and group is not other]
            groups.append(one | other)
    roots = {key: min(group, key=lambda k: (POSITIONS[k], k)) for group in groups for key in group}
    return roots, kept_apart


@given(events)
def test_given_any_events_then_the_fold_says_what_a_slow_obvious_one_says(
    told: list[Seen],
) -> None:
    folded = fold(NODES, edges(*told))

    roots, kept_apart = reference(edges(*told))
    assert folded.components == roots
    assert {(edge.a, edge.b) for edge in folded.clashing} == kept_apart
    assert len(folded.clashing) == len(kept_apart)


@given(events, st.randoms(use_true_random=False))
def test_given_nodes_and_edges_shuffled_and_twice_then_the_fold_is_the_same(
    told: list[Seen], random: Random
) -> None:
    once = edges(*told)
    nodes, again = [*NODES, *NODES], [*once, *once]
    random.shuffle(nodes)
    random.shuffle(again)

    assert fold(nodes, again) == fold(NODES, once)


@given(events)
def test_given_any_events_then_no_person_has_two_identities_of_one_label(
    told: list[Seen],
) -> None:
    folded = fold(NODES, edges(*told))

    held = [(folded.components[key], label) for key, label in LABELS.items() if label]
    assert len(held) == len(set(held))


@given(events)
def test_given_any_events_then_an_edge_is_blocked_exactly_if_its_ends_are_apart(
    told: list[Seen],
) -> None:
    folded = fold(NODES, edges(*told))

    apart = {
        (edge.a, edge.b)
        for edge in edges(*told)
        if folded.components[edge.a] != folded.components[edge.b]
    }
    assert {(edge.a, edge.b) for edge in folded.clashing} == apart


@given(events)
def test_given_one_cluster_of_the_edges_then_folding_it_alone_says_the_same(
    told: list[Seen],
) -> None:
    whole, every_edge = fold(NODES, edges(*told)), edges(*told)
    cluster = {NODES[0].key}
    while grown := {
        key for e in every_edge if {e.a, e.b} & cluster for key in (e.a, e.b) if key not in cluster
    }:
        cluster |= grown
    part = fold(
        [node for node in NODES if node.key in cluster], [e for e in every_edge if e.a in cluster]
    )

    assert part.components == {key: whole.components[key] for key in cluster}
    assert part.clashing == tuple(edge for edge in whole.clashing if edge.a in cluster)
