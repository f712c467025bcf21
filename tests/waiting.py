"""Waiting for what another process does in its own time."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], within: float = 30.0) -> None:
    """Returns once the condition holds; raises TimeoutError if it does not within some seconds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - no event tells of another process
            await asyncio.sleep(0.02)
