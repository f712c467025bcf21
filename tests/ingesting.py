"""The ingestion service alone, in this process, on servers that a test may stop and start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.ingestion.__main__ import serve_ingestion
from services.ingestion.config import read_config
from tests.services import Service
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import StoreStatus, Verdict

SECRETS = {
    "TOUCHLINE_TENANTS": "default,acme",
    "TOUCHLINE_IDENTITY_SECRET": "1d" * 32,
    "TOUCHLINE_MASTER_KEY": "a5" * 32,
}


@dataclass(frozen=True, slots=True)
class Ingestion:
    """The running service, its database as the superuser reaches it, and a client."""

    service: Service
    database_url: str
    client: Client


@asynccontextmanager
async def ingestion_on(database_url: str, nats_url: str) -> AsyncIterator[Ingestion]:
    """Run the service until the block ends, then drain it."""
    environment = {
        **SECRETS,
        "TOUCHLINE_DATABASE_URL": database_url,
        "TOUCHLINE_NATS_URL": nats_url,
    }
    service = Service(_serve, environment)
    await service.start()
    try:
        async with Client.connect(service.listen) as client:
            yield Ingestion(service, database_url, client)
    finally:
        await service.stop()


async def record(client: Client, event: Event, within: float = 30.0) -> Verdict:
    """Record one event, once; its failures are those of gRPC."""
    response = await client.ingestion.RecordEvent(
        api.RecordEventRequest(event=event), timeout=within
    )
    return response.verdict


async def record_batch(client: Client, events: Sequence[Event]) -> list[Verdict]:
    """Record a batch, once."""
    request = api.BatchRecordEventsRequest(events=events)
    return list((await client.ingestion.BatchRecordEvents(request)).verdicts)


async def status(client: Client) -> StoreStatus:
    """Where the store stands."""
    return (await client.ingestion.GetStoreStatus(api.GetStoreStatusRequest())).status


async def until_queued(client: Client, events: int) -> None:
    """Return once so many events wait to be appended."""
    async with asyncio.timeout(30):
        while (await status(client)).queued_events < events:  # noqa: ASYNC110 # only asking tells
            await asyncio.sleep(0.02)


async def until_relayed(client: Client, position: int) -> None:
    """Return once the feed came to a position."""
    async with asyncio.timeout(30):
        while (await status(client)).relayed_position < position:  # noqa: ASYNC110 # only asking tells
            await asyncio.sleep(0.05)


async def verified(client: Client) -> api.VerifyStoreResponse:
    """What the verification of the whole store ends with."""
    async for response in client.ingestion.VerifyStore(api.VerifyStoreRequest()):
        if response.finished:
            return response
    raise AssertionError("the verification did not finish")


async def _serve(environment: Mapping[str, str], stop: asyncio.Event) -> None:
    await serve_ingestion(read_config(environment), stop)
