"""What happens around every call: its trace, its deadline, and what its caller learns of a failure.

One interceptor does all of it, and wraps each method once instead of on every call: a call of a
small event takes some 250 µs in all, so each further layer of Python would show.
"""

from __future__ import annotations  # gRPC's classes are generic in their type stubs only

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, TypeAlias

import grpc
import structlog
from grpc.aio import AbortError

from libs import telemetry
from libs.rpc import calls, errors
from libs.rpc.deadlines import Deadlines
from libs.rpc.readiness import Readiness
from libs.telemetry import failures
from touchline.failures import NOT_BEGUN

_HEALTH: Final = "grpc.health.v1.Health/"
_REFUSING_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 0.05
_FINISHING_SECONDS: Final = 2.0
_ENDLESS: Final = "Watch"
"""How the names of calls begin that tell until their caller hangs up."""

_log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Unary = Callable[[Any, Context], Awaitable[Any]]
Streaming = Callable[[Any, Context], AsyncIterator[Any]]


class _Requests:
    """What a caller streams, until the caller or a drain ends it.

    Attributes:
        cut: Whether a drain ended it.
    """

    def __init__(self, requests: AsyncIterator[Any], interceptor: CallInterceptor) -> None:
        self._requests = requests
        self._interceptor = interceptor
        self.cut = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            async with self._interceptor.until_drained():
                return await anext(self._requests)
        except TimeoutError:
            self.cut = True
            raise StopAsyncIteration from None


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Carries the caller's trace, bounds unary calls in time and turns errors into rich statuses.

    Args:
        deadlines: The bounds of unary calls.
        readiness: When calls are answered. Default: always.
    """

    def __init__(self, deadlines: Deadlines, readiness: Readiness | None = None) -> None:
        self._deadlines = deadlines
        self._readiness = readiness
        self._wrapped: dict[str, Handler] = {}
        self._waiting: set[asyncio.Task[Any]] = set()
        self._with_end: set[asyncio.Task[Any]] = set()
        self._reading: set[asyncio.Timeout] = set()
        self._draining = False
        self._cutting = False
        self._refusing = False
        self._refused = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Take the trace from the metadata and return the method's wrapped handler."""
        traceparent = ""
        for key, value in handler_call_details.invocation_metadata:
            if key == telemetry.TRACEPARENT:
                traceparent = str(value)
        telemetry.carry(traceparent)
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(handler, method.lstrip("/"))
        return wrapped

    async def refuse_calls(self) -> None:
        """Tell new callers to call again elsewhere, and return when no more come or a second ended.

        gRPC's stop cancels the calls it has not looked at yet, which a caller can't tell from a
        defect: a busy server has some at any time. Health is told all the same.
        """
        self._refusing = True
        end = time.monotonic() + _REFUSING_SECONDS
        seen = -1
        while seen != self._refused and time.monotonic() < end:
            seen = self._refused
            await asyncio.sleep(_QUIET_SECONDS)

    async def end_streams(self) -> None:
        """Tell the callers of streams to call again elsewhere; unary calls go on to their end.

        A stream such as WatchTimeline ends only when its caller hangs up, so it would hold up a
        stop for the whole grace. One that has an end, such as ExportProfile, has two seconds to
        reach it. Streams in both directions read no further, and answer what they have in hand
        first.
        """
        self._draining = True
        _cancel(self._waiting - self._with_end)
        for reading in tuple(self._reading):
            reading.reschedule(asyncio.get_running_loop().time())
        if self._with_end:
            await asyncio.wait(self._with_end, timeout=_FINISHING_SECONDS)
        self._cutting = True
        _cancel(self._waiting)

    @asynccontextmanager
    async def until_drained(self) -> AsyncIterator[None]:
        """Run the block until it ends or a drain begins.

        Raises:
            TimeoutError: A drain began.
        """
        now = asyncio.get_running_loop().time()
        async with asyncio.timeout_at(now if self._draining else None) as reading:
            self._reading.add(reading)
            try:
                yield
            finally:
                self._reading.discard(reading)

    def _wrap(self, handler: Handler, method: str) -> Handler:
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            call = self._unary(_behaviour(handler), method, bounded=True)
            return grpc.unary_unary_rpc_method_handler(call, **serializers)
        if handler.stream_unary:
            call = self._unary(_behaviour(handler), method, bounded=False)
            return grpc.stream_unary_rpc_method_handler(call, **serializers)
        behaviour = _behaviour(handler)
        if handler.stream_stream:
            conversing = self._conversing(behaviour, method)
            return grpc.stream_stream_rpc_method_handler(conversing, **serializers)
        # gRPC's own health service writes its stream from a coroutine.
        streaming = (
            self._streaming(behaviour, method)
            if inspect.isasyncgenfunction(behaviour)
            else self._writing(behaviour, method)
        )
        return grpc.unary_stream_rpc_method_handler(streaming, **serializers)

    def _unary(self, behaviour: Unary, method: str, *, bounded: bool) -> Unary:
        async def call(request: Any, context: Context) -> Any:
            told = calls.started(method)
            try:
                if self._refusing or self._readiness is not None:
                    await self._refuse(context, method)
                seconds = self._deadlines.imposed(context) if bounded else None
                if seconds is None:
                    return await behaviour(request, context)
                async with asyncio.timeout(seconds):
                    return await behaviour(request, context)
            except Exception as error:
                await _fail(context, method, error)
            finally:
                if told is not None:
                    calls.ended_grpc(told, context)

        return call

    def _streaming(self, behaviour: Streaming, method: str) -> Streaming:
        has_end = not method.rpartition("/")[2].startswith(_ENDLESS)

        async def call(request: Any, context: Context) -> AsyncIterator[Any]:
            told = calls.started(method)
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 # gRPC runs each call in a task
            self._waiting.add(task)
            if has_end:
                self._with_end.add(task)
            try:
                if self._refusing or self._readiness is not None:
                    await self._refuse(context, method)
                async with aclosing(behaviour(request, context)) as responses:  # type: ignore[type-var]
                    async for response in responses:
                        # While gRPC sends, a cancellation would end the call without a status.
                        self._waiting.discard(task)
                        yield response
                        self._waiting.add(task)
                        if self._cutting or (self._draining and not has_end):
                            await _end(context)
            except asyncio.CancelledError:
                await self._end_or_cancel(context, task)
            except Exception as error:
                await _fail(context, method, error)
            finally:
                self._waiting.discard(task)
                self._with_end.discard(task)
                if told is not None:
                    calls.ended_grpc(told, context)

        return call

    def _conversing(self, behaviour: Streaming, method: str) -> Streaming:
        """Wrap a stream in both directions; its messages, not it, have spans: it may last days."""

        async def call(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            try:
                if self._refusing or self._readiness is not None:
                    await self._refuse(context, method)
                taken = _Requests(requests, self)
                async with aclosing(behaviour(taken, context)) as responses:  # type: ignore[type-var]
                    async for response in responses:
                        yield response
                if taken.cut:
                    await _end(context)
            except Exception as error:
                await _fail(context, method, error)

        return call

    def _writing(self, behaviour: Unary, method: str) -> Unary:
        async def call(request: Any, context: Context) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 # gRPC runs each call in a task
            self._waiting.add(task)
            try:
                await behaviour(request, context)
            except asyncio.CancelledError:
                await self._end_or_cancel(context, task)
            except Exception as error:
                await _fail(context, method, error)
            finally:
                self._waiting.discard(task)

        return call

    async def _refuse(self, context: Context, method: str) -> None:
        if self._refusing and not method.startswith(_HEALTH):
            self._refused += 1
            await _end(context, (NOT_BEGUN, "1"))
        if self._readiness is not None:
            self._readiness.refuse(method)

    async def _end_or_cancel(self, context: Context, task: asyncio.Task[Any]) -> None:
        if not self._draining or context.cancelled():
            raise asyncio.CancelledError
        task.uncancel()
        await _end(context)


def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tuple(tasks):
        task.cancel()


def _behaviour(handler: Handler) -> Any:
    """Return a handler's function; the type stubs know those of synchronous servers only."""
    unary = handler.unary_unary or handler.stream_unary
    return unary or handler.unary_stream or handler.stream_stream


async def _end(context: Context, *told: tuple[str, str]) -> None:
    await context.abort(
        grpc.StatusCode.UNAVAILABLE,
        "The service is stopping. Call again, continuing after what was received.",
        told,
    )


async def _fail(context: Context, method: str, error: Exception) -> None:
    """End the call with the rich status of what went wrong."""
    if isinstance(error, AbortError):
        raise error
    if isinstance(error, errors.CallError):
        failure = error
    elif isinstance(error, TimeoutError):
        failure = errors.deadline_exceeded()
    else:
        _log.error(
            "call failed",
            method=method,
            error=failures.described(error),
            frames=failures.frames(error),
        )
        failure = errors.internal(telemetry.current_trace_id())
    details = (errors.STATUS_DETAILS, failure.status().SerializeToString())
    await context.abort(failure.code, failure.message, (details,))
