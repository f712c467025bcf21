"""What the commands about projections and their generations share: names, calls, what failed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final, NamedTuple

import grpc
import typer

from libs.cli.calling import console, fail, program
from libs.cli.rendering.stages import Stages
from touchline.client import Client
from touchline.failures import CallFailed
from touchline.projection.v1.projection_service_pb2 import (
    CompareGenerationsRequest,
    CompareGenerationsResponse,
    SwitchProjectionRequest,
    SwitchProjectionResponse,
)
from touchline.projection.v1.projection_service_pb2_grpc import ProjectionServiceStub

_SERVICES: Final = ("profile", "engagement", "notification")


def _complete(incomplete: str) -> list[str]:
    return [name for name in _SERVICES if name.startswith(incomplete)]


Service = Annotated[str, typer.Argument(help="Such as `profile`.", autocompletion=_complete)]
ProjectionName = Annotated[str, typer.Argument(metavar="PROJECTION", help="Such as `timeline`.")]


class Target(NamedTuple):
    """A projection of a service, as a person names it.

    Attributes:
        service: Such as `profile`.
        projection: Such as `timeline`.
    """

    service: str
    projection: str

    def __str__(self) -> str:
        return f"{self.service}/{self.projection}"

    def command(self, name: str, *rest: object) -> str:
        """Return a command about it, as a person types it.

        Args:
            name: Such as `rebuild` or `projections switch`.
            rest: What follows its name.
        """
        return " ".join([program(), name, self.service, self.projection, *map(str, rest)])


def calls_of(client: Client, service: str) -> ProjectionServiceStub:
    """Return the calls about a service's projections.

    Raises:
        typer.Exit: There is no such service; that is said.
    """
    if service not in client.projections:
        fail(f"No service {service} has projections; these have: {', '.join(client.projections)}.")
    return client.projections[service]


@contextmanager
def explained(target: Target) -> Iterator[None]:
    """Say of a call that fails in the block which command helps.

    Raises:
        CallFailed: A call in the block failed.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        failed = CallFailed.of(error)
        raise CallFailed(
            failed.code,
            _explanation(failed, target),
            reason=failed.reason,
            violations=failed.violations,
            metadata=failed.metadata,
        ) from error


async def compare_generations(
    client: Client, target: Target, generation: int = 0
) -> CompareGenerationsResponse:
    """Compare a generation with the one that answers, show how far that is, and return the result.

    Args:
        client: Of the running services.
        target: Whose.
        generation: Which one. Default 0: the one that follows the line.

    Raises:
        CallFailed: They can't be compared.
    """
    request = CompareGenerationsRequest(projection=target.projection, generation=generation)
    last = CompareGenerationsResponse()
    with explained(target), Stages(console) as stages:
        async for last in calls_of(client, target.service).CompareGenerations(request):
            stages.show_comparison(last)
    return last


async def switch_to(
    client: Client, target: Target, generation: int = 0, *, accept_differences: bool = False
) -> SwitchProjectionResponse:
    """Let a generation answer, and return what does now.

    Args:
        client: Of the running services.
        target: Whose.
        generation: Which one. Default 0: the one that follows the line.
        accept_differences: Whether it may differ from the one that answers.

    Raises:
        CallFailed: It is refused.
    """
    request = SwitchProjectionRequest(
        projection=target.projection,
        generation=generation,
        accept_differences=accept_differences,
    )
    with explained(target):
        calls = calls_of(client, target.service)
        done: SwitchProjectionResponse = await calls.SwitchProjection(request)
    return done


def _explanation(failed: CallFailed, target: Target) -> str:
    """Return what happened and which command helps."""
    what, _, rest = failed.message.partition(". ")
    generation, state = (failed.metadata.get(name, "") for name in ("generation", "state"))
    watch = target.command("rebuild", "--watch")
    switch = target.command("projections switch")
    match failed.reason:
        case "PROJECTION_NOT_FOUND":
            return (
                f"There is no projection {target}. `{program()} projections` lists all there are."
            )
        case "REBUILD_UNDER_WAY":
            drop = target.command("projections drop", generation)
            return f"{what}. `{watch}` shows how far it is, `{switch}` and `{drop}` end it."
        case "GENERATION_NOT_READY" if state == "filling":
            return f"{what}. `{watch}` waits until it follows the line."
        case "GENERATION_NOT_READY" if state == "failed":
            return f"Generation {generation} of {target} failed: {rest} What answers is untouched."
        case "INVALID_REQUEST":
            rules = "; ".join(rule for _, rule in failed.violations)
            return f"That can't be done with {target}: {rules}."
        case "GENERATION_NOT_FOUND":
            begin = target.command("rebuild")
            return (
                f"{what}. `{program()} projections` lists all there are, and `{begin}` begins one."
            )
        case "GENERATIONS_DIFFER":
            return (
                f"{what}. `{target.command('projections compare')}` shows whether, and where, it "
                f"differs; if that is how it is meant: `{switch} --accept-differences`."
            )
        case _:
            return failed.message.replace("ListProjections", f"`{program()} projections`")
