"""Channels to a service: what every call carries, and which of its processes answers it."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Container, Iterable, Sequence
from enum import IntEnum
from typing import Any, Final, cast

import grpc

from touchline.client.attempts import is_fault_of_process, is_gone
from touchline.failures import CallFailed

DEFAULT_TIMEOUT: Final = 20.0
"""Seconds a unary call may take unless it says otherwise."""

_MAXIMUM_SENT_BYTES: Final = 8 * 1024 * 1024
# A page of 500 long texts is larger than any request.
_MAXIMUM_RECEIVED_BYTES: Final = 64 * 1024 * 1024
_FIRST_DOUBT: Final = 1.0
_MAXIMUM_DOUBT: Final = 30.0
_CONNECTS_WITHIN: Final = 1.0
_LOOKS_AGAIN: Final = 0.02

# A name with several addresses, as a headless Service in Kubernetes has, is called at each in turn.
_SERVICE_CONFIG: Final = '{"loadBalancingConfig": [{"round_robin": {}}]}'


class Standing(IntEnum):
    """What can be expected of a replica, from the best to the worst."""

    GOOD = 0
    """That it answers: it is connected, or was not asked to be until now."""
    FAILED = 1
    """It is connected, but failed lately."""
    AWAY = 2
    """It is not connected."""


_WORST: Final = (True, Standing.AWAY, math.inf)


class Replica:
    """One address of a service.

    Args:
        address: host:port, or another target that gRPC knows.
        tenant: What its calls carry.
        traceparent: Tells what its calls carry.

    Attributes:
        address: The same.
        calls: The channel for stubs: its calls carry the tenant, the trace and a timeout.
        doubted_until: When it may be called again as if it had not failed, by `time.monotonic`.
    """

    def __init__(self, address: str, tenant: str, traceparent: Callable[[], str]) -> None:
        self.address = address
        self._channel = _channel(address)
        # An interceptor could add these too, but costs a task per call; stubs ask a channel for
        # each method once, so here a call costs one Python function more.
        self.calls = cast("grpc.aio.Channel", _DefaultsChannel(self._channel, tenant, traceparent))
        self.doubted_until = 0.0
        self._doubt = self._stops_until = 0.0
        self._connects_until: float | None = None

    def told(self, failure: CallFailed | None) -> None:
        """Take note of how a call ended: one that fails is left alone for a while, ever longer.

        One that stops, or is gone, is so for a moment only: its connection tells when it is back.
        """
        if failure is None:
            # What a process that stops had begun before still ends well.
            self._doubt, self.doubted_until = 0.0, self._stops_until
        elif is_fault_of_process(failure):
            longer = 0.0 if is_gone(failure) else 2 * self._doubt
            self._doubt = min(longer or _FIRST_DOUBT, _MAXIMUM_DOUBT)
            self.doubted_until = time.monotonic() + max(self._doubt, failure.retry_after or 0.0)
            if failure.not_begun:
                self._stops_until = self.doubted_until

    @property
    def standing(self) -> Standing:
        """What can be expected of it; whoever asks also makes it connect."""
        state = self._channel.get_state(try_to_connect=True)
        now = time.monotonic()
        failed = now < self.doubted_until
        if state is grpc.ChannelConnectivity.READY:
            self._connects_until = 0.0  # once it has been connected, being it no more is a fault
            return Standing.FAILED if failed else Standing.GOOD
        if self._connects_until is None:
            self._connects_until = now + _CONNECTS_WITHIN
        refused = state is grpc.ChannelConnectivity.TRANSIENT_FAILURE
        is_new = now < self._connects_until and not refused and not failed
        return Standing.GOOD if is_new else Standing.AWAY

    @property
    def is_connected(self) -> bool:
        """Whether a process is there; whoever asks also makes it connect."""
        state = self._channel.get_state(try_to_connect=True)
        return bool(state is grpc.ChannelConnectivity.READY)

    async def close(self) -> None:
        """End its calls and its connection."""
        await self._channel.close()


class Replicas:
    """The addresses of a service, each of which can answer every call.

    Args:
        addresses: host:port, several separated by commas.
        tenant: What calls carry.
        traceparent: Tells what calls carry.

    Raises:
        ValueError: there is no address.
    """

    def __init__(self, addresses: str, tenant: str, traceparent: Callable[[], str]) -> None:
        each = [address.strip() for address in addresses.split(",")]
        self.all: Sequence[Replica] = [
            Replica(address, tenant, traceparent) for address in each if address
        ]
        if not self.all:
            raise ValueError(f"{addresses!r} names no host:port.")
        self._turn = random.randrange(len(self.all))  # noqa: S311 # callers begin apart

    def next(self, tried: Container[Replica] = ()) -> Replica:
        """Return the next in turn of those that can best be expected to answer.

        Args:
            tried: Those that come after all others.
        """
        if len(self.all) == 1:
            return self.all[0]
        best, least = self.all[0], _WORST
        for _ in self.all:
            replica = self._in_turn()
            standing = replica.standing
            doubt = (replica in tried, standing, replica.doubted_until)
            if standing is Standing.GOOD and not doubt[0]:
                return replica
            if doubt < least:
                best, least = replica, doubt
        self._in_turn()  # else the first of equals would always be the same
        return best

    @property
    def has_good_one(self) -> bool:
        """Whether one of them can be expected to answer."""
        return any(replica.standing is Standing.GOOD for replica in self.all)

    async def connected(self, seconds: float) -> Replica | None:
        """Return the best of those that are connected, once one is; None when time has passed."""
        end = time.monotonic() + seconds
        while True:
            there = [replica for replica in self.all if replica.is_connected]
            if there:
                return min(there, key=lambda replica: (replica.standing, replica.doubted_until))
            if time.monotonic() > end:
                return None
            await asyncio.sleep(_LOOKS_AGAIN)

    async def close(self) -> None:
        """End all calls and connections."""
        await asyncio.gather(*(replica.close() for replica in self.all))

    def _in_turn(self) -> Replica:
        self._turn = (self._turn + 1) % len(self.all)
        return self.all[self._turn]


class _DefaultsChannel:
    def __init__(
        self, channel: grpc.aio.Channel, tenant: str, traceparent: Callable[[], str]
    ) -> None:
        self._channel = channel
        self._tenant = ("touchline-tenant", tenant)
        self._traceparent = traceparent

    def unary_unary(self, method: str, **serializers: Any) -> Callable[..., Any]:
        call = self._channel.unary_unary(method, **serializers)
        return self._with_defaults(call, DEFAULT_TIMEOUT)

    def unary_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        return self._with_defaults(self._channel.unary_stream(method, **serializers), None)

    def stream_stream(self, method: str, **serializers: Any) -> Callable[..., Any]:
        return self._with_defaults(self._channel.stream_stream(method, **serializers), None)

    def _with_defaults(self, call: Callable[..., Any], default: float | None) -> Callable[..., Any]:
        def called(
            request: Any = None,  # a stream may be written afterwards
            *,
            timeout: float | None = default,
            metadata: Iterable[tuple[str, str | bytes]] | None = None,
            **rest: Any,
        ) -> Any:
            traceparent = self._traceparent()
            trace = (("traceparent", traceparent),) if traceparent else ()
            all_metadata = (self._tenant, *trace, *(metadata or ()))
            return call(request, timeout=timeout, metadata=all_metadata, **rest)

        return called


def _channel(target: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.max_send_message_length", _MAXIMUM_SENT_BYTES),
            ("grpc.max_receive_message_length", _MAXIMUM_RECEIVED_BYTES),
            # No less than a service lets its callers ping.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.enable_retries", 1),
            ("grpc.service_config", _SERVICE_CONFIG),
            # A restarted service is found again at once, not after gRPC's two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ],
    )
