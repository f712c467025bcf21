"""Running services for every integration test that only asks and records.

They end with the last of these tests: the loop they run in stands still while unit tests run.
"""

from collections.abc import AsyncIterator

import pytest

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from tests.peers import mail_server, receiver
from tests.servers import SharedPostgres, start_nats
from tests.services import Touchline, new_notifications, new_stores, notification_on, touchline_on
from tests.telling import Teller


@pytest.fixture(scope="package")
async def shared_touchline(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Touchline]:
    """Both services with a connected client, for tests that use identities of their own only."""
    own = await start_nats(tmp_path_factory.mktemp("shared_nats"))
    async with touchline_on(await new_stores(servers), own) as running:
        yield running
    await own.stop()


@pytest.fixture(scope="package")
async def teller(shared_touchline: Touchline, servers: SharedPostgres) -> AsyncIterator[Teller]:
    """A notification service beside the shared ones, with a mail server and a receiver."""
    url = await new_notifications(servers)
    async with (
        mail_server() as mails,
        receiver() as hooks,
        notification_on(shared_touchline, url, {"TOUCHLINE_SMTP_URL": mails.url}) as (
            service,
            client,
        ),
        connect_nats(shared_touchline.nats.service_url, "tests") as connection,
    ):
        yield Teller(StoreClient(connection), client, mails, hooks, service.listen, url)
