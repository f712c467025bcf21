"""Knows how far projections came, by what PostgreSQL tells and by looking, and waits for them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.generations.generation import CHANGED, Generation
from libs.projection.positions import Place, RangeKey
from libs.projection.serving import Serving
from libs.projection.waiting.behind import Behind, Building, Paused
from libs.projection.waiting.lacking import Lacking, Parked
from libs.tasks import running

_CHANNEL: Final = "touchline_checkpoint"
_PARKED_CHANNEL: Final = "touchline_parked"
_ERASED_CHANNEL: Final = "touchline_erased"
# It tells of erasures, in the transaction that folds them and before its checkpoint.
_TELLS_OF_ERASURES: Final = "identity_graph"
# A notification may be lost with its connection; then the table tells.
_LOOK_AGAIN_SECONDS: Final = 0.5
_RECONNECT_SECONDS: Final = 0.5
_GENERATION: Final = len(Generation._fields)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class _Reached(NamedTuple):
    projection: str
    position: int
    halt_reason: str


class Checkpoints:
    """Knows how far the projections of a database came, whichever processes fold them.

    Args:
        pool: Connections to the database.
        forget: Called when somebody was erased, before any position at or after the erasure's is
            taken as reached by the identity graph: whoever waited for that reads with what is
            fetched afterwards. It may be called more often.
        serving: Which generations the process reads. Default: those that answer, of any version.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        forget: Callable[[], None] = lambda: None,
        serving: Serving | None = None,
    ) -> None:
        self._pool = pool
        self._forget = forget
        self._serving = serving or Serving()
        self._positions = self._serving.positions
        self._lacking = Lacking()
        self._seen: object = None
        self._looking = asyncio.Lock()
        self._look_now = asyncio.Event()

    def position(self, projections: Collection[str]) -> int:
        """Return the position that all of the projections have reached, as last heard."""
        return min(one.position for one in self._read(projections))

    def parked_among(self, tenant: int, owner_keys: Iterable[bytes]) -> tuple[str, ...]:
        """Return the projections that lack events of some identities, as last heard; by name.

        Args:
            tenant: The tenant's number.
            owner_keys: The identities of a profile.
        """
        return tuple(sorted(self._names(self._lacking.of(tenant, owner_keys))))

    def degraded(
        self, projections: Collection[str], tenant: int, owner_keys: Iterable[bytes]
    ) -> list[str]:
        """Return those projections, of the ones that an answer is read from, that lack events.

        Ask once the read has waited and before it reads: a key that is folded again meanwhile then
        makes a whole answer look incomplete, and never the other way round. An identity whose link
        to the profile is itself parked is not among its keys, and can't be told of.

        Args:
            projections: All that the read waits for.
            tenant: The tenant's number.
            owner_keys: The identities of the profile.
        """
        return [name for name in self.parked_among(tenant, owner_keys) if name in projections]

    def parked_by(self, projections: Collection[str], tenant: int) -> dict[bytes, list[str]]:
        """Return all identities of a tenant whose events projections lack, and which they are.

        Args:
            projections: All that the read waits for; ask when `degraded` would be asked.
            tenant: The tenant's number.
        """
        found = {
            key: sorted(name for name in self._names(lacking) if name in projections)
            for key, lacking in self._lacking.all_of(tenant)
        }
        return {key: names for key, names in found.items() if names}

    async def wait(self, projections: Collection[str], position: int, seconds: float) -> None:
        """Return once what this process reads of all projections has folded a position.

        Args:
            projections: Their names.
            position: 0 does not wait at all.
            seconds: How long to wait at most.

        Raises:
            Building: there is none that this release reads.
            Paused: one is paused before it got there.
            Behind: one did not get there, or halted.
        """
        await self._wait(lambda: self._readable(projections), position, seconds)

    async def wait_for_all(self, position: int, seconds: float) -> dict[str, int]:
        """Wait until every generation that is kept has folded a position, whoever reads it.

        Args:
            position: The position.
            seconds: How long to wait at most.

        Returns:
            How far each projection's generations came, at least.

        Raises:
            Paused, Behind: see `wait`.
        """
        await self._look()
        await self._wait(self._kept, position, seconds)
        reached: dict[str, int] = {}
        for one in self._kept():
            reached[one.projection] = min(one.position, reached.get(one.projection, one.position))
        return reached

    async def moved_beyond(
        self, projections: Collection[str], position: int, seconds: float
    ) -> None:
        """Return once all projections are beyond a position, or after some time: for loops."""
        end = asyncio.get_running_loop().time() + seconds
        while self.position(projections) <= position:
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._positions.moved.wait(), left)

    def _read(self, projections: Collection[str]) -> Iterator[_Reached]:
        for name in projections:
            one = self._serving.generation(name)
            if one is None:
                yield _Reached(name, 0, "")
            else:
                yield _Reached(
                    name, self._positions.of(one.id), self._positions.halt_reason(one.id)
                )

    def _readable(self, projections: Collection[str]) -> Iterator[_Reached]:
        for name in projections:
            if self._serving.is_building(name):
                raise Building(name, 0)
        return self._read(projections)

    def _kept(self) -> Iterator[_Reached]:
        for one in self._serving.kept():
            yield _Reached(
                one.projection, self._positions.of(one.id), self._positions.halt_reason(one.id)
            )

    def _names(self, lacking: Iterable[tuple[int, str]]) -> set[str]:
        answers = self._serving.generation
        return {
            name
            for generation, name in lacking
            if (one := answers(name)) is not None and one.id == generation
        }

    async def _wait(
        self, reached: Callable[[], Iterator[_Reached]], position: int, seconds: float
    ) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while behind := [one for one in reached() if one.position < position]:
            moved = self._positions.moved
            left = end - asyncio.get_running_loop().time()
            is_paused = any(self._serving.is_paused(one.projection) for one in behind)
            if left > 0 and not is_paused:
                with suppress(TimeoutError):
                    await asyncio.wait_for(moved.wait(), min(left, _LOOK_AGAIN_SECONDS))
            if not moved.is_set():
                await self._look()
            for one in reached():
                if one.position >= position:
                    continue
                if self._serving.is_paused(one.projection):
                    raise Paused(one.projection, one.position)
                if one.halt_reason or left <= 0:
                    raise Behind(*one)

    async def _look(self) -> None:
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            async with self._looking:
                await self._look_at_checkpoints()

    async def _look_at_checkpoints(self) -> None:
        look = self._positions.begin_look()
        rows = await self._pool.fetch(_SQL["look"])
        generations = {row["id"]: Generation(*row[:_GENERATION]) for row in rows}
        paused = {row["projection"]: row["paused"] for row in rows if row["paused"] is not None}
        places = [
            (
                RangeKey(row["id"], row["first_partition"]),
                Place(row["position"], row["halt_reason"]),
            )
            for row in rows
            if row["first_partition"] is not None
        ]
        reached = self._graphs_reached()
        self._positions.looked(look, places)
        self._serving.take_in(generations.values(), paused)
        if any(position > reached.get(one, 0) for one, position in self._graphs_reached().items()):
            self._forget()  # what else was told on the way there is not known
        seen = (generations, paused, self._positions.ranges())
        if seen != self._seen:
            self._seen = seen
            self._serving.changed.set()

    def _graphs_reached(self) -> dict[int, int]:
        return {
            one.id: self._positions.of(one.id)
            for one in self._serving.kept()
            if one.projection == _TELLS_OF_ERASURES
        }

    async def _look_at_parked(self) -> None:
        self._lacking.begin_look()
        rows = await self._pool.fetch(_SQL["all_parked"])
        self._lacking.looked(Parked(*row) for row in rows)

    def _heard(self, payload: str) -> None:
        """Take in a notification: a generation, the first partition of a range, its position."""
        generation, first, position = map(int, payload.split(" "))
        if self._positions.hear(RangeKey(generation, first), position):
            self._serving.heard_position()
        else:
            self._look_now.set()  # it may be folded anew

    async def look_first(self) -> None:
        """Look at everything, if the database can be reached; `follow` looks later otherwise."""
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            await self._look_at_parked()
        await self._look()

    async def follow(self, url: str) -> None:
        """Listen for ever, connecting again when the database was away."""
        while True:
            with suppress(asyncpg.PostgresError, *UNREACHABLE):
                await self._listen(url)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self, url: str) -> None:
        lost = False

        def ended(_: object) -> None:
            nonlocal lost
            lost = True
            self._look_now.set()

        def changed(*_: object) -> None:
            self._serving.changed.set()
            self._look_now.set()

        connection = await asyncpg.connect(url)
        try:
            connection.add_termination_listener(ended)
            await connection.add_listener(
                _PARKED_CHANNEL, lambda *told: self._lacking.hear(str(told[-1]))
            )
            await connection.add_listener(CHANGED, changed)
            await connection.add_listener(_ERASED_CHANNEL, lambda *_: self._forget())
            await connection.add_listener(_CHANNEL, lambda *told: self._heard(str(told[-1])))
            self._positions.begin_listening()
            self._forget()  # nobody listened until now
            await self._look()
            await self._look_at_parked()
            while not lost:
                self._look_now.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._look_now.wait(), _LOOK_AGAIN_SECONDS)
                await self._look()
        finally:
            connection.terminate()


@asynccontextmanager
async def follow_checkpoints(
    url: str,
    pool: asyncpg.Pool,
    forget: Callable[[], None] = lambda: None,
    serving: Serving | None = None,
) -> AsyncIterator[Checkpoints]:
    """Follow the checkpoints of a database until the block ends.

    Args:
        url: The database.
        pool: Connections to it.
        forget: Makes the process forget what it remembers opened; see Checkpoints.
        serving: Which generations the process reads; see Checkpoints.
    """
    checkpoints = Checkpoints(pool, forget, serving)
    await checkpoints.look_first()
    async with running(checkpoints.follow(url)):
        yield checkpoints
