"""The commands by which a person decides who is who: merge, unmerge, detach and suggestions."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from getpass import getuser
from typing import Annotated, Final

import grpc
import typer

from libs.cli.calling import connected, console, program, run_command
from libs.cli.looking import names_of, profile_of
from libs.cli.references import FORMS, identity_of, reference_of
from libs.cli.rendering import merges
from libs.cli.rendering.merges import Decided
from touchline.client import Client
from touchline.profile.v1.profile_pb2 import Profile, ProfileReference
from touchline.profile.v1.profile_service_pb2 import (
    AcceptMergeSuggestionRequest,
    DecidedProfile,
    DecisionResult,
    DetachIdentityRequest,
    ListMergeSuggestionsRequest,
    MergeProfilesRequest,
    RejectMergeSuggestionRequest,
    TwoIdentities,
    UnmergeProfilesRequest,
)

_PAGE: Final = 500
_ID_DIGITS: Final = 32
_Customer = Annotated[str, typer.Argument(metavar="IDENTITY", help=FORMS)]
_Because = Annotated[str, typer.Option(metavar="WHY", help="Why. It is kept with the decision.")]
_By = Annotated[
    str, typer.Option(metavar="WHO", help="Who decides. Left out: the user of this machine.")
]
_Suggestion = Annotated[str, typer.Argument(metavar="ID", help="As `suggestions` lists it.")]

suggestions: Final = typer.Typer(
    help="List profiles that may be one person; accept or reject a suggestion."
)


def merge(
    left: Annotated[str, typer.Argument(metavar="A", help=FORMS)],
    right: Annotated[str, typer.Argument(metavar="B", help="The other, likewise.")],
    because: _Because,
    by: _By = "",
) -> None:
    """Say that two customers are one person. Nothing is copied, and `unmerge` takes it back."""
    sides = reference_of(left), reference_of(right)

    async def decide(client: Client, before: Sequence[Profile]) -> DecisionResult:
        one, other = _seen(sides, before)
        request = MergeProfilesRequest(
            left=one, right=other, decided_by=by or getuser(), reason=because
        )
        return (await client.profile.MergeProfiles(request)).result

    _decide(decide, sides, "merged: they are one person", _steps_of_merge)


def unmerge(
    identity: _Customer,
    because: _Because,
    merge: Annotated[
        str, typer.Option(metavar="EVENT", help="Take this merge back: its decision's event id.")
    ] = "",
    absorbed: Annotated[
        str,
        typer.Option(metavar="PROFILE", help="Take back the merge that absorbed this profile id."),
    ] = "",
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two identities that are two persons."),
    ] = None,
    by: _By = "",
) -> None:
    """Say that what is one profile is two persons, and keep them apart."""
    if bool(merge) + bool(absorbed) + bool(between) != 1:
        raise typer.BadParameter("Give one of --merge, --absorbed and --between.")
    reference = reference_of(identity)
    request = UnmergeProfilesRequest(reason=because, decided_by=by or getuser())
    if merge:
        request.merge_event_id = merge
    elif absorbed:
        request.absorbed_profile_id = absorbed
    elif between:
        left, right = map(identity_of, between)
        request.two.CopyFrom(TwoIdentities(left=left, right=right))

    async def decide(client: Client, before: Sequence[Profile]) -> DecisionResult:
        request.profile.CopyFrom(_seen([reference], before)[0])
        return (await client.profile.UnmergeProfiles(request)).result

    _decide(decide, [reference], "taken apart: they are two persons", _steps_of_parting)


def detach(
    identity: _Customer,
    wrong: Annotated[
        str, typer.Argument(metavar="WRONG", help="The identity that is somebody else's.")
    ],
    because: _Because,
    by: _By = "",
) -> None:
    """Say that one identity of a customer belongs to somebody else."""
    reference = reference_of(identity)
    request = DetachIdentityRequest(
        identity=identity_of(wrong), reason=because, decided_by=by or getuser()
    )

    async def decide(client: Client, before: Sequence[Profile]) -> DecisionResult:
        request.profile.CopyFrom(_seen([reference], before)[0])
        return (await client.profile.DetachIdentity(request)).result

    _decide(decide, [reference], "detached: it is somebody else's", _steps_of_parting)


@suggestions.callback(invoke_without_command=True)
def list_suggestions(
    context: typer.Context,
    of: Annotated[str, typer.Option(metavar="IDENTITY", help=f"Only of one. {FORMS}")] = "",
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="How many at most.")] = 20,
) -> None:
    """List profiles that may be one person, the strongest evidence first."""
    if context.invoked_subcommand is not None:
        return
    request = ListMergeSuggestionsRequest(page_size=limit)
    if of:
        request.profile.CopyFrom(reference_of(of))

    async def show() -> None:
        async with connected() as client:
            answer = await client.profile.ListMergeSuggestions(request)
            sides = [side for one in answer.suggestions for side in (one.left, one.right)]
            names = await names_of(client, [side.profile_id for side in sides])
        more, now = bool(answer.next_page_token), datetime.now().astimezone()
        console.print(merges.suggestions(answer.suggestions, names, now=now, more=more))

    run_command(show())


@suggestions.command("accept")
def accept(suggestion_id: _Suggestion, because: _Because, by: _By = "") -> None:
    """Say that a suggestion is right: they are one person."""
    request = AcceptMergeSuggestionRequest(
        suggestion_id=suggestion_id, reason=because, decided_by=by or getuser()
    )

    async def decide(client: Client, _: Sequence[Profile]) -> DecisionResult:
        return (await client.profile.AcceptMergeSuggestion(request)).result

    _decide_suggested(decide, suggestion_id, "accepted: they are one person", _steps_of_merge)


@suggestions.command("reject")
def reject(suggestion_id: _Suggestion, because: _Because, by: _By = "") -> None:
    """Say that a suggestion is wrong: they are two persons, whatever links them."""
    request = RejectMergeSuggestionRequest(
        suggestion_id=suggestion_id, reason=because, decided_by=by or getuser()
    )

    async def decide(client: Client, _: Sequence[Profile]) -> DecisionResult:
        return (await client.profile.RejectMergeSuggestion(request)).result

    _decide_suggested(decide, suggestion_id, "rejected: they are two persons", _steps_of_parting)


_Decide = Callable[[Client, Sequence[Profile]], Awaitable[DecisionResult]]
_Steps = Callable[[DecisionResult], list[tuple[str, str]]]


def _decide(
    decide: _Decide, references: Sequence[ProfileReference], done: str, steps: _Steps
) -> None:
    """Look at profiles, decide about them, and print what came of it."""

    async def run() -> None:
        async with connected() as client:
            before = [await profile_of(client, one) for one in references]
            await _print(client, Decided(done, before, await decide(client, before)), steps)

    run_command(run())


def _decide_suggested(decide: _Decide, suggestion_id: str, done: str, steps: _Steps) -> None:
    async def run() -> None:
        async with connected() as client:
            before = await _suggested(client, suggestion_id)
            await _print(client, Decided(done, before, await decide(client, before)), steps)

    run_command(run())


async def _suggested(client: Client, suggestion_id: str) -> list[Profile]:
    """Return the profiles that a suggestion's id names; none when deciding about it will tell."""
    ids = suggestion_id[:_ID_DIGITS], suggestion_id[_ID_DIGITS:]
    try:
        return [await profile_of(client, ProfileReference(profile_id=one)) for one in ids]
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
            raise
        return []


async def _print(client: Client, one: Decided, steps: _Steps) -> None:
    names = await names_of(client, [side.profile_id for side in one.result.profiles])
    told = Decided(one.done, one.before, one.result, steps(one.result))
    console.print(merges.decided(told, names))


def _seen(
    references: Sequence[ProfileReference], before: Sequence[Profile]
) -> list[DecidedProfile]:
    """Return what is decided about, at the versions that were looked at."""
    return [
        DecidedProfile(profile=reference, expected_version=profile.version, expects_version=True)
        for reference, profile in zip(references, before, strict=True)
    ]


def _steps_of_merge(result: DecisionResult) -> list[tuple[str, str]]:
    whom = result.profiles[0].profile_id if result.profiles else "IDENTITY"
    undo = f"{program()} unmerge {whom} --merge {result.event_id} --because WHY"
    return [
        (f"{program()} profile {whom} --why", "shows what makes them one"),
        (undo, "takes it back, and gives each side what it had"),
    ]


def _steps_of_parting(result: DecisionResult) -> list[tuple[str, str]]:
    ids = " ".join(side.profile_id for side in result.profiles[:2])
    return [(f"{program()} merge {ids} --because WHY", "makes them one again")]
