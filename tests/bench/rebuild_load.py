"""What readers notice while every projection of all services is rebuilt, switched, rolled back."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
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
    "Readers, writers, services and servers share the machine. The line begins anew for each "
    "service's projections. A fifth of all that with --quick."
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


async def measure(
    report: Report, stages: Callable[[], AbstractAsyncContextManager[Stage]], scale: Scale
) -> None:
    """Hold the load, rebuild everything, and report what reads took meanwhile.

    Args:
        report: Takes the figures.
        stages: Opens a stage: one for each service, since the line grows all the time.
        scale: How much of the load.
    """
    report.heading("Rebuilding everything under load", DEFINITION)
    loads, rows = list[Load](), 0
    for service in SERVICES:
        async with stages() as stage, AsyncExitStack() as stack:
            client = await _client(stage, stack)
            await client.record(made.events(scale.batch_events, _CUSTOMERS))
            share = 0.2 if scale is QUICK else 1.0
            rates = {"reads": READS * share, "events": EVENTS * share, "probes": _PROBES * share}
            async with load(client, _CUSTOMERS, **rates) as told:
                loads.append(told)
                await asyncio.sleep(_QUIET_SECONDS)
                rows += await _rebuild_all(report, told, service)
    _report(report, loads, rows)


def _report(report: Report, loads: Sequence[Load], rows: int) -> None:
    for doing in ("nothing", "fill", "compare", "switch"):
        views = [took for told in loads for took in told.millis[doing]]
        waits = [took for told in loads for took in told.waits[doing]]
        report.add(*percentiles(f"rebuild_load_view_{doing}", views))
        report.add(*percentiles(f"rebuild_load_after_write_{doing}", waits))
    failed = sum((told.failed for told in loads), Counter())
    stale = sum((told.stale for told in loads), Counter())
    note = "; ".join(f"{kind}: {count}" for kind, count in failed.items())
    reads, repeated = sum(told.reads for told in loads), sum(told.repeated for told in loads)
    recorded = sum(told.recorded for told in loads)
    report.add(
        Figure("rebuild_load_recorded", recorded, "events", "meanwhile"),
        Figure("rebuild_load_failed", failed.total(), "calls", f"of {reads:,} reads; {note}"),
        Figure("rebuild_load_stale", stale.total(), "reads", "without what their caller wrote"),
        Figure("rebuild_load_repeated", repeated, "calls", "meetings that came too late"),
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


async def _rebuild_all(report: Report, told: Load, service: str) -> int:
    """Rebuild a service's projections one after the other; return how many rows were compared."""
    names, rows = [one for one in await foldings(told.client) if one[0] == service], 0
    # What folds longest first: the line grows meanwhile.
    names.sort(key=_by_length)
    with report.progress(f"rebuilding all of {service}", len(names)) as advance:
        for number, (_, name) in enumerate(names, 1):
            meter, before = CpuMeter(), _Moment.of(told)
            equal = await rebuilt_twice_and_rolled_back(told, service, name)
            seconds, reads, events = _Moment.of(told).since(before)
            note = f"{equal:,} rows equal; meanwhile {reads:,.0f} reads/s, {events:,.0f} events/s"
            figure = f"rebuild_load_{service}_{name.partition(':')[0]}"
            report.add(Figure(figure, seconds, "s", note, (), meter.cores()))
            advance(number)
            rows += equal
    return rows


def _by_length(one: tuple[str, str]) -> int:
    name = one[1].partition(":")[0]
    return _LONGEST.index(name) if name in _LONGEST else len(_LONGEST)
