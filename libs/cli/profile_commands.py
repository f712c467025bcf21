"""`touchline profile` and `touchline find`: who a customer is, and who has something."""

from datetime import datetime
from typing import Annotated, Final

import typer

from libs.cli.calling import connected, console, run_command
from libs.cli.looking import names_of
from libs.cli.references import FORMS, identity_of, reference_of
from libs.cli.rendering import links as link_rendering
from libs.cli.rendering import people
from libs.cli.rendering.degraded import degraded
from touchline.client import Client
from touchline.profile.v1.erasure_pb2 import AttributeValue
from touchline.profile.v1.identities_pb2 import IdentityLink, IdentityVerdict
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import (
    ExplainIdentitiesRequest,
    FindProfilesRequest,
    FoundProfile,
    GetProfileRequest,
    ListAttributeValuesRequest,
    TwoIdentities,
)

_PAGE: Final = 500
_Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]


def profile(
    identity: Annotated[str, typer.Argument(metavar="IDENTITY", help=FORMS)],
    as_of: Annotated[datetime | None, typer.Option(help="As it was then (local time).")] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Why the identities are one: each link and its rule.")
    ] = False,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Why these two identities are one, or are not."),
    ] = None,
    history: Annotated[
        str, typer.Option(metavar="NAME", help="All that was ever observed of an attribute.")
    ] = "",
    limit: _Limit = 50,
) -> None:
    """Show who a customer is: identities, what is known and how, and why it is one person."""
    if history and (as_of or why or between):
        raise typer.BadParameter("--history tells all there was; it goes with none of the others")
    reference, moment = reference_of(identity), as_of and as_of.astimezone()
    explain = ExplainIdentitiesRequest(profile=reference)
    if between:
        left, right = map(identity_of, between)
        explain.between.CopyFrom(TwoIdentities(left=left, right=right))

    async def show() -> None:
        async with connected() as client:
            if history:
                await _show_history(client, reference, history, limit)
                return
            if not between:
                await _show_person(client, reference, moment)
            if why or between:
                await _show_links(client, explain, moment, limit)

    run_command(show())


def find(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The attribute, such as city.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value, now or formerly.")],
    limit: _Limit = 50,
) -> None:
    """Find customers by what is, or was, known of them."""
    request = FindProfilesRequest(name=name, value=value)

    async def show() -> None:
        found = list[FoundProfile]()
        async with connected() as client:
            more = True
            while more and len(found) < limit:
                request.page_size = min(limit - len(found), _PAGE)
                page = await client.profile.FindProfiles(request)
                found += page.profiles
                request.page_token, more = page.next_page_token, bool(page.next_page_token)
            names = await names_of(client, [one.profile_id for one in found])
        console.print(people.found(found, names, now=_now(), more=more))

    run_command(show())


async def _show_person(client: Client, reference: ProfileReference, as_of: datetime | None) -> None:
    request = GetProfileRequest(profile=reference)
    if as_of is not None:
        request.as_of.FromDatetime(as_of)
    answer = await client.profile.GetProfile(request)
    alias = reference.profile_id if answer.asked_by_alias else ""
    console.print(people.person(answer.profile, now=_now(), alias=alias, as_of=as_of))
    if answer.profile.degraded_projections:
        console.print(degraded(answer.profile.degraded_projections))


async def _show_links(
    client: Client, request: ExplainIdentitiesRequest, as_of: datetime | None, limit: int
) -> None:
    if as_of is not None:
        request.as_of.FromDatetime(as_of)
    listed, verdicts, more = list[IdentityLink](), list[IdentityVerdict](), True
    while more and len(listed) < limit:
        request.page_size = min(limit - len(listed), _PAGE)
        page = await client.profile.ExplainIdentities(request)
        listed += page.links
        verdicts += page.verdicts
        request.page_token, more = page.next_page_token, bool(page.next_page_token)
    console.print(link_rendering.links(listed, verdicts, now=_now(), more=more))


async def _show_history(client: Client, reference: ProfileReference, name: str, limit: int) -> None:
    request = ListAttributeValuesRequest(profile=reference, name=name)
    values, more = list[AttributeValue](), True
    while more and len(values) < limit:
        request.page_size = min(limit - len(values), _PAGE)
        page = await client.profile.ListAttributeValues(request)
        values += page.values
        request.page_token, more = page.next_page_token, bool(page.next_page_token)
    console.print(people.history(name, values, now=_now(), more=more))


def _now() -> datetime:
    return datetime.now().astimezone()
