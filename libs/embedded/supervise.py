"""Keeps a process running: what crashes is started again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from libs.embedded.errors import StartFailed
from libs.embedded.process import Process

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0

Start = Callable[[], Coroutine[Any, Any, Process]]
"""Starts a process and returns once it answers."""


@dataclass(slots=True)
class Supervised:
    """A process under supervision.

    Attributes:
        process: The one that runs now, or ran last.
        restarts: How often it was started again.
    """

    process: Process
    restarts: int = 0


@contextlib.asynccontextmanager
async def supervise(process: Process, start_again: Start) -> AsyncIterator[Supervised]:
    """Starts a process again whenever it ends, and stops it on leaving.

    The pause before a new start is 0.2 s and doubles up to 5 s with each start that fails or lasts
    less than 5 s.

    Args:
        process: The process, started. Its `on_line` gets a line for each crash, failed start and
            restart.
        start_again: Starts it anew and returns once it answers; its StartFailed is tried again.
    """
    supervised = Supervised(process)
    watching = asyncio.create_task(_watch(supervised, start_again))
    try:
        yield supervised
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await supervised.process.stop()


@contextlib.asynccontextmanager
async def supervise_all(*waves: Sequence[Start]) -> AsyncIterator[list[Supervised]]:
    """Starts processes all at once, and starts again whichever ends, until the context is left.

    Args:
        waves: What starts each. The last wave is stopped first, each wave at once.

    Raises:
        StartFailed: One does not start; none is left running.
    """
    starting = [asyncio.create_task(start()) for wave in waves for start in wave]
    try:
        processes = iter(await asyncio.gather(*starting))
    except BaseException:
        for one in starting:
            one.cancel()
        ended = await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(*(one.stop() for one in ended if isinstance(one, Process)))
        raise
    async with contextlib.AsyncExitStack() as stack:
        supervised = []
        for wave in waves:
            together = [(contextlib.AsyncExitStack(), start) for start in wave]
            stack.push_async_callback(_close_all, [own for own, _ in together])
            for own, start in together:
                watched = supervise(next(processes), start)
                supervised.append(await own.enter_async_context(watched))
        yield supervised


async def _close_all(stacks: Sequence[contextlib.AsyncExitStack]) -> None:
    await asyncio.gather(*(one.aclose() for one in stacks))


async def _watch(supervised: Supervised, start_again: Start) -> None:
    clock = asyncio.get_running_loop().time
    pause = FIRST_PAUSE
    while True:
        started = clock()
        await supervised.process.wait()
        if clock() - started > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        reason = str(supervised.process.ended)
        while True:
            supervised.process.tell(f"{reason}; it is started again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                supervised.process = await start_again()
            except StartFailed as failure:
                # Its last lines were handed on when it wrote them.
                reason = f"{failure.step} failed: {failure.reason}"
            else:
                supervised.restarts += 1
                supervised.process.tell("it runs again")
                break
