"""Every eighth customer of a real file of purchases, against what plain Python reads in it.

The whole file is imported in tests/faults. Every date is moved by the same number of days, so that
the last purchase was yesterday: after 28 years nobody is engaged any more.
"""

import asyncio
import math
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.cdnow import (
    FILE,
    NOTHING,
    client_of,
    counts,
    day_of,
    head,
    importing,
    needs_the_file,
    population,
    rows_of,
)
from tests.customers import number_in
from tests.running import Finished, Installation, Up, finished
from touchline.client import Client
from touchline.engagement.v1.engagement_pb2 import Score
from touchline.engagement.v1.engagement_service_pb2 import (
    ExplainScoreRequest,
    GetScoreRequest,
    ListScoresRequest,
)
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import (
    GetViewRequest,
    GetViewResponse,
)
from touchline.profile.v1.views_pb2 import VIEW_KIND_SALES

IN_FLIGHT: Final = 64

pytestmark = needs_the_file


@pytest.fixture(scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Installation, Up]]:
    """A running installation."""
    home = tmp_path_factory.mktemp("real") / "home"
    installation = Installation(home)
    async with installation.up() as up:
        yield installation, up


@dataclass(frozen=True, slots=True)
class Bought:
    """What a customer bought: the last day, how many times, and for how much in millionths."""

    recency: date
    frequency: int
    monetary: int


@pytest.fixture(scope="module")
def recent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The purchases of every eighth customer, as if the last of them was yesterday."""
    heading, *every = FILE.read_text().splitlines()
    lines = [line for line in every if int(line.split()[0]) % 8 == 0]
    days = [day_of(line) for line in lines]
    by = datetime.now(UTC).date() - timedelta(days=1) - max(days)
    moved = [
        f"{line[:7]}{day + by:%Y%m%d}{line[15:]}" for line, day in zip(lines, days, strict=True)
    ]
    path = tmp_path_factory.mktemp("recent") / FILE.name
    path.write_text("\n".join([heading, *moved, ""]), newline="\r\n")
    return path


@pytest.fixture(scope="module")
async def done(served: tuple[Installation, Up], recent: Path) -> Finished:
    """The import of the file, ended."""
    return await finished(await importing(served[0], recent), 120)


async def test_every_row_is_recorded_once(
    served: tuple[Installation, Up], recent: Path, done: Finished
) -> None:
    assert done.code == 0
    customers = rows_of(recent)
    rows = sum(map(len, customers.values()))
    assert counts(done) == {**NOTHING, "rows read": rows, "recorded": rows}
    async with client_of(served[0]) as client:
        counted = await population(client)
    assert (counted.events, counted.profiles) == (rows, len(customers))
    assert rows > 8_000


async def test_recency_frequency_and_monetary_value_are_those_of_plain_python(
    served: tuple[Installation, Up], recent: Path, done: Finished
) -> None:
    """In the sales view of every fourth of them."""
    assert done.code == 0
    every = {number: bought_in(rows) for number, rows in rows_of(recent).items()}
    expected = {number: one for number, one in every.items() if int(number) % 32 == 0}
    assert len(expected) > 700
    async with client_of(served[0]) as client:
        await population(client)
        views = await sales_views(client, list(expected))
    assert {number: bought_by(view) for number, view in views.items()} == expected


async def test_the_highest_scores_by_the_default_model_are_those_of_plain_python(
    served: tuple[Installation, Up], recent: Path, done: Finished
) -> None:
    assert done.code == 0
    async with client_of(served[0]) as client:
        request = ListScoresRequest(page_size=10, after_position=await head(client))
        leading = list((await client.engagement.ListScores(request, timeout=60)).scores)
        today = leading[0].as_of.ToDatetime(UTC).date()
        expected = {number: score_of(rows, today) for number, rows in rows_of(recent).items()}
        highest = sorted(expected.values(), reverse=True)[:10]
        assert [one.score for one in leading] == pytest.approx(highest, abs=1e-9)
        for number in list(expected)[::125]:
            asked = GetScoreRequest(profile=customer(number), as_of=leading[0].as_of)
            got = (await client.engagement.GetScore(asked)).score
            assert got.score == pytest.approx(expected[number], abs=1e-9)
        await explain(client, leading)


async def explain(client: Client, leading: list[Score]) -> None:
    """Prints the highest scores, and explains the last of them."""
    told = ["", "The ten highest scores by the default model:"]
    told += [f"  {one.profile_id}  {one.score:8.3f}  {one.level}" for one in leading]
    last = ProfileReference(profile_id=leading[-1].profile_id)
    request = ExplainScoreRequest(profile=last, page_size=500)
    explained = await client.engagement.ExplainScore(request)
    events = explained.contributions
    assert not explained.next_page_token
    assert sum(one.points for one in events) == pytest.approx(explained.score.score, abs=1e-9)
    told.append(f"The last of them comes from {len(events)} events, of which these gave the most:")
    told += [
        f"  {one.occurred_at.ToDatetime():%Y-%m-%d}  {one.rule}: {one.weight:g}, {one.age_days} "
        f"days old {one.decayed:.3f}, within the day's cap {one.points:.3f}"
        for one in events[:5]
    ]
    sys.stdout.write("\n".join([*told, ""]))


async def test_after_all_that_the_chain_is_intact_and_no_position_missing(
    served: tuple[Installation, Up],
) -> None:
    verified = await served[0].run("verify", "--quick", within=120)
    assert verified.code == 0, verified.words
    assert "Everything holds" in verified.out


def customer(number: str) -> ProfileReference:
    """Returns the profile of a customer of the file."""
    return ProfileReference(identity=number_in("cdnow", number))


def bought_in(rows: list[tuple[date, int]]) -> Bought:
    """Returns what rows of one customer come to."""
    return Bought(max(day for day, _ in rows), len(rows), sum(micros for _, micros in rows))


def bought_by(view: GetViewResponse) -> Bought:
    """Returns what a sales view says of a customer."""
    assert not view.truncated
    [money] = view.sales.order_totals
    assert money.currency_code == "USD"
    last = view.sales.orders[0].placed_at.ToDatetime().date()
    return Bought(last, view.sales.order_count, money.micros)


def score_of(rows: list[tuple[date, int]], today: date) -> float:
    """Returns the score by the default model: 10 an order, 20 a day at most, half in 90 days."""
    a_day = Counter(day for day, _ in rows)
    return math.fsum(
        min(20, 10 * orders) * 2.0 ** (-(today - day).days / 90) for day, orders in a_day.items()
    )


async def sales_views(client: Client, numbers: list[str]) -> Mapping[str, GetViewResponse]:
    """Returns customers' sales views."""
    turns = asyncio.Semaphore(IN_FLIGHT)

    async def view(number: str) -> GetViewResponse:
        request = GetViewRequest(profile=customer(number), view=VIEW_KIND_SALES)
        async with turns:
            response: GetViewResponse = await client.profile.GetView(request)
        return response

    return dict(zip(numbers, await asyncio.gather(*map(view, numbers)), strict=True))
