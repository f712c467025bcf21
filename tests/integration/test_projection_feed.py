"""The feed of a process: one subscription and one parse for all who follow, and no loss unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import nats.errors
import pytest
from nats.aio.client import Client as NatsClient

from libs.eventstore.connection import connect_nats
from libs.eventstore.feed import STREAM
from libs.projection import feed
from libs.projection.batches import Batch
from libs.projection.feed import Feed, Follower
from tests.customers import new_email, record, told
from tests.given import note
from tests.services import Touchline


@pytest.fixture
async def connection(touchline: Touchline) -> AsyncIterator[NatsClient]:
    """What a service hears the feed on, beside the profile service with its four projections."""
    async with asyncio.timeout(15):
        while await subscriptions(touchline) != 1:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    async with connect_nats(touchline.nats.service_url, "follower") as connection:
        yield connection


async def tell(touchline: Touchline, count: int = 1) -> int:
    """Records notes, each in a batch of its own, and returns the last position."""
    for _ in range(count):
        last = await record(touchline.client, told(note("2024-03-01", "Called"), new_email()))
    return last


async def arrived(follower: Follower, up_to: int) -> list[Batch]:
    """What comes until a position."""
    batches: list[Batch] = []
    async with asyncio.timeout(15):
        while not batches or batches[-1].end.position < up_to:
            batches += (await follower.arriving()).batches
    return batches


async def subscriptions(touchline: Touchline) -> int:
    """How many follow the stream, as the server counts."""
    async with connect_nats(touchline.nats.url, "operator") as connection:
        return len(await connection.jetstream().consumers_info(STREAM))


async def test_given_three_who_follow_then_a_batch_comes_and_is_parsed_once_for_all(
    touchline: Touchline, connection: NatsClient
) -> None:
    shared = Feed(connection)
    async with shared.follow() as one, shared.follow() as two, shared.follow() as three:
        assert await subscriptions(touchline) == 2
        last = await tell(touchline, 3)
        first, *others = [await arrived(follower, last) for follower in (one, two, three)]
        assert first == others[0] == others[1]  # the very same objects
        (recorded,) = first[0].recorded_after(0)
        assert others[0][0].recorded_after(0)[0] is recorded


async def test_given_who_comes_later_then_nothing_from_before_is_told(
    touchline: Touchline, connection: NatsClient
) -> None:
    shared = Feed(connection)
    async with shared.follow() as early:
        await arrived(early, await tell(touchline))
        async with shared.follow() as late:
            last = await tell(touchline)
            (batch,) = await arrived(late, last)
            assert batch.end.position == last


async def test_given_who_is_too_far_behind_then_it_has_a_gap_and_the_others_have_none(
    touchline: Touchline, connection: NatsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_MOST_BYTES", 2000)
    shared = Feed(connection)
    async with shared.follow() as slow, shared.follow() as quick:
        for _ in range(20):
            await arrived(quick, last := await tell(touchline))
        kept = await arrived(slow, last)
        assert 1 <= len(kept) < 20
        assert kept[-1].end.position == last


async def test_given_one_who_found_it_wanting_then_it_subscribes_anew_and_the_others_go_on(
    touchline: Touchline, connection: NatsClient
) -> None:
    shared = Feed(connection)
    async with shared.follow() as other:
        async with shared.follow():
            pass
        async with shared.follow() as anew:
            assert await subscriptions(touchline) == 3
            last = await tell(touchline)
            assert [await arrived(one, last) for one in (other, anew)]


async def test_given_one_who_is_cancelled_then_the_next_joins_the_others(
    touchline: Touchline, connection: NatsClient
) -> None:
    shared = Feed(connection)
    async with shared.follow():
        with pytest.raises(asyncio.CancelledError):
            async with shared.follow():
                raise asyncio.CancelledError
        async with shared.follow():
            assert await subscriptions(touchline) == 2


async def test_given_a_connection_that_is_closed_then_whoever_follows_is_told(
    touchline: Touchline,
) -> None:
    async with (
        connect_nats(touchline.nats.service_url, "follower") as connection,
        Feed(connection).follow() as follower,
    ):
        await connection.close()
        with pytest.raises(nats.errors.ConnectionClosedError):
            await follower.arriving(15)
