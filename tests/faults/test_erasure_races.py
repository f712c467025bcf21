"""Erasing while others record, in several processes, and erasing very much."""

import asyncio
import random
import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from libs.eventstore.errors import NothingToErase
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import is_shut
from services.ingestion.checking import left_of
from tests.servers import MakeDatabase
from tests.store import (
    DEFAULT,
    MASTER_KEY,
    Line,
    build_store,
    email,
    open_line,
    said,
)
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_RECORDED
from touchline.store.v1.store_pb2 import RecordedEvent

PEOPLE = [email(f"person{number}@example.org") for number in range(8)]
MANY = 100_000


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


def key_of(number: int) -> bytes:
    """The identity key of a person."""
    return DEFAULT.identity_keys.identify(PEOPLE[number]).key


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_erases_while_all_record_leaves_what_each_erasure_says(
    line: Line, seed: int
) -> None:
    chance = random.Random(seed)
    recorded = 0

    async def record(by: Line) -> None:
        nonlocal recorded
        for _ in range(80):
            who = chance.sample(PEOPLE, chance.randint(1, 3))
            at = chance.randrange(100)
            verdicts = await by.record(*[said("x", who=who, at_seconds=at) for _ in range(3)])
            assert {one.outcome for one in verdicts} == {OUTCOME_RECORDED}
            recorded += 3

    async def erase(by: Line) -> int:
        done = 0
        for _ in range(12):
            keys = [key_of(number) for number in chance.sample(range(len(PEOPLE)), 2)]
            since = chance.choice([0, 0, chance.randrange(1, 90)])
            before = since and since + chance.randrange(1, 30)
            try:
                await by.erase(*keys, since=since, before=before)
            except NothingToErase:
                continue
            done += 1
            await asyncio.sleep(chance.random() / 50)
        return done

    async with open_line(line.url) as other:
        tasks = [
            record(line),
            record(line),
            record(other),
            record(other),
            erase(line),
            erase(other),
        ]
        done = [count for count in await asyncio.gather(*tasks) if count is not None]
    found = await line.verified()
    assert found.problems == []
    assert found.checked == recorded + sum(done)
    assert sum(done) > 5
    for row in await line.owner("SELECT position FROM store_erasures"):
        checks = await left_of(line.store, line.keyring, line.kept, DEFAULT.sealed, row["position"])
        assert checks is not None
        assert {one.what: one.left for one in checks if one.left} == {}


async def test_a_range_of_very_many_events_is_erased_in_bounded_memory(line: Line) -> None:
    for start in range(0, MANY, 1000):
        await line.record(
            *(said("x" * 200, who=[PEOPLE[0]], at_seconds=at) for at in range(start, start + 1000))
        )
    longest = 0.0

    async def others() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await line.record(said("in between", who=[PEOPLE[1]]))
            longest = max(longest, time.perf_counter() - began)

    appending = asyncio.create_task(others())
    tracemalloc.start()
    began = time.perf_counter()
    answer = await line.erase(key_of(0), since=MANY // 4, before=MANY // 2)
    took, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    appending.cancel()
    assert (answer.erased_events, answer.kept_events) == (MANY // 4, MANY * 3 // 4)
    assert peak < 64 * 1024 * 1024
    print(  # noqa: T201 - the figures of docs/adr/0027
        f"erased in {took:.1f} s, {peak / 1e6:.0f} MB, others waited {longest * 1e3:.0f} ms"
    )
    shut = 0
    keyring = Keyring(line.pool, MASTER_KEY)
    for part in range(0, MANY, 20_000):
        page = await records_between(line, part, part + 20_000)
        keys = await keyring.keys_of(1, page)
        shut += sum(is_shut(record, keys) for record in page)
    assert shut == MANY // 4
    began = time.perf_counter()
    await line.erase(key_of(0))
    print(f"erased whole in {time.perf_counter() - began:.1f} s")  # noqa: T201 - likewise
    assert await line.owner("SELECT FROM event_keys") == []


async def records_between(line: Line, after: int, up_to: int) -> list[RecordedEvent]:
    """The records of some positions."""
    found = await line.store.records_at(range(after + 1, up_to + 1))
    return [found[position] for position in sorted(found)]
