"""Identities: one spelling, keyed names, and the graph that says who is one person."""

from libs.identity.graph import (
    Cut,
    Edge,
    GraphFold,
    Node,
    clash_label,
    decided_edges,
    edges_of,
    fold,
)
from libs.identity.keys import (
    Identified,
    IdentityKeys,
    owner_first,
    owner_of,
    partition_of,
    tenant_secret,
)
from libs.identity.kinds import Strength, strength_of
from libs.identity.normalise import Canonical, IdentityError, canonical
from libs.identity.streams import changes_stream, snapshots_stream, stream_identity

__all__ = [
    "Canonical",
    "Cut",
    "Edge",
    "GraphFold",
    "Identified",
    "IdentityError",
    "IdentityKeys",
    "Node",
    "Strength",
    "canonical",
    "changes_stream",
    "clash_label",
    "decided_edges",
    "edges_of",
    "fold",
    "owner_first",
    "owner_of",
    "partition_of",
    "snapshots_stream",
    "stream_identity",
    "strength_of",
    "tenant_secret",
]
