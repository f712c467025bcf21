"""`touchline feed`: how the feed stands, and to begin it anew when it is not this store's."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

import typer
from nats import errors as nats_errors

from libs.cli.calling import FAILED, addresses, connected, console, fail, run_command
from libs.cli.rendering import feed as rendering
from libs.embedded.servers import NATS_URL
from libs.eventstore.connection import connect_nats
from libs.eventstore.feed.summary import FeedSummary, summary
from touchline.ingestion.v1.ingestion_service_pb2 import (
    GetStoreStatusRequest,
    RestartFeedRequest,
)

_NATS_SECONDS: Final = 10.0

feed: Final = typer.Typer(
    help="See how the feed stands, and begin it anew when it is not this store's.",
    no_args_is_help=True,
)


@feed.command("status")
def show_feed() -> None:
    """Show how far the feed is, what it takes, and what is wrong with it."""

    async def show() -> None:
        async with connected() as client:
            store = (await client.ingestion.GetStoreStatus(GetStoreStatusRequest())).status
        found = await _summary(addresses().nats_url)
        console.print(rendering.feed_status(store, found, now=datetime.now().astimezone()))
        if store.feed_problem:
            raise typer.Exit(FAILED)

    run_command(show())


@feed.command("restart")
def restart_feed() -> None:
    """Remove a feed that does not continue this store, and begin it anew at the head.

    Loses nothing: events are in the store, and projections read there what the feed lacks. A feed
    that does continue the store is left as it is.
    """

    async def restart() -> None:
        async with connected() as client:
            done = await client.ingestion.RestartFeed(RestartFeedRequest())
        console.print(rendering.restarted(done))

    run_command(restart())


async def _summary(url: str) -> FeedSummary | None:
    if not url:
        fail(f"Where NATS answers is not known. Set {NATS_URL}.")
    try:
        async with asyncio.timeout(_NATS_SECONDS), AsyncExitStack() as stack:
            nats = await stack.enter_async_context(connect_nats(url, "feed"))
            return await summary(nats.jetstream())
    except (TimeoutError, OSError, nats_errors.Error):
        fail(f"The feed can't be looked at: NATS does not answer. Check {NATS_URL}.")
