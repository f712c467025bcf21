"""One attempt to deliver: look once more, send, and write down what came of it.

A claim is on the disk before anything is sent, and an outcome is in one transaction with its event
for the line. So a crash at any point loses nothing; what was sent without a record is sent once
more at most, and marked. docs/deliveries.md tells it point by point.
"""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog
from opentelemetry.trace import Span, SpanKind

from libs.eventstore.errors import StoreError
from libs.projection.opening import open_records
from libs.projection.waiting import Behind
from libs.telemetry import declared, metrics, tracing
from services.notification.calls import Parts
from services.notification.deliveries.checking import Address, address_of, folded_now
from services.notification.deliveries.claims import DATABASE_AWAY, Claim, Claims, Result
from services.notification.deliveries.messages import (
    channel_name,
    identities_of,
    message_of,
    outcome_name,
)
from services.notification.deliveries.outcomes import SendError
from services.notification.deliveries.sending import Carriers
from touchline.events.v1.decisions_pb2 import (
    DELIVERY_OUTCOME_DEFERRED,
    DELIVERY_OUTCOME_FAILED,
    DELIVERY_OUTCOME_SENT,
)
from touchline.events.v1.event_pb2 import Event

# Of a claim's time: sending starts in the first part or not at all, and ends in the second, so that
# the outcome is written down while the claim still holds.
_START_WITHIN: Final = 0.4
_SEND_WITHIN: Final = 0.5
# Eight attempts from one second on span an hour: a mail server may be restarted meanwhile.
_GROWTH: Final = 4.0
_GIVEN_BACK: Final = timedelta(seconds=1)
_AGAIN_SECONDS: Final = 0.5
_log = structlog.get_logger("deliveries")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often it is tried.

    Attributes:
        base_seconds: The longest pause after the first attempt; each is four times as long.
        max_seconds: The longest pause at all.
        attempts: How many there are at most.
        claim: How long a claim holds.
    """

    base_seconds: float = 1.0
    max_seconds: float = 3600.0
    attempts: int = 8
    claim: timedelta = timedelta(seconds=60)

    def pause_us(self, tries: int) -> int:
        """Return how many microseconds to wait after some attempts: exponential, with full jitter.

        What failed together is not tried again together (M. Brooker, "Exponential Backoff And
        Jitter", 2015).
        """
        longest = min(self.max_seconds, self.base_seconds * _GROWTH ** (tries - 1))
        return round(random.uniform(0.0, longest) * 1e6)  # noqa: S311 - spreads load, guards nothing


class Attempts:
    """Brings claims of this process to their end.

    Args:
        parts: The service.
        claims: Of this process.
        carriers: Send.
        patience: How long and how often it is tried.
    """

    def __init__(
        self, parts: Parts, claims: Claims, carriers: Carriers, patience: Patience
    ) -> None:
        self._parts = parts
        self._claims = claims
        self._carriers = carriers
        self._patience = patience

    async def deliver(self, claim: Claim) -> None:
        """Bring a claim to its end. It never raises: what it can't end is claimed again later."""
        channel = channel_name(claim.channel)
        attributes = {declared.DELIVERY_CHANNEL: channel}
        name, parent = f"deliver {channel}", claim.record.traceparent
        try:
            with tracing.span(name, SpanKind.CLIENT, attributes, parent=parent) as span:
                await self._deliver(claim, span, time.monotonic())
        except Exception:
            # A defect of ours. The claim runs out, and after the second it is a dead letter.
            _log.exception("delivery failed", channel=channel)

    async def _deliver(self, claim: Claim, span: Span, began: float) -> None:
        try:
            known_at = await folded_now(self._parts)
            (event,) = await open_records(self._parts.store, [claim.record])
            found = await address_of(self._parts, claim, event, _now_us(claim, began))
            if time.monotonic() - began > self._patience.claim.total_seconds() * _START_WITHIN:
                raise TimeoutError
        except (StoreError, Behind, *DATABASE_AWAY) as error:
            reason = type(error).__name__
            _log.warning("delivery waits", channel=channel_name(claim.channel), reason=reason)
            with suppress(*DATABASE_AWAY):
                await self._claims.give_back(claim, _GIVEN_BACK)
            return
        if isinstance(found, Address) and event is not None:
            span.set_attribute(declared.SERVER_ADDRESS, self._carriers.host_of(claim, found))
            found = await self._sent(claim, event, found, began)
        if isinstance(found, Result):
            await self._written(claim, event, found, began, known_at)
            _tell(claim, found, span, time.monotonic() - began)

    async def _sent(self, claim: Claim, event: Event, address: Address, began: float) -> Result:
        """Send, and return what became of it."""
        try:
            async with asyncio.timeout(self._patience.claim.total_seconds() * _SEND_WITHIN):
                await self._carriers.send(claim, address, message_of(claim, event))
        except SendError as error:
            return self._failed(claim, error, _now_us(claim, began))
        except TimeoutError:
            late = SendError("it took too long", perhaps_arrived=True)
            return self._failed(claim, late, _now_us(claim, began))
        return Result(DELIVERY_OUTCOME_SENT)

    def _failed(self, claim: Claim, error: SendError, now_us: int) -> Result:
        failed = Result(
            DELIVERY_OUTCOME_FAILED, error.reason, perhaps_arrived=error.perhaps_arrived
        )
        if error.permanent:
            return failed
        if claim.tries >= self._patience.attempts:
            return replace(failed, reason=f"{error.reason}; that was attempt {claim.tries}")
        retry_at_us = now_us + self._patience.pause_us(claim.tries)
        if retry_at_us >= claim.expires_at_us:
            return replace(failed, reason=f"{error.reason}; later it would be too old")
        return replace(failed, outcome=DELIVERY_OUTCOME_DEFERRED, retry_at_us=retry_at_us)

    async def _written(
        self, claim: Claim, event: Event | None, result: Result, began: float, known_at: int
    ) -> None:
        """Write an outcome down, as often as it takes while the claim holds."""
        identities = identities_of(event) if event is not None else []
        now_us = _now_us(claim, began)
        while True:
            try:
                kept = await self._claims.settle(claim, result, identities, now_us, known_at)
            except DATABASE_AWAY:
                if time.monotonic() - began > self._patience.claim.total_seconds():
                    kept = False
                else:
                    await asyncio.sleep(_AGAIN_SECONDS)
                    continue
            if not kept:
                _log.warning("delivery lost its claim", channel=channel_name(claim.channel))
            return


def _now_us(claim: Claim, began: float) -> int:
    """Return the time by the database's clock, which claimed it."""
    return claim.now_us + round((time.monotonic() - began) * 1e6)


def _tell(claim: Claim, result: Result, span: Span, seconds: float) -> None:
    outcome = outcome_name(result.outcome)
    named = {
        declared.DELIVERY_CHANNEL: channel_name(claim.channel),
        declared.DELIVERY_OUTCOME: outcome,
    }
    span.set_attribute(declared.DELIVERY_OUTCOME, outcome)
    metrics.add(declared.DELIVERIES, 1, named)
    metrics.record(declared.DELIVERY_DURATION, seconds, named, span=span)
