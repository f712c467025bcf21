"""Folds "these identities were seen together" into components: one component is one profile.

The rule (docs/adr/0010): take the edges in order of (strength, occurred_at, event_id) and let each
join its two components, unless

- a person said that they are two: a cut has an identity of each component on opposite sides; or
- the joined one would hold two strong identities with one clash label (two emails, or two ids of
  one system), of which nobody said that they are one person's. Such an edge clashes: a suggestion
  for people to decide.

This is Kruskal's algorithm with two conditions; what it returns depends on the set of edges and the
set of cuts alone.

An edge is as strong as its weaker end, and what a person decided comes before all:

    ends                            strength
    joined by a person's decision   0  Strength.DECIDED; it joins also what clashes
    strong - strong                 1  Strength.STRONG
    strong or social - social       2  Strength.SOCIAL
    strong to device - device       3  Strength.DEVICE
    any - cookie                    4  Strength.COOKIE

where strong means external id, email or phone. So a family's shared device goes with whom it was
first seen with, and never before what two people's own identifiers say.

Components are independent of each other as long as no edge, one that joins nothing included, runs
between them. So after new events it is enough to fold again what those edges reach.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from libs.identity.kinds import Strength, strength_of

ClashLabel = tuple[int, bytes]
"""(kind, namespace key): what was seen together never gives a component two of one label."""


@dataclass(frozen=True, slots=True)
class Node:
    """An identity in the graph.

    Attributes:
        key: Its identity key, 16 bytes.
        clash: Its clash label; None for the kinds of which a person has many.
        first_position: The position of the first event that named it.
    """

    key: bytes
    clash: ClashLabel | None
    first_position: int


@dataclass(frozen=True, slots=True)
class Edge:
    """Two identities seen together in an event, or joined by a decision.

    Attributes:
        a: The smaller identity key.
        b: The larger identity key.
        strength: The `Strength` of the weaker end; DECIDED when a person joined them.
        occurred_at_us: When the event happened, in microseconds since 1970 UTC.
        event_id: The event's UUID, 16 bytes.
    """

    a: bytes
    b: bytes
    strength: int
    occurred_at_us: int
    event_id: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """A person's word that two sets of identities are two people, whatever links them.

    Attributes:
        left: Identity keys of the one.
        right: Identity keys of the other.
    """

    left: Collection[bytes]
    right: Collection[bytes]


@dataclass(frozen=True, slots=True)
class GraphFold:
    """What edges and cuts say.

    Of each pair of identities only the first edge by the rule is in one of the three tuples, which
    are in the order of the rule. An edge in none has both ends in a component that others joined.

    Attributes:
        components: Each node's key to its component's root, the node with the smallest
            (first_position, key).
        joining: The edges that joined two components, one fewer than its identities for each
            component: why these identities are one person.
        clashing: The edges between components that have a clash label in common: suggestions.
        cut: The edges between components that a person keeps apart.
    """

    components: Mapping[bytes, bytes]
    joining: tuple[Edge, ...]
    clashing: tuple[Edge, ...]
    cut: tuple[Edge, ...]


_edge_order: Final = attrgetter("strength", "occurred_at_us", "event_id", "a", "b")
_DECIDED: Final = int(Strength.DECIDED)


def clash_label(kind: int, namespace_key: bytes) -> ClashLabel | None:
    """Return the label that two identities of one person must not share.

    Args:
        kind: A number of `touchline.events.v1.IdentityKind`.
        namespace_key: The keyed hash of its namespace; empty when it has none.

    Returns:
        (kind, namespace_key) for strong kinds, None for the others.

    Raises:
        ValueError: The kind is unspecified or newer than this release.
    """
    return (kind, namespace_key) if strength_of(kind) is Strength.STRONG else None


def edges_of(
    seen: Sequence[tuple[bytes, int]], occurred_at_us: int, event_id: bytes
) -> tuple[Edge, ...]:
    """Return the edges that one event makes: a star from its owner to each of the others.

    A star says all that the event says: the others belong to its owner. Edges between the others
    would join nothing more, unless an edge of the star is blocked, and then they would glue by the
    back door: in [email 1, email 2, device] the device could go to email 2, which did not own the
    event. A star also makes 15 edges of 16 identities, and not 120.

    Args:
        seen: (identity key, kind) of the event's identities, the owner first, as in its envelope.
        occurred_at_us: When it happened, in microseconds since 1970 UTC.
        event_id: Its UUID, 16 bytes.

    Returns:
        One edge for each identity besides the owner.

    Raises:
        ValueError: A kind is unspecified or newer than this release.
    """
    if len(seen) < 2:
        return ()
    owner, owner_kind = seen[0]
    owner_strength = strength_of(owner_kind)
    return tuple(
        Edge(
            min(owner, key),
            max(owner, key),
            max(owner_strength, strength_of(kind)),
            occurred_at_us,
            event_id,
        )
        for key, kind in dict(seen[1:]).items()
        if key != owner
    )


def decided_edges(
    joined_keys: Sequence[bytes], occurred_at_us: int, event_id: bytes
) -> tuple[Edge, ...]:
    """Return the edges that a person's decision makes: from the first identity to each other one.

    Args:
        joined_keys: The identities that are one person, by key.
        occurred_at_us: When it was decided, in microseconds since 1970 UTC.
        event_id: The decision's UUID, 16 bytes.
    """
    return tuple(
        Edge(min(first, key), max(first, key), Strength.DECIDED, occurred_at_us, event_id)
        for first in joined_keys[:1]
        for key in dict.fromkeys(joined_keys[1:])
        if key != first
    )


def fold(
    nodes: Iterable[Node],
    edges: Iterable[Edge],
    cuts: Iterable[Cut] = (),
    people: Iterable[Collection[bytes]] = (),
) -> GraphFold:
    """Fold edges and cuts into components; see the module for the rule.

    Neither order nor repetition of the arguments matters. The time is that of sorting nodes and
    edges, and that of reading the cuts.

    Args:
        nodes: The identities; of one given twice the smallest position counts.
        edges: What was seen together or joined; of one pair's edges the first by the rule counts.
            One that names an identity that is not among the nodes says nothing.
        cuts: What was decided to be two people. Identities that are not among the nodes say
            nothing, here and below.
        people: Sets of identities of each of which was decided that it is one person: among them
            no label clashes, so that a merge takes neither side apart. They join nothing; that is
            what edges do.

    Raises:
        ValueError: One identity comes with two clash labels.
    """
    firsts = _first_nodes(nodes)
    index = {node.key: i for i, node in enumerate(firsts)}
    parents = list(range(len(firsts)))
    holds, refuses, cut_bits = _bit_sets(firsts, index, cuts)
    excuses = _excuses(index, [held & ~cut_bits for held in holds], people)
    joining: list[Edge] = []
    apart: dict[tuple[bytes, bytes], Edge] = {}
    for edge in sorted(edges, key=_edge_order):
        a, b = index.get(edge.a), index.get(edge.b)
        if a is None or b is None:
            continue
        one, other = _root(parents, a), _root(parents, b)
        if one == other:
            continue
        refused = holds[one] & refuses[other]
        if refused and (
            refused & cut_bits
            or (edge.strength != _DECIDED and not _is_excused(excuses, one, other, refused))
        ):
            # Bits only ever join a component, so a pair stays apart: its first edge stays.
            apart.setdefault((edge.a, edge.b), edge)
            continue
        joining.append(edge)
        # Nodes are numbered by (first_position, key), so the smaller number is the root.
        root, child = (one, other) if one < other else (other, one)
        parents[child] = root
        holds[root] |= holds[child]
        refuses[root] |= refuses[child]
        if excuses:
            _join_excuses(excuses, root, child)
    # Two components may have come to be cut after an edge between them clashed.
    clashing: list[Edge] = []
    cut: list[Edge] = []
    for edge in apart.values():
        one, other = _root(parents, index[edge.a]), _root(parents, index[edge.b])
        (cut if holds[one] & refuses[other] & cut_bits else clashing).append(edge)
    components = {node.key: firsts[_root(parents, i)].key for i, node in enumerate(firsts)}
    return GraphFold(components, tuple(joining), tuple(clashing), tuple(cut))


def _first_nodes(nodes: Iterable[Node]) -> list[Node]:
    firsts: dict[bytes, Node] = {}
    for node in nodes:
        known = firsts.setdefault(node.key, node)
        if known is node:
            continue
        if known.clash != node.clash:
            raise ValueError(
                "one identity came with two clash labels: take both from its recorded kind and "
                "namespace key"
            )
        if node.first_position < known.first_position:
            firsts[node.key] = node
    return sorted(firsts.values(), key=attrgetter("first_position", "key"))


def _bit_sets(
    nodes: Sequence[Node], index: Mapping[bytes, int], cuts: Iterable[Cut]
) -> tuple[list[int], list[int], int]:
    """Return what each node holds, what it refuses, and which of it cuts say, as bits of integers.

    A clash label is held and refused. Of a cut the left side is held by the left and refused by the
    right, and likewise the right side. So two components refuse one another, or neither does.
    """
    bits: dict[ClashLabel, int] = {}
    holds = [
        0 if node.clash is None else bits.setdefault(node.clash, 1 << len(bits)) for node in nodes
    ]
    refuses, bit, cut_bits = holds, 1 << len(bits), 0
    for cut in cuts:
        if refuses is holds:
            refuses = holds.copy()
        for keys, held, refused in ((cut.left, bit, bit << 1), (cut.right, bit << 1, bit)):
            for i in [index[key] for key in keys if key in index]:
                holds[i] |= held
                refuses[i] |= refused
        cut_bits |= bit | bit << 1
        bit <<= 2
    return holds, refuses, cut_bits


_Excuses = list[dict[int, int]]
"""Of each component by the bit of each of its labels: the people, as bits of an integer, of whom
was said that they have all of its identities with that label."""


def _excuses(
    index: Mapping[bytes, int], labels: Iterable[int], people: Iterable[Collection[bytes]]
) -> _Excuses:
    """Return those of single nodes; nothing at all if nobody was said to be one person."""
    said = [0] * len(index)
    for number, keys in enumerate(people):
        for i in [index[key] for key in keys if key in index]:
            said[i] |= 1 << number
    if not any(said):
        return []
    return [dict.fromkeys(_bits(held), one) for held, one in zip(labels, said, strict=True)]


def _is_excused(excuses: _Excuses, one: int, other: int, refused: int) -> bool:
    """Say whether somebody was said to have all identities of both with labels that clash."""
    if not excuses:
        return False
    return all(excuses[one][bit] & excuses[other][bit] for bit in _bits(refused))


def _join_excuses(excuses: _Excuses, root: int, child: int) -> None:
    of_root = excuses[root]
    for bit, people in excuses[child].items():
        of_root[bit] = of_root.get(bit, -1) & people


def _bits(number: int) -> Iterator[int]:
    while number:
        bit = number & -number
        yield bit
        number ^= bit


def _root(parents: list[int], node: int) -> int:
    while (parent := parents[node]) != node:
        # Halving the path keeps later searches short.
        parents[node] = node = parents[parent]
    return node
