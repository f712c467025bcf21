"""What can't be folded is parked, everything else goes on, and afterwards nothing is missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import asyncpg
import grpc
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.embedded import create_database, database_url_for
from libs.postgres.pool import open_pool
from libs.projection import folding
from libs.projection.checkpoints import Ownership
from libs.projection.continuity import Fork
from libs.projection.generations.records import generations
from libs.projection.grpc_api import ProjectionService
from libs.projection.identity_graph import IdentityGraph
from libs.projection.parking import list_parked
from libs.projection.parking.refolding import refold_asked
from libs.projection.partitions import ALL
from libs.projection.projection import Projection, Recorded
from libs.projection.runner import Runner
from libs.projection.timeline import Timeline
from libs.projection.waiting import Checkpoints, follow_checkpoints
from libs.rpc.errors import CallError
from libs.tasks import running
from tests.aggregates import Lent, build_stores, lent_line
from tests.faulty import Faulty
from tests.lines import TENANT, Told, key_of, lines, project, recorded, undone
from tests.projecting import HALTED, LIVE, Folds
from tests.servers import SharedPostgres, start_nats
from tests.services import mint_store, new_views
from tests.store import DEFAULT, TENANTS, said
from tests.store import email as address
from tests.waiting import until
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_DEVICE, Identity
from touchline.projection.v1 import projection_service_pb2 as api

TABLES = (
    *("timeline", "timeline_retractions"),
    *(table.name for table in IdentityGraph.tables),
)
# The calls under test don't look at it.
CALL = cast("grpc.aio.ServicerContext[Any, Any]", None)


@pytest.fixture(scope="module")
async def lent(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lent]:
    """A line with its relay, shared by the tests of this module."""
    own = await start_nats(tmp_path_factory.mktemp("parking_nats"))
    await create_database(servers.url, "parking_line", await servers.template(build_stores))
    url = database_url_for(servers.url, "parking_line")
    await mint_store(url)
    async with lent_line(url, own) as line:
        yield line
    await own.stop()


@pytest.fixture
async def url(servers: SharedPostgres) -> str:
    """A database with empty views."""
    return await new_views(servers)


@pytest.fixture
async def pool(url: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to it."""
    async with open_pool(url, application="views") as pool:
        yield pool


@asynccontextmanager
async def driven(fold: Projection, pool: asyncpg.Pool, lent: Lent) -> AsyncIterator[Runner]:
    """Runs a projection until the block ends, and gives its lease back."""
    runner = Runner(fold, pool, lent.client, uuid4())
    async with running(runner.run()):
        yield runner
    await runner.stop()


async def tell(lent: Lent, *customers: str) -> int:
    """Records an event of each customer, named with a device that all share, in one request."""
    device = Identity(kind=IDENTITY_KIND_DEVICE, value="tablet")
    events = [said("Hello", who=[address(name), device]) for name in customers]
    return (await lent.line.record(*events))[-1].position


def owner(name: str) -> bytes:
    """A customer's identity key."""
    return DEFAULT.identity_keys.identify(address(name)).key


async def reaches(runner: Runner, position: int) -> None:
    await until(lambda: runner.checkpoint.position >= position, 15)


async def rows(database: asyncpg.Pool | asyncpg.Connection) -> dict[str, list[str]]:
    """Every row of the views as ordered text."""
    found = {}
    for table in TABLES:
        texts = await database.fetch(f"SELECT t::text AS said FROM {table} t")
        found[table] = sorted(row["said"] for row in texts)
    return found


async def parked(pool: asyncpg.Pool) -> list[tuple[bytes, int, int]]:
    """Whose events are parked, since which position, and how many."""
    found = await list_parked(pool, [1, 2], ("", 0, b""), 100)
    return [(one.owner_key, one.position, one.waiting_events) for one in found]


