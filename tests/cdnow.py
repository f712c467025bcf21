"""A real file of 69,659 purchases of 23,570 customers at a music shop, and its import.

It is not part of the project: tests that use it are skipped, and say so, where it is absent.
"""

import re
from asyncio.subprocess import Process
from collections import defaultdict
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import pytest

from libs.cli.stack import CHECKOUT
from tests.running import Finished, Installation
from touchline.client import Client
from touchline.ingestion.v1.ingestion_service_pb2 import GetStoreStatusRequest
from touchline.profile.v1.profile_service_pb2 import GetPopulationRequest, GetPopulationResponse

FILE: Final = CHECKOUT.parent / "shared" / "data" / "cdnow_master.txt"
NOTHING: Final = dict.fromkeys(("recorded", "duplicates", "conflicts", "rejected", "broken"), 0)
"""The numbers of an import's summary, when there was nothing."""

needs_the_file: Final = [
    pytest.mark.real_input,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not FILE.exists(), reason=f"{FILE} is not part of the project"),
]


async def importing(installation: Installation, file: Path = FILE) -> Process:
    """Starts an import."""
    mapping = ("--mapping", "examples/cdnow.toml")
    return await installation.start("import", str(file), *mapping)


def counts(done: Finished) -> dict[str, int]:
    """Returns the numbers of an import's summary by name."""
    lines = re.findall(r"^(\w[\w ]*?) +([\d,]+)$", done.out, re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in lines}


def client_of(installation: Installation) -> AbstractAsyncContextManager[Client]:
    """Gives a client of an installation ."""
    return Client.connect(
        *(installation.ingestion, installation.profile),
        engagement=installation.services["engagement"],
    )


async def head(client: Client) -> int:
    """Returns the last position of the line."""
    status = await client.ingestion.GetStoreStatus(GetStoreStatusRequest())
    return int(status.status.head_position)


async def population(client: Client) -> GetPopulationResponse:
    """Counts what there is now, once the projections have seen it."""
    request = GetPopulationRequest(after_position=await head(client))
    counted: GetPopulationResponse = await client.profile.GetPopulation(request, timeout=60)
    return counted


def day_of(line: str) -> date:
    """Returns the day of a line of the file."""
    return datetime.strptime(line.split()[1], "%Y%m%d").replace(tzinfo=UTC).date()


def rows_of(path: Path) -> dict[str, list[tuple[date, int]]]:
    """Returns day and millionths of each customer's purchases, by plain reading of the file."""
    rows = defaultdict(list)
    for line in path.read_text().splitlines()[1:]:
        number, _, _, dollars = line.split()
        rows[number].append((day_of(line), round(float(dollars) * 100) * 10_000))
    return dict(rows)
