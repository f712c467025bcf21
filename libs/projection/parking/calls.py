"""The calls that list parked keys and have them folded again."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

import asyncpg
import grpc

from libs.identity.keys import KEY_BYTES
from libs.projection.generations.telling import Folds
from libs.projection.parking import (
    Key,
    ParkedKey,
    ask_to_refold,
    halt_reason,
    list_parked,
    still_parked,
)
from libs.projection.profiles import views_errors
from libs.rpc import errors, page_tokens
from libs.rpc.tenants import DEFAULT_TENANT, Tenants
from touchline.projection.v1 import projection_pb2 as projection
from touchline.projection.v1.projection_service_pb2 import (
    ListParkedKeysRequest,
    ListParkedKeysResponse,
    RefoldParkedKeysRequest,
    RefoldParkedKeysResponse,
)

_LISTING: Final = "parked/1"
_MOST_KEYS: Final = 500
_LOOK_SECONDS: Final = 0.05


class ParkingCalls:
    """Lists and refolds what a service's projections have parked; a part of ProjectionService."""

    _folds: Folds
    _pool: asyncpg.Pool
    _tenants: Tenants

    async def ListParkedKeys(  # noqa: N802 - gRPC names it
        self, request: ListParkedKeysRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ListParkedKeysResponse:
        """List parked keys by projection and position."""
        del context
        size = page_tokens.page_size(request.page_size)
        after = ("", 0, b"")
        if request.page_token:
            after = page_tokens.decode(request.page_token, _LISTING, b"", str, int, bytes)
        numbers = [tenant.number for tenant in self._tenants.all]
        async with views_errors():
            # One more tells whether there is another page.
            found = await list_parked(self._pool, numbers, after, size + 1)
        page, token = found[:size], ""
        if len(found) > size:
            last = page[-1]
            token = page_tokens.encode(
                _LISTING, b"", last.projection, last.position, last.owner_key
            )
        return ListParkedKeysResponse(
            parked_keys=[self._message(one) for one in page], next_page_token=token
        )

    async def RefoldParkedKeys(  # noqa: N802 - gRPC names it
        self, request: RefoldParkedKeysRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> RefoldParkedKeysResponse:
        """Ask whoever folds the projection to fold parked keys again, and wait until it has."""
        del context
        name, owner_keys = request.projection, list(request.owner_keys)
        if name not in self._folds.projections:
            raise errors.projection_not_found(name)
        wrong = [
            (f"owner_keys[{place}]", f"is no identity key: it has {KEY_BYTES} bytes")
            for place, key in enumerate(owner_keys)
            if len(key) != KEY_BYTES
        ]
        if len(owner_keys) > _MOST_KEYS:
            wrong.append(("owner_keys", f"has more than {_MOST_KEYS} keys"))
        if wrong:
            raise errors.invalid_request(wrong)
        tenant = None
        if owner_keys:
            tenant = self._tenants.named(request.tenant or DEFAULT_TENANT).number
        async with views_errors():
            asked = await ask_to_refold(self._pool, name, tenant, owner_keys)
            left = await self._tried(name, asked)
        return RefoldParkedKeysResponse(
            refolded_keys=len(asked) - len(left),
            still_parked=[self._message(one) for one in left[:_MOST_KEYS]],
        )

    async def _tried(self, name: str, asked: Collection[Key]) -> list[ParkedKey]:
        """Return those of some keys that are parked still, once each was tried."""
        while True:
            left = await still_parked(self._pool, name, asked)
            if not any(one.refold for one in left):
                return left
            if await halt_reason(self._pool, name):
                raise errors.projection_halted(name)
            await asyncio.sleep(_LOOK_SECONDS)

    def _message(self, one: ParkedKey) -> projection.ParkedKey:
        told = projection.ParkedKey(
            projection=one.projection,
            tenant=self._tenants.all[one.tenant - 1].name,
            owner_key=one.owner_key,
            position=one.position,
            event_id=str(one.event_id),
            error=one.error,
            waiting_events=one.waiting_events,
        )
        told.parked_at.FromDatetime(one.parked_at)
        return told
