"""`touchline erase`: erases a customer, looks for what is left, and writes a certificate."""

import os
import sys
from datetime import datetime
from getpass import getuser
from pathlib import Path
from typing import Annotated, Final
from uuid import uuid4

import grpc
import typer
from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli import erasing
from libs.cli.calling import FAILED, connected, console, errors, fail, program, run_command
from libs.cli.erasing import Certificate, CertificateError
from libs.cli.looking import profile_of
from libs.cli.references import FORMS, reference_of
from libs.cli.rendering import erasure as rendering
from libs.cli.rendering import words
from libs.cli.rendering.verify import progress
from libs.rpc.tenants import DEFAULT_TENANT
from touchline.client import Client
from touchline.profile.v1.profile_pb2 import Profile, ProfileReference
from touchline.profile.v1.profile_service_pb2 import (
    EraseProfileRequest,
    ListTimelineEventsRequest,
)

_PAGE: Final = 500
_MOST_COUNTED: Final = 20 * _PAGE
_UNCERTAIN: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_ERASE_SECONDS: Final = 300.0
_File = Path | None


def erase(
    identity: Annotated[
        str, typer.Argument(metavar="[IDENTITY]", help=f"Whom; not with a certificate. {FORMS}")
    ] = "",
    reason: Annotated[
        str,
        typer.Option(metavar="REFERENCE", help="Why, such as a request's number; it is kept."),
    ] = "",
    by: Annotated[
        str, typer.Option(metavar="WHO", help="Who asks. Left out: the user of this machine.")
    ] = "",
    since: Annotated[
        datetime | None,
        typer.Option("--from", help="Only what occurred then or later (local time)."),
    ] = None,
    before: Annotated[
        datetime | None, typer.Option(help="Only what occurred before then (local time).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    certificate: Annotated[
        _File,
        typer.Option(
            metavar="FILE", help="Where the certificate goes. Left out: touchline-erasure-ID.json."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--id", metavar="UUID", help="The erasure's id; left out: a new one.")
    ] = "",
    again: Annotated[
        _File,
        typer.Option(metavar="FILE", help="Erase again by a certificate, after a restored backup."),
    ] = None,
    check: Annotated[
        _File, typer.Option(metavar="FILE", help="Only look again for what is left.")
    ] = None,
) -> None:
    """Erase a customer, or what happened in a time range, for ever; and prove it.

    The keys are deleted: nothing that was sealed under them can be opened again, in any copy of
    the line. Every service then looks for what is left, and a certificate tells what it found.
    """
    if sum((bool(identity), again is not None, check is not None)) != 1:
        raise typer.BadParameter("Give one of IDENTITY, --again FILE and --check FILE.")
    if check is not None:
        run_command(_check_again(_read(check), check))
        return
    request = EraseProfileRequest(requested_by=by or getuser(), reason=reason, erasure_id=name)
    if again is not None:
        old = _read(again)
        run_command(_erase_again(request, old, certificate or again))
        return
    if not reason:
        raise typer.BadParameter("Say why with --reason, such as a request's number.")
    request.profile.CopyFrom(reference_of(identity))
    request.erasure_id = name or str(uuid4())
    _set_range(request, since, before)
    run_command(_erase(request, yes=yes, path=certificate))


async def _erase(request: EraseProfileRequest, *, yes: bool, path: _File) -> None:
    async with connected() as client:
        if not yes:
            profile = await profile_of(client, request.profile)
            within = await _count_within(client, profile, request)
            occurred = request.occurred if request.HasField("occurred") else None
            console.print(rendering.about_to_erase(profile, occurred, within, now=_now()))
            _agree()
        await _erase_and_check(client, request, path)


async def _erase_again(request: EraseProfileRequest, old: Certificate, path: Path) -> None:
    """Erase what a restored backup brought back: the same identities, the same range."""
    erased = old.erased
    request.identity_keys.extend(erased.identity_keys)
    request.reason = request.reason or erased.reason
    request.erasure_id = request.erasure_id or erased.erasure_id
    if erased.HasField("occurred"):
        request.occurred.CopyFrom(erased.occurred)
    async with connected(tenant=old.tenant) as client:
        await _erase_and_check(client, request, path, old)


async def _check_again(old: Certificate, path: Path) -> None:
    async with connected(tenant=old.tenant) as client:
        await _check(client, old, path)


async def _erase_and_check(
    client: Client, request: EraseProfileRequest, path: _File, old: Certificate | None = None
) -> None:
    tenant = old.tenant if old else os.environ.get("TOUCHLINE_TENANT") or DEFAULT_TENANT
    try:
        answer = await client.profile.EraseProfile(request, timeout=_ERASE_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() in _UNCERTAIN:
            told = f"Whether it was erased is not known. Ask again with --id {request.erasure_id}."
            errors.print(told, soft_wrap=True)
        raise
    erased = answer.erased
    # A restored line may not know the identity by which the service looks for the profile.
    erased.profile_id = erased.profile_id or (old.erased.profile_id if old else "")
    path = path or Path(f"touchline-erasure-{erased.erasure_id}.json")
    one = Certificate(erased, tenant=tenant)
    _write(one, path)  # first: what is done must be on paper, whatever happens now
    await _check(client, one, path)


async def _check(client: Client, one: Certificate, path: Path) -> None:
    """Ask every service, print and write the certificate; fail when something is left."""
    with progress(console, "services", transient=True) as bar:
        task = bar.add_task("looking for what is left", total=None)

        def tell(_: str, done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        one = await erasing.check(client, one, tell)
    _write(one, path)
    again = f"{program()} erase --again {path}"
    console.print(rendering.certificate(one, now=_now(), again=again))
    console.print(f"\n certificate: {path}", soft_wrap=True)
    if not one.clean:
        raise typer.Exit(FAILED)


async def _count_within(client: Client, profile: Profile, request: EraseProfileRequest) -> str:
    """Return how many events are in the range; empty: there is none, all are meant."""
    if not request.HasField("occurred"):
        return ""
    reference = ProfileReference(profile_id=profile.profile_id)
    page = ListTimelineEventsRequest(profile=reference, page_size=_PAGE)
    for bound in ("from", "before"):
        if request.occurred.HasField(bound):
            getattr(page, f"occurred_{bound}").CopyFrom(getattr(request.occurred, bound))
    count = 0
    while count < _MOST_COUNTED:
        answer = await client.profile.ListTimelineEvents(page)
        count += len(answer.entries)
        if not answer.next_page_token:
            return words.count(count, "event")
        page.page_token = answer.next_page_token
    return f"more than {count:,} events"


def _set_range(
    request: EraseProfileRequest, since: datetime | None, before: datetime | None
) -> None:
    if since is not None and before is not None and since >= before:
        raise typer.BadParameter("--from must be before --before.")
    if since is None and before is None:
        return
    if since is not None:
        first: Timestamp = getattr(request.occurred, "from")
        first.FromDatetime(since.astimezone())
    if before is not None:
        request.occurred.before.FromDatetime(before.astimezone())


def _agree() -> None:
    if not sys.stdin.isatty():
        fail("Nobody is there to ask, and it can't be undone. Say --yes. Nothing was erased.")
    if not typer.confirm("Erase it for ever?"):
        fail("Nothing was erased.")


def _read(path: Path) -> Certificate:
    try:
        return erasing.read(path)
    except CertificateError as error:
        raise typer.BadParameter(str(error)) from None


def _write(one: Certificate, path: Path) -> None:
    try:
        erasing.write(one, path)
    except OSError as error:
        fail(
            f"It is erased at position {one.erased.position:,}, but the certificate can't be "
            f"written to {path}: {error.strerror}. Ask again with --id {one.erased.erasure_id}."
        )


def _now() -> datetime:
    return datetime.now().astimezone()
