"""What the calls of the notification service share: its parts, whose call it is, and of whom."""

from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import grpc
from asyncpg.pgproto.pgproto import UUID

from libs.eventstore.client import StoreClient
from libs.projection.config import Reader
from libs.projection.profiles import Profile, referred_profile
from libs.projection.waiting import Checkpoints, waiting_errors
from libs.rpc import errors
from libs.rpc.deadlines import remaining
from libs.rpc.tenants import Tenant, Tenants
from services.notification.expectations.promises import Promises
from services.notification.rules.published import Rules
from touchline.profile.v1.profile_pb2 import ProfileReference

MAX_REFERENCE: Final = 128
"""Characters of a reference to an employee or a team."""

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Applications:
    """A tenant's aggregates. They are synchronous: call them by asyncio.to_thread.

    Attributes:
        rules: The published rules.
        promises: What employees promised.
    """

    rules: Rules
    promises: Promises


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """What holds for every webhook.

    Attributes:
        secret: From which the secrets of recipients derive, 32 bytes.
        private: Whether they may go to private addresses.
    """

    secret: bytes = field(repr=False)
    private: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of; `__main__` puts it together.

    Attributes:
        pool: The service's own database. Its commits are not synchronous: what is not folded from
            the line needs `SET LOCAL synchronous_commit TO on`.
        store: Asks the event store.
        checkpoints: How far the projections came.
        tenants: Whose calls are answered.
        readers: By tenant number.
        applications: By tenant number.
        webhooks: Where they may go, and how they are signed.
    """

    pool: asyncpg.Pool
    store: StoreClient
    checkpoints: Checkpoints
    tenants: Tenants
    readers: dict[int, Reader]
    applications: dict[int, Applications]
    webhooks: WebhookSettings


def tenant_of(parts: Parts, context: Context) -> Tenant:
    """Return the tenant of a call.

    Raises:
        CallError: UNKNOWN_TENANT.
    """
    return parts.tenants.tenant_of(context)


async def reader(
    parts: Parts, context: Context, after_position: int = 0, projections: tuple[str, ...] = ()
) -> Reader:
    """Return the tenant of a call once projections have folded everything up to a position.

    Args:
        parts: The service.
        context: The call.
        after_position: The request's; 0 waits for nothing.
        projections: Their names, such as `identity_graph`.

    Raises:
        CallError: UNKNOWN_TENANT, INVALID_REQUEST, or of waiting; see `waiting_errors`.
    """
    found = parts.readers[tenant_of(parts, context).number]
    if after_position < 0:
        raise errors.invalid_request([("after_position", "must be 0 or a position")])
    if not projections:
        return found
    with waiting_errors(after_position):
        await parts.checkpoints.wait(projections, after_position, remaining(context))
    return found


def degraded(
    parts: Parts, reader: Reader, profile: Profile, projections: tuple[str, ...]
) -> list[str]:
    """Return the projections that an answer is read from and that lack events of its customer.

    Args:
        parts: The service.
        reader: The call's tenant.
        profile: The customer's; ask before what is answered is read.
        projections: What the call waited for. What others lack changes no answer: what the rules
            have not decided is missing from no inbox.
    """
    return parts.checkpoints.degraded(projections, reader.tenant, profile.keys)


def uuid_of(text: str, path: str, wrong: list[tuple[str, str]]) -> UUID | None:
    """Return a caller's UUID; None, with a violation more, when it is none."""
    try:
        return UUID(text)
    except ValueError:
        wrong.append((path, "is no UUID"))
        return None


async def profile_of(
    parts: Parts, reader: Reader, reference: ProfileReference, path: str
) -> Profile:
    """Return the profile that a reference leads to.

    Args:
        parts: The service.
        reader: The call's tenant.
        reference: A profile's id or an identity.
        path: The reference's field in the request, for violations.

    Raises:
        CallError: INVALID_REQUEST naming the field below `path`, PROFILE_NOT_FOUND, or
            VIEWS_UNAVAILABLE.
    """
    return await referred_profile(parts.pool, reader.tenant, reader.identity_keys, reference, path)
