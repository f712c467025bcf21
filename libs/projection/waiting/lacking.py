"""Whose events projections lack: the parked keys of a database, as heard."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

_KEPT_HEARD: Final = 10_000


class Parked(NamedTuple):
    """A key of a generation that is parked there."""

    tenant: int
    owner_key: bytes
    generation: int
    projection: str


class Lacking:
    """Remembers parked keys.

    PostgreSQL tells of each key that is parked or folded again, and of that before the checkpoint
    that the same transaction moves: so whoever waited for a position knows what was parked up to
    there, and asks nobody.
    """

    def __init__(self) -> None:
        # By tenant and owner of events, the generations that have parked them.
        self._parked: defaultdict[tuple[int, bytes], dict[int, str]] = defaultdict(dict)
        self._heard: list[str] = []

    def of(self, tenant: int, owner_keys: Iterable[bytes]) -> Iterator[tuple[int, str]]:
        """Yield the generations, and their projections, that lack events of some identities."""
        if self._parked:
            for key in owner_keys:
                yield from self._parked.get((tenant, key), {}).items()

    def all_of(self, tenant: int) -> Iterator[tuple[bytes, Collection[tuple[int, str]]]]:
        """Yield each identity of a tenant that is parked, and by which generations."""
        for (number, key), lacking in self._parked.items():
            if number == tenant:
                yield key, lacking.items()

    def begin_look(self) -> None:
        """Remember what is told from now on; call it before the table is read."""
        self._heard.clear()

    def looked(self, rows: Iterable[Parked]) -> None:
        """Take in all parked keys as the table says."""
        self._parked.clear()
        for one in rows:
            self._parked[one.tenant, one.owner_key][one.generation] = one.projection
        # What was told meanwhile may be newer than the rows; what is not, changes nothing.
        for payload in self._heard:
            self._take_in(payload)

    def hear(self, payload: str) -> None:
        """Take in a notification: + or -, tenant, owner's key, generation and projection."""
        self._heard.append(payload)
        del self._heard[:-_KEPT_HEARD]
        self._take_in(payload)

    def _take_in(self, payload: str) -> None:
        sign, tenant, owner_key, generation, projection = payload.split(" ", 4)
        key = (int(tenant), bytes.fromhex(owner_key))
        if sign == "+":
            self._parked[key][int(generation)] = projection
        else:
            self._parked[key].pop(int(generation), None)
            if not self._parked[key]:
                del self._parked[key]
