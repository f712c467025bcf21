"""Records an event in a running Touchline and asks all services about it: python deploy/smoke.py.

TOUCHLINE_INGESTION, TOUCHLINE_PROFILE, TOUCHLINE_ENGAGEMENT and TOUCHLINE_NOTIFICATION say where
the services answer (default: 127.0.0.1:7410, :7420, :7430 and :7440, as Tilt and compose.yaml
forward them). The event stays: it is about nobody, and says so.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from typing import Final

import grpc

from touchline.client import Client
from touchline.engagement.v1.engagement_service_pb2 import GetScoreRequest
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import Channel, Direction, Interaction
from touchline.events.v1.identity_pb2 import Identity, IdentityKind
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_pb2 import Outcome
from touchline.notification.v1.notification_service_pb2 import ExplainNotificationRequest
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import ListTimelineEventsRequest
from touchline.uuid7 import uuid7

PORTS: Final = {"ingestion": 7410, "profile": 7420, "engagement": 7430, "notification": 7440}


async def check(addresses: Mapping[str, str], seconds: float = 20.0) -> str:
    """Return a sentence on what was recorded, and how soon every service knew of it.

    Args:
        addresses: host:port of each service.
        seconds: How long each call may take.

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
    async with Client.connect(
        addresses["ingestion"],
        addresses["profile"],
        engagement=addresses["engagement"],
        notification=addresses["notification"],
    ) as client:
        started = time.monotonic()
        (verdict,) = await client.record([event], patience=seconds)
        if verdict.outcome != Outcome.OUTCOME_RECORDED:
            raise AssertionError(f"the event was not recorded: {verdict}")
        who, after = ProfileReference(identity=nobody), verdict.position
        page, score, why = await asyncio.gather(
            client.profile.ListTimelineEvents(
                ListTimelineEventsRequest(profile=who, after_position=after), timeout=seconds
            ),
            client.engagement.GetScore(
                GetScoreRequest(profile=who, after_position=after), timeout=seconds
            ),
            client.notification.ExplainNotification(
                ExplainNotificationRequest(event_id=event_id, after_position=after),
                timeout=seconds,
            ),
        )
        took = time.monotonic() - started
    read = [entry.event for entry in page.entries]
    if [one.event_id for one in read] != [event_id] or read[0].interaction != said:
        raise AssertionError(f"the timeline has {len(read)} events, not the one recorded")
    if why.event.event_id != event_id or why.notifications:
        raise AssertionError(f"{len(why.notifications)} notifications follow from the past")
    return (
        f"Recorded at position {after}; read back, scored {score.score.score:.1f} and explained "
        f"after {took * 1000:.0f} ms."
    )


def main() -> None:
    """Check, and end with 0 or with the reason."""
    try:
        said = asyncio.run(
            check(
                {
                    name: os.environ.get(f"TOUCHLINE_{name.upper()}", f"127.0.0.1:{port}")
                    for name, port in PORTS.items()
                }
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
