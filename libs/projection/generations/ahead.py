"""Reads history ahead of whoever folds it: a page comes, another is decoded, a third is written.

Three things take time, in three processes: the store's service packs a page, this one decodes it
and makes rows of it, and PostgreSQL writes them. Each has its next piece of work before it is done.
"""

import asyncio
from asyncio import Queue
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from libs.eventstore.chain import Head
from libs.eventstore.client import StoreClient
from libs.projection.partitions import Partitions
from libs.projection.reading import Stretch
from touchline.store.v1.store_pb2 import GetHistoryResponse

# What waits to be decoded and to be folded: enough that nobody waits, and no more memory than that.
_PAGES: Final = 4
_ASKED: Final = 2
_GROWTH: Final = 64
_STRETCHES: Final = 1
# How many times as far from the head a range may be that was begun.
_SLACK: Final = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done at once; none of it changes a row.

    Attributes:
        events: How many events of the range a transaction folds, at least, if there are as many.
        pages: How many pages of history, of half a MiB each, it is made of at most.
        near: So many events before the head, a range is left to those who follow the feed.
    """

    events: int = 20_000
    pages: int = 64
    near: int = 5_000

    def is_far(self, position: int, head: int) -> bool:
        """Tell whether a range is to be filled, or filled on, before its generation follows.

        One that was filled up to near the head is not far once the head has moved a little: while
        what comes next is filled it moves again, and filling would never end.
        """
        left = self.near if position == 0 else _SLACK * self.near
        return head - position > left


@asynccontextmanager
async def read_ahead(
    store: StoreClient, start: Head, partitions: Partitions, sizes: Sizes
) -> AsyncIterator[AsyncIterator[Stretch]]:
    """Give what follows a place, up to near the head, while what comes next is being read.

    Whatever goes wrong is raised once all that came before it was taken.

    Args:
        store: Answers.
        start: After where.
        partitions: Whose events are folded.
        sizes: How much each stretch has.

    Raises:
        StoreError: it can't be read now.
        Discontinuity: history does not continue the place.
    """
    pages: Queue[GetHistoryResponse | Exception | None] = Queue(_PAGES)
    stretches: Queue[Stretch | Exception | None] = Queue(_STRETCHES)
    tasks = [
        asyncio.create_task(_read(store, start.position, partitions, sizes.near, pages)),
        asyncio.create_task(
            _decode(Stretch(start, partitions=partitions), sizes, pages, stretches)
        ),
    ]
    try:
        yield _taken(stretches)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _taken(stretches: "Queue[Stretch | Exception | None]") -> AsyncIterator[Stretch]:
    while (stretch := await stretches.get()) is not None:
        if isinstance(stretch, Exception):
            raise stretch
        yield stretch


async def _read(
    store: StoreClient,
    after: int,
    partitions: Partitions,
    near: int,
    pages: "Queue[GetHistoryResponse | Exception | None]",
) -> None:
    asked: deque[tuple[asyncio.Task[GetHistoryResponse], int]] = deque()
    wanted = None if partitions.are_all else partitions

    def ask(after: int, up_to: int) -> None:
        asked.append((asyncio.create_task(store.history(after, wanted, up_to)), up_to))

    try:
        page = await store.history(after, wanted)
        await pages.put(page)
        end, stride = page.batch.last, len(page.batch.events)
        while stride:
            # The store packs one while another is on its way.
            while len(asked) < _ASKED and page.head_position - end > near:
                ask(end, end + stride)
                end += stride
            if not asked:
                break
            task, up_to = asked.popleft()
            page = await task
            await pages.put(page)
            stride += stride // _GROWTH
            while (last := page.batch.last) < up_to and page.batch.events:
                # It was too much for a page.
                stride = len(page.batch.events) - len(page.batch.events) // 8 or 1
                page = await store.history(last, wanted, up_to)
                await pages.put(page)
        await pages.put(None)
    except Exception as error:  # whoever folds raises it
        await pages.put(error)
    finally:
        for task, _ in asked:
            task.cancel()


async def _decode(
    stretch: Stretch,
    sizes: Sizes,
    pages: "Queue[GetHistoryResponse | Exception | None]",
    stretches: "Queue[Stretch | Exception | None]",
) -> None:
    count = 0
    end: Exception | None
    try:
        while isinstance(page := await pages.get(), GetHistoryResponse):
            stretch.add_page(page)
            count += 1
            if len(stretch.events) >= sizes.events or count >= sizes.pages:
                await stretches.put(stretch)
                stretch, count = Stretch(stretch.end, partitions=stretch.partitions), 0
            # What is being written goes on in between.
            await asyncio.sleep(0)
        end = page
    except Exception as error:  # whoever folds raises it
        end = error
    if stretch.hashes:
        await stretches.put(stretch)
    await stretches.put(end)
