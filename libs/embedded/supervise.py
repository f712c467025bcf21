"""Keeps a process running: what crashes is started again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from libs.embedded.errors import StartFailed
from libs.embedded.process import Process

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0


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
async def supervise(
    process: Process, start_again: Callable[[], Awaitable[Process]]
) -> AsyncIterator[Supervised]:
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


async def _watch(supervised: Supervised, start_again: Callable[[], Awaitable[Process]]) -> None:
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
