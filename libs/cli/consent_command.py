"""`touchline consents`: what a customer allows, forbids and likes."""

from datetime import datetime
from typing import Annotated

import typer

from libs.cli.calling import connected, console, run_command
from libs.cli.looking import name_of
from libs.cli.references import FORMS, reference_of
from libs.cli.rendering.consents import standing
from libs.cli.rendering.degraded import degraded
from touchline.profile.v1.profile_service_pb2 import ListConsentsRequest


def consents(
    identity: Annotated[str, typer.Argument(metavar="IDENTITY", help=FORMS)],
    as_of: Annotated[datetime | None, typer.Option(help="As it was then (local time).")] = None,
) -> None:
    """Show what a customer allows, forbids and likes, what decides, and all that was said."""
    reference = reference_of(identity)
    request = ListConsentsRequest(profile=reference)
    moment = as_of and as_of.astimezone()
    if moment is not None:
        request.as_of.FromDatetime(moment)

    async def show() -> None:
        async with connected() as client:
            answer = await client.profile.ListConsents(request)
            who = await name_of(client, reference)
        now = datetime.now().astimezone()
        said = standing(answer.consents, answer.preferences, who=who, now=now, as_of=moment)
        console.print(said)
        if answer.degraded_projections:
            console.print(degraded(answer.degraded_projections))

    run_command(show())