def service(
    runners: Sequence[Runner], url: str, lent: Lent, pool: asyncpg.Pool
) -> ProjectionService:
    return ProjectionService(Folds(runners), url, lent.client, pool, TENANTS, Checkpoints(pool), {})


@settings(max_examples=60, deadline=None)
@given(line=lines(), late=st.data())
async def test_given_any_customer_folded_late_then_the_rows_are_the_same_byte_for_byte(
    views: asyncpg.Connection, line: list[Told], late: st.DataObject
) -> None:
    events = recorded(line)
    name = late.draw(st.sampled_from([told.names[0] for told in line]), label="parked")
    since = late.draw(st.integers(1, len(line)), label="since position")
    waits = [e for e in events if e.record.owner_key == key_of(name) and e.position >= since]
    others = [event for event in events if event not in waits]
    found = []
    for order in ([events], [others, waits], [others, waits[:1], waits[1:]]):
        async with undone(views):
            for fold in (IdentityGraph(), Timeline()):
                for part in order:
                    fold.aborted()  # as whoever refolds does
                    await project(views, fold, part)
            found.append(await rows(views))
    assert found[1:] == found[:1] * 2


@pytest.fixture(scope="module")
async def views(servers: SharedPostgres) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with empty views; tests leave them empty."""
    connection = await asyncpg.connect(await new_views(servers))
    yield connection
    await connection.close()


@pytest.mark.parametrize("in_prepare", [False, True], ids=["in the fold", "before it"])
async def test_given_events_that_cannot_be_folded_then_their_customer_alone_waits(
    lent: Lent, pool: asyncpg.Pool, url: str, in_prepare: bool
) -> None:
    names = [f"{number}@{in_prepare}.example" for number in range(64)]
    graph = Faulty(IdentityGraph())
    graph.fails_at, graph.in_prepare = {owner(names[40])}, in_prepare
    first = (await lent.client.head()).position + 1
    last = await tell(lent, *names)
    async with follow_checkpoints(url, pool) as checkpoints:
        async with driven(graph, pool, lent) as runner:
            await reaches(runner, last)
            assert await parked(pool) == [(owner(names[40]), first + 40, 1)]
            # Up to ten thousand events at once, twice halved down to one.
            assert graph.attempts <= 2 * 14 + 3

            attempts, graph.attempts = graph.attempts, 0
            last = await tell(lent, names[40], names[41], names[40])
            await reaches(runner, last)
            assert await parked(pool) == [(owner(names[40]), first + 40, 3)]
            assert graph.attempts <= attempts
            await until(lambda: checkpoints.parked_among(TENANT, [owner(names[40])]) != ())
        assert checkpoints.parked_among(TENANT, [b"", owner(names[40])]) == ("identity_graph",)
        assert checkpoints.parked_among(TENANT, [owner(names[41])]) == ()
    [row] = await pool.fetch("SELECT error FROM parked_keys")
    assert row["error"].startswith("ValueError in _fail")
    assert "ana@" not in row["error"]


@pytest.mark.parametrize("fold", [IdentityGraph, Timeline])
async def test_given_a_corrected_fold_then_a_refold_gives_the_rows_of_a_fold_without_fault(
    lent: Lent, pool: asyncpg.Pool, url: str, servers: SharedPostgres, fold: type[Projection]
) -> None:
    ana, ben, cleo, dora = (f"{one}@{fold.__name__.lower()}.example" for one in "abcd")
    faulty = Faulty(fold())
    faulty.fails_at = {owner(ben), owner(cleo)}
    await tell(lent, ana, ben, ana, ben, cleo)
    async with driven(faulty, pool, lent) as runner, follow_checkpoints(url, pool) as checkpoints:
        await reaches(runner, await tell(lent, ben, dora))
        calls = service([runner], url, lent, pool)
        asked = api.RefoldParkedKeysRequest(projection=faulty.name)
        again = await calls.RefoldParkedKeys(asked, CALL)
        assert again.refolded_keys == 0
        assert [one.waiting_events for one in again.still_parked] == [3, 1]

        faulty.fails_at = {owner(cleo)}
        asked.owner_keys.append(owner(ben))
        assert (await calls.RefoldParkedKeys(asked, CALL)).refolded_keys == 1
        assert [key for key, _, _ in await parked(pool)] == [owner(cleo)]
        faulty.fails_at = set()
        last = await tell(lent, cleo, ben)
        await reaches(runner, last)
        del asked.owner_keys[:]
        assert (await calls.RefoldParkedKeys(asked, CALL)).refolded_keys == 1
        await until(lambda: not checkpoints.parked_among(TENANT, [owner(cleo)]))
    async with open_pool(await new_views(servers), application="reference") as clean:
        async with driven(fold(), clean, lent) as reference:
            await reaches(reference, last)
        assert await rows(clean) == await rows(pool)
    assert await parked(pool) == []


async def test_given_a_feed_that_never_rests_then_what_is_asked_for_is_refolded_all_the_same(
    lent: Lent, pool: asyncpg.Pool, url: str
) -> None:
    faulty = Faulty(Timeline())
    faulty.fails_at = {owner("a@e.example")}

    async def keep_telling() -> None:
        while True:
            await tell(lent, "b@e.example")
            await asyncio.sleep(0.01)

    async with driven(faulty, pool, lent) as runner, running(keep_telling()):
        await until(lambda: runner.state.state == LIVE, 15)
        await reaches(runner, await tell(lent, "a@e.example"))
        faulty.fails_at = set()
        asked = api.RefoldParkedKeysRequest(projection="timeline")
        async with asyncio.timeout(30):
            calls = service([runner], url, lent, pool)
            assert (await calls.RefoldParkedKeys(asked, CALL)).refolded_keys == 1


async def test_given_another_line_then_nothing_is_refolded_from_it(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    faulty = Faulty(Timeline())
    faulty.fails_at = {owner("a@f.example")}
    async with driven(faulty, pool, lent) as runner:
        await reaches(runner, await tell(lent, "a@f.example"))
    waiting = await parked(pool)
    assert len(waiting) == 1
    # As if the store's events up to here had been others.
    await pool.execute("UPDATE projection_checkpoints SET chain = $1", bytes(32))
    await pool.execute("UPDATE parked_keys SET refold = true")
    async with driven(Timeline(), pool, lent) as runner:
        await until(lambda: runner.state.state == HALTED, 15)
    assert await parked(pool) == waiting
    # Nor when it becomes another one under a process that folds.
    [generation] = await generations(pool)
    ownership = Ownership(pool, generation, ALL, uuid4())
    claimed = await ownership.claim()
    assert claimed
    mine = folding.Folding(Timeline(), pool, ownership)
    await mine.begin(claimed)
    with pytest.raises(Fork):
        await refold_asked(mine, lent.client)
    assert await parked(pool) == waiting


async def test_given_another_process_then_it_sets_aside_and_refolds_what_the_first_parked(
    lent: Lent, pool: asyncpg.Pool, url: str
) -> None:
    first = Faulty(Timeline())
    first.fails_at = {owner("a@c.example")}
    async with driven(first, pool, lent) as runner:
        await reaches(runner, await tell(lent, "a@c.example"))
    heir = Faulty(Timeline())
    async with driven(heir, pool, lent) as runner:
        await reaches(runner, await tell(lent, "a@c.example", "b@c.example"))
        assert [waiting for _, _, waiting in await parked(pool)] == [2]
        # The call may come to a process that does not fold.
        idle = Runner(Timeline(), pool, lent.client, uuid4())
        calls = service([idle], url, lent, pool)
        told = (await calls.ListProjections(api.ListProjectionsRequest(), CALL)).projections
        assert [one.parked_keys for one in told] == [1]
        # It says how far the projection came, not how far it came itself.
        here = runner.checkpoint
        assert here.position > 0
        assert [(one.position, one.chain) for one in told] == [(here.position, here.chain)]
        asked = api.RefoldParkedKeysRequest(projection="timeline")
        assert (await calls.RefoldParkedKeys(asked, CALL)).refolded_keys == 1
    mine = "SELECT count(*) FROM timeline WHERE owner_key = $1"
    assert await pool.fetchval(mine, owner("a@c.example")) == 2


async def test_given_a_key_that_only_an_older_release_parked_then_nobody_waits_for_its_refold(
    lent: Lent, pool: asyncpg.Pool, url: str
) -> None:
    older = Faulty(Timeline())
    older.fails_at = {owner("a@g.example")}
    async with driven(older, pool, lent) as runner:
        await reaches(runner, await tell(lent, "a@g.example", "b@g.example"))
    await pool.execute(
        "INSERT INTO projection_generations (projection, fold_version, schema_name, state) "
        "VALUES ('timeline', 2, 'generation_2', 'serving')"
    )
    asked = api.RefoldParkedKeysRequest(projection="timeline")
    calls = service([runner], url, lent, pool)
    async with asyncio.timeout(10):
        answer = await calls.RefoldParkedKeys(asked, CALL)
    assert [one.owner_key for one in answer.still_parked] == [owner("a@g.example")]
    # Whoever still runs it does what was asked for, and is waited for.
    older.fails_at = set()
    async with driven(older, pool, lent) as runner:
        await until(lambda: runner.state.state == LIVE, 15)
        assert (await calls.RefoldParkedKeys(asked, CALL)).still_parked == []
    assert await parked(pool) == []


async def test_given_many_parked_keys_then_they_are_listed_in_pages_and_too_many_halt(
    lent: Lent, pool: asyncpg.Pool, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MOST_PARKED", 3)
    monkeypatch.setattr("libs.projection.runner._HALTED_SECONDS", 0.1)
    names = [f"{number}@d.example" for number in range(4)]
    faulty = Faulty(Timeline())
    faulty.fails_at = {owner(name) for name in names}
    await tell(lent, *names)
    async with driven(faulty, pool, lent) as runner:
        await until(lambda: runner.state.state == HALTED, 15)
        assert "touchline parked refold SERVICE timeline" in runner.state.halt_reason
        calls = service([runner], url, lent, pool)
        request = api.ListParkedKeysRequest(page_size=2)
        page = await calls.ListParkedKeys(request, CALL)
        assert [one.owner_key for one in page.parked_keys] == [owner(n) for n in names[:2]]
        assert {one.tenant for one in page.parked_keys} == {"default"}
        request.page_token = page.next_page_token
        page = await calls.ListParkedKeys(request, CALL)
        assert [one.owner_key for one in page.parked_keys] == [owner(names[2])]
        assert not page.next_page_token
        asked = api.RefoldParkedKeysRequest(projection="timelines")
        with pytest.raises(CallError, match="timelines"):
            await calls.RefoldParkedKeys(asked, CALL)

        faulty.fails_at = set()
        await until(lambda: runner.state.state == LIVE, 15)
        asked = api.RefoldParkedKeysRequest(projection="timeline")
        assert (await calls.RefoldParkedKeys(asked, CALL)).refolded_keys == 3


async def test_given_a_record_that_cannot_be_read_then_the_projection_halts_and_says_what_to_do(
    lent: Lent, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tell(lent, "a@e.example")

    def unreadable(*_: object) -> list[Recorded]:
        raise DecodeError

    monkeypatch.setattr("libs.projection.batches.decode", unreadable)
    async with driven(Timeline(), pool, lent) as runner:
        await until(lambda: runner.state.state == HALTED, 15)
        assert "touchline verify" in runner.state.halt_reason
    assert await pool.fetchval("SELECT position FROM projection_checkpoints") == 0
