"""Ranges of partitions are folded apart: everything once, and held, split and merged without loss.

Invariants 6 and 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from libs.embedded import create_database, database_url_for
from libs.postgres.pool import open_pool
from libs.projection.checkpoints import read_ranges
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import introduce, serving
from libs.projection.parking import ask_to_refold, list_parked
from libs.projection.partitions import ALL, Partitions, divided
from libs.projection.projection import Connection, Projection, Recorded
from libs.projection.runner import Runner
from libs.projection.sharing.dividing import split
from libs.tasks import running
from tests.aggregates import Lent, build_stores, lent_line
from tests.faulty import Faulty
from tests.projecting import HALTED, Ledger, build_ledger, ledger_of, up_to
from tests.servers import MakeDatabase, SharedPostgres, start_nats
from tests.services import mint_store
from tests.store import DEFAULT, email, said
from tests.waiting import until
from touchline.events.v1.event_pb2 import EVENT_TYPE_PROFILE_ERASED

FIRST, SECOND = divided(2)
CUSTOMERS = [f"{number}@ranges.example" for number in range(40)]


def owner(name: str) -> bytes:
    """A customer's identity key."""
    return DEFAULT.identity_keys.identify(email(name)).key


OF_FIRST = [name for name in CUSTOMERS if FIRST.has(owner(name))]
OF_SECOND = [name for name in CUSTOMERS if SECOND.has(owner(name))]


class Ranged(Ledger):
    """A Ledger that also writes down whom it erases, each once.

    Attributes:
        erased: By position, whose erasure it was told of.
        owners: Whose events it was given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.erased: dict[int, set[bytes]] = {}
        self.owners: set[bytes] = set()

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Writes the positions of all but erasures down."""
        own = [event for event in events if event.record.type != EVENT_TYPE_PROFILE_ERASED]
        self.owners.update(event.record.owner_key for event in own)
        for event in events:
            if event.record.type == EVENT_TYPE_PROFILE_ERASED:
                self.erased[event.position] = set(event.record.erasure.identity_keys)
        await super().apply(connection, own)


@pytest.fixture
async def lent(
    servers: SharedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Lent]:
    """A new line with its relay."""
    own = await start_nats(tmp_path_factory.mktemp("ranges_nats"))
    name = f"ranges_{uuid4().hex}"
    await create_database(servers.url, name, await servers.template(build_stores))
    url = database_url_for(servers.url, name)
    await mint_store(url)
    async with lent_line(url, own) as line:
        yield line
    await own.stop()


