"""Who is who: a projection of what events and people say, and how it is read."""

from libs.projection.identity_graph.folding import IdentityGraph

__all__ = ["IdentityGraph"]
