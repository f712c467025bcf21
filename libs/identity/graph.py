"""Folds "these identities were seen together" into components: one component is one profile.

The rule (docs/adr/0010): take the edges in order of (strength, occurred_at, event_id) and let each
join its two components, unless the joined one would hold two strong identities with one clash label
(two emails, or two ids of one system). Such an edge is blocked: a suggestion for people to decide.
This is Kruskal's algorithm with a condition; what it returns depends on the set of edges alone.

An edge is as strong as its weaker end:

    ends                            strength
    strong - strong                 1  Strength.STRONG
    strong or social - social       2  Strength.SOCIAL
    strong to device - device       3  Strength.DEVICE
    any - cookie                    4  Strength.COOKIE

where strong means external id, email or phone. So a family's shared device goes with whom it was
first seen with, and never before what two people's own identifiers say.

Components are independent of each other as long as no edge, blocked ones included, runs between
them. So after new events it is enough to fold again what those edges reach.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from libs.identity.kinds import Strength, strength_of

ClashLabel = tuple[int, bytes]
"""(kind, namespace key): no component holds two identities with one label."""


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
    """Two identities seen together in an event.

    Attributes:
        a: The smaller identity key.
        b: The larger identity key.
        strength: The `Strength` of the weaker end.
        occurred_at_us: When the event happened, in microseconds since 1970 UTC.
        event_id: The event's UUID, 16 bytes.
    """

    a: bytes
    b: bytes
    strength: int
    occurred_at_us: int
    event_id: bytes


@dataclass(frozen=True, slots=True)
class GraphFold:
    """What the edges say.

    Attributes:
        components: Each node's key to its component's root, the node with the smallest
            (first_position, key).
        blocked: The edges between components that must stay apart, in the order of the rule, one
            for each pair of identities. Every other edge has both ends in one component.
    """

    components: Mapping[bytes, bytes]
    blocked: tuple[Edge, ...]


_edge_order: Final = attrgetter("strength", "occurred_at_us", "event_id", "a", "b")


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


def fold(nodes: Iterable[Node], edges: Iterable[Edge]) -> GraphFold:
    """Fold edges into components; see the module for the rule.

    Neither order nor repetition of the arguments matters. The time is that of sorting both.

    Args:
        nodes: Every identity that an edge names; of one given twice the smallest position counts.
        edges: What was seen together; of one pair's edges the first by the rule counts.

    Returns:
        The components and the blocked edges.

    Raises:
        ValueError: An edge names an identity that is not among the nodes, or one identity comes
            with two clash labels.
    """
    firsts = _first_nodes(nodes)
    keys = [node.key for node in firsts]
    index = {key: i for i, key in enumerate(keys)}
    labels = _label_sets(firsts)
    parents = list(range(len(keys)))
    blocked: dict[tuple[bytes, bytes], Edge] = {}
    for edge in sorted(edges, key=_edge_order):
        try:
            one, other = _root(parents, index[edge.a]), _root(parents, index[edge.b])
        except KeyError:
            raise ValueError(
                "an edge names an identity that is not among the nodes: pass both ends of each edge"
            ) from None
        if one == other:
            continue
        if labels[one] & labels[other]:
            # Labels only ever join a component, so a blocked pair stays apart: first edge stays.
            blocked.setdefault((edge.a, edge.b), edge)
            continue
        # Nodes are numbered by (first_position, key), so the smaller number is the root.
        root, child = (one, other) if one < other else (other, one)
        parents[child] = root
        labels[root] |= labels[child]
    components = {key: keys[_root(parents, i)] for i, key in enumerate(keys)}
    return GraphFold(components, tuple(blocked.values()))


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


def _label_sets(nodes: Sequence[Node]) -> list[int]:
    # A set of labels is an integer with one bit for each label: there are few, and & is fast.
    bits: dict[ClashLabel, int] = {}
    return [
        0 if node.clash is None else bits.setdefault(node.clash, 1 << len(bits)) for node in nodes
    ]


def _root(parents: list[int], node: int) -> int:
    while (parent := parents[node]) != node:
        # Halving the path keeps later searches short.
        parents[node] = node = parents[parent]
    return node
