"""What readers notice while every projection of all services is rebuilt, switched, rolled back."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from tests.bench import events as made
from tests.bench.figures import Figure, percentiles
from tests.bench.report import Report
from tests.bench.scale import QUICK, Scale
from tests.bench.stage import Stage
from tests.rebuilding import SERVICES, foldings, load, rebuilt_twice_and_rolled_back
from touchline.client import Client

READS: Final = 500
EVENTS: Final = 1000
_PROBES: Final = 2
_CUSTOMERS: Final = 2000
_QUIET_SECONDS: Final = 15.0

DEFINITION: Final = (
    "Every projection of every service is rebuilt, compared and switched to twice, and rolled back "
    f"once, while {READS} sales views a second are read and {EVENTS} events a second recorded; "
    f"{_PROBES} customers a second record three times and read four answers after each "
    "(`after_position`). Readers, writers and all services share the machine."
)


async def measure(report: Report, stage: Stage, scale: Scale) -> None:
    """Hold the load, rebuild everything, and report what reads took meanwhile."""
    report.heading("Rebuilding everything under load", DEFINITION)
    share = 0.2 if scale is QUICK else 1.0
    async with AsyncExitStack() as stack:
        addresses = {
            name: await stack.enter_async_context(stage.run(name))
            for name in ("ingestion", *SERVICES)
        }
        client = await stack.enter_async_context(
            Client.connect(
                addresses["ingestion"],
                addresses["profile"],
                engagement=addresses["engagement"],
                notification=addresses["notification"],
            )
        )
        await client.record(made.events(scale.batch_events, _CUSTOMERS))
        rates = {"reads": READS * share, "events": EVENTS * share, "probes": _PROBES * share}
        async with load(client, _CUSTOMERS, **rates) as told:
            await asyncio.sleep(_QUIET_SECONDS)
            names = await foldings(client)
            rows = 0
            with report.progress("rebuilding", len(names)) as advance:
                for number, (service, name) in enumerate(names, 1):
                    rows += await rebuilt_twice_and_rolled_back(told, service, name)
                    advance(number)
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
