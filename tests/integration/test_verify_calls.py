"""The calls that verify, and the command that makes them."""

import asyncio
import io

import grpc
import pytest
from rich.console import Console

from libs.cli.verify_command import show_verification
from tests.customers import new_email, record, timeline, told
from tests.given import note
from tests.services import Touchline
from tests.telling import Teller
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_service_pb2 import (
    VerifyFeedRequest,
    VerifyFeedResponse,
)
from touchline.projection.v1.projection_service_pb2 import (
    ListProjectionsRequest,
    VerifyProjectionRequest,
    VerifyProjectionResponse,
)

NOBODY = "127.0.0.1:1"


def told_of(who: Identity) -> Event:
    """A note about a customer."""
    return told(note("2026-11-03 10:00", "calls back"), who)


async def verified(client: Client, service: str, name: str) -> list[VerifyProjectionResponse]:
    """Every message of a verification."""
    request = VerifyProjectionRequest(projection=name)
    return [one async for one in client.projections[service].VerifyProjection(request)]


async def test_progress_is_told_and_then_how_each_table_compares(
    touchline: Touchline,
) -> None:
    who = new_email()
    position = await record(touchline.client, *[told_of(who) for _ in range(3)])
    await timeline(touchline.client, who, position)
    *before, last = await verified(touchline.client, "profile", "timeline")
    assert before
    assert not any(one.finished or one.tables for one in before)
    assert last.finished
    assert last.position == last.folded_events == last.events >= position
    assert [(table.table, table.differing_rows) for table in last.tables] == [
        ("timeline", 0),
        ("timeline_retractions", 0),
    ]
    assert last.tables[0].live_rows == last.tables[0].copied_rows >= 3


async def test_the_feed_is_read_to_its_end(shared_touchline: Touchline) -> None:
    client, who = shared_touchline.client, new_email()
    position = await record(client, told_of(who))
    states = [VerifyFeedResponse()]
    async with asyncio.timeout(30):
        while states[-1].last_position < position:  # the relay has yet to publish it
            states = [one async for one in client.ingestion.VerifyFeed(VerifyFeedRequest())]
    assert [one.finished for one in states] == [False] * (len(states) - 1) + [True]
    assert states[-1].checked_batches == states[-1].batches > 0
    assert 0 < states[-1].first_position <= position <= states[-1].head_position


async def test_what_can_not_be_verified_is_refused_with_the_reason(
    shared_touchline: Touchline, teller: Teller
) -> None:
    for client, service, name, code, reason in (
        *[(shared_touchline.client, "profile", "timelines", "NOT_FOUND", "PROJECTION_NOT_FOUND")],
        *[(teller.client, "notification", "rules", "INVALID_ARGUMENT", "INVALID_REQUEST")],
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await verified(client, service, name)
        failed = CallFailed.of(refused.value)
        assert (failed.code.name, failed.reason) == (code, reason)
    listed = await teller.client.projections["notification"].ListProjections(
        ListProjectionsRequest()
    )
    reactors = {one.name for one in listed.projections if one.is_reactor}
    assert reactors == {"deliveries", "expectations", "rules"}


async def test_the_command_tells_each_check_and_fails_when_a_service_is_silent(
    touchline: Touchline,
) -> None:
    who = new_email()
    await timeline(touchline.client, who, await record(touchline.client, told_of(who)))
    shown = Console(file=io.StringIO(), width=100)
    async with Client.connect(
        touchline.ingestion.listen,
        touchline.profile.listen,
        engagement=NOBODY,
        notification=NOBODY,
    ) as client:
        assert not await show_verification(client, shown)
    printed = " ".join(shown.file.getvalue().split())  # type: ignore[attr-defined]
    for words in (
        "✓ chain intact",
        "✓ positions contiguous",
        "feed as the store",
        "✓ profile/identity_graph as folded anew",
        "✓ profile/timeline as folded anew",
        "✗ engagement it does not answer",
        "✗ notification it does not answer",
    ):
        assert words in printed
