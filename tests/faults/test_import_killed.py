"""An import that is killed in the middle and repeated, while what it needs is killed as well.

Then the whole file comes.
"""

import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc
import pytest

from tests.cdnow import (
    FILE,
    NOTHING,
    client_of,
    counts,
    head,
    importing,
    needs_the_file,
    population,
    rows_of,
)
from tests.running import Installation, Up, finished
from touchline.client import Client

ROWS: Final = 20_000
ALL_ROWS: Final = 69_659
PROFILES: Final = 23_570

pytestmark = needs_the_file


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Installation, Up]]:
    """A running installation."""
    installation = Installation(tmp_path / "home")
    async with installation.up() as up:
        yield installation, up


@pytest.fixture
def first_rows(tmp_path: Path) -> Path:
    """The beginning of the file: enough to be killed in."""
    path = tmp_path / FILE.name
    lines = FILE.read_text().splitlines()[: ROWS + 1]
    path.write_text("\n".join([*lines, ""]), newline="\r\n")
    return path


async def test_killed_in_the_middle_and_repeated_and_whole_nothing_is_lost_or_doubled(
    served: tuple[Installation, Up], first_rows: Path
) -> None:
    """First the importer is killed; in the run that repeats it ingestion, and later PostgreSQL.

    The last run proves contents too: an id that exists with other content would be a conflict.
    """
    installation, up = served
    async with client_of(installation) as client:
        start = await head(client)
        first = await importing(installation, first_rows)
        recorded = await head_past(installation, start + ROWS // 5, first) - start
        first.kill()
        await first.wait()

        repeated = await importing(installation, first_rows)
        for parts, victim in ((2, ingestion_of(up)), (3, postgres_of(installation))):
            part = start + parts * ROWS // 5
            recorded = await head_past(installation, part, repeated) - start
            os.kill(victim, signal.SIGKILL)
        told = counts(done := await finished(repeated, 120))
        assert done.code == 0, done.words  # it waited for what was started again
        assert told["recorded"] + told["duplicates"] == told["rows read"] == ROWS
        assert ROWS // 5 < recorded < ROWS
        assert await head(client) - start == ROWS

        counted = await population(client)
        assert (counted.events, counted.profiles) == (ROWS, len(rows_of(first_rows)))
        whole = counts(await finished(await importing(installation), 120))
        expected = {"rows read": ALL_ROWS, "duplicates": ROWS, "recorded": ALL_ROWS - ROWS}
        assert whole == {**NOTHING, **expected}
        counted = await population(client)
        assert (counted.events, counted.profiles) == (ALL_ROWS, PROFILES)

    verified = await installation.run("verify", within=120)
    assert verified.code == 0, verified.words
    assert "Everything holds" in verified.out


def ingestion_of(up: Up) -> int:
    """Returns the number of the ingestion service's process."""
    return up.child("services.ingestion")


def postgres_of(installation: Installation) -> int:
    """Returns the number of PostgreSQL's main process."""
    pid_file = installation.home / "postgres" / "postmaster.pid"
    return int(pid_file.read_text().partition("\n")[0])


async def head_past(installation: Installation, position: int, importer: Process) -> int:
    """Returns the head once it is past a position, while the importer still runs.

    It connects anew each time: who lost a connection waits longer for the next than the import
    takes.
    """
    reached, addresses = 0, (installation.ingestion, installation.profile)
    while reached < position:
        with suppress(grpc.aio.AioRpcError):  # what was killed before is being started again
            async with Client.connect(*addresses, patience=0) as client:
                reached = await head(client)
        assert importer.returncode is None, "the import ended before anything could be killed"
    return reached
