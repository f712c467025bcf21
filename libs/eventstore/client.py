"""The other services' side of the store's NATS API."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Iterable
from typing import Final, TypeVar

import nats.errors
from google.protobuf.message import Message
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from libs.eventstore import api
from libs.eventstore.chain import Ancestor, Head, Lineage
from libs.eventstore.errors import StoreError, StoreUnavailable
from libs.eventstore.hedging import first_answer
from libs.eventstore.lru import LruCache
from libs.eventstore.sealing import DataKey, data_key
from libs.telemetry.messaging import headers_with_trace
from touchline.store.v1.store_pb2 import (
    AppendRequest,
    AppendResponse,
    GetChangesRequest,
    GetChangesResponse,
    GetDataKeysRequest,
    GetDataKeysResponse,
    GetEventsOfKeysRequest,
    GetEventsOfKeysResponse,
    GetHeadRequest,
    GetHeadResponse,
    GetHistoryRequest,
    GetHistoryResponse,
    GetStreamRequest,
    GetStreamResponse,
    PositionedEvent,
    RecordedEvent,
)

_TIMEOUT_SECONDS: Final = 10.0
_CACHED_KEYS: Final = 200_000

Answer = TypeVar("Answer", bound=Message)


class StoreClient:
    """Asks the event store over NATS; a replica that is late is not waited for alone.

    Args:
        connection: To NATS.
        timeout: Seconds to wait for an answer.
    """

    def __init__(self, connection: NatsClient, *, timeout: float = _TIMEOUT_SECONDS) -> None:
        self.connection = connection
        self._timeout = timeout
        self._data_keys: LruCache[tuple[int, bytes], DataKey] = LruCache(_CACHED_KEYS)

    async def head(self) -> Head:
        """Return where the line ends.

        Raises:
            StoreUnavailable: nobody answers.
        """
        answer = await self._ask(api.HEAD, GetHeadRequest(), GetHeadResponse)
        return Head(answer.store_id, answer.position, answer.chain)

    async def lineage(self) -> Lineage:
        """Return where the line ends, and the stores that this one was restored from.

        Raises:
            StoreUnavailable: nobody answers.
        """
        answer = await self._ask(api.HEAD, GetHeadRequest(), GetHeadResponse)
        return Lineage(
            head=Head(answer.store_id, answer.position, answer.chain),
            ancestors=tuple(
                Ancestor(one.store_id, one.position, one.chain) for one in answer.ancestors
            ),
        )

    async def history(self, after: int) -> GetHistoryResponse:
        """Return a page of the events after a position, at most 512 KiB.

        Raises:
            StoreUnavailable: nobody answers.
        """
        return await self._ask(
            api.HISTORY, GetHistoryRequest(after_position=after), GetHistoryResponse
        )

    async def events_of_keys(
        self, tenant: int, owner_keys: Collection[bytes], up_to: int = 0, *, after: int = 0
    ) -> AsyncIterator[PositionedEvent]:
        """Yield the events that identities own, in the order of the line.

        Args:
            tenant: The tenant's number.
            owner_keys: At most 1,000 identity keys.
            up_to: The last position to read; 0 for the head.
            after: The position after which to start.

        Raises:
            StoreUnavailable: nobody answers.
        """
        request = GetEventsOfKeysRequest(
            tenant=tenant, owner_keys=owner_keys, after_position=after, up_to_position=up_to
        )
        while True:
            page = await self._ask(api.EVENTS_OF_KEYS, request, GetEventsOfKeysResponse)
            for event in page.events:
                yield event
            if not page.next_after_position:
                return
            request.after_position = page.next_after_position

    async def stream(self, request: GetStreamRequest) -> AsyncIterator[PositionedEvent]:
        """Yield the events of a stream that a request asks for, page after page.

        Raises:
            StoreError: the stream's id is none.
            StoreUnavailable: nobody answers.
        """
        asked = GetStreamRequest()
        asked.CopyFrom(request)
        while True:
            page = await self._ask(api.STREAM, asked, GetStreamResponse)
            for event in page.events:
                yield event
            if not page.more:
                return
            last = RecordedEvent.FromString(page.events[-1].event.record).stream_version
            if asked.newest_first:
                asked.up_to_version = last - 1
            else:
                asked.after_version = last
            asked.limit -= len(page.events) if asked.limit else 0

    async def changes(self, request: GetChangesRequest) -> AsyncGenerator[list[PositionedEvent]]:
        """Yield pages of the changes that a request asks for; its limit bounds each page.

        Raises:
            StoreUnavailable: nobody answers.
        """
        asked = GetChangesRequest()
        asked.CopyFrom(request)
        while True:
            page = await self._ask(api.CHANGES, asked, GetChangesResponse)
            yield list(page.events)
            if not page.continue_at:
                return
            if asked.newest_first:
                asked.up_to_position = page.continue_at - 1
            else:
                asked.after_position = page.continue_at
            bounded = asked.newest_first or asked.up_to_position
            if bounded and asked.up_to_position <= asked.after_position:
                return

    async def append(self, request: AppendRequest) -> AppendResponse:
        """Append units of decisions or facts.

        Raises:
            StoreError: the request makes no sense, or is larger than NATS takes (1 MiB).
            StoreFull: nothing was recorded.
            StoreUnavailable: whether they were recorded is not known; ask again with the same ids.
        """
        return await self._ask(api.APPEND, request, AppendResponse)

    async def data_keys(self, tenant: int, identity_keys: Iterable[bytes]) -> dict[bytes, DataKey]:
        """Return the data keys of identities that exist; the rest was erased.

        Raises:
            StoreUnavailable: nobody answers.
        """
        found, missing = {}, []
        for key in dict.fromkeys(identity_keys):
            known = self._data_keys.get((tenant, key))
            if known is None:
                missing.append(key)
            else:
                found[key] = known
        for start in range(0, len(missing), api.MAX_DATA_KEYS):
            asked = missing[start : start + api.MAX_DATA_KEYS]
            request = GetDataKeysRequest(tenant=tenant, identity_keys=asked)
            answer = await self._ask(api.DATA_KEYS, request, GetDataKeysResponse)
            for told in answer.data_keys:
                fetched = found[told.identity_key] = data_key(told.data_key)
                self._data_keys.put((tenant, told.identity_key), fetched)
        return found

    async def _ask(self, subject: str, request: Message, answer: type[Answer]) -> Answer:
        payload = request.SerializeToString()
        headers = headers_with_trace() or None

        def ask(of_each: bool, timeout: float) -> Awaitable[Msg]:
            to = api.of_each(subject) if of_each else subject
            return self.connection.request(to, payload, timeout=timeout, headers=headers)

        try:
            message = await first_answer(ask, self._timeout)
        except nats.errors.MaxPayloadError as error:
            raise StoreError(
                f"the request on {subject} is larger than NATS takes; split it"
            ) from error
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise StoreUnavailable(
                f"the event store does not answer on {subject} ({type(error).__name__}); "
                "is the ingestion service running?"
            ) from error
        told = message.headers or {}
        if code := told.get(api.ERROR_CODE):
            raise api.error_of(code, told.get(api.ERROR_TEXT, ""))
        return answer.FromString(message.data)
