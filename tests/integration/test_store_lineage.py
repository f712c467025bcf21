"""A restored store is another one, and says which it was (invariant 6)."""

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from libs.eventstore.chain import Ancestor, Head, Lineage
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.server import serve_store
from tests.servers import MakeDatabase, OwnNats
from tests.store import DUPLICATE, RECORDED, Line, build_store, open_line, row, whole_line
from touchline.store.v1.store_pb2 import AppendRequest, AppendResponse


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


async def become_another(line: Line) -> bytes:
    """Mints the store's new id, as a restore does, and returns it."""
    ((store_id,),) = await line.owner("SELECT become_another_store()")
    assert isinstance(store_id, UUID)
    return store_id.bytes


def ancestor_of(head: Head) -> Ancestor:
    """The ancestor that a store is to those restored from it here."""
    return Ancestor(head.store_id, head.position, head.chain)


async def test_a_new_store_has_no_ancestors(line: Line) -> None:
    assert await line.store.lineage() == Lineage(await line.store.head(), ())


async def test_a_restored_store_keeps_its_line_under_a_new_id_and_names_its_ancestor(
    line: Line,
) -> None:
    await line.append([row(1)], [row(2)])
    before, pages = await line.store.head(), await whole_line(line.store)
    store_id = await become_another(line)
    assert store_id != before.store_id
    after = Head(store_id, before.position, before.chain)
    assert await line.store.lineage() == Lineage(after, (ancestor_of(before),))
    assert [page.events for page in await whole_line(line.store)] == [page.events for page in pages]
    assert await line.append([row(2)], [row(3)]) == [(DUPLICATE, 2), (RECORDED, 3)]


async def test_a_store_restored_twice_names_both_ancestors_the_oldest_first(line: Line) -> None:
    await line.append([row(1)])
    first = await line.store.head()
    await become_another(line)
    await line.append([row(2)])
    second = await line.store.head()
    await become_another(line)
    lineage = await line.store.lineage()
    assert lineage.ancestors == (ancestor_of(first), ancestor_of(second))
    assert lineage.ancestor(second.store_id) == ancestor_of(second)
    assert lineage.ancestor(lineage.head.store_id) is None  # it is the store itself


async def test_the_lineage_is_told_over_nats(line: Line, nats: OwnNats) -> None:
    await line.append([row(1)])
    await become_another(line)
    async with (
        connect_nats(nats.url, "store") as store,
        serve_store(store, line.store, line.keyring, _refuse, line.erases),
        connect_nats(nats.service_url, "another") as connection,
    ):
        assert await StoreClient(connection).lineage() == await line.store.lineage()


async def test_only_the_owner_of_the_tables_makes_a_store_another(line: Line) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await line.pool.execute("SELECT become_another_store()")


async def _refuse(request: AppendRequest, traceparent: str) -> AppendResponse:
    raise AssertionError(f"nothing is appended: {request} {traceparent}")
