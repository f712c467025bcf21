"""The commands that ask the running services."""

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import typer
from nats import errors as nats_errors
from rich.console import Console

from libs.cli.calling import (
    addresses,
    connected,
    console,
    fail,
    fail_unreachable,
    run_command,
)
from libs.cli.looking import profile_of, timeline_entries
from libs.cli.references import FORMS, reference_of
from libs.cli.rendering import status, tail, views
from libs.cli.rendering.degraded import degraded
from libs.cli.rendering.timeline import timeline as timeline_of
from libs.cli.verify_command import projections_of
from libs.embedded.servers import NATS_URL
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import StoreError
from libs.eventstore.feed import follow_feed
from touchline.client import Client
from touchline.ingestion.v1.ingestion_service_pb2 import (
    GetStoreStatusRequest,
)
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import (
    GetPopulationRequest,
    GetViewRequest,
)
from touchline.profile.v1.views_pb2 import (
    VIEW_KIND_CUSTOMER,
    VIEW_KIND_MARKETING,
    VIEW_KIND_SALES,
    VIEW_KIND_SERVICE,
)
from touchline.store.v1.store_pb2 import EventBatch

_PAGE: Final = 500
_NATS_SECONDS: Final = 10.0
Customer = Annotated[str, typer.Argument(metavar="IDENTITY", help=FORMS)]


class ViewName(StrEnum):
    """The views, as people type them."""

    SALES = "sales"
    SERVICE = "service"
    MARKETING = "marketing"
    CUSTOMER = "customer"


_VIEWS: Final = {
    ViewName.SALES: VIEW_KIND_SALES,
    ViewName.SERVICE: VIEW_KIND_SERVICE,
    ViewName.MARKETING: VIEW_KIND_MARKETING,
    ViewName.CUSTOMER: VIEW_KIND_CUSTOMER,
}


def timeline(
    identity: Customer,
    limit: Annotated[int, typer.Option(min=1, help="How many entries at most.")] = 50,
    full: Annotated[bool, typer.Option("--full", help="Show texts whole.")] = False,
) -> None:
    """Show what happened between a customer and the company, newest first."""
    reference = reference_of(identity)

    async def show() -> None:
        async with connected() as client:
            await show_timeline(client, reference, console, limit=limit, full=full)

    run_command(show())


def view(
    name: Annotated[ViewName, typer.Argument(metavar="sales|service|marketing|customer")],
    identity: Customer,
    as_of: Annotated[
        datetime | None, typer.Option(help="The view as it was then (local time).")
    ] = None,
) -> None:
    """Show a customer as a department, or the customer, sees them."""
    reference = reference_of(identity)

    async def show() -> None:
        request = GetViewRequest(profile=reference, view=_VIEWS[name])
        if as_of is not None:
            request.as_of.FromDatetime(as_of.astimezone())
        async with connected() as client:
            response = await client.profile.GetView(request)
        shown = getattr(response, name.value)
        now = as_of.astimezone() if as_of else datetime.now().astimezone()
        console.print(views.one_view(shown, now=now, truncated=response.truncated))
        if response.degraded_projections:
            console.print(degraded(response.degraded_projections))

    run_command(show())


def show_status() -> None:
    """Show head, queue, rejected events, and how far each projection is."""

    async def show() -> None:
        async with connected() as client:
            store = (await client.ingestion.GetStoreStatus(GetStoreStatusRequest())).status
            projections = await projections_of(client)
            population = await client.profile.GetPopulation(GetPopulationRequest())
        now = datetime.now().astimezone()
        console.print(status.status_table(store, projections, now=now, population=population))

    run_command(show())


def follow(
    last: Annotated[int, typer.Option(min=0, help="Begin with so many that were before.")] = 10,
) -> None:
    """Show events as they are recorded, by their envelopes alone, until Ctrl-C."""
    run_command(_follow(addresses().nats_url, last))


async def _follow(url: str, last: int) -> None:
    if not url:
        fail_unreachable()
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(_NATS_SECONDS):
                nats = await stack.enter_async_context(connect_nats(url, "tail"))
                feed = await stack.enter_async_context(follow_feed(nats))
        except (TimeoutError, OSError, nats_errors.Error):
            fail(f"The feed can't be followed: NATS does not answer. Check {NATS_URL}.")
        store = StoreClient(nats)
        try:
            seen = await _catch_up(store, max(0, (await store.head()).position - last))
            while True:
                with suppress(TimeoutError):
                    message = await feed.next_msg(timeout=1)
                    batch = EventBatch.FromString(message.data)
                    if batch.first > seen + 1:  # what the feed missed, history has
                        seen = await _catch_up(store, seen)
                    seen = _print_new(batch, seen)
        except StoreError as error:
            fail(f"{str(error)[:1].upper()}{str(error)[1:]}.")


async def _catch_up(store: StoreClient, seen: int) -> int:
    """Print what history has after a position, and return the last position printed."""
    while (batch := (await store.history(seen)).batch).events:
        seen = _print_new(batch, seen)
    return seen


async def show_timeline(
    client: Client, reference: ProfileReference, to: Console, *, limit: int, full: bool = False
) -> None:
    """Print a customer's timeline."""
    profile = await profile_of(client, reference)
    entries = await timeline_entries(client, profile, limit)
    now = datetime.now().astimezone()
    to.print(timeline_of(profile.profile_id, entries, now=now, profile=profile, full=full))
    if profile.degraded_projections:  # the timeline is read from what the profile is
        to.print(degraded(profile.degraded_projections))


async def show_four_views(client: Client, reference: ProfileReference, to: Console) -> None:
    """Print the four views of a customer side by side."""
    sales, service, marketing, customer = [
        await client.profile.GetView(GetViewRequest(profile=reference, view=kind))
        for kind in _VIEWS.values()
    ]
    now = datetime.now().astimezone()
    four = sales.sales, service.service, marketing.marketing, customer.customer
    to.print(views.four_views(*four, now=now, width=to.width))
    if sales.degraded_projections:  # all four are read from the same projections
        to.print(degraded(sales.degraded_projections))


def _print_new(batch: EventBatch, seen: int) -> int:
    for position, packed in enumerate(batch.events, batch.first):
        if position > seen:
            console.print(tail.tail_line(position, packed))
    return max(seen, batch.last)
