"""How fast identities are folded into profiles, and in how much memory: the pure fold alone."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from libs.identity.graph import Edge, Node, fold
from tests.bench.figures import Figure, median_figure
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.worker import Result, Spec, Tell, run_worker

_PER_CLUSTER: Final = 8
_CLUSTERS_AT_ONCE: Final = 250  # what a batch of events touches
_EMAIL, _PHONE, _CRM = (2, b""), (3, b""), (1, b"crm")
# Two customers with an id, an email, a phone and a device each, who were seen with one device.
_LABELS: Final = (_CRM, _EMAIL, _PHONE, None) * 2
_STARS: Final = ((0, 1, 1), (0, 2, 1), (0, 3, 3), (4, 5, 1), (4, 6, 1), (4, 7, 3), (4, 3, 3))
_KIB: Final = 1024


async def measure(report: Report, scale: Scale) -> None:
    """Fold `scale.stored` identities in parts, as the projection does, and all at once."""
    count = scale.stored
    report.heading(f"The graph of {count:,} identities, folded in a process of its own")
    with report.progress("folds", scale.rounds + 1) as advance:
        parts = []
        for number in range(scale.rounds):
            parts.append(await run_worker("folded_graph", {"identities": count, "at_once": False}))
            advance(number + 1)
        whole = await run_worker("folded_graph", {"identities": count, "at_once": True})
        advance(scale.rounds + 1)
    note = f"{parts[-1]['edges']:,} edges, by clusters; {whole['speed']:,.0f} edges/s all at once"
    report.add(median_figure("graph_fold", [one["speed"] for one in parts], "edges/s", note))
    beginning = f"{parts[-1]['before_mib']:.0f} MiB of it before the first"
    report.add(
        Figure("graph_fold_rss", parts[-1]["peak_mib"], "MiB", f"peak, by clusters; {beginning}"),
        Figure("graph_fold_at_once_rss", whole["peak_mib"], "MiB", f"peak; {beginning}"),
    )


@asynccontextmanager
async def folded_graph(spec: Spec, _: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Fold clusters of made-up customers.

    Spec: identities, at_once.
    """
    clusters = spec["identities"] // _PER_CLUSTER
    part = clusters if spec["at_once"] else _CLUSTERS_AT_ONCE

    async def work() -> Result:
        rng, seconds, edges, before = random.Random(1), 0.0, 0, _peak_mib()
        for nodes, links in _parts(clusters, part, rng):
            began = time.perf_counter()
            fold(nodes, links)
            seconds += time.perf_counter() - began
            edges += len(links)
        return {
            "edges": edges,
            "speed": edges / seconds,
            "before_mib": before,
            "peak_mib": _peak_mib(),
        }

    yield work


def _parts(clusters: int, part: int, rng: random.Random) -> Iterator[tuple[list[Node], list[Edge]]]:
    for start in range(0, clusters, part):
        nodes, edges = list[Node](), list[Edge]()
        for number in range(start, min(start + part, clusters)):
            keys = [rng.randbytes(16) for _ in _LABELS]
            nodes += map(
                Node, keys, _LABELS, range(number * _PER_CLUSTER, (number + 1) * _PER_CLUSTER)
            )
            for one, other, strength in _STARS:
                a, b = sorted((keys[one], keys[other]))
                edges.append(Edge(a, b, strength, rng.randrange(10**15), rng.randbytes(16)))
        rng.shuffle(edges)
        yield nodes, edges


def _peak_mib() -> float:
    # What getrusage says would be the parent's peak, if that was higher when it was forked.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / _KIB
