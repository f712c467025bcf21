"""What the calls of the profile service share: its parts, the caller's tenant, and times."""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import asyncpg
import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs.eventstore.client import StoreClient
from libs.projection.config import Reader
from libs.projection.profiles import Profile
from libs.projection.waiting import Checkpoints, waiting_errors
from libs.rpc import errors
from libs.rpc.deadlines import remaining
from libs.rpc.tenants import Tenants
from services.profile.identities.recording import Deciding
from services.profile.reading import Profiles
from touchline.times import micros_of

# Every read waits for both: what happened, and to whom.
PROJECTIONS: Final = ("identity_graph", "timeline")
_LAST_SECOND: Final = 253_402_300_799

Context = grpc.aio.ServicerContext[Any, Any]


class _AfterPosition(Protocol):
    @property
    def after_position(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of; `__main__` puts it together."""

    pool: asyncpg.Pool
    store: StoreClient
    profiles: Profiles
    deciding: Deciding
    checkpoints: Checkpoints
    tenants: Tenants
    readers: dict[int, Reader]


class Calls:
    """What the calls of one matter have in common: the parts of the service."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._profiles = parts.profiles

    async def _reader(
        self,
        request: _AfterPosition,
        context: Context,
        projections: tuple[str, ...] = PROJECTIONS,
    ) -> Reader:
        """Return the call's tenant once everything up to `after_position` is folded."""
        reader = self._reader_of(context)
        if request.after_position < 0:
            raise errors.invalid_request([("after_position", "must be 0 or a position")])
        await self._folded(projections, request.after_position, context)
        return reader

    async def _folded(self, projections: tuple[str, ...], position: int, context: Context) -> None:
        """Wait until projections have folded everything up to a position.

        Raises:
            CallError: see `waiting_errors`; at the call's deadline, PROJECTION_BEHIND.
        """
        with waiting_errors(position):
            await self._parts.checkpoints.wait(projections, position, remaining(context))

    def _degraded(
        self, reader: Reader, profile: Profile, projections: tuple[str, ...] = PROJECTIONS
    ) -> list[str]:
        """Return which of the projections lack events of the profile, of whatever time."""
        return self._parts.checkpoints.degraded(projections, reader.tenant, profile.keys)

    def _reader_of(self, context: Context) -> Reader:
        return self._parts.readers[self._parts.tenants.tenant_of(context).number]


def micros(request: Message, field: str) -> int | None:
    """Return a request's time in microseconds since 1970; None when it has none.

    Raises:
        CallError: INVALID_REQUEST, naming the field.
    """
    if not request.HasField(field):
        return None
    time_: Timestamp = getattr(request, field)
    if not 0 <= time_.seconds <= _LAST_SECOND:
        raise errors.invalid_request([(field, "is before 1970 or after 9999")])
    return micros_of(time_)
