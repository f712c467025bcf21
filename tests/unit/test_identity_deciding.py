"""From links and what a person wants to a decision: given links and decisions, when, then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.identity.graph import Edge, Node
from libs.identity.kinds import Strength
from libs.projection.clusters import Cluster, Decision
from services.profile.identities import deciding
from services.profile.identities.deciding import (
    Decided,
    NotDetachable,
    NotMerged,
    NotSuggested,
    SameProfile,
    TooLarge,
)
from touchline.events.v1.decisions_pb2 import (
    IDENTITY_DECISION_KIND_MERGED,
    IDENTITY_DECISION_KIND_UNMERGED,
)

_numbers = count(1)
STRONG, DEVICE = Strength.STRONG, Strength.DEVICE


def key(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def keys(names: str) -> tuple[bytes, ...]:
    return tuple(key(name) for name in names)


def link(pair: str, strength: Strength = STRONG) -> Edge:
    number = next(_numbers)
    a, b = sorted(keys(pair))
    return Edge(a, b, strength, number, number.to_bytes(16, "big"))


def people(names: str, *links: Edge, labels: Mapping[str, int] | None = None) -> Cluster:
    """Identities, first seen in the order of their names; those of one label clash."""
    nodes = tuple(
        Node(key(name), (labels[name], b"") if labels and name in labels else None, position)
        for position, name in enumerate(names)
    )
    return Cluster(nodes, links, ())


def after(cluster: Cluster, decided: Decided) -> Cluster:
    """The cluster once a decision is folded."""
    number = next(_numbers)
    message = decided.message
    made = Decision(
        event_id=number.to_bytes(16, "big"),
        kind=message.kind,
        owner_key=decided.before[0],
        occurred_at_us=number,
        recorded_at_us=number,
        position=number,
        left=tuple(message.left_keys),
        right=tuple(message.right_keys),
        joined=tuple(message.joined_keys),
        holds=True,
    )
    gone = set(message.revoked_event_ids)
    kept = [undone(one, made) if one.event_id in gone else one for one in cluster.decisions]
    return replace(cluster, decisions=(*kept, made))


def undone(one: Decision, by: Decision) -> Decision:
    """A decision that another revokes: a merge does so among whom it merges only."""
    if by.kind == IDENTITY_DECISION_KIND_MERGED:
        return replace(one, merged=(*one.merged, (*by.left, *by.right)))
    return replace(one, holds=False)


def last(cluster: Cluster) -> bytes:
    return cluster.decisions[-1].event_id


def profiles(cluster: Cluster) -> list[str]:
    """Each profile as the names of its identities, in order."""
    found: dict[bytes, str] = {}
    components = cluster.fold().components
    for node in cluster.nodes:
        root = components[node.key]
        found[root] = found.get(root, "") + node.key.decode().rstrip(".")
    return sorted(found.values())


def left_after(decided: Decided) -> list[str]:
    names = [[one.decode().rstrip(".") for one in members] for members in decided.after.values()]
    return sorted("".join(members) for members in names)


def test_given_two_profiles_when_they_are_merged_then_they_are_one() -> None:
    cluster = people("abcd", link("ab"), link("cd"))
    decided = deciding.merge(cluster, key("d"), key("b"))
    assert (decided.left, decided.right) == (keys("cd"), keys("ab"))
    assert decided.joined == decided.before == keys("ca")
    assert left_after(decided) == profiles(after(cluster, decided)) == ["abcd"]


def test_given_two_emails_of_two_people_when_they_are_merged_then_the_clash_is_overruled() -> None:
    cluster = people("ab", link("ab"), labels={"a": 1, "b": 1})
    assert profiles(cluster) == ["a", "b"]
    assert profiles(after(cluster, deciding.merge(cluster, key("a"), key("b")))) == ["ab"]


def test_given_one_profile_when_it_is_merged_with_itself_then_it_is_refused() -> None:
    with pytest.raises(SameProfile):
        deciding.merge(people("ab", link("ab")), key("a"), key("b"))


def test_given_a_cut_when_its_sides_are_merged_then_it_no_longer_holds() -> None:
    cluster = people("ab", link("ab"))
    cluster = after(cluster, deciding.separate(cluster, key("a"), key("a"), key("b")))
    assert profiles(cluster) == ["a", "b"]
    decided = deciding.merge(cluster, key("a"), key("b"))
    assert decided.revoked == (last(cluster),)
    assert profiles(after(cluster, decided)) == ["ab"]


def test_given_a_merge_when_it_is_taken_back_then_both_sides_are_as_before() -> None:
    cluster = people("abcd", link("ab"), link("cd"), link("bc", DEVICE), labels={"a": 1, "c": 1})
    before = profiles(cluster)
    merged = after(cluster, deciding.merge(cluster, key("a"), key("d")))
    decided = deciding.unmerge(merged, key("d"), last(merged))
    assert decided.kind == IDENTITY_DECISION_KIND_UNMERGED
    assert decided.revoked == (last(merged),)
    assert left_after(decided) == profiles(after(merged, decided)) == before == ["ab", "cd"]


def test_given_identities_that_came_after_a_merge_then_they_go_with_whom_they_know() -> None:
    cluster = people("abcd")
    cluster = after(cluster, deciding.merge(cluster, key("a"), key("b")))
    cluster = replace(cluster, links=(link("bc"), link("ad"), link("bd", DEVICE)))
    assert profiles(cluster) == ["abcd"]
    assert left_after(deciding.unmerge(cluster, key("a"), last(cluster))) == ["ad", "bc"]


def test_given_an_unmerge_when_they_are_seen_together_again_then_they_stay_apart() -> None:
    cluster = people("abc", link("ab"), link("bc"))
    cluster = after(cluster, deciding.separate(cluster, key("a"), key("a"), key("c")))
    assert profiles(cluster) == ["ab", "c"]
    seen_again = replace(cluster, links=(*cluster.links, link("ac"), link("bc")))
    assert profiles(seen_again) == ["ab", "c"]


@pytest.mark.parametrize("merge_event_id", [bytes(16), b"x" * 16])
def test_given_no_merge_of_this_id_when_it_is_taken_back_then_it_is_refused(
    merge_event_id: bytes,
) -> None:
    with pytest.raises(NotMerged):
        deciding.unmerge(people("ab", link("ab")), key("a"), merge_event_id)


def test_given_a_merge_that_was_taken_back_when_it_is_again_then_it_is_refused() -> None:
    cluster = people("ab")
    cluster = after(cluster, deciding.merge(cluster, key("a"), key("b")))
    merge_event_id = last(cluster)
    cluster = after(cluster, deciding.unmerge(cluster, key("a"), merge_event_id))
    with pytest.raises(NotMerged):
        deciding.unmerge(cluster, key("a"), merge_event_id)


def test_given_an_absorbed_profile_then_the_merge_that_absorbed_it_is_taken_back() -> None:
    cluster = people("abc")
    cluster = after(cluster, deciding.merge(cluster, key("b"), key("a")))
    cluster = after(cluster, deciding.merge(cluster, key("a"), key("c")))
    assert left_after(deciding.unmerge_absorbed(cluster, key("a"), key("b"))) == ["ac", "b"]
    assert left_after(deciding.unmerge_absorbed(cluster, key("a"), key("c"))) == ["ab", "c"]
    with pytest.raises(NotMerged):
        deciding.unmerge_absorbed(cluster, key("a"), key("a"))


def test_given_identities_of_two_profiles_when_they_are_separated_then_it_is_refused() -> None:
    cluster = people("abc", link("ab"))
    for one, other in ("ac", "ca", "bc", "aa"):
        with pytest.raises(NotMerged):
            deciding.separate(cluster, key("a"), key(one), key(other))


def test_given_two_merged_roots_when_they_are_separated_then_the_merge_no_longer_holds() -> None:
    cluster = people("abcd", link("ab"), link("cd"))
    cluster = after(cluster, deciding.merge(cluster, key("a"), key("c")))
    decided = deciding.separate(cluster, key("a"), key("a"), key("c"))
    assert decided.revoked == (last(cluster),)
    assert profiles(after(cluster, decided)) == ["ab", "cd"]


@pytest.mark.parametrize("pair", ["bd", "db", "bc", "ad"])
def test_given_a_merge_when_any_two_of_its_sides_are_separated_then_both_are_as_before(
    pair: str,
) -> None:
    cluster = people("abcd", link("ab"), link("cd"))
    cluster = after(cluster, deciding.merge(cluster, key("a"), key("c")))
    one, other = keys(pair)
    decided = deciding.separate(cluster, one, one, other)
    assert decided.revoked == (last(cluster),)
    assert one in decided.left
    assert profiles(after(cluster, decided)) == ["ab", "cd"]


def test_given_an_identity_that_holds_others_together_when_it_is_detached_then_they_stay() -> None:
    cluster = people("axbc", link("xa"), link("xb"), link("xc"))
    decided = deciding.detach(cluster, key("a"), key("x"))
    assert decided.joined == keys("abc")
    assert left_after(decided) == profiles(after(cluster, decided)) == ["abc", "x"]


def test_given_the_root_when_it_is_detached_then_the_others_are_a_profile_of_another_root() -> None:
    cluster = people("abc", link("ab"), link("bc"))
    decided = deciding.detach(cluster, key("b"), key("a"))
    assert decided.before == keys("ab")
    assert profiles(after(cluster, decided)) == ["a", "bc"]


@pytest.mark.parametrize("identity", ["c", "d"])
def test_given_no_other_identity_or_none_of_the_profile_then_it_is_not_detached(
    identity: str,
) -> None:
    cluster = people("abc", link("ab"))
    with pytest.raises(NotDetachable):
        deciding.detach(cluster, key("c"), key(identity))


def test_given_a_suggestion_when_it_is_accepted_then_the_two_are_one() -> None:
    cluster = people("ab", link("ab"), labels={"a": 1, "b": 1})
    decided = deciding.accept(cluster, key("a"), key("b"))
    assert decided.kind == IDENTITY_DECISION_KIND_MERGED
    assert profiles(after(cluster, decided)) == ["ab"]


def test_given_a_suggestion_when_it_is_rejected_then_it_is_none_any_more() -> None:
    cluster = people("ab", link("ab"), labels={"a": 1, "b": 1})
    cluster = after(cluster, deciding.reject(cluster, key("a"), key("b")))
    assert profiles(cluster) == ["a", "b"]
    for judge in (deciding.accept, deciding.reject):
        with pytest.raises(NotSuggested):
            judge(cluster, key("a"), key("b"))


def test_given_more_identities_than_a_decision_names_then_it_is_refused() -> None:
    names = [number.to_bytes(16, "big") for number in range(deciding.MOST_KEYS + 1)]
    nodes = tuple(Node(name, None, position) for position, name in enumerate(names))
    star = tuple(Edge(names[0], name, STRONG, 1, name) for name in names[1:-1])
    with pytest.raises(TooLarge, match="5001"):
        deciding.merge(Cluster(nodes, star, ()), names[0], names[-1])


NAMES = "abcdefg"
links_ = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from([STRONG, DEVICE]))
    .filter(lambda told: told[0] != told[1])
    .map(lambda told: link(told[0] + told[1], told[2])),
    max_size=10,
)
steps_ = st.lists(
    st.tuples(
        st.sampled_from(["merge", "separate", "detach", "unmerge", "reject"]),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
    ),
    max_size=8,
)


def step(cluster: Cluster, what: str, one: str, other: str) -> Cluster:
    """What somebody decides, if it can be decided."""
    here, there = key(one), key(other)
    try:
        match what:
            case "merge":
                return after(cluster, deciding.merge(cluster, here, there))
            case "separate":
                return after(cluster, deciding.separate(cluster, here, here, there))
            case "detach":
                return after(cluster, deciding.detach(cluster, here, there))
            case "reject":
                return after(cluster, deciding.reject(cluster, here, there))
    except (SameProfile, NotMerged, NotDetachable, NotSuggested):
        return cluster
    held = [made for made in cluster.decisions if made.holds and here in (*made.left, *made.right)]
    for made in held:
        try:
            return after(cluster, deciding.unmerge(cluster, here, made.event_id))
        except NotMerged:
            continue
    return cluster


@settings(max_examples=150, deadline=None)
@given(links_, steps_, st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_a_merge_makes_one_and_taking_it_back_restores_what_was(
    links: Sequence[Edge], steps: Sequence[tuple[str, str, str]], one: str, other: str
) -> None:
    cluster = people(NAMES, *links, labels={"a": 1, "b": 1, "c": 1})
    for what, here, there in steps:
        cluster = step(cluster, what, here, there)
    before = profiles(cluster)
    try:
        decided = deciding.merge(cluster, key(one), key(other))
    except SameProfile:
        return
    merged = after(cluster, decided)
    components = merged.fold().components
    assert len({components[name] for name in (*decided.left, *decided.right)}) == 1
    restored = after(merged, deciding.unmerge(merged, key(one), last(merged)))
    assert profiles(restored) == before


@settings(max_examples=100, deadline=None)
@given(links_, steps_)
def test_what_is_said_to_come_of_a_decision_is_what_its_fold_says(
    links: Sequence[Edge], steps: Sequence[tuple[str, str, str]]
) -> None:
    cluster = people(NAMES, *links, labels={"a": 1, "b": 1, "c": 1})
    for what, here, there in steps:
        cluster = step(cluster, what, here, there)
    for one, other in ("ab", "cd", "ae"):
        for decide in (deciding.merge, deciding.detach):
            try:
                decided = decide(cluster, key(one), key(other))
            except (SameProfile, NotDetachable):
                continue
            folded = after(cluster, decided).fold().components
            for root, members in decided.after.items():
                assert {folded[name] for name in members} == {root}
                assert sum(of == root for of in folded.values()) == len(members)
