"""What readers notice while every projection of all services is rebuilt, switched, rolled back."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from tests.bench import events as made
from tests.bench.cpu import CpuMeter
from tests.bench.figures import Figure, percentiles
from tests.bench.report import Report
from tests.bench.scale import QUICK, Scale
from tests.bench.stage import Stage
from tests.rebuilding import SERVICES, Load, foldings, load, rebuilt_twice_and_rolled_back
from touchline.client import Client

READS: Final = 500
EVENTS: Final = 1000
_PROBES: Final = 2
_CUSTOMERS: Final = 2000
_QUIET_SECONDS: Final = 15.0
_LONGEST: Final = ("identity_graph", "timeline", "scores")

DEFINITION: Final = (
    "Every projection of every service is rebuilt, compared and switched to twice, and rolled back "
    f"once, while {READS} sales views a second are read, if the machine gets as far, and {EVENTS} "
    f"events a second recorded; {_PROBES} customers a second record three times and read four "
    "answers after each (`after_position`). Of each service one process serves and another folds. "
    "Readers, writers, services and servers share the machine. A fifth of all that with --quick."
)


@dataclass(frozen=True, slots=True)
class _Moment:
    """How far a load is at a time."""

    at: float
    reads: int
    events: int

    @classmethod
    def of(cls, told: Load) -> "_Moment":
        return cls(time.monotonic(), told.reads, told.recorded)

    def since(self, before: "_Moment") -> tuple[float, float, float]:
        """Return seconds, and what was read and recorded a second."""
        seconds = self.at - before.at
        return (
            seconds,
            (self.reads - before.reads) / seconds,
            (self.events - before.events) / seconds,
        )


async def measure(report: Report, stage: Stage, scale: Scale) -> None:
    """Hold the load, rebuild everything, and report what reads took meanwhile."""
    report.heading("Rebuilding everything under load", DEFINITION)
    share = 0.2 if scale is QUICK else 1.0
    async with AsyncExitStack() as stack:
        client = await _client(stage, stack)
        await client.record(made.events(scale.batch_events, _CUSTOMERS))
        rates = {"reads": READS * share, "events": EVENTS * share, "probes": _PROBES * share}
        async with load(client, _CUSTOMERS, **rates) as told:
            await asyncio.sleep(_QUIET_SECONDS)
            meter, began = CpuMeter(), _Moment.of(told)
            rows = await _rebuild_all(report, told)
            _, reads, events = _Moment.of(told).since(began)
            cores = meter.cores()
    report.add(Figure("rebuild_load_reads", reads, "calls/s", "meanwhile", (), cores))
    report.add(Figure("rebuild_load_events", events, "events/s", "meanwhile"))
    for doing in ("nothing", "fill", "compare", "switch"):
        report.add(*percentiles(f"rebuild_load_view_{doing}", told.millis[doing]))
        report.add(*percentiles(f"rebuild_load_after_write_{doing}", told.waits[doing]))
    failed, stale = sum(told.failed.values()), sum(told.stale.values())
    kinds = "; ".join(f"{kind}: {count}" for kind, count in told.failed.items())
    report.add(
        Figure("rebuild_load_failed", failed, "calls", f"of {told.reads:,} reads; {kinds}"),
        Figure("rebuild_load_stale", stale, "reads", "that lacked what their caller had written"),
        Figure("rebuild_load_repeated", told.repeated, "calls", "meetings that came too late"),
        Figure("rebuild_load_compared", rows, "rows", "each equal to the generation that answered"),
    )


async def _client(stage: Stage, stack: AsyncExitStack) -> Client:
    addresses = {"ingestion": await stack.enter_async_context(stage.run("ingestion"))}
    for service in SERVICES:
        await stack.enter_async_context(stage.run(service, roles="project,react"))
        serving = stage.run(service, roles="serve")
        addresses[service] = await stack.enter_async_context(serving)
    connecting = Client.connect(
        addresses["ingestion"],
        addresses["profile"],
        engagement=addresses["engagement"],
        notification=addresses["notification"],
    )
    return await stack.enter_async_context(connecting)


async def _rebuild_all(report: Report, told: Load) -> int:
    """Rebuild one projection after the other; return how many rows were compared."""
    # What folds longest first: the line grows all the time.
    names, rows = sorted(await foldings(told.client), key=_by_length), 0
    with report.progress("rebuilding", len(names)) as advance:
        for number, (service, name) in enumerate(names, 1):
            before = _Moment.of(told)
            equal = await rebuilt_twice_and_rolled_back(told, service, name)
            seconds, reads, events = _Moment.of(told).since(before)
            note = f"{equal:,} rows equal; meanwhile {reads:,.0f} reads/s, {events:,.0f} events/s"
            figure = f"rebuild_load_{service}_{name.partition(':')[0]}"
            report.add(Figure(figure, seconds, "s", note))
            advance(number)
            rows += equal
    return rows


def _by_length(one: tuple[str, str]) -> int:
    name = one[1].partition(":")[0]
    return _LONGEST.index(name) if name in _LONGEST else len(_LONGEST)
