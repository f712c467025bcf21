"""Who is who, slowly and obviously: all anew, with sets that are moved about, pair by pair.

No bit sets, no trees, no tables: what the identity graph says must equal this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from hypothesis import strategies as st

from libs.identity.decisions import cuts_of, joined_edges, people_of
from libs.identity.graph import Cut, Edge, Node, clash_label, edges_of
from tests.lines import KINDS, Decides, Told, key_of, recorded_at_us
from touchline.events.v1.decisions_pb2 import (
    IDENTITY_DECISION_KIND_DETACHED,
    IDENTITY_DECISION_KIND_MERGED,
    IDENTITY_DECISION_KIND_SUGGESTION_REJECTED,
    IDENTITY_DECISION_KIND_UNMERGED,
)

MERGED = IDENTITY_DECISION_KIND_MERGED
UNMERGED = IDENTITY_DECISION_KIND_UNMERGED
DETACHED = IDENTITY_DECISION_KIND_DETACHED
REJECTED = IDENTITY_DECISION_KIND_SUGGESTION_REJECTED

People = frozenset[frozenset[str]]
"""Each person as a set of identities, by name."""


@dataclass(frozen=True, slots=True)
class Link:
    """Two names that were seen together or joined, with what says where it stands among all."""

    strength: int
    occurred_at_us: int
    event_id: bytes
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a line says.

    Attributes:
        people: Who is one person.
        suggested: By pair of people the first link that would join them.
    """

    people: People
    suggested: dict[frozenset[frozenset[str]], Link]


def who_is_who(line: Sequence[Told], as_of_us: int | None = None) -> Answer:
    """Say it of a line whose first event has position 1, or of what was known of it at a time.

    The names are those of the whole line: whoever came later is alone.
    """
    names = sorted({name for told in line for name in told.names})
    known = [
        told
        for position, told in enumerate(line, 1)
        if as_of_us is None or max(told.occurred_at_us, recorded_at_us(position)) <= as_of_us
    ]
    # Taking back counts from when it was recorded, whatever time it names.
    heard = [
        told
        for position, told in enumerate(line, 1)
        if as_of_us is None or recorded_at_us(position) <= as_of_us
    ]
    counted = [told for told in known if told.retracts is None and not _undone(told, heard)]
    cuts = [
        (left, right)
        for told in counted
        if told.decides is not None and told.decides.kind != MERGED
        for left, right in product(told.decides.left, told.decides.right)
        if not any({left, right} <= {*m.left, *m.right} for m in _merges(told, heard))
    ]
    links = [link for link in sorted(_links(counted), key=_order) if {link.a, link.b} <= {*names}]
    persons = _persons(counted)
    groups, apart = [{name} for name in names], list[Link]()
    for link in links:
        one, other = (next(g for g in groups if name in g) for name in (link.a, link.b))
        if one is other:
            continue
        if _is_cut(cuts, one, other) or (link.strength > 0 and _clash(persons, one, other)):
            apart.append(link)
        else:
            groups = [group for group in groups if group is not one and group is not other]
            groups.append(one | other)
    suggested: dict[frozenset[frozenset[str]], Link] = {}
    for link in apart:
        one, other = (next(g for g in groups if name in g) for name in (link.a, link.b))
        if not _is_cut(cuts, one, other) and not _erased(line, one) and not _erased(line, other):
            suggested.setdefault(frozenset({frozenset(one), frozenset(other)}), link)
    return Answer(frozenset(map(frozenset, groups)), suggested)


def _undone(told: Told, line: Sequence[Told]) -> bool:
    retracted = any(
        other.retracts == told.number and other.names[0] == told.names[0]
        for other in line
        if told.names and other.names
    )
    revoked = told.decides is not None and any(
        other.decides is not None
        and other.decides.kind != MERGED
        and told.number in other.decides.revokes
        for other in line
    )
    return retracted or revoked


def _links(line: Sequence[Told]) -> list[Link]:
    found = []
    for told in line:
        pairs = [(max(_class(told.names[0]), _class(n)), told.names[0], n) for n in told.names[1:]]
        if told.decides is not None:
            pairs += [(0, keys[0], n) for keys in _joined(told.decides) for n in keys[1:]]
        for strength, one, other in pairs:
            if one != other:
                a, b = sorted((one, other), key=key_of)
                found.append(Link(strength, told.occurred_at_us, told.event_id, a, b))
    return found


def _order(link: Link) -> tuple[int, int, bytes, bytes, bytes]:
    return link.strength, link.occurred_at_us, link.event_id, key_of(link.a), key_of(link.b)


def _class(name: str) -> int:
    kind = KINDS[name][0]  # external ids, emails and phones are numbers 1 to 3
    return 1 if kind <= 3 else kind - 2


