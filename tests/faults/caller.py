"""A caller in a process of its own, to be frozen in the middle of what it does.

    python -m tests.faults.caller grpc HOST:PORT
    python -m tests.faults.caller nats URL

It records batches of new customers, for ever.
"""

import asyncio
import sys
from uuid import uuid4

import grpc

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import StoreUnavailable
from tests.events import an_event
from tests.ingesting import record_batch
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.store.v1.store_pb2 import AppendEvent, AppendRequest, AppendUnit


def batch() -> list[Event]:
    """Events of customers whose data keys have to be made: many, so that requests are long."""
    return [an_event(email=f"{uuid4()}@example.com") for _ in range(200)]


async def by_grpc(address: str) -> None:
    """Calls one replica."""
    async with Client.connect(address) as client:
        while True:
            try:
                await record_batch(client, batch())
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)


async def by_nats(url: str) -> None:
    """Asks whichever replica hears it."""
    async with connect_nats(url, "caller") as connection:
        client = StoreClient(connection)
        while True:
            units = [AppendUnit(events=[AppendEvent(event=event)]) for event in batch()]
            try:
                await client.append(AppendRequest(tenant="default", units=units))
            except StoreUnavailable:
                await asyncio.sleep(0.1)


if __name__ == "__main__":
    way, where = sys.argv[1:]
    asyncio.run({"grpc": by_grpc, "nats": by_nats}[way](where))
