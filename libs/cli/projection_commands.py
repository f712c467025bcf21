"""`touchline projections`: how all of them stand, and which generation of each answers."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import datetime
from time import monotonic
from typing import Annotated, Final

import typer
from rich.live import Live

from libs.cli.calling import FAILED, connected, console, fail_unreachable, run_command
from libs.cli.generations import (
    ProjectionName,
    Service,
    Target,
    calls_of,
    compare_generations,
    explained,
    switch_to,
)
from libs.cli.rendering import rebuild as rendering
from libs.cli.rendering.projections import Listed, projections_table
from libs.cli.verify_command import projections_of
from touchline.client import Client
from touchline.projection.v1.projection_service_pb2 import (
    DropGenerationRequest,
    PauseProjectionRequest,
    ResumeProjectionRequest,
    RollBackProjectionRequest,
)

_POLL_SECONDS: Final = 0.5
_RATE_SECONDS: Final = 5.0

projections: Final = typer.Typer(
    help="Show how every projection stands; compare, switch, roll back, drop, pause, resume."
)
_Generation = Annotated[
    int,
    typer.Argument(
        metavar="[GENERATION]", help="Default: the one that follows the line.", show_default=False
    ),
]


@projections.callback(invoke_without_command=True)
def list_projections(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch/--once", help="Refresh it until Ctrl-C.")] = False,
) -> None:
    """Show how every projection stands: its position, lag, rate, state and generations."""
    if context.invoked_subcommand is not None:
        return

    async def show() -> None:
        async with connected() as client:
            if watch and console.is_terminal:
                await _watch(client)
            listed = await projections_of(client)
        if all(its is None for its in listed.values()):
            fail_unreachable()
        console.print(projections_table(listed, now=datetime.now().astimezone()))

    run_command(show())


@projections.command("compare")
def compare_projection(
    service: Service, projection: ProjectionName, generation: _Generation = 0
) -> None:
    """Compare a generation with the one that answers; exits with 1 if they differ."""
    target = Target(service, projection)

    async def compare() -> None:
        async with connected() as client:
            compared = await compare_generations(client, target, generation)
        console.print(rendering.compared(compared))
        if rendering.differing_in(compared):
            raise typer.Exit(FAILED)
        step = rendering.next_step("let it answer", target.command("projections switch"))
        console.print(step, soft_wrap=True)

    run_command(compare())


@projections.command("switch")
def switch_projection(
    service: Service,
    projection: ProjectionName,
    generation: _Generation = 0,
    accept_differences: Annotated[
        bool,
        typer.Option("--accept-differences", help="Also if it differs, or was not compared."),
    ] = False,
) -> None:
    """Let a generation answer that was compared and found equal."""
    target = Target(service, projection)

    async def switch() -> None:
        async with connected() as client:
            done = await switch_to(
                client, target, generation, accept_differences=accept_differences
            )
        back = target.command("projections roll-back")
        console.print(rendering.switched(done, back, now=datetime.now().astimezone()))

    run_command(switch())


@projections.command("roll-back")
def roll_back_projection(service: Service, projection: ProjectionName) -> None:
    """Let the generation answer again that did before the last switch."""
    target, request = Target(service, projection), RollBackProjectionRequest(projection=projection)

    async def roll_back() -> None:
        async with connected() as client:
            with explained(target):
                done = await calls_of(client, service).RollBackProjection(request)
        console.print(rendering.rolled_back(done))

    run_command(roll_back())


@projections.command("drop")
def drop_generation(
    service: Service,
    projection: ProjectionName,
    generation: Annotated[int, typer.Argument(help="As `touchline projections` lists it.")],
) -> None:
    """Drop a generation that does not answer, such as one that is being filled."""
    target = Target(service, projection)
    request = DropGenerationRequest(projection=projection, generation=generation)

    async def drop() -> None:
        async with connected() as client:
            with explained(target):
                await calls_of(client, service).DropGeneration(request)
        console.print(rendering.dropped(generation))

    run_command(drop())


@projections.command("pause")
def pause_projection(
    service: Service,
    projection: ProjectionName,
    reason: Annotated[
        str, typer.Option(metavar="WHY", help="Why, for whoever sees it; nothing personal.")
    ] = "",
) -> None:
    """Stop folding a projection, in every process; it is read on as it stands."""
    target = Target(service, projection)
    request = PauseProjectionRequest(projection=projection, reason=reason)

    async def pause() -> None:
        async with connected() as client:
            with explained(target):
                done = await calls_of(client, service).PauseProjection(request)
        console.print(rendering.paused(done, target.command("projections resume")))

    run_command(pause())


@projections.command("resume")
def resume_projection(service: Service, projection: ProjectionName) -> None:
    """Go on folding a projection that was paused."""
    target, request = Target(service, projection), ResumeProjectionRequest(projection=projection)

    async def resume() -> None:
        async with connected() as client:
            with explained(target):
                await calls_of(client, service).ResumeProjection(request)
        console.print(rendering.resumed())

    run_command(resume())


async def _watch(client: Client) -> None:
    """Show the projections in place, again and again, until it is cancelled."""
    paces = _Paces()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            listed = await projections_of(client)
            rates, now = paces.after(listed), datetime.now().astimezone()
            table = projections_table(listed, now=now, rates=rates, height=console.height)
            live.update(table, refresh=True)
            await asyncio.sleep(_POLL_SECONDS)


class _Paces:
    """How fast generations fold, by where they stood a few seconds ago."""

    def __init__(self) -> None:
        self._seen: defaultdict[tuple[str, str, int], deque[tuple[float, int]]] = defaultdict(deque)

    def after(self, listed: Listed) -> dict[tuple[str, str, int], float]:
        """Return how many events a second each folds, after it was looked at again."""
        now, rates = monotonic(), {}
        for key, position in _positions(listed):
            seen = self._seen[key]
            seen.append((now, position))
            while now - seen[0][0] > _RATE_SECONDS:
                seen.popleft()
            if (passed := now - seen[0][0]) > 0:
                rates[key] = max(0, position - seen[0][1]) / passed
        return rates


def _positions(listed: Listed) -> Iterator[tuple[tuple[str, str, int], int]]:
    for service, its in listed.items():
        for one in its or ():
            yield (service, one.name, 0), one.position
            for each in one.generations:
                yield (service, one.name, each.generation), each.position