def _persons(line: Sequence[Told]) -> list[set[str]]:
    """Sets of names of each of which somebody said that it is one person."""
    said = list[set[str]]()
    for one in (told.decides for told in line if told.decides is not None):
        if one.kind == MERGED and one.joined:
            said.append({*one.joined, *one.left, *one.right})
        elif one.kind != MERGED:
            joined = zip(_joined(one), (one.left, one.right), strict=True)
            said += [{*names, *side} for names, side in joined if len(names) > 1]
    return said


def _joined(one: Decides) -> tuple[list[str], list[str]]:
    """Whom a decision joins: a merge all, others on each side."""
    across = [n for n in one.joined if one.kind != MERGED and n in one.right]
    return [n for n in one.joined if n not in across], across


def _clash(persons: Sequence[set[str]], one: set[str], other: set[str]) -> bool:
    """Whether both have a label of which nobody said that all who have it are one person."""
    for label in {KINDS[name] for name in one if _class(name) == 1}:
        alike = {name for name in one | other if KINDS[name] == label}
        if alike & one and alike & other and not any(alike <= person for person in persons):
            return True
    return False


def _merges(told: Told, line: Sequence[Told]) -> list[Decides]:
    """The merges that revoke a decision; they do so only among whom they merge."""
    decided = [other.decides for other in line if other.decides is not None]
    return [one for one in decided if one.kind == MERGED and told.number in one.revokes]


def _is_cut(cuts: Sequence[tuple[str, str]], one: set[str], other: set[str]) -> bool:
    return any(
        (left in one and right in other) or (left in other and right in one) for left, right in cuts
    )


def _erased(line: Sequence[Told], group: set[str]) -> bool:
    """Whether nothing of a person can be read: of every name the last that was heard is its end."""
    last = {name: told for told in line for name in (*told.names, *told.erases)}
    return all(name in last[name].erases for name in group)


def nodes_of(line: Sequence[Told]) -> list[Node]:
    """The identities of a line, as the graph folds them."""
    first: dict[str, int] = {}
    for position, told in enumerate(line, 1):
        for name in told.names:
            first.setdefault(name, position)
    return [Node(key_of(n), clash_label(*KINDS[n]), position) for n, position in first.items()]


def edges_and_decisions(
    line: Sequence[Told],
) -> tuple[list[Edge], list[Cut], list[frozenset[bytes]]]:
    """What counts of a line, as the graph folds it: edges, cuts and who is one person."""
    edges, cuts, people = list[Edge](), list[Cut](), list[frozenset[bytes]]()
    for told in line:
        if told.retracts is not None or _undone(told, line):
            continue
        seen = [(key_of(name), int(KINDS[name][0])) for name in told.names]
        edges += edges_of(seen, told.occurred_at_us, told.event_id)
        if (one := told.decides) is not None:
            left, right, joined = (
                [key_of(name) for name in names] for names in (one.left, one.right, one.joined)
            )
            when = told.occurred_at_us, told.event_id
            edges += joined_edges(one.kind, right, joined, *when)
            people += people_of(one.kind, left, right, joined)
            merged = [[key_of(n) for n in (*m.left, *m.right)] for m in _merges(told, line)]
            cuts += cuts_of(one.kind, left, right, merged)
    return edges, cuts, people


NAMES = sorted(KINDS)
_some = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True).map(tuple)


@st.composite
def histories(
    draw: st.DrawFn,
    days: Sequence[int] = (1, 2, 3),
    *,
    erasures: bool = False,
    cuts_join: bool = True,
) -> list[Told]:
    """Lines of facts, whatever people may decide, what is taken back and erased, in any order.

    Most names are few, so that they meet often; decisions need make no sense.
    """
    day = st.sampled_from(list(days))
    line = [
        Told(number, draw(_some), draw(day)) for number in range(1, draw(st.integers(2, 12)) + 1)
    ]
    line += [
        Told(number, (draw(st.sampled_from(NAMES)),), draw(day), decides=draw(_decides(cuts_join)))
        for number in range(50, 50 + draw(st.integers(0, 5)))
    ]
    for number in range(90, 90 + draw(st.integers(0, 3))):
        target = draw(st.sampled_from(line))
        owner = draw(st.sampled_from([target.names[:1], target.names[:1], ("cookie",)]))
        line.append(Told(number, owner, draw(day), retracts=target.number))
    line += [
        Told(number, (), draw(day), erases=draw(_some))
        for number in range(95, 95 + draw(st.integers(0, 2 if erasures else 0)))
    ]
    return draw(st.permutations(line))


@st.composite
def _decides(draw: st.DrawFn, cuts_join: bool) -> Decides:
    kind = draw(st.sampled_from([MERGED, UNMERGED, DETACHED, REJECTED]))
    sides = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=True))
    middle = draw(st.integers(1, len(sides) - 1))
    joined = draw(_some) if cuts_join else ()
    if kind == MERGED:
        joined = (sides[0], sides[middle])
    revokes = draw(st.lists(st.integers(50, 55), max_size=2, unique=True))
    return Decides(kind, tuple(sides[:middle]), tuple(sides[middle:]), joined, tuple(revokes))
