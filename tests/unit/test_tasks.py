"""Background tasks end with their block, and their failures end it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from libs.tasks import running


async def test_given_a_task_that_swallows_a_cancellation_then_it_is_asked_again() -> None:
    ended = asyncio.Event()

    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with asyncio.timeout(10), running(stubborn()):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_given_a_task_that_fails_then_the_block_ends_with_its_error() -> None:
    async def fails() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        async with running(fails()):
            await asyncio.sleep(60)
