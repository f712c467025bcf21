"""The feed: how far it is, what it takes, and what is wrong with it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rich import filesize
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from libs.eventstore.feed import KEPT_SECONDS, STREAM
from libs.eventstore.feed.summary import FeedSummary
from touchline.ingestion.v1 import ingestion_pb2 as ingestion
from touchline.ingestion.v1 import ingestion_service_pb2 as calls

_DAY_SECONDS: Final = 24 * 3600


def feed_status(
    store: ingestion.StoreStatus, feed: FeedSummary | None, *, now: datetime
) -> RenderableType:
    """Lays out the feed beside the store that it should continue.

    Args:
        store: The store's status.
        feed: What is on the feed; None: there is no stream.
        now: The present, in the reader's time zone.
    """
    return Group(Text(), *_lines(store, feed, now))


def problem(text: str) -> Text:
    """Says in red why nothing is published."""
    return Text(f"{palette.BROKEN} the feed stands still: {words.plain(text)}", style=palette.BAD)


def restarted(done: calls.RestartFeedResponse) -> Text:
    """Says what became of the wish to begin the feed anew."""
    if not done.restarted:
        return Text.assemble(
            (f"{palette.KEPT} ", palette.GOOD),
            f"the feed continues this store up to position {done.position:,}; it was left as it is",
        )
    return Text.assemble(
        (f"{palette.KEPT} ", palette.GOOD),
        f"the feed was removed and begins anew after position {done.position:,}",
        ("\nprojections read what they miss from history, by themselves", palette.QUIET),
    )


def _lines(
    store: ingestion.StoreStatus, feed: FeedSummary | None, now: datetime
) -> Iterator[RenderableType]:
    yield Text.assemble(("Feed ", palette.STRONG), (STREAM, palette.QUIET))
    if feed is None:
        yield Text("there is no stream; the relay makes it", style=palette.ATTENTION)
    else:
        grid = Table.grid(padding=(0, 3, 0, 0))
        cells = [
            _place("first", feed.first, feed),
            _place("last", feed.last, feed),
            _told("head", f"{store.head_position:,}"),
        ]
        if feed.last:
            behind = max(0, store.head_position - feed.last)
            style = palette.ATTENTION if behind else palette.STRONG
            cells.append(_told("behind", f"{behind:,}", style))
        grid.add_row(*cells)
        yield grid
        parts = [
            f"{feed.batches:,} {'batch' if feed.batches == 1 else 'batches'}",
            filesize.decimal(feed.size),
            f"kept for {KEPT_SECONDS // _DAY_SECONDS} days",
            f"on {words.count(feed.servers, 'server')}",
            f"leader no. {feed.epoch:,}",
        ]
        yield Text(" · ".join(parts), style=palette.QUIET)
        if feed.made_at is not None:
            made = words.when(feed.made_at.astimezone(now.tzinfo), now)
            yield Text(f"made {made}", style=palette.QUIET)
    if store.feed_problem:
        yield problem(store.feed_problem)
    elif feed is not None:
        yield Text(f"{palette.KEPT} nothing is wrong with it", style=palette.GOOD)


def _place(name: str, position: int, feed: FeedSummary) -> Text:
    if position:
        return _told(name, f"{position:,}")
    return _told(name, "not readable", palette.BAD) if feed.batches else _told(name, "none")


def _told(name: str, value: str, style: str = palette.STRONG) -> Text:
    return Text.assemble((f"{name} ", palette.QUIET), (value, style))
