"""`touchline up` starts again what was killed, and nothing is lost."""

import os
import signal
from pathlib import Path

from tests.running import Installation

CONTACTS = ("import", "examples/contacts.csv", "--mapping", "examples/contacts.toml")


async def test_services_and_servers_that_are_killed_come_back_with_their_data(
    tmp_path: Path,
) -> None:
    installation = Installation(tmp_path / "home")
    async with installation.up() as up:
        assert (await installation.run(*CONTACTS)).code == 0
        services = [f"services.{name}" for name in installation.services]
        for together in (services, ["nats-server"], ["bin/postgres"]):
            before = {mark: up.child(mark) for mark in together}
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
            await up.says("it was ended by SIGKILL; it is started again", times=len(together))
            await up.says("it runs again", times=len(together))
            for mark, pid in before.items():
                assert up.child(mark) != pid
            up.text = ""
        again = await installation.run(*CONTACTS)
        assert "duplicates 3" in again.words
        assert (await installation.run("verify")).code == 0
    assert up.process.returncode == 0
