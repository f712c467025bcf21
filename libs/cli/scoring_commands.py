"""The commands about scores."""

from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Console

from libs.cli.calling import connected, console, run_command
from libs.cli.looking import lines_of_events, name_of, names_of
from libs.cli.references import FORMS, reference_of
from libs.cli.rendering import scores as rendering
from libs.cli.rendering.degraded import degraded
from touchline.client import Client
from touchline.engagement.v1.engagement_pb2 import ScoreLevel
from touchline.engagement.v1.engagement_service_pb2 import (
    SCORE_ORDER_HIGHEST,
    SCORE_ORDER_LOWEST,
    ExplainScoreRequest,
    GetScoreRequest,
    ListModelsRequest,
    ListScoresRequest,
)
from touchline.profile.v1.profile_pb2 import ProfileReference

_PAGE: Final = 500
_Customer = Annotated[str, typer.Argument(metavar="IDENTITY", help=FORMS)]
_Model = Annotated[str, typer.Option(help="The scoring model. Left out: `default`.")]
_AsOf = Annotated[datetime | None, typer.Option(help="As it was then (local time).")]


def score(identity: _Customer, as_of: _AsOf = None, model: _Model = "") -> None:
    """Show how engaged a customer is, on the scale of the model's levels."""
    reference = reference_of(identity)

    async def show() -> None:
        request = GetScoreRequest(profile=reference, model=model)
        if as_of is not None:
            request.as_of.FromDatetime(as_of.astimezone())
        async with connected() as client:
            one = (await client.engagement.GetScore(request)).score
            name = await name_of(client, reference)
            levels = await _levels(client, one.model, one.model_version)
        console.print(rendering.score(one, name, levels, now=_now()))
        if one.degraded_projections:
            console.print(degraded(one.degraded_projections))

    run_command(show())


def scores(
    lowest: Annotated[bool, typer.Option("--lowest", help="The lowest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="How many at most.")] = 20,
    as_of: _AsOf = None,
    model: _Model = "",
) -> None:
    """List customers by score, the highest first."""

    async def show() -> None:
        order = SCORE_ORDER_LOWEST if lowest else SCORE_ORDER_HIGHEST
        request = ListScoresRequest(model=model, order=order, page_size=limit)
        if as_of is not None:
            request.as_of.FromDatetime(as_of.astimezone())
        async with connected() as client:
            listed = (await client.engagement.ListScores(request)).scores
            names = await names_of(client, [one.profile_id for one in listed])
        console.print(rendering.scores(listed, names, now=_now()))

    run_command(show())


def explain(
    identity: _Customer,
    as_of: _AsOf = None,
    model: _Model = "",
    limit: Annotated[
        int, typer.Option(min=0, help="How many events one by one; the rest is summed.")
    ] = 25,
    ids: Annotated[bool, typer.Option("--ids", help="Name events by their ids.")] = False,
) -> None:
    """Show why a customer's score is what it is, down to each event."""
    reference = reference_of(identity)

    async def show() -> None:
        request = ExplainScoreRequest(profile=reference, model=model, page_size=_PAGE)
        if as_of is not None:
            request.as_of.FromDatetime(as_of.astimezone())
        async with connected() as client:
            await show_explanation(client, request, console, limit=limit, ids=ids)

    run_command(show())


async def show_explanation(
    client: Client, request: ExplainScoreRequest, to: Console, *, limit: int, ids: bool = False
) -> None:
    """Print why a score is what it is; all pages, so that the sums are of everything."""
    response = await client.engagement.ExplainScore(request)
    first, contributions = response, list(response.contributions)
    while response.next_page_token:
        request.page_token = response.next_page_token
        response = await client.engagement.ExplainScore(request)
        contributions += response.contributions
    reference = ProfileReference(profile_id=first.score.profile_id)
    told = {} if ids else await lines_of_events(client, reference)
    # What takes most away matters as much as what gives most.
    contributions.sort(key=lambda one: -abs(one.points))
    explained = rendering.Explained(first.score, first.rules, contributions, told)
    name = await name_of(client, reference)
    to.print(rendering.explanation(explained, name, now=_now(), most=limit, ids=ids))
    if first.score.degraded_projections:
        to.print(degraded(first.score.degraded_projections))


async def _levels(client: Client, model: str, version: int) -> list[ScoreLevel]:
    models = (await client.engagement.ListModels(ListModelsRequest(name=model))).models
    return [level for one in models if one.version == version for level in one.definition.levels]


def _now() -> datetime:
    return datetime.now().astimezone()
