"""A stream that is deleted and made anew under a live subscription is noticed, and bridged."""

from __future__ import annotations

from libs.eventstore import feed
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.pool import open_pool
from tests.customers import new_email, record, told
from tests.given import note
from tests.projecting import LIVE, Ledger, build_ledger, ledger_of, runner_of
from tests.servers import MakeDatabase
from tests.services import Touchline
from tests.waiting import until


async def test_given_a_stream_made_anew_while_events_come_then_none_is_missing(
    touchline: Touchline, database_from_template: MakeDatabase
) -> None:
    customer = new_email()
    async with (
        open_pool(await database_from_template(build_ledger), application="ledger") as pool,
        connect_nats(touchline.nats.service_url, "ledger") as connection,
        connect_nats(touchline.nats.url, "operator") as operator,
        runner_of(Ledger(), pool, StoreClient(connection)) as runner,
    ):
        await until(lambda: runner.state.state == LIVE, 15)
        jetstream = operator.jetstream()
        await jetstream.delete_stream(feed.STREAM)
        await feed.ensure_stream(jetstream)
        for _ in range(3):
            await record(touchline.client, told(note("2024-03-01", "Called"), customer))
        await until(lambda: runner.checkpoint.position == 3, 15)
        await until(lambda: runner.state.state == LIVE, 15)
        await record(touchline.client, told(note("2024-03-01", "Called again"), customer))
        await until(lambda: runner.checkpoint.position == 4, 15)
        assert await ledger_of(pool) == [1, 2, 3, 4]
