"""Records an event in a running Touchline and reads it back: python deploy/smoke.py.

TOUCHLINE_INGESTION and TOUCHLINE_PROFILE say where the services answer (default: 127.0.0.1:7410
and :7420, as Tilt and compose.yaml forward them). The event stays: it is about nobody, and says so.
"""

import asyncio
import os
import sys
import time

import grpc

from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import Channel, Direction, Interaction
from touchline.events.v1.identity_pb2 import Identity, IdentityKind
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_pb2 import Outcome
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import ListTimelineEventsRequest
from touchline.uuid7 import uuid7


async def check(ingestion: str, profile: str, seconds: float = 20.0) -> str:
    """Return a sentence on what was recorded, and how soon it could be read.

    Args:
        ingestion: host:port.
        profile: host:port.
        seconds: How long each of both may take.

    Raises:
        CallFailed: The event can't be recorded.
        grpc.aio.AioRpcError: It can't be read.
        AssertionError: What is read is not what was recorded.
    """
    event_id = str(uuid7())
    nobody = Identity(
        kind=IdentityKind.IDENTITY_KIND_EXTERNAL_ID, namespace="smoke-test", value=event_id
    )
    said = Interaction(
        channel=Channel.CHANNEL_CHAT, direction=Direction.DIRECTION_INBOUND, text="Is it there?"
    )
    event = Event(event_id=event_id, identities=[nobody], source="smoke-test", interaction=said)
    event.occurred_at.GetCurrentTime()
    event.historical = True  # nobody is to be told of it
    async with Client.connect(ingestion, profile) as client:
        started = time.monotonic()
        (verdict,) = await client.record([event], patience=seconds)
        if verdict.outcome != Outcome.OUTCOME_RECORDED:
            raise AssertionError(f"the event was not recorded: {verdict}")
        page = await client.profile.ListTimelineEvents(
            ListTimelineEventsRequest(
                profile=ProfileReference(identity=nobody), after_position=verdict.position
            ),
            timeout=seconds,
        )
        took = time.monotonic() - started
    read = [entry.event for entry in page.entries]
    if [one.event_id for one in read] != [event_id] or read[0].interaction != said:
        raise AssertionError(f"the timeline has {len(read)} events, not the one recorded")
    return f"Recorded at position {verdict.position}, read back after {took * 1000:.0f} ms."


def main() -> None:
    """Check, and end with 0 or with the reason."""
    try:
        said = asyncio.run(
            check(
                os.environ.get("TOUCHLINE_INGESTION", "127.0.0.1:7410"),
                os.environ.get("TOUCHLINE_PROFILE", "127.0.0.1:7420"),
            )
        )
    except CallFailed as error:
        sys.exit(f"Recording failed: {error}")
    except grpc.aio.AioRpcError as error:
        sys.exit(f"Reading failed: {CallFailed.of(error)}")
    except AssertionError as error:
        sys.exit(f"Wrong: {error}")
    sys.stdout.write(said + "\n")


if __name__ == "__main__":
    main()
