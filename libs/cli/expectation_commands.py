"""The commands about what customers may expect."""

import re
from datetime import datetime, timedelta
from getpass import getuser
from typing import Annotated, Final

import typer
from rich.text import Text

from libs.cli.calling import connected, console, run_command
from libs.cli.looking import names_of
from libs.cli.references import FORMS, reference_of
from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.degraded import degraded
from libs.cli.rendering.expectations import expectations as listing
from touchline.events.v1.facts_pb2 import (
    EXPECTATION_OUTCOME_KEPT,
    EXPECTATION_OUTCOME_RENEGOTIATED,
    EXPECTATION_OUTCOME_WITHDRAWN,
    ExpectationOutcome,
)
from touchline.notification.v1.notification_pb2 import (
    EXPECTATION_STATE_BROKEN,
    EXPECTATION_STATE_KEPT,
    EXPECTATION_STATE_OPEN,
    EXPECTATION_STATE_WITHDRAWN,
)
from touchline.notification.v1.notification_service_pb2 import (
    GivePromiseRequest,
    ListExpectationsRequest,
    ResolvePromiseRequest,
)
from touchline.uuid7 import uuid7

_PAGE: Final = 500
_FROM_NOW: Final = re.compile(r"(\d{1,6})(s|min|h|d)")
_UNITS: Final = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_EVERY_STATE: Final = (
    EXPECTATION_STATE_OPEN,
    EXPECTATION_STATE_KEPT,
    EXPECTATION_STATE_BROKEN,
    EXPECTATION_STATE_WITHDRAWN,
)
_Id = Annotated[str, typer.Argument(metavar="ID", help="The promise, as `expectations` lists it.")]
_Due = Annotated[
    str,
    typer.Option(help="Until when: 45s, 30min, 4h, 2d, or a local time: 2027-01-31T17:00."),
]
_Reason = Annotated[str, typer.Option(help="Why.")]
_By = Annotated[str, typer.Option(help="Who says so. Left out: the user of this machine.")]

promise: Final = typer.Typer(
    help="Give, keep, renegotiate or withdraw a promise to a customer.", no_args_is_help=True
)


def expectations(
    identity: Annotated[
        str, typer.Argument(metavar="[IDENTITY]", help=f"Left out: everybody's. {FORMS}")
    ] = "",
    team: Annotated[str, typer.Option(help="Only of this team.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Those that were kept, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="How many at most.")] = 50,
) -> None:
    """List what customers may expect, open and broken, the earliest due first."""
    request = ListExpectationsRequest(team=team, page_size=limit)
    if every:
        request.states.extend(_EVERY_STATE)
    if identity:
        request.profile.CopyFrom(reference_of(identity))

    async def show() -> None:
        async with connected() as client:
            answer = await client.notification.ListExpectations(request)
            listed = answer.expectations
            names = await names_of(client, [one.profile_id for one in listed])
        if listed:
            console.print(listing(listed, names, now=datetime.now().astimezone()))
        else:
            nothing = "nothing is expected" if every else "nothing is open or broken"
            console.print(Text(f"{palette.KEPT} {nothing}", style=palette.GOOD))
        if answer.degraded_projections:
            console.print(degraded(answer.degraded_projections))

    run_command(show())


@promise.command()
def give(
    identity: Annotated[str, typer.Argument(metavar="IDENTITY", help=FORMS)],
    text: Annotated[str, typer.Argument(metavar="PROMISE", help="What is promised.")],
    due: _Due,
    team: Annotated[str, typer.Option(help="The team that is to keep it.")] = "",
    by: _By = "",
    name: Annotated[str, typer.Option("--id", help="Left out: a new one.")] = "",
) -> None:
    """Promise something to a customer."""
    reference = reference_of(identity)
    if not reference.HasField("identity"):
        raise typer.BadParameter("name the customer by an identity, not by a profile's id")
    until = due_of(due)
    request = GivePromiseRequest(
        expectation_id=name or uuid7(),
        identities=[reference.identity],
        promise=text,
        promised_by=by or getuser(),
        team=team,
    )
    request.due_at.FromDatetime(until)

    async def record() -> None:
        async with connected() as client:
            await client.notification.GivePromise(request)
        now = datetime.now().astimezone()
        when = f"{words.when(until, now)}, {words.ahead(until, now)}"
        console.print(Text(f"{palette.OPEN} promised until {when}"))
        console.print(Text(request.expectation_id, style=palette.QUIET), soft_wrap=True)

    run_command(record())


@promise.command()
def keep(name: _Id, reason: _Reason = "", by: _By = "") -> None:
    """Say that a promise was kept."""
    _resolve(name, EXPECTATION_OUTCOME_KEPT, reason=reason, by=by)


@promise.command()
def renegotiate(name: _Id, due: _Due, reason: _Reason = "", by: _By = "") -> None:
    """Say that a promise has another deadline, with the customer's consent."""
    _resolve(name, EXPECTATION_OUTCOME_RENEGOTIATED, reason=reason, by=by, until=due_of(due))


@promise.command()
def withdraw(name: _Id, reason: _Reason = "", by: _By = "") -> None:
    """Say that the customer no longer awaits it."""
    _resolve(name, EXPECTATION_OUTCOME_WITHDRAWN, reason=reason, by=by)


def due_of(text: str) -> datetime:
    """Return the time that a person means by a time, or by how far off it is.

    Raises:
        typer.BadParameter: It is neither.
    """
    now = datetime.now().astimezone()
    if far := _FROM_NOW.fullmatch(text.strip()):
        return now + timedelta(**{_UNITS[far[2]]: int(far[1])})
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except ValueError:
        raise typer.BadParameter("give 45s, 30min, 4h, 2d, or 2027-01-31T17:00") from None


def _resolve(
    name: str,
    outcome: ExpectationOutcome.ValueType,
    *,
    reason: str,
    by: str,
    until: datetime | None = None,
) -> None:
    request = ResolvePromiseRequest(
        expectation_id=name, outcome=outcome, reason=reason, resolved_by=by or getuser()
    )
    if until is not None:
        request.due_at.FromDatetime(until)

    async def record() -> None:
        async with connected() as client:
            await client.notification.ResolvePromise(request)
        symbol, style, word = terms.OUTCOMES[outcome]
        moved = f" to {words.when(until, datetime.now().astimezone())}" if until else ""
        console.print(Text(f"{symbol} {word}{moved}", style=style))

    run_command(record())
