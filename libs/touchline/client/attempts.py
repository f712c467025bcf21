"""When to try again, how soon, and for how long."""

import asyncio
import random
from typing import Final

import grpc

from touchline.failures import CallFailed

DEFAULT_PATIENCE: Final = 60.0
"""Seconds that recording tries again."""

_FIRST_SECONDS: Final = 2.0
_FIRST_BACKOFF: Final = 0.1
_MAXIMUM_BACKOFF: Final = 5.0
_WORTH_REPEATING: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by the server: it was stopped, or had more calls than it takes
)


_OF_WHAT_IS_ASKED: Final = ("MODEL_BUILDING",)


class Attempts:
    """The attempts of something that may be repeated, from one success to the next.

    The first has two seconds, so that a process that hangs is left soon; each one that is not
    answered in time gives twice as many to those after it, so that what is slow because it is busy
    is not asked for ever and never heard.

    Args:
        deadline: Seconds that no attempt goes beyond.
        patience: Seconds after the first failure in which to try again.
    """

    def __init__(self, deadline: float, patience: float) -> None:
        self._deadline = deadline
        self._patience = patience
        self._seconds = _FIRST_SECONDS
        self._backoff = _FIRST_BACKOFF
        self._end: float | None = None

    @property
    def seconds(self) -> float:
        """How long the next attempt may take."""
        return min(self._seconds, self._deadline)

    def succeeded(self) -> None:
        """Begin again with full patience. What was slow is expected to be slow again."""
        self._backoff = _FIRST_BACKOFF
        self._end = None

    async def failed(self, failure: CallFailed, *, elsewhere: bool) -> None:
        """Return when the next attempt may begin.

        Args:
            failure: Why the last one failed.
            elsewhere: Whether the next one goes to a process that is not known to fail.

        Raises:
            CallFailed: The failure, if trying again can't help or patience has ended.
        """
        now = asyncio.get_running_loop().time()
        if self._end is None:
            self._end = now + self._patience
        asked = failure.retry_after or 0.0
        # Jitter keeps callers that failed together from coming back together.
        pause = max(asked, 0.0 if elsewhere else self._backoff) * random.uniform(1.0, 1.5)  # noqa: S311
        if not _can_be_repeated(failure) or now + pause > self._end:
            raise failure
        if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._seconds = min(2 * self._seconds, self._deadline)
        if not elsewhere:
            self._backoff = min(2 * self._backoff, _MAXIMUM_BACKOFF)
        await asyncio.sleep(pause)


def is_gone(failure: CallFailed) -> bool:
    """Tell whether the process that was called stops, or is gone, or was never there."""
    code = failure.code
    unanswered = code is grpc.StatusCode.UNAVAILABLE and not failure.reason
    return unanswered or code is grpc.StatusCode.CANCELLED


def is_fault_of_process(failure: CallFailed) -> bool:
    """Tell whether another process may well succeed where this one failed."""
    silent = failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and not failure.reason
    unable = failure.code is grpc.StatusCode.UNAVAILABLE and failure.reason not in _OF_WHAT_IS_ASKED
    return silent or unable or is_gone(failure)


def _can_be_repeated(failure: CallFailed) -> bool:
    full = failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED and failure.retry_after is not None
    return full or failure.code in _WORTH_REPEATING
