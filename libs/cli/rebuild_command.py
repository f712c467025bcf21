"""`touchline rebuild`: folds a projection anew beside the one that answers, and takes its place."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Final, NamedTuple

import grpc
import typer
from rich.text import Text

from libs.cli.calling import FAILED, connected, console, errors, run_command
from libs.cli.generations import (
    ProjectionName,
    Service,
    Target,
    calls_of,
    compare_generations,
    explained,
    switch_to,
)
from libs.cli.rendering import palette
from libs.cli.rendering import rebuild as rendering
from libs.cli.rendering.stages import Stages
from touchline.client import Client
from touchline.client.attempts import is_gone
from touchline.failures import CallFailed
from touchline.projection.v1.projection_pb2 import GENERATION_STATE_FILLING
from touchline.projection.v1.projection_service_pb2 import (
    CompareGenerationsResponse,
    ListProjectionsRequest,
    RebuildProjectionRequest,
    RebuildProjectionResponse,
)

ALL: Final = "all"
_WORKERS: Final = (1, 2, 4, 8)
# A service that is started again is there by then.
_SILENT_SECONDS: Final = 60.0


class _Wish(NamedTuple):
    """What a rebuild is to do."""

    workers: int
    watch: bool
    compare: bool
    switch: bool
    accept_differences: bool


def rebuild(
    service: Service,
    projection: ProjectionName,
    workers: Annotated[
        int, typer.Option(help="How many processes fill it: 1, 2, 4 or 8.", show_default="1")
    ] = 0,
    compare: Annotated[
        bool, typer.Option("--compare", help="Then compare it with the one that answers.")
    ] = False,
    switch: Annotated[
        bool, typer.Option("--switch", help="Then compare it, and if it is equal, let it answer.")
    ] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="With --switch: also if it differs.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Begin none; watch the one that is under way.")
    ] = False,
) -> None:
    """Fold a projection anew, beside the one that answers; PROJECTION `all`: one after the other.

    Ctrl-C ends the watching, not the rebuild. Exits with 1 if the two differ.
    """
    if workers not in (0, *_WORKERS):
        raise typer.BadParameter("Give 1, 2, 4 or 8.", param_hint="--workers")
    if workers and watch:
        raise typer.BadParameter(
            "The one that is under way has its workers.", param_hint="--workers"
        )
    if accept_differences and not switch:
        raise typer.BadParameter("It goes with --switch.", param_hint="--accept-differences")
    wish = _Wish(workers, watch, compare or switch, switch, accept_differences)

    async def run() -> None:
        async with connected() as client:
            targets = await _targets(client, service, projection, watch=watch)
            results = [
                await _rebuild(client, one, wish, alone=len(targets) == 1) for one in targets
            ]
        if not all(results):
            raise typer.Exit(FAILED)

    run_command(run())


async def _targets(client: Client, service: str, name: str, *, watch: bool) -> Sequence[Target]:
    """Return what is to be rebuilt; of `all` that is to be watched, what is under way."""
    calls = calls_of(client, service)
    if name != ALL:
        return [Target(service, name)]
    listed = await calls.ListProjections(ListProjectionsRequest())
    return [
        Target(service, one.name)
        for one in listed.projections
        if not one.is_reactor
        and (not watch or any(each.state == GENERATION_STATE_FILLING for each in one.generations))
    ]


async def _rebuild(client: Client, target: Target, wish: _Wish, *, alone: bool) -> bool:
    """Rebuild a projection as wished, and return whether all went well.

    Raises:
        CallFailed: It is the only one and was refused, or nothing answers.
    """
    try:
        generation = await _fill(client, target, wish)
        console.print(rendering.following(generation))
        if wish.compare:
            return await _compare_and_switch(client, target, wish, generation)
    except CallFailed as failed:
        if alone or not failed.reason:
            raise
        errors.print(Text(str(failed), style=palette.BAD), soft_wrap=True)
        return False
    _next("see whether it is equal", target.command("projections compare"))
    return True


async def _fill(client: Client, target: Target, wish: _Wish) -> int:
    """Show how a rebuild goes until it is done, and return its generation."""
    generation = 0
    try:
        with explained(target), Stages(console) as stages:
            async for told in _messages(client, target, wish, stages):
                if not generation:
                    generation = told.generation
                    console.print(rendering.begun(str(target), generation))
                stages.show(told)
    except asyncio.CancelledError:
        if generation:
            console.print("The rebuild goes on without anybody who watches it.")
            _next("watch it again", target.command("rebuild", "--watch"))
            _next("give it up", target.command("projections drop", generation))
        raise
    return generation


async def _messages(
    client: Client, target: Target, wish: _Wish, stages: Stages
) -> AsyncIterator[RebuildProjectionResponse]:
    """Give what a rebuild tells, also past a service that is started again meanwhile."""
    request = RebuildProjectionRequest(
        projection=target.projection, workers=wish.workers, watch=wish.watch
    )
    clock = asyncio.get_running_loop().time
    heard: float | None = None
    while True:
        try:
            async for told in calls_of(client, target.service).RebuildProjection(request):
                heard = clock()
                yield told
        except grpc.aio.AioRpcError as error:
            gone = is_gone(CallFailed.of(error))
            if not gone or heard is None or clock() - heard > _SILENT_SECONDS:
                raise
        else:
            return
        stages.wait_for(f"{target.service} does not answer")
        request = RebuildProjectionRequest(projection=target.projection, watch=True)
        await asyncio.sleep(1)


async def _compare_and_switch(client: Client, target: Target, wish: _Wish, generation: int) -> bool:
    """Compare a new generation, let it answer if that is wished, and return whether all is well."""
    try:
        compared = await compare_generations(client, target, generation)
    except CallFailed as failed:
        # One that halted can't be compared with, and is left for one that goes on.
        if not wish.accept_differences or failed.reason != "GENERATION_NOT_READY":
            raise
        errors.print(Text(f"Not compared: {failed.message}", palette.ATTENTION), soft_wrap=True)
        compared = CompareGenerationsResponse()
    else:
        console.print(rendering.compared(compared))
    equal = not rendering.differing_in(compared)
    if wish.switch and (equal or wish.accept_differences):
        done = await switch_to(
            client, target, generation, accept_differences=wish.accept_differences
        )
        back = target.command("projections roll-back")
        console.print(rendering.switched(done, back, now=datetime.now().astimezone()))
        return True
    if equal:
        _next("let it answer", target.command("projections switch"))
    else:
        switch = target.command("projections switch", generation, "--accept-differences")
        _next(f"{compared.serving} answers as before. If the new rows are the right ones", switch)
        _next("to drop them", target.command("projections drop", generation))
    return equal


def _next(what: str, command: str) -> None:
    console.print(rendering.next_step(what, command), soft_wrap=True)
