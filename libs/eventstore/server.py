"""The store's side of its NATS API: a micro service that other services ask."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import nats.micro
import structlog
from google.protobuf.message import DecodeError, Message
from nats.aio.client import Client as NatsClient
from nats.micro.request import Request
from nats.micro.service import ServiceConfig

from libs.eventstore import api
from libs.eventstore.keyring import Keyring
from libs.eventstore.other_stores import present, watch_for_others
from libs.eventstore.store import EventStore
from libs.eventstore.streams import changes_page, stream_page
from libs.identity.keys import PARTITIONS
from libs.rpc import calls
from libs.tasks import running
from libs.telemetry import carry, current_traceparent
from libs.telemetry.messaging import traceparent_in
from touchline.store.v1.store_pb2 import (
    Ancestor,
    AppendRequest,
    AppendResponse,
    DataKey,
    EraseRequest,
    EraseResponse,
    EventKey,
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
)

# A slow request must not hold up the others, nor may any number of them run.
_CONCURRENT: Final = 16
_log = structlog.get_logger("store-api")

Asked = TypeVar("Asked", bound=Message)
Endpoint = tuple[str, type[Any], Callable[[Any, str], Awaitable[Message]]]
Append = Callable[[AppendRequest, str], Awaitable[AppendResponse]]
Erase = Callable[[EraseRequest, str], Awaitable[EraseResponse]]


@asynccontextmanager
async def serve_store(
    connection: NatsClient, store: EventStore, keyring: Keyring, append: Append, erase: Erase
) -> AsyncIterator[None]:
    """Answer the store's API on NATS until the block ends.

    Args:
        connection: To NATS.
        store: Answers head, history, events of keys, streams and changes.
        keyring: Answers data keys and kept event keys.
        append: Validates, seals and appends a request, given its trace context.
        erase: Erases what a request says, given its trace context.

    Raises:
        AnotherStore: another store has answered on this NATS for longer.
    """
    tasks: set[asyncio.Task[None]] = set()
    mine = present((await store.head()).store_id)
    service = await nats.micro.add_service(
        connection,
        ServiceConfig(
            name=api.SERVICE,
            version=api.VERSION,
            description="The line of events",
            metadata=mine.metadata,
        ),
    )
    writes: tuple[Endpoint, ...] = (
        (api.APPEND, AppendRequest, append),
        (api.ERASE, EraseRequest, erase),
    )
    for subject, asked, answer in (*_reads(store), *_keys(keyring), *writes):
        name = subject.rpartition(".")[2]
        handler = _handler(tasks, asked, answer)
        await service.add_endpoint(name=name, subject=subject, handler=handler)
        # Alone in its group, it hears what is asked of each replica.
        await service.add_endpoint(
            name=f"{name}-of-each",
            subject=api.of_each(subject),
            queue_group=service.id,
            handler=handler,
        )
    try:
        async with running(watch_for_others(connection, mine)):
            yield
    finally:
        if not connection.is_closed:
            await service.stop()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reads(store: EventStore) -> tuple[Endpoint, ...]:
    async def head(_: GetHeadRequest, __: str) -> GetHeadResponse:
        line = await store.lineage()
        at = line.head
        return GetHeadResponse(
            store_id=at.store_id,
            position=at.position,
            chain=at.chain,
            ancestors=[
                Ancestor(store_id=one.store_id, position=one.position, chain=one.chain)
                for one in line.ancestors
            ],
        )

    async def history(request: GetHistoryRequest, _: str) -> GetHistoryResponse:
        first, last = request.first_partition, request.last_partition
        partitions = (first, last if request.HasField("last_partition") else PARTITIONS - 1)
        if not first <= partitions[1] < PARTITIONS:
            raise ValueError(f"partitions are 0 to {PARTITIONS - 1}, the first before the last")
        up_to = request.up_to_position
        return await store.history_page(request.after_position, partitions, up_to)

    async def events_of_keys(request: GetEventsOfKeysRequest, _: str) -> GetEventsOfKeysResponse:
        if len(request.owner_keys) > api.MAX_OWNER_KEYS:
            raise ValueError(f"at most {api.MAX_OWNER_KEYS} owner keys may be asked for at once")
        return await store.events_of_keys(
            request.tenant, request.owner_keys, request.after_position, request.up_to_position
        )

    async def stream(request: GetStreamRequest, _: str) -> GetStreamResponse:
        if len(request.stream_id) != api.STREAM_ID_BYTES:
            raise ValueError(f"a stream's id has {api.STREAM_ID_BYTES} bytes")
        return await stream_page(store.pool, request)

    async def changes(request: GetChangesRequest, _: str) -> GetChangesResponse:
        return await changes_page(store.pool, request)

    return (
        (api.HEAD, GetHeadRequest, head),
        (api.HISTORY, GetHistoryRequest, history),
        (api.EVENTS_OF_KEYS, GetEventsOfKeysRequest, events_of_keys),
        (api.STREAM, GetStreamRequest, stream),
        (api.CHANGES, GetChangesRequest, changes),
    )


def _keys(keyring: Keyring) -> tuple[Endpoint, ...]:
    async def data_keys(request: GetDataKeysRequest, _: str) -> GetDataKeysResponse:
        if len(request.identity_keys) > api.MAX_DATA_KEYS:
            raise ValueError(f"at most {api.MAX_DATA_KEYS} data keys may be asked for at once")
        found = await keyring.fetch(request.tenant, request.identity_keys)
        return GetDataKeysResponse(
            data_keys=[
                DataKey(
                    identity_key=identity_key, data_key=key.secret, event_secret=key.event_secret
                )
                for identity_key, key in found.items()
            ]
        )

    async def event_keys(request: GetEventKeysRequest, _: str) -> GetEventKeysResponse:
        if len(request.event_ids) > api.MAX_EVENT_KEYS:
            raise ValueError(f"at most {api.MAX_EVENT_KEYS} event keys may be asked for at once")
        if any(len(event_id) != api.EVENT_ID_BYTES for event_id in request.event_ids):
            raise ValueError(f"an event's id has {api.EVENT_ID_BYTES} bytes")
        found = await keyring.event_keys(request.tenant, request.event_ids)
        return GetEventKeysResponse(
            event_keys=[EventKey(event_id=event_id, key=key) for event_id, key in found.items()]
        )

    return (
        (api.DATA_KEYS, GetDataKeysRequest, data_keys),
        (api.EVENT_KEYS, GetEventKeysRequest, event_keys),
    )


def _handler(
    tasks: set[asyncio.Task[None]],
    asked: type[Asked],
    answer: Callable[[Asked, str], Awaitable[Message]],
) -> Callable[[Request], Awaitable[None]]:
    places = asyncio.Semaphore(_CONCURRENT)

    async def respond(request: Request) -> None:
        carry(traceparent_in(request.headers))
        call = calls.started(api.asked(request.subject), "nats")
        code = "OK"
        try:
            response = await answer(asked.FromString(request.data), current_traceparent())
            await request.respond(response.SerializeToString())
        except DecodeError:
            code = api.BAD_REQUEST
            await request.respond_error(api.BAD_REQUEST, f"the request is no {asked.__name__}")
        except Exception as error:
            code = api.code_of(error)
            if code == api.FAILED:
                _log.error(
                    "store request failed", subject=request.subject, error=type(error).__name__
                )
            await request.respond_error(code, str(error) if code != api.FAILED else "failed")
        finally:
            places.release()
            if call is not None:
                calls.ended(call, code, failed=code in (api.FAILED, api.UNAVAILABLE))

    async def handle(request: Request) -> None:
        await places.acquire()
        task = asyncio.create_task(respond(request))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return handle
