"""`touchline parked`: what projections could not fold, and folding it again."""

import asyncio
from datetime import datetime
from typing import Annotated, Final

import grpc
import typer

from libs.cli.calling import FAILED, connected, console, fail, run_command
from libs.cli.rendering import parked as rendering
from touchline.client import Client
from touchline.projection.v1.projection_pb2 import ParkedKey
from touchline.projection.v1.projection_service_pb2 import (
    ListParkedKeysRequest,
    ListParkedKeysResponse,
    RefoldParkedKeysRequest,
)

_PAGE: Final = 500
# Thousands of events may wait for each.
_REFOLD_SECONDS: Final = 60.0
_KEY_DIGITS: Final = 32

parked = typer.Typer(
    help="List what projections could not fold and have set aside; show why; fold it again.",
    invoke_without_command=True,
)
Service = Annotated[str, typer.Argument(help="Such as `profile`.")]
Projection = Annotated[str, typer.Argument(help="Such as `timeline`.")]


@parked.callback()
def list_parked(context: typer.Context) -> None:
    """List what projections could not fold and have set aside; show why; fold it again."""
    if context.invoked_subcommand is not None:
        return

    async def show() -> None:
        async with connected() as client:
            names = list(client.projections)
            pages = await asyncio.gather(*(_of_service(client, name) for name in names))
        told = list(zip(names, pages, strict=True))
        found = [(name, one) for name, page in told if page for one in page.parked_keys]
        table = rendering.parked_table(
            found,
            now=datetime.now().astimezone(),
            silent=[name for name, page in told if page is None],
            more=any(page.next_page_token for _, page in told if page),
        )
        console.print(table)

    run_command(show())


@parked.command("show")
def show_parked(
    service: Service,
    projection: Projection,
    key: Annotated[str, typer.Argument(help="The customer's key, or how it begins.")],
) -> None:
    """Show everything that is known of why a customer is parked."""

    async def show() -> None:
        async with connected() as client:
            one = await _named(client, _checked(client, service), projection, key)
        console.print(rendering.one_parked(service, one, now=datetime.now().astimezone()))

    run_command(show())


@parked.command("refold")
def refold_parked(
    service: Service,
    projection: Projection,
    keys: Annotated[
        list[str] | None,
        typer.Argument(help="Customers' keys, or how they begin. Default: all of them."),
    ] = None,
) -> None:
    """Fold what is parked again, after the fold was corrected; exits with 1 if something fails."""

    async def refold() -> None:
        async with connected() as client:
            calls = client.projections[_checked(client, service)]
            found = [await _named(client, service, projection, key) for key in keys or ()]
            tenants = sorted({one.tenant for one in found}) or [""]
            failed = False
            for tenant in tenants:
                request = RefoldParkedKeysRequest(
                    projection=projection,
                    tenant=tenant,
                    owner_keys=[one.owner_key for one in found if one.tenant == tenant],
                )
                try:
                    response = await calls.RefoldParkedKeys(request, timeout=_REFOLD_SECONDS)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        raise
                    fail(
                        f"It is asked for, and not done after {_REFOLD_SECONDS:.0f} s: the "
                        "projection folds it as soon as it can. `touchline parked` shows what is "
                        "still parked, and `touchline status` whether the projection runs."
                    )
                console.print(rendering.refolded(response, service))
                failed = failed or bool(response.still_parked)
        if failed:
            raise typer.Exit(FAILED)

    run_command(refold())


async def _of_service(client: Client, service: str) -> ListParkedKeysResponse | None:
    """Return what a service has parked; None when it does not answer."""
    request = ListParkedKeysRequest(page_size=_PAGE)
    try:
        page: ListParkedKeysResponse = await client.projections[service].ListParkedKeys(request)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return None
    return page


async def _named(client: Client, service: str, projection: str, key: str) -> ParkedKey:
    """Return the one parked key of a projection that begins so."""
    begins = key.lower()
    request = ListParkedKeysRequest(page_size=_PAGE)
    found = list[ParkedKey]()
    while True:
        page = await client.projections[service].ListParkedKeys(request)
        found += [
            one
            for one in page.parked_keys
            if one.projection == projection and one.owner_key.hex().startswith(begins)
        ]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    if not found:
        fail(f"{service}/{projection} has parked no customer whose key begins with {key}.")
    if len(found) > 1:
        fail(f"{len(found)} keys begin with {key}; give more of its {_KEY_DIGITS} digits.")
    return found[0]


def _checked(client: Client, service: str) -> str:
    if service not in client.projections:
        fail(f"No service {service} has projections; these have: {', '.join(client.projections)}.")
    return service
