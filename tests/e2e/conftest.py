"""A running installation for every end-to-end test that only asks and records."""

from collections.abc import AsyncIterator

import pytest

from tests.running import Installation


@pytest.fixture(scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """An installation that `touchline up` runs, shared: tests use identities of their own."""
    installation = Installation(tmp_path_factory.mktemp("running") / "home")
    async with installation.up():
        yield installation
