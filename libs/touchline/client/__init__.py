"""The async client of Touchline: stubs with sensible defaults, and recording that does not give up.

async with Client.connect() as client:
    verdicts = await client.record([event])
    async for verdict in client.record_stream(many_events):
        ...
"""

from touchline.client.attempts import DEFAULT_PATIENCE
from touchline.client.batches import MAXIMUM_BATCH_BYTES, MAXIMUM_BATCH_EVENTS, batches
from touchline.client.channels import DEFAULT_TIMEOUT
from touchline.client.connection import Client

__all__ = [
    "DEFAULT_PATIENCE",
    "DEFAULT_TIMEOUT",
    "MAXIMUM_BATCH_BYTES",
    "MAXIMUM_BATCH_EVENTS",
    "Client",
    "batches",
]
