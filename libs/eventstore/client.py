"""The other services' side of the store's NATS API."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Collection,
    Iterable,
    Sequence,
)
from typing import Final, TypeVar

import nats.errors
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from libs.eventstore import api
from libs.eventstore.chain import Ancestor, Head, Lineage
from libs.eventstore.errors import StoreError, StoreUnavailable
from libs.eventstore.hedging import first_answer
from libs.eventstore.lru import LruCache
from libs.eventstore.records import Keys, identity_keys_of, needs_kept_key, outdated
from libs.eventstore.sealing import DataKey, data_key
from libs.telemetry.messaging import headers_with_trace
from touchline.store.v1.store_pb2 import (
    AppendRequest,
    AppendResponse,
    EraseRequest,
    EraseResponse,
    GetChangesRequest,
    GetChangesResponse,
    GetDataKeysRequest,
    GetDataKeysResponse,
    GetEventKeysRequest,
    GetEventKeysResponse,
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
# An erasure of a time range reads every event of its identities.
_ERASE_SECONDS: Final = 120.0
_CACHED_KEYS: Final = 200_000
# Of events that an erasure of other times left: few, and each takes as much as ten keys.
_CACHED_EVENT_KEYS: Final = 20_000

Answer = TypeVar("Answer", bound=Message)
Known = TypeVar("Known")


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
        self._event_keys: LruCache[tuple[int, bytes], AESGCM] = LruCache(_CACHED_EVENT_KEYS)

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

    async def history(
        self, after: int, partitions: tuple[int, int] | None = None, up_to: int = 0
    ) -> GetHistoryResponse:
        """Return a page of the events after a position, at most 512 KiB.

        Args:
            after: The position.
            partitions: Whose records are wanted, from the first partition to the last; those of
                other events may be empty. Default: all.
            up_to: The last position that is wanted; 0: as many events as a page holds.

        Raises:
            StoreUnavailable: nobody answers.
        """
        request = GetHistoryRequest(after_position=after, up_to_position=up_to)
        if partitions is not None:
            request.first_partition, request.last_partition = partitions
        return await self._ask(api.HISTORY, request, GetHistoryResponse)

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

    async def erase(self, request: EraseRequest) -> EraseResponse:
        """Delete the keys of identities, or of what happened to them in a time, and record it.

        Asked again with the same erasure_id it answers as the first time.

        Raises:
            NothingToErase: none of the identities has a data key.
            ErasureRefused: it can't be done as asked, such as a time range in which events are that
                an older release sealed; says why. Nothing was erased.
            StoreError: the request makes no sense.
            StoreUnavailable: whether it was done is not known; ask again with the same erasure_id.
        """
        return await self._ask(api.ERASE, request, EraseResponse, within=_ERASE_SECONDS)

    def forget_keys(self) -> None:
        """Forget every key that was fetched, since somebody was erased; they are asked for anew."""
        # Answers that are under way go into what is dropped here.
        self._data_keys = LruCache(_CACHED_KEYS)
        self._event_keys = LruCache(_CACHED_EVENT_KEYS)

    def remembered(self, tenant: int, identity_keys: Iterable[bytes]) -> int:
        """Return of how many identities a data key is in this process's memory."""
        return sum(self._data_keys.get((tenant, key)) is not None for key in identity_keys)

    async def keys_of(
        self, tenant: int, records: Sequence[RecordedEvent], *, identities: bool = True
    ) -> Keys:
        """Return the keys that open some events of one tenant; those that are missing were erased.

        Args:
            tenant: The tenant's number.
            records: The events.
            identities: Whether to open their identities too, which takes more keys.

        Raises:
            StoreUnavailable: nobody answers.
        """
        wanted = identity_keys_of(records) if identities else {one.owner_key for one in records}
        data_keys = await self.data_keys(tenant, wanted)
        if old := {key for record in records for key in outdated(record, data_keys)}:
            # Or the keys are: fetched before an erasure of which nobody told this process yet.
            for key in old:
                self._data_keys.forget((tenant, key))
                del data_keys[key]
            data_keys |= await self.data_keys(tenant, old)
        kept = [record.event_id for record in records if needs_kept_key(record, data_keys)]
        return Keys(data_keys, await self._kept_keys(tenant, kept) if kept else {})

    async def data_keys(self, tenant: int, identity_keys: Iterable[bytes]) -> dict[bytes, DataKey]:
        """Return the data keys of identities that exist; the rest was erased.

        To open events, ask for `keys_of` them.

        Raises:
            StoreUnavailable: nobody answers.
        """
        known = self._data_keys
        found, missing = _known(known, tenant, identity_keys)
        for start in range(0, len(missing), api.MAX_DATA_KEYS):
            asked = missing[start : start + api.MAX_DATA_KEYS]
            request = GetDataKeysRequest(tenant=tenant, identity_keys=asked)
            answer = await self._ask(api.DATA_KEYS, request, GetDataKeysResponse)
            for told in answer.data_keys:
                fetched = data_key(told.data_key, told.event_secret)
                found[told.identity_key] = fetched
                known.put((tenant, told.identity_key), fetched)
        return found

    async def _kept_keys(self, tenant: int, event_ids: Iterable[bytes]) -> dict[bytes, AESGCM]:
        known = self._event_keys
        found, missing = _known(known, tenant, event_ids)
        for start in range(0, len(missing), api.MAX_EVENT_KEYS):
            asked = missing[start : start + api.MAX_EVENT_KEYS]
            request = GetEventKeysRequest(tenant=tenant, event_ids=asked)
            answer = await self._ask(api.EVENT_KEYS, request, GetEventKeysResponse)
            for told in answer.event_keys:
                found[told.event_id] = AESGCM(told.key)
                known.put((tenant, told.event_id), found[told.event_id])
        return found

    async def _ask(
        self, subject: str, request: Message, answer: type[Answer], within: float = 0
    ) -> Answer:
        payload = request.SerializeToString()
        headers = headers_with_trace() or None

        def ask(of_each: bool, timeout: float) -> Awaitable[Msg]:
            to = api.of_each(subject) if of_each else subject
            return self.connection.request(to, payload, timeout=timeout, headers=headers)

        try:
            message = await first_answer(ask, within or self._timeout)
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


def _known(
    cache: LruCache[tuple[int, bytes], Known], tenant: int, names: Iterable[bytes]
) -> tuple[dict[bytes, Known], list[bytes]]:
    """Return what a cache knows by name, and the names that it does not know."""
    found, missing = {}, []
    for name in dict.fromkeys(names):
        known = cache.get((tenant, name))
        if known is None:
            missing.append(name)
        else:
            found[name] = known
    return found, missing
