"""A client that stops in the middle of a statement does not stop the others."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from libs.eventstore.errors import StoreUnavailable
from services.ingestion.quarantine import Rejected
from tests.servers import MakeDatabase
from tests.store import DEFAULT, RECORDED, Line, build_store, held_head, open_line, row, said
from tests.withholding import Withholding, withholding

LONG = "x" * 2000


@pytest.fixture
async def url(database_from_template: MakeDatabase) -> str:
    return await database_from_template(build_store)


@pytest.fixture
async def way(url: str) -> AsyncIterator[Withholding]:
    async with withholding(url) as way:
        yield way


@pytest.fixture
async def frozen(way: Withholding) -> AsyncIterator[Line]:
    async with open_line(way.url) as line:
        yield line


@pytest.fixture
async def other(url: str) -> AsyncIterator[Line]:
    async with open_line(url) as line:
        yield line


async def test_an_append_that_is_never_ended_is_ended_by_the_server(
    frozen: Line, other: Line, way: Withholding
) -> None:
    await frozen.append([row(1, LONG)])
    way.active = True
    half_sent = asyncio.ensure_future(frozen.append([row(2, LONG)]))
    await way.withheld.wait()
    began = time.monotonic()
    # It holds the head, but for a second only.
    assert await asyncio.wait_for(other.append([row(3)]), 20) == [(RECORDED, 2)]
    assert time.monotonic() - began < 5
    with pytest.raises(StoreUnavailable):
        await half_sent
    assert (await other.store.head()).position == 2
    assert await frozen.append([row(2, LONG)]) == [(RECORDED, 3)]


async def test_an_append_that_waits_for_another_is_not_ended_for_that(
    other: Line, url: str
) -> None:
    async with held_head(url):
        waiting = asyncio.ensure_future(other.append([row(1)]))
        await asyncio.sleep(1.5)
    assert await waiting == [(RECORDED, 1)]


async def test_data_keys_that_are_never_committed_are_ended_by_the_server_as_well(
    frozen: Line, other: Line, way: Withholding
) -> None:
    keys = [number.to_bytes(16, "big") for number in range(40)]
    tenant = DEFAULT.tenant.number
    await frozen.keyring.ensure(tenant, keys[:10])
    way.active = True
    half_sent = asyncio.ensure_future(frozen.keyring.ensure(tenant, keys[10:]))
    await way.withheld.wait()
    began = time.monotonic()
    made = await asyncio.wait_for(other.keyring.ensure(tenant, keys[10:]), 20)
    assert time.monotonic() - began < 5
    with pytest.raises(StoreUnavailable):
        await half_sent
    theirs = await frozen.keyring.ensure(tenant, keys[10:])
    assert {key: theirs[key].secret for key in made} == {key: made[key].secret for key in made}


async def test_a_rejected_event_that_is_never_kept_is_let_go_by_the_server_as_well(
    frozen: Line, other: Line, way: Withholding
) -> None:
    rejected = [Rejected(said(LONG), [("source", "is missing")])]
    await frozen.kept.keep(DEFAULT.sealed, DEFAULT.identity_keys, [Rejected(said("Short"), [])])
    way.active = True
    half_sent = asyncio.ensure_future(
        frozen.kept.keep(DEFAULT.sealed, DEFAULT.identity_keys, rejected)
    )
    await way.withheld.wait()
    began = time.monotonic()
    # Who sends the same event again waits for the first, but for a second only.
    await asyncio.wait_for(other.kept.keep(DEFAULT.sealed, DEFAULT.identity_keys, rejected), 20)
    assert time.monotonic() - began < 5
    with pytest.raises(StoreUnavailable):
        await half_sent
    kept, _ = await other.kept.list(DEFAULT.sealed, 1 << 62, 10)
    assert [one.event.interaction.text for one in kept] == [LONG, "Short"]