@pytest.fixture
async def pool(database_from_template: MakeDatabase) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a database in which a Ledger can write."""
    async with open_pool(await database_from_template(build_ledger), application="ranges") as pool:
        yield pool


async def tell(lent: Lent, *customers: str) -> int:
    """Records an event of each customer in one request, and returns the last position."""
    return (await lent.line.record(*(said("Hi", who=[email(one)]) for one in customers)))[
        -1
    ].position


async def generation_of(pool: asyncpg.Pool, fold: Projection) -> Generation:
    """The generation that answers; it is introduced."""
    await introduce(pool, fold.name, fold.fold_version)
    found = await serving(pool, fold.name, fold.fold_version)
    assert found
    return found


async def divide(pool: asyncpg.Pool, generation: Generation, whole: Partitions = ALL) -> None:
    """Splits a range that nobody folds."""
    somebody = uuid4()
    await pool.execute(
        "UPDATE projection_checkpoints SET owner = $1, leased_until = clock_timestamp() + '1 day' "
        "WHERE generation = $2 AND first_partition = $3",
        *(somebody, generation.id, whole.first),
    )
    assert await split(pool, generation.id, whole, somebody)
    await pool.execute("UPDATE projection_checkpoints SET leased_until = '-infinity'")


@asynccontextmanager
async def folding(
    fold: Projection,
    pool: asyncpg.Pool,
    lent: Lent,
    partitions: Partitions = ALL,
    owned_by: UUID | None = None,
) -> AsyncIterator[Runner]:
    """Runs a range until the block ends, as a process of its own would; its lease is given back."""
    generation = await generation_of(pool, fold)
    runner = Runner(
        *(fold, pool, lent.client, owned_by or uuid4()),
        generation=generation,
        partitions=partitions,
    )
    async with running(runner.run()):
        yield runner
    await runner.stop()


async def reach(position: int, *runners: Runner) -> None:
    await until(lambda: all(one.checkpoint.position >= position for one in runners), 15)


async def hold(pool: asyncpg.Pool, position: int, seconds: float) -> None:
    """Holds every range, as whoever wants them to meet does."""
    await pool.execute(
        "UPDATE projection_checkpoints SET held_at = $1, "
        "held_until = clock_timestamp() + make_interval(secs => $2)",
        *(position, seconds),
    )


async def release(pool: asyncpg.Pool) -> None:
    await pool.execute("UPDATE projection_checkpoints SET held_until = '-infinity'")


async def places(pool: asyncpg.Pool) -> list[int]:
    """Where the ranges stand, from the first on."""
    return [one.checkpoint.position for one in await read_ranges(pool)]


async def test_given_both_halves_then_each_event_is_folded_once_by_the_one_whose_it_is(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    await tell(lent, *CUSTOMERS)
    one, other = Ranged(), Ranged()
    await divide(pool, await generation_of(pool, one))
    async with (
        folding(one, pool, lent, FIRST) as first,
        folding(other, pool, lent, SECOND) as second,
    ):
        await reach(len(CUSTOMERS), first, second)
        for name in CUSTOMERS:  # and from the feed
            last = await tell(lent, name)
        await reach(last, first, second)
        head = await lent.client.head()
        assert {(one.checkpoint.position, one.checkpoint.chain) for one in (first, second)} == {
            (head.position, head.chain)
        }
    assert await ledger_of(pool) == up_to(2 * len(CUSTOMERS))
    assert one.owners == {owner(name) for name in OF_FIRST}
    assert other.owners == {owner(name) for name in OF_SECOND}


async def test_given_an_erasure_of_customers_of_both_halves_then_each_erases_its_own(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    erased = [owner(name) for name in (*OF_FIRST[:2], *OF_SECOND[:3])]
    await tell(lent, *CUSTOMERS)
    await lent.line.erase(*erased)
    last = await tell(lent, OF_FIRST[0])
    one, other = Ranged(), Ranged()
    await divide(pool, await generation_of(pool, one))
    async with (
        folding(one, pool, lent, FIRST) as first,
        folding(other, pool, lent, SECOND) as second,
    ):
        await reach(last, first, second)
        await lent.line.erase(owner(OF_SECOND[4]))  # it comes on the feed
        await reach(last + 1, first, second)
    assert one.erased == {last - 1: set(erased[:2]), last + 1: set()}
    assert other.erased == {last - 1: set(erased[2:]), last + 1: {owner(OF_SECOND[4])}}


async def test_given_a_hold_then_a_range_stops_there_in_the_middle_of_a_stretch_until_released(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    await tell(lent, *CUSTOMERS)
    ledger = Ledger()
    await generation_of(pool, ledger)
    await hold(pool, 17, 60)
    async with folding(ledger, pool, lent) as runner:
        await reach(17, runner)
        await asyncio.sleep(0.2)
        assert (await ledger_of(pool), await places(pool)) == (up_to(17), [17])
        assert runner.checkpoint.position == 17
        await hold(pool, 19, 60)  # another one, which comes before the first is over
        await reach(19, runner)
        await asyncio.sleep(0.1)
        assert (await ledger_of(pool), await places(pool)) == (up_to(19), [19])
        await release(pool)
        await reach(len(CUSTOMERS), runner)
        # Nor does what comes on the feed pass it.
        await hold(pool, len(CUSTOMERS) + 1, 60)
        await tell(lent, *CUSTOMERS[:3])
        await reach(len(CUSTOMERS) + 1, runner)
        await asyncio.sleep(0.1)
        assert await places(pool) == [len(CUSTOMERS) + 1]
        await release(pool)
        await reach(len(CUSTOMERS) + 3, runner)
    assert await ledger_of(pool) == up_to(len(CUSTOMERS) + 3)


async def test_given_a_hold_that_nobody_releases_then_the_range_goes_on_when_its_time_is_over(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    last = await tell(lent, *CUSTOMERS)
    ledger = Ledger()
    await generation_of(pool, ledger)
    await hold(pool, 0, 0.7)
    async with folding(ledger, pool, lent) as runner:
        await ledger.started.wait()
        await asyncio.sleep(0.2)
        assert await ledger_of(pool) == []
        await reach(last, runner)
    assert await ledger_of(pool) == up_to(last)


async def test_given_a_hold_longer_than_the_lease_then_the_range_stays_its_owners(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    last = await tell(lent, *CUSTOMERS)
    ledger = Ledger()
    await generation_of(pool, ledger)
    await hold(pool, 5, 60)
    async with folding(ledger, pool, lent) as runner:
        await reach(5, runner)
        await pool.execute("UPDATE projection_checkpoints SET leased_until = clock_timestamp()")
        await until_leased(pool)
        await release(pool)
        await reach(last, runner)
        assert runner.checkpoint.epoch == 1
    assert await ledger_of(pool) == up_to(last)


async def until_leased(pool: asyncpg.Pool) -> None:
    """Returns once whoever folds has given a sign of life."""
    async with asyncio.timeout(15):
        while not (await read_ranges(pool))[0].leased:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.02)


async def test_given_a_range_that_is_split_in_the_middle_of_a_fold_then_its_runner_ends(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    last = await tell(lent, *CUSTOMERS)
    whole, mine = Ledger(), uuid4()
    whole.after.clear()
    generation = await generation_of(pool, whole)
    runner = Runner(whole, pool, lent.client, mine, generation=generation)
    run = asyncio.create_task(runner.run())
    await whole.written.wait()
    assert await split(pool, generation.id, ALL, mine)
    whole.after.set()
    async with asyncio.timeout(15):
        await run
    assert (await ledger_of(pool), await places(pool)) == ([], [0, 0])
    assert not runner.state.owns

    # The first half stays leased to the process that split it; it may take it at once.
    async with (
        folding(Ledger(), pool, lent, FIRST, mine) as first,
        folding(Ledger(), pool, lent, SECOND) as second,
    ):
        await reach(last, first, second)
    assert await ledger_of(pool) == up_to(last)


async def test_given_a_generation_that_is_dropped_then_its_runners_end(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    last = await tell(lent, *CUSTOMERS)
    ledger = Ledger()
    generation = await generation_of(pool, ledger)
    runner = Runner(ledger, pool, lent.client, uuid4(), generation=generation)
    run = asyncio.create_task(runner.run())
    await reach(last, runner)
    await pool.execute("DELETE FROM projection_generations")
    await tell(lent, *CUSTOMERS)
    async with asyncio.timeout(15):
        await run
    assert await ledger_of(pool) == up_to(last)


@pytest.mark.parametrize("wrote_first", [True, False], ids=["has written", "writes too late"])
async def test_given_a_zombie_of_a_range_then_its_write_aborts_and_the_other_half_goes_on(
    lent: Lent, pool: asyncpg.Pool, wrote_first: bool
) -> None:
    last = await tell(lent, *CUSTOMERS)
    zombie, heir, neighbour = Ledger(), Ledger(), Ledger()
    (zombie.after if wrote_first else zombie.before).clear()
    await divide(pool, await generation_of(pool, zombie))
    async with (
        folding(neighbour, pool, lent, SECOND) as beside,
        folding(zombie, pool, lent, FIRST) as one,
    ):
        await (zombie.written if wrote_first else zombie.started).wait()
        async with folding(heir, pool, lent, FIRST) as other:
            await pool.execute(
                "UPDATE projection_checkpoints SET leased_until = '-infinity' "
                "WHERE first_partition = 0"
            )
            await heir.started.wait()
            if not wrote_first:
                await reach(last, other)
            zombie.before.set()
            zombie.after.set()
            await reach(last, other, beside)
            await until(lambda: not one.state.owns)
            last = await tell(lent, *CUSTOMERS)
            await reach(last, other, beside)
            assert one.checkpoint.position == 0
            assert (beside.checkpoint.epoch, other.checkpoint.epoch) == (
                2,
                one.checkpoint.epoch + 1,
            )
    assert await ledger_of(pool) == up_to(last)


async def test_given_parked_keys_of_both_halves_then_they_survive_a_split_and_are_refolded(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    parked = {OF_FIRST[0], OF_SECOND[0], OF_SECOND[1]}
    whole = Faulty(Ledger())
    whole.fails_at = {owner(name) for name in parked}
    await tell(lent, *CUSTOMERS)
    async with folding(whole, pool, lent) as runner:
        await reach(await tell(lent, OF_SECOND[0]), runner)
    await divide(pool, await generation_of(pool, whole))
    halves = [Faulty(Ledger()), Faulty(Ledger())]
    for half in halves:
        half.fails_at = whole.fails_at
    async with (
        folding(halves[0], pool, lent, FIRST) as first,
        folding(halves[1], pool, lent, SECOND) as second,
    ):
        last = await tell(lent, OF_FIRST[0], OF_FIRST[1], OF_SECOND[0])
        await reach(last, first, second)
        assert (first.state.parked_keys, second.state.parked_keys) == (1, 2)
        assert await waiting(pool) == {
            owner(OF_FIRST[0]): 2,
            owner(OF_SECOND[0]): 3,
            owner(OF_SECOND[1]): 1,
        }
        for half in halves:
            half.fails_at = set()
        await ask_to_refold(pool, "ledger", None, [])
        await until(lambda: not first.state.parked_keys + second.state.parked_keys, 15)
    assert await ledger_of(pool) == up_to(last)
    assert await waiting(pool) == {}


async def waiting(pool: asyncpg.Pool) -> dict[bytes, int]:
    """How many events of parked keys wait."""
    found = await list_parked(pool, [1], ("", 0, b""), 100)
    return {one.owner_key: one.waiting_events for one in found}


async def test_given_a_parked_erasure_then_nothing_is_split_until_it_is_folded_for_everybody(
    lent: Lent, pool: asyncpg.Pool
) -> None:
    await tell(lent, *CUSTOMERS)
    await lent.line.erase(owner(OF_FIRST[0]), owner(OF_SECOND[0]))
    ledger, mine = Ranged(), uuid4()
    whole = Faulty(ledger)
    whole.fails_at = {await owner_of_last(lent)}
    generation = await generation_of(pool, whole)
    async with folding(whole, pool, lent, ALL, mine) as runner:
        last = await tell(lent, *CUSTOMERS[:2])
        await reach(last, runner)
        assert [one.erasure_waits for one in await read_ranges(pool)] == [True]
        assert not await split(pool, generation.id, ALL, mine)
        whole.fails_at = set()
        await ask_to_refold(pool, "ledger", None, [])
        await until(lambda: not runner.state.parked_keys, 15)
        assert ledger.erased == {last - 2: {owner(OF_FIRST[0]), owner(OF_SECOND[0])}}
        assert await split(pool, generation.id, ALL, mine)


async def test_given_a_half_that_fails_at_an_erasure_then_it_halts_and_goes_on_once_corrected(
    lent: Lent, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.projection.runner._HALTED_SECONDS", 0.1)
    await tell(lent, *CUSTOMERS)
    await lent.line.erase(owner(OF_SECOND[0]))
    half = Faulty(Ranged())
    half.fails_at = {await owner_of_last(lent)}
    await divide(pool, await generation_of(pool, half))
    async with folding(half, pool, lent, FIRST) as runner:
        await until(lambda: runner.state.state == HALTED, 15)
        assert (
            f"fails at the erasure at position {len(CUSTOMERS) + 1} (Val"
            in runner.state.halt_reason
        )
        assert runner.checkpoint.position == len(CUSTOMERS)
        half.fails_at = set()
        await reach(len(CUSTOMERS) + 1, runner)
    assert await waiting(pool) == {}


async def owner_of_last(lent: Lent) -> bytes:
    """Whose the last event of the line is: an erasure is its own stream's."""
    head = await lent.line.store.head()
    return (await lent.line.store.records_at([head.position]))[head.position].owner_key
