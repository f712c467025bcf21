"""How a service's process runs and stops."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

_GARBAGE_THRESHOLDS: Final = (100_000, 50, 100)


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a service on uvloop until it ends.

    The first SIGTERM or SIGINT sets the event, upon which `main` should drain and return; a second
    one cancels it.

    Args:
        main: The service, given the event that asks it to stop.
    """
    # A batch makes thousands of short-lived objects: collecting as often as Python does by default
    # takes a fifth of ingestion's time, most of it walking caches that hold no cycles.
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_stopped(main))


async def _until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    task = asyncio.ensure_future(main(stop))

    def asked() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    try:
        await task
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
