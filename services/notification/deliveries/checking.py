"""What is looked at before something is sent: much can have happened since it was decided."""

from dataclasses import dataclass
from typing import Final

from libs.projection.consents import words_of
from libs.projection.profiles import find_profile
from services.notification.calls import Parts
from services.notification.deliveries.claims import Claim, Result
from services.notification.deliveries.recipients import email_of, recipient_of, webhook_secret
from services.notification.domain.consents import refused
from services.notification.inbox.notifications import was_read
from touchline.events.v1.decisions_pb2 import (
    DELIVERY_OUTCOME_FAILED,
    DELIVERY_OUTCOME_SKIPPED,
    DELIVERY_OUTCOME_SUPPRESSED,
    NOTIFICATION_CHANNEL_EMAIL,
)
from touchline.events.v1.event_pb2 import Event

PROJECTIONS: Final = ("identity_graph", "timeline", "consents", "notifications", "deliveries")
"""What the look needs at the head of the line."""

# One repeat is the price of not losing anything; a second would be a nuisance.
_MAX_LOST_CLAIMS: Final = 2
_WAIT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a notification goes.

    Attributes:
        where: An email address or a URL.
        secret: Signs webhooks.
        customer: Whether it is the customer's.
    """

    where: str
    secret: str = ""
    customer: bool = False


async def folded_now(parts: Parts) -> int:
    """Return the head's position once everything up to there is folded; open nothing before.

    Whoever was erased up to there, this process has forgotten.

    Raises:
        StoreError: the store can't be asked.
        Behind: the projections are not at the head; nothing is sent unseen.
    """
    head = await parts.store.head()
    await parts.checkpoints.wait(PROJECTIONS, head.position, _WAIT_SECONDS)
    return head.position


async def address_of(
    parts: Parts, claim: Claim, event: Event | None, now_us: int
) -> Address | Result:
    """Return where a claimed notification goes, or why it is not sent.

    Everything counts that is folded: wait for `folded_now` first.

    Args:
        parts: The service.
        claim: What is to be sent.
        event: The notification, opened; None when it was erased.
        now_us: The time.

    Raises:
        StoreError: the store can't be asked.
    """
    if event is None:
        return _suppressed("the customer was erased")
    if claim.lost_claims >= _MAX_LOST_CLAIMS:
        told = f"{claim.lost_claims} attempts ended without a record; another could be a repeat"
        return Result(DELIVERY_OUTCOME_FAILED, told)
    if now_us >= claim.expires_at_us:
        return _suppressed("it is too old")
    if await was_read(parts.pool, claim.tenant, claim.notification_id):
        return _suppressed("it was read already")
    keys = await _customer(parts, claim)
    decided = event.notification_decided
    if decided.purpose or decided.recipient.customer:
        said = await words_of(parts.pool, parts.store, claim.tenant, keys)
        if why := refused(said, claim.owner_key, decided.purpose, claim.channel):
            return _suppressed(why)
    if decided.recipient.customer:
        return await _customers_address(parts, claim, keys, event)
    return await _recipients_address(parts, claim, decided.recipient.reference)


async def _customer(parts: Parts, claim: Claim) -> tuple[bytes, ...]:
    profile = await find_profile(parts.pool, claim.tenant, claim.owner_key)
    return profile.keys if profile is not None else (claim.owner_key,)


async def _customers_address(
    parts: Parts, claim: Claim, keys: tuple[bytes, ...], event: Event
) -> Address | Result:
    if claim.channel != NOTIFICATION_CHANNEL_EMAIL:
        return _skipped("customers have no webhooks")
    email = await email_of(parts.pool, parts.store, claim.tenant, keys, event)
    if not email:
        return _skipped("the customer's email address is not known")
    return Address(email, customer=True)


async def _recipients_address(parts: Parts, claim: Claim, reference: str) -> Address | Result:
    recipient = await recipient_of(parts.pool, claim.tenant, reference)
    if claim.channel == NOTIFICATION_CHANNEL_EMAIL:
        return (
            Address(recipient.email)
            if recipient.email
            else _skipped("the recipient's email address is not known")
        )
    if not recipient.webhook_url:
        return _skipped("the recipient has no URL for webhooks")
    tenant = parts.readers[claim.tenant].name
    secret = webhook_secret(parts.webhooks, tenant, reference)
    return Address(recipient.webhook_url, secret)


def _suppressed(why: str) -> Result:
    return Result(DELIVERY_OUTCOME_SUPPRESSED, why)


def _skipped(why: str) -> Result:
    return Result(DELIVERY_OUTCOME_SKIPPED, why)
