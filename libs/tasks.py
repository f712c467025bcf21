"""Background tasks that end with the block that started them, and never die in silence."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

START_AGAIN: Final = 75
"""The exit status of a process that is to be started again at once (EX_TEMPFAIL of sysexits.h)."""

_HEARD_SECONDS: Final = 0.5
_log = structlog.get_logger("tasks")


class OrderlyEnd(Exception):
    """The process is to end, for a reason that whoever runs it is told: no defect."""


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines beside the block and cancel them when it ends.

    A task that fails ends the block, so that a supervisor can start the process again. It is a
    defect, and logged, unless it says otherwise.

    Raises:
        Exception: what a task raised.
    """
    block = asyncio.current_task()
    failed: list[BaseException] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, OrderlyEnd):
                _log.error("background task failed", error=type(error).__name__, exc_info=error)
            failed.append(error)
            # Once: those that fail next must not interrupt what the block does to end in order.
            if block is not None and len(failed) == 1:
                block.cancel()

    tasks = [asyncio.create_task(one) for one in work]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if failed:
            raise failed[0] from None
        raise
    finally:
        await end(tasks)


async def end(tasks: Collection["asyncio.Task[None]"]) -> None:
    """Cancel tasks until they have ended: nats-py swallows a cancellation while it flushes."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_HEARD_SECONDS)
