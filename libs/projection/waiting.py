"""Read-your-writes: a read waits until the projections it uses have folded what it must include.

And it learns which of them lack events of the customer whom it is about, and the process, when it
has to forget what it remembers of somebody who was erased.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import asyncpg

from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.tasks import running

_CHANNEL: Final = "touchline_checkpoint"
_PARKED_CHANNEL: Final = "touchline_parked"
_ERASED_CHANNEL: Final = "touchline_erased"
# It tells of erasures, in the transaction that folds them and before its checkpoint.
_TELLS_OF_ERASURES: Final = "identity_graph"
_KEPT_HEARD: Final = 10_000
# A notification may be lost with its connection; then the table tells.
_LOOK_AGAIN_SECONDS: Final = 0.5
_RECONNECT_SECONDS: Final = 0.5
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Behind(Exception):
    """A projection did not get there in time.

    Attributes:
        projection: Which one.
        position: How far it came.
        halt_reason: Why it halted, or empty when it is just slow.
    """

    def __init__(self, projection: str, position: int, halt_reason: str) -> None:
        super().__init__(f"{projection} came to position {position}")
        self.projection = projection
        self.position = position
        self.halt_reason = halt_reason


class Checkpoints:
    """Knows how far the projections of a database came, whichever process runs them.

    Args:
        pool: Connections to the database.
        forget: Called when somebody was erased, before any position at or after the erasure's is
            taken as reached by the identity graph: whoever waited for that reads with what is
            fetched afterwards. It may be called more often.
    """

    def __init__(self, pool: asyncpg.Pool, forget: Callable[[], None] = lambda: None) -> None:
        self._pool = pool
        self._forget = forget
        self._positions: dict[str, int] = {}
        self._told: dict[str, int] = {}  # how often a projection's position was heard
        self._halted: dict[str, str] = {}
        # By tenant and owner of events, the projections that have parked them.
        self._parked: defaultdict[tuple[int, bytes], set[str]] = defaultdict(set)
        self._heard: list[str] = []
        self._moved = asyncio.Event()

    def position(self, projections: Collection[str]) -> int:
        """Return the position that all of the projections have reached, as last heard."""
        return min(self._positions.get(name, 0) for name in projections)

    def parked_among(self, tenant: int, owner_keys: Iterable[bytes]) -> tuple[str, ...]:
        """Return the projections that lack events of some identities, as last heard; by name.

        It asks nobody: PostgreSQL tells of each key that is parked or folded again, and of that
        before the checkpoint that the same transaction moves. So whoever waited for a position
        knows what was parked up to there.

        Args:
            tenant: The tenant's number.
            owner_keys: The identities of a profile.
        """
        if not self._parked:
            return ()
        lacking = (self._parked.get((tenant, key), ()) for key in owner_keys)
        return tuple(sorted(set().union(*lacking)))

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
            key: sorted(name for name in names if name in projections)
            for (number, key), names in self._parked.items()
            if number == tenant
        }
        return {key: names for key, names in found.items() if names}

    async def wait(self, projections: Collection[str], position: int, seconds: float) -> None:
        """Return once all projections have folded a position.

        Args:
            projections: Their names.
            position: 0 does not wait at all.
            seconds: How long to wait at most.

        Raises:
            Behind: one did not get there, or halted.
        """
        end = asyncio.get_running_loop().time() + seconds
        while self.position(projections) < position:
            moved = self._moved
            left = end - asyncio.get_running_loop().time()
            if left > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(moved.wait(), min(left, _LOOK_AGAIN_SECONDS))
            if not moved.is_set():
                await self._look()
            for name in projections:
                reached = self._positions.get(name, 0)
                halted = self._halted.get(name, "")
                if reached < position and (halted or left <= 0):
                    raise Behind(name, reached, halted)

    async def _look(self) -> None:
        told = dict(self._told)
        with suppress(asyncpg.PostgresError, *UNREACHABLE):
            for name, position, halt_reason in await self._pool.fetch(_SQL["positions"]):
                if self._told.get(name) == told.get(name):  # else what was told is newer
                    if name == _TELLS_OF_ERASURES and position > self._positions.get(name, 0):
                        self._forget()  # what else was told on the way there is not known
                    self._halted[name] = halt_reason
                    self._set(name, position)

    async def look_at_parked(self) -> None:
        """Read what is parked; afterwards notifications tell what changes.

        Raises:
            OSError, asyncpg.PostgresError: the database can't be reached.
        """
        self._heard.clear()
        rows = await self._pool.fetch(_SQL["all_parked"])
        self._parked.clear()
        for name, tenant, owner_key in rows:
            self._parked[tenant, owner_key].add(name)
        # What was told meanwhile may be newer than the rows; what is not, changes nothing.
        for payload in self._heard:
            self._take_in_parked(payload)

    def heard_of_parked(self, payload: str) -> None:
        """Take in a notification: + or -, the tenant, the owner's key and the projection."""
        self._heard.append(payload)
        del self._heard[:-_KEPT_HEARD]
        self._take_in_parked(payload)

    def _take_in_parked(self, payload: str) -> None:
        sign, tenant, owner_key, name = payload.split(" ", 3)
        key = (int(tenant), bytes.fromhex(owner_key))
        if sign == "+":
            self._parked[key].add(name)
        else:
            self._parked[key].discard(name)
            if not self._parked[key]:
                del self._parked[key]

    def heard(self, payload: str) -> None:
        """Take in a notification: a projection's name and position."""
        name, _, position = payload.rpartition(" ")
        self._halted[name] = ""  # it moves
        self._told[name] = self._told.get(name, 0) + 1
        self._set(name, int(position))

    def _set(self, name: str, position: int) -> None:
        # A projection that folds anew starts again at 0: the last word counts, not the highest.
        self._positions[name] = position
        self._moved.set()
        self._moved = asyncio.Event()

    async def follow(self, url: str) -> None:
        """Listen for ever, connecting again when the database was away."""
        while True:
            with suppress(asyncpg.PostgresError, *UNREACHABLE):
                await self._listen(url)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self, url: str) -> None:
        lost = asyncio.Event()
        connection = await asyncpg.connect(url)
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(
                _CHANNEL, lambda _, __, ___, payload: self.heard(str(payload))
            )
            await connection.add_listener(
                _PARKED_CHANNEL, lambda _, __, ___, payload: self.heard_of_parked(str(payload))
            )
            await connection.add_listener(_ERASED_CHANNEL, lambda *_: self._forget())
            self._forget()  # nobody listened until now
            await self._look()
            await self.look_at_parked()
            await lost.wait()
        finally:
            connection.terminate()


@asynccontextmanager
async def follow_checkpoints(
    url: str, pool: asyncpg.Pool, forget: Callable[[], None] = lambda: None
) -> AsyncIterator[Checkpoints]:
    """Follow the checkpoints of a database until the block ends.

    Args:
        url: The database.
        pool: Connections to it.
        forget: Makes the process forget what it remembers opened; see Checkpoints.
    """
    checkpoints = Checkpoints(pool, forget)
    with suppress(asyncpg.PostgresError, *UNREACHABLE):  # else once it can be reached
        await checkpoints.look_at_parked()
    async with running(checkpoints.follow(url)):
        yield checkpoints
