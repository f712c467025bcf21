"""Watches that go on: one that breaks is begun again after what it told last."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, TypeVar

import grpc

from touchline.client.attempts import Attempts
from touchline.client.channels import Replicas
from touchline.failures import CallFailed
from touchline.notification.v1.notification_service_pb2 import WatchInboxRequest
from touchline.profile.v1.profile_service_pb2 import WatchTimelineRequest

# A watch that was open for so long was begun with success, even if there was nothing to tell.
_STEADY_SECONDS: Final = 5.0

Request = TypeVar("Request", WatchTimelineRequest, WatchInboxRequest)


async def going_on(
    watch: Callable[[Request], Any],
    request: Request,
    replicas: Replicas,
    patience: float,
    position_of: Callable[[Any], int],
) -> AsyncGenerator[Any, None]:
    """Yield what a watch answers, each once, however often it breaks.

    Args:
        watch: Begins to tell what comes after the request's after_position.
        request: The first one.
        replicas: The processes that may answer.
        patience: Seconds to go on trying while nothing answers.
        position_of: Tells the position of an answer.

    Raises:
        CallFailed: The service refused, or patience ended.
    """
    clock = asyncio.get_running_loop().time
    attempts = Attempts(math.inf, patience)
    asked = type(request)()
    asked.CopyFrom(request)
    while True:
        began, call = clock(), watch(asked)
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                attempts.succeeded()
                asked.after_position = position_of(answer)
                yield answer
            failure = CallFailed(grpc.StatusCode.UNAVAILABLE, "The service ended a watch.")
        except grpc.aio.AioRpcError as error:
            failure = CallFailed.of(error)
        finally:
            call.cancel()
        if clock() - began > _STEADY_SECONDS:
            attempts.succeeded()
        await attempts.failed(failure, elsewhere=replicas.has_good_one)
