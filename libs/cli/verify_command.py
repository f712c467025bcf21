"""`touchline verify`: reads everything again, and says whether it is what it should be."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Final

import grpc
import typer
from rich.console import Console
from rich.progress import Progress

from libs.cli.calling import FAILED, connected, console, run_command
from libs.cli.rendering import verify as rendering
from libs.cli.rendering.verify import Check, Verification
from touchline.client import Client
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_service_pb2 import (
    VerifyFeedRequest,
    VerifyFeedResponse,
    VerifyStoreRequest,
    VerifyStoreResponse,
)
from touchline.projection.v1.projection_pb2 import Projection
from touchline.projection.v1.projection_service_pb2 import (
    ListProjectionsRequest,
    VerifyProjectionRequest,
    VerifyProjectionResponse,
)

_LIST_SECONDS: Final = 10.0
_SILENT: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Projections = dict[str, Sequence[Projection] | None]
Tell = Callable[[int, int], None]
"""Tells how much of how much is done."""


def verify(
    quick: Annotated[
        bool, typer.Option("--quick", help="Don't fold the projections anew to compare them.")
    ] = False,
) -> None:
    """Prove that store and feed are whole, and projections what the events fold to."""

    async def prove() -> None:
        async with connected() as client:
            if not await show_verification(client, console, quick=quick):
                raise typer.Exit(FAILED)

    run_command(prove())


async def show_verification(client: Client, to: Console, *, quick: bool = False) -> bool:
    """Verify store, feed and projections, print the result, and return whether all holds.

    Args:
        client: Of the running services.
        to: Where to print.
        quick: Whether to leave out folding the projections anew.
    """
    listed = await projections_of(client)
    with rendering.progress(to, transient=True) as bars:
        store = await _verified_store(client, listed, _bar(bars, "store"))
        feed = await _verified_feed(client, _bar(bars, "feed"))
        services = await asyncio.gather(
            *(
                _verified_service(client, service, its, store, None if quick else bars)
                for service, its in listed.items()
            )
        )
    found = [*rendering.store_checks(store), feed]
    for its in services:
        found += its
    result = Verification(found, store.sealed_events)
    to.print(rendering.verify_result(result))
    return result.passed


async def projections_of(client: Client) -> Projections:
    """Return the projections of each service; None for one that does not answer."""
    names = list(client.projections)
    return dict(
        zip(names, await asyncio.gather(*map(partial(_those_of, client), names)), strict=True)
    )


async def _those_of(client: Client, service: str) -> Sequence[Projection] | None:
    try:
        listed = await client.projections[service].ListProjections(
            ListProjectionsRequest(), timeout=_LIST_SECONDS
        )
    except grpc.aio.AioRpcError as error:
        if error.code() not in _SILENT:
            raise
        return None
    return listed.projections


async def _verified_store(client: Client, listed: Projections, tell: Tell) -> VerifyStoreResponse:
    request = VerifyStoreRequest(
        chain_positions=[one.position for its in listed.values() for one in its or ()]
    )
    last = VerifyStoreResponse()
    async for last in client.ingestion.VerifyStore(request):
        tell(last.checked_events, last.head_position)
    return last


async def _verified_feed(client: Client, tell: Tell) -> Check:
    last = VerifyFeedResponse()
    try:
        async for last in client.ingestion.VerifyFeed(VerifyFeedRequest()):
            tell(last.checked_batches, last.batches)
    except grpc.aio.AioRpcError as error:
        return Check("feed as the store", holds=False, remark=CallFailed.of(error).message)
    return rendering.feed_check(last)


async def _verified_service(
    client: Client,
    service: str,
    its: Sequence[Projection] | None,
    store: VerifyStoreResponse,
    bars: Progress | None,
) -> list[Check]:
    """Verify a service's projections one after the other.

    Args:
        client: Of the running services.
        service: Its name.
        its: Its projections; None: it does not answer.
        store: Tells the chain at the projections' positions.
        bars: Where to show how far a copy is; None: none is made.
    """
    if its is None:
        return [rendering.silent_check(service)]
    checks = []
    for one in its:
        check = rendering.standing_check(service, one, store.chains)
        if check.holds and one.position and not one.is_reactor and bars is not None:
            tell = _bar(bars, f"{service}/{one.name}")
            check = await _verified_projection(client, service, one.name, tell)
        checks.append(check)
    return checks


async def _verified_projection(client: Client, service: str, name: str, tell: Tell) -> Check:
    last = VerifyProjectionResponse()
    request = VerifyProjectionRequest(projection=name)
    try:
        async for last in client.projections[service].VerifyProjection(request):
            tell(last.folded_events, last.events)
    except grpc.aio.AioRpcError as error:
        claim, failed = f"{service}/{name}", CallFailed.of(error)
        if failed.reason == "PROJECTION_NOT_FOUND":  # a version of a model, for example
            return Check(claim, holds=True, remark="it was retired meanwhile")
        return Check(claim, holds=False, remark=failed.message)
    return rendering.copy_check(service, name, last)


def _bar(bars: Progress, name: str) -> Tell:
    """Add a bar, and return what moves it; it goes when all is done."""
    task = bars.add_task(name, total=None)

    def tell(done: int, of: int) -> None:
        bars.update(task, completed=done, total=of, visible=done < of)

    return tell
