"""Asks again when an answer is late, so that a frozen replica holds up nobody who asked it.

Sound, because all that the store is asked may be asked twice: reads change nothing, and an append
that was recorded answers DUPLICATE.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import nats.errors
from nats.aio.msg import Msg

from libs.eventstore import api

ASK_AGAIN_SECONDS: Final = (0.75, 2.25)
"""After how long the same is asked again, and once more: of every replica, not of one."""

# What a replica says that could not find out; another one may know better.
_NO_ANSWER: Final = (api.UNAVAILABLE, api.QUEUE_FULL)

Ask = Callable[[bool, float], Awaitable[Msg]]
"""Sends one request, to one replica or (True) to each of them, and waits so many seconds."""


async def first_answer(ask: Ask, within: float) -> Msg:
    """Return the first answer that comes, asking at most three times.

    One replica is asked at first. Earlier requests are waited for beside later ones; an answer that
    says only that a replica can't answer counts once nothing better can come.

    Args:
        ask: Sends one request.
        within: Seconds after which nothing is waited for any more.

    Raises:
        nats.errors.Error: none of the requests was answered.
        TimeoutError: likewise.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + within
    under_way: set[asyncio.Future[Msg]] = set()
    last: asyncio.Future[Msg] | None = None
    try:
        for number, pause in enumerate((*ASK_AGAIN_SECONDS, within)):
            left = ends - loop.time()
            if left <= 0:
                break
            under_way.add(asyncio.ensure_future(ask(number > 0, left)))
            until = loop.time() + min(pause, left)
            while under_way:
                done, under_way = await asyncio.wait(
                    under_way, timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break  # it is late: ask again
                answers = [request for request in done if _answers(request)]
                if answers:
                    return answers[0].result()
                last = done.pop()
            else:
                break  # whoever was asked has spoken, and nobody knows
    finally:
        for request in under_way:
            request.cancel()
    if last is None:
        raise nats.errors.TimeoutError
    return last.result()


def _answers(request: "asyncio.Future[Msg]") -> bool:
    if request.exception() is not None:
        return False
    headers = request.result().headers or {}
    return headers.get(api.ERROR_CODE) not in _NO_ANSWER
