"""A running installation for every end-to-end test that only asks and records."""

from collections.abc import AsyncIterator

import pytest

from tests.peers import MailServer, mail_server
from tests.running import Installation


@pytest.fixture(scope="package")
async def mailbox() -> AsyncIterator[MailServer]:
    """The mail server that the shared installation hands its emails to."""
    async with mail_server() as server:
        yield server


@pytest.fixture(scope="package")
async def running(
    tmp_path_factory: pytest.TempPathFactory, mailbox: MailServer
) -> AsyncIterator[Installation]:
    """An installation that `touchline up` runs, shared: tests use identities of their own.

    What can't be delivered is tried again soon: the fourth pause may be a minute otherwise.
    """
    home = tmp_path_factory.mktemp("running") / "home"
    settings = {"TOUCHLINE_SMTP_URL": mailbox.url, "TOUCHLINE_DELIVERY_RETRY_SECONDS": "0.1"}
    installation = Installation(home, settings=settings)
    async with installation.up():
        yield installation
