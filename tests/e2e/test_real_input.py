"""A real file of 69,659 purchases: whole, repeated, and killed in the middle.

One installation takes both, each for a tenant of its own, so that each begins with nothing.
"""

import asyncio
import os
import re
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

import grpc
import pytest

from libs.cli.stack import CHECKOUT
from tests.customers import number_in
from tests.running import Finished, Installation, Up, finished
from touchline.client import Client
from touchline.ingestion.v1.ingestion_service_pb2 import GetStoreStatusRequest
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import (
    GetPopulationRequest,
    GetPopulationResponse,
    GetViewRequest,
)
from touchline.profile.v1.views_pb2 import VIEW_KIND_SALES

FILE: Final = CHECKOUT.parent / "shared" / "data" / "cdnow_master.txt"
ROWS: Final = 69_659
PROFILES: Final = 23_570
AMOUNT_MICROS: Final = 2_500_315_630_000
TENANTS: Final = ("default", "killed")
IN_FLIGHT: Final = 64
NOTHING: Final = dict.fromkeys(("recorded", "duplicates", "conflicts", "rejected", "broken"), 0)

pytestmark = [
    pytest.mark.real_input,
    pytest.mark.xdist_group("e2e"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(not FILE.exists(), reason=f"{FILE} is not part of the project"),
]


@pytest.fixture(scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Installation, Up]]:
    """A running installation that knows the tenants."""
    home = tmp_path_factory.mktemp("real") / "home"
    installation = Installation(home, settings={"TOUCHLINE_TENANTS": ",".join(TENANTS)})
    async with installation.up() as up:
        yield installation, up


@pytest.fixture(scope="module")
async def whole(served: tuple[Installation, Up]) -> Finished:
    """The import of the whole file for the tenant `default`, ended."""
    return await finished(await importing(served[0], "default"), 120)


async def test_every_row_is_recorded_once(served: tuple[Installation, Up], whole: Finished) -> None:
    assert whole.code == 0
    assert counts(whole) == {**NOTHING, "rows read": ROWS, "recorded": ROWS}
    again = await finished(await importing(served[0], "default"), 120)
    assert again.code == 0
    assert counts(again) == {**NOTHING, "rows read": ROWS, "duplicates": ROWS}
    async with client_of(served[0], "default") as client:
        counted = await population(client)
    assert (counted.events, counted.profiles) == (ROWS, PROFILES)


async def test_the_sales_view_of_every_sixteenth_customer_has_the_total_of_the_file(
    served: tuple[Installation, Up], whole: Finished
) -> None:
    assert whole.code == 0
    expected = {number: micros for number, micros in totals().items() if int(number) % 16 == 0}
    async with client_of(served[0], "default") as client:
        await population(client)
        assert await amounts(client, list(expected)) == expected


async def test_killed_in_the_middle_and_repeated_nothing_is_lost_or_doubled(
    served: tuple[Installation, Up],
) -> None:
    """First the importer is killed; in the run that repeats it ingestion, and later PostgreSQL.

    The last run proves contents too: an id that exists with other content would be a conflict.
    """
    installation, up = served
    async with client_of(installation, "killed") as client:
        start = await head(client)
        first = await importing(installation, "killed")
        recorded = await head_past(client, start + ROWS // 5, first) - start
        first.kill()
        await first.wait()

        repeated = await importing(installation, "killed")
        for parts, victim in ((2, ingestion_of(up)), (3, postgres_of(installation))):
            recorded = await head_past(client, start + parts * ROWS // 5, repeated) - start
            os.kill(victim, signal.SIGKILL)
        told = counts(done := await finished(repeated, 120))
        assert done.code == 0, done.words  # it waited for what was started again
        assert told["recorded"] + told["duplicates"] == told["rows read"] == ROWS
        assert ROWS // 5 < recorded < ROWS
        assert await head(client) - start == ROWS

        again = await finished(await importing(installation, "killed"), 120)
        assert counts(again) == {**NOTHING, "rows read": ROWS, "duplicates": ROWS}
        counted = await population(client)
        assert (counted.events, counted.profiles) == (ROWS, PROFILES)


async def test_after_all_that_the_chain_is_intact_and_no_position_missing(
    served: tuple[Installation, Up],
) -> None:
    verified = await served[0].run("verify", within=120)
    assert verified.code == 0, verified.words
    assert "Everything holds" in verified.out


async def importing(installation: Installation, tenant: str) -> Process:
    mapping = ("--mapping", "examples/cdnow.toml")
    return await installation.start("import", str(FILE), *mapping, "--tenant", tenant)


def counts(done: Finished) -> dict[str, int]:
    """Returns the numbers of an import's summary by name."""
    lines = re.findall(r"^(\w[\w ]*?) +([\d,]+)$", done.out, re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in lines}


def ingestion_of(up: Up) -> int:
    """Returns the number of the ingestion service's process."""
    return up.child("services.ingestion")


def postgres_of(installation: Installation) -> int:
    """Returns the number of PostgreSQL's main process."""
    pid_file = installation.home / "postgres" / "postmaster.pid"
    return int(pid_file.read_text().partition("\n")[0])


def client_of(installation: Installation, tenant: str) -> AbstractAsyncContextManager[Client]:
    return Client.connect(installation.ingestion, installation.profile, tenant)


async def head(client: Client) -> int:
    status = await client.ingestion.GetStoreStatus(GetStoreStatusRequest())
    return int(status.status.head_position)


async def head_past(client: Client, position: int, importer: Process) -> int:
    """Returns the head once it is past a position, while the importer still runs."""
    reached = 0
    while reached < position:
        with suppress(grpc.aio.AioRpcError):  # what was killed before is being started again
            reached = await head(client)
        assert importer.returncode is None, "the import ended before anything could be killed"
    return reached


async def population(client: Client) -> GetPopulationResponse:
    """Counts what there is now, once the projections have seen it."""
    request = GetPopulationRequest(after_position=await head(client))
    counted: GetPopulationResponse = await client.profile.GetPopulation(request, timeout=60)
    return counted


def totals() -> dict[str, int]:
    """Returns what each customer spent, in millionths, by plain reading of the file."""
    spent: dict[str, int] = {}
    for line in FILE.read_text().splitlines():
        number, _, _, dollars = line.split()
        spent[number] = spent.get(number, 0) + round(float(dollars) * 100) * 10_000
    assert (len(spent), sum(spent.values())) == (PROFILES, AMOUNT_MICROS)
    return spent


async def amounts(client: Client, numbers: Sequence[str]) -> dict[str, int]:
    """Returns the order totals in customers' sales views, in millionths."""
    turns = asyncio.Semaphore(IN_FLIGHT)

    async def total(number: str) -> int:
        customer = ProfileReference(identity=number_in("cdnow", number))
        async with turns:
            response = await client.profile.GetView(
                GetViewRequest(profile=customer, view=VIEW_KIND_SALES)
            )
        assert not response.truncated
        [money] = response.sales.order_totals
        assert money.currency_code == "USD"
        return int(money.micros)

    return dict(zip(numbers, await asyncio.gather(*map(total, numbers)), strict=True))
