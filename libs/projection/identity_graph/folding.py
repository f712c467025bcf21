"""The projection of who is who: identities, what links them, and the profile each belongs to.

Automatic links are a fold, not events; what people decided are events that the same fold takes into
account. It runs in every service that needs profiles. The rule is libs.identity.graph's. Only the
clusters that a batch touches are folded again.
"""

from collections import defaultdict
from collections.abc import Sequence

from libs.projection.identity_graph import writing
from libs.projection.identity_graph.collecting import Batch, Collector, Pair, edges_decided
from libs.projection.identity_graph.refolding import refold
from libs.projection.projection import Connection, Recorded, Table

_Changed = defaultdict[int, set[bytes]]
"""Identity keys by tenant, whose clusters are to be folded again."""


class IdentityGraph:
    """Folds envelopes into identities and profiles; see libs.projection.projection.Projection."""

    name = "identity_graph"
    fold_version = 3
    divisible = False
    tables = (
        *(Table("identities"), Table("identity_edges"), Table("identity_retractions")),
        *(Table("identity_links"), Table("identity_decisions"), Table("identity_decision_keys")),
        *(Table("identity_revocations"), Table("profile_versions"), Table("merge_suggestions")),
        Table("identity_erasures"),
    )

    def __init__(self) -> None:
        self._collector = Collector()

    def copy(self) -> "IdentityGraph":
        """The same fold, remembering nothing."""
        return IdentityGraph()

    def aborted(self) -> None:
        """Forget what was remembered of events that were not committed."""
        self._collector = Collector()

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Envelopes say all it needs."""

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add what events say, and fold the clusters that it changes."""
        batch = self._collector.collect(events)
        changed = _Changed(set)
        if batch.identities:
            for tenant, key in await writing.add_identities(connection, batch):
                changed[tenant].add(key)
        if batch.has_erasures:
            await writing.add_erasures(connection, batch)
            for tenant, key in batch.erasures:
                changed[tenant].add(key)
        if batch.edges:
            await writing.add_edges(connection, batch)
        await self._link(connection, batch, changed)
        for tenant, keys in sorted(changed.items()):
            await refold(connection, tenant, keys)

    async def _link(self, connection: Connection, batch: Batch, changed: _Changed) -> None:
        """Bring the links up to date, and note whose clusters that changes."""
        anew = await self._taken_back(connection, batch, changed)
        if batch.firsts:
            anew |= await writing.retracted_firsts(connection, batch)
        # What no longer counts is no first edge, so that the next one of its pair may be.
        self._collector.forget(anew)
        linked = await writing.link_first(connection, batch, anew) if batch.firsts else []
        if anew:
            linked += await writing.link_anew(connection, anew)
        for tenant, a_key, b_key in linked:
            changed[tenant] |= {a_key, b_key}

    async def _taken_back(
        self, connection: Connection, batch: Batch, changed: _Changed
    ) -> set[Pair]:
        """Add decisions and tombstones, and return the pairs whose first edge may be another."""
        pairs = set[Pair]()
        if batch.decisions:
            await writing.add_decisions(connection, batch)
            for record in (event.record for event in batch.decisions):
                decision = record.identity_decision
                changed[record.tenant] |= {*decision.left_keys, *decision.right_keys}
                pairs |= {(record.tenant, edge.a, edge.b) for edge in edges_decided(record)}
        if batch.retractions:
            pairs |= await writing.add_retractions(connection, batch)
        async for tenant, keys, joined in writing.decisions_undone(connection, batch):
            changed[tenant] |= keys
            pairs |= {(tenant, edge.a, edge.b) for edge in joined}
        return pairs
