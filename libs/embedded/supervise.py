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

    One that runs is watched while others still start, which may wait for it.

    Args:
        waves: What starts each. The last wave is stopped first, each wave at once.

    Raises:
        StartFailed: One does not start; none is left running.
    """
    async with contextlib.AsyncExitStack() as stack:
        beginning = []
        for wave in waves:
            together = [(contextlib.AsyncExitStack(), start) for start in wave]
            stack.push_async_callback(_close_all, [own for own, _ in together])
            beginning += [asyncio.create_task(_begin(own, start)) for own, start in together]
        try:
            supervised = await asyncio.gather(*beginning)
        except BaseException:
            for one in beginning:
                one.cancel()
            await asyncio.gather(*beginning, return_exceptions=True)
            raise
        yield supervised


async def _begin(stack: contextlib.AsyncExitStack, start: Start) -> Supervised:
    return await stack.enter_async_context(supervise(await start(), start))


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
