"""Makes decisions about who is who: on a graph that knows all earlier ones, once, in one unit.

A decision is computed from the graph's tables, which follow the line, and recorded with the next
version of every profile that it concerns. So what was computed on a graph that is behind, or at the
same time as another decision about one of them, is refused by the store, and decided anew on what
is there now.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
from eventsourcing.persistence import DataError, IntegrityError, OperationalError

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.eventstore.records import event_id_bytes
from libs.projection.clusters import Cluster
from libs.projection.config import Reader
from libs.projection.waiting import Checkpoints
from libs.rpc import errors
from services.profile.identities.aggregates import Profile, ProfileDecisions
from services.profile.identities.asking import Named, Wish, fact_of
from services.profile.identities.deciding import (
    MOST_KEYS,
    Decided,
    NotDetachable,
    NotMerged,
    NotSuggested,
    SameProfile,
    TooLarge,
)
from services.profile.identities.seeing import Graph, Seen, Unknown
from services.profile.identities.showing import Shown, first_keys, open_identities, suggested
from touchline.events.v1.decisions_pb2 import ProfileVersion
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.profile.v1.profile_service_pb2 import DecisionResult

# Of those who decide about one profile at the same moment one comes through each time.
_ATTEMPTS: Final = 20

Choose = Callable[[Cluster], Decided]
"""Says what is decided, from all that says who is who around the named profiles."""

Wait = Callable[[int], Awaitable[None]]
"""Waits until the graph has folded a position, or the call's deadline."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A decision that stands on the line, its position, and the profiles that it left."""

    event_id: str
    position: int
    after: Sequence[Shown]


class Deciding:
    """Records decisions about who is who.

    Args:
        pool: Connections to the database of the identity graph.
        store: Gives the data keys that open identities, and tells where the line ends.
        checkpoints: Tells how far the graph is.
        applications: Each tenant's profiles, by its number.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        store: StoreClient,
        checkpoints: Checkpoints,
        applications: Mapping[int, ProfileDecisions],
    ) -> None:
        self._pool = pool
        self._store = store
        self._graph = Graph(pool, store, checkpoints)
        self._applications = applications

    async def decide(
        self,
        reader: Reader,
        named: Sequence[Named],
        wish: Wish,
        choose: Choose,
        wait: Wait,
        unknown: Unknown = errors.profile_not_found,
    ) -> DecisionResult:
        """Decide, or say what came of it when it was decided before.

        Args:
            reader: Whose profiles they are.
            named: The profiles that the caller names; the first is the one that is decided about.
            wish: Who decides, and why.
            choose: Says what is decided.
            wait: Waits until the graph is at a position.
            unknown: The error of a name that leads to no profile.

        Raises:
            CallError: nothing was decided; says why.
        """
        application = self._applications[reader.tenant]
        try:
            before: Mapping[bytes, int] = {}
            for _ in range(_ATTEMPTS):
                seen = await self._graph.see(reader, named, wish, unknown)
                if wish.event_id and (event_id := await self._made_before(reader, seen, wish)):
                    return await self._as_it_stands(reader, event_id, wait)
                try:
                    owner = await self._graph.owner(reader, seen)
                    made = await asyncio.to_thread(
                        _make, application, named, wish, choose, seen, owner
                    )
                    return await self._result(reader, made)
                except (IntegrityError, DataError):
                    # Another decided meanwhile, or the graph is behind, or somebody was erased.
                    if seen.versions == before:
                        break  # Nobody did: the decision's id is another event's.
                    before = seen.versions
                    await wait(await self._head())
                except errors.CallError:
                    if event_id := await self._made_before(reader, seen, wish):
                        return await self._as_it_stands(reader, event_id, wait)
                    if not await self._is_behind(reader, seen):
                        raise
                    await wait(await self._head())
            raise await self._forestalled(reader, named, wish)
        except OperationalError as error:
            raise errors.store_unavailable() from error

    async def _made_before(self, reader: Reader, seen: Seen, wish: Wish) -> str:
        """Return the event of the same decision when it was made before; empty when it was not.

        Raises:
            CallError: another decision has the caller's decision_id.
        """
        profiles = await self._profiles(reader, seen.roots)
        if wish.event_id:
            asked = {one.asked_as.get(wish.event_id) for one in profiles.values()} - {None}
            if asked - {wish.asked} or (seen.decided and not asked):
                raise _other_decision()
            return wish.event_id if asked else ""
        gone = {one.event_id for one in seen.cluster.decisions if one.taken_back}
        for one in profiles.values():
            if one.asked_as[one.last] == wish.asked and event_id_bytes(one.last) not in gone:
                return one.last
        return ""

    async def _is_behind(self, reader: Reader, seen: Seen) -> bool:
        """Tell whether somebody decided about the profiles what the graph does not know yet."""
        profiles = await self._profiles(reader, seen.roots)
        return any(one.version > seen.versions.get(root, 0) for root, one in profiles.items())

    async def _result(self, reader: Reader, made: _Made) -> DecisionResult:
        opened = await open_identities(self._pool, self._store, reader, first_keys(made.after))
        return DecisionResult(
            event_id=made.event_id,
            position=made.position,
            profiles=[suggested(profile, opened) for profile in made.after],
        )

    async def _as_it_stands(self, reader: Reader, event_id: str, wait: Wait) -> DecisionResult:
        position, after = await self._graph.standing(reader, event_id)
        if not position:
            await wait(await self._head())
            position, after = await self._graph.standing(reader, event_id)
        return await self._result(reader, _Made(event_id, position, after))

    async def _forestalled(
        self, reader: Reader, named: Sequence[Named], wish: Wish
    ) -> errors.CallError:
        """Return the error of a decision that the store refused again and again."""
        seen = await self._graph.see(reader, named, wish, errors.profile_not_found)
        if wish.event_id and not await self._is_behind(reader, seen):
            return _other_decision()
        root = seen.profiles[0][0]
        version = seen.versions.get(root, 0)
        expected = named[0].expected_version
        return errors.stale_version(root.hex(), version, expected or 0)

    async def _profiles(self, reader: Reader, roots: Sequence[bytes]) -> dict[bytes, Profile]:
        return await asyncio.to_thread(self._applications[reader.tenant].find, roots)

    async def _head(self) -> int:
        try:
            return (await self._store.head()).position
        except StoreError as error:
            raise errors.store_unavailable() from error


def _make(
    application: ProfileDecisions,
    named: Sequence[Named],
    wish: Wish,
    choose: Choose,
    seen: Seen,
    owner: Identity,
) -> _Made:
    """Decide, and record it; it is synchronous, as applications are.

    Raises:
        CallError: it can't be decided.
        IntegrityError: another decided meanwhile, or the graph is behind.
        PersistenceError: the store does not take it, or can't be reached.
    """
    _check_named(named, seen)
    decided = _chosen(choose, seen)
    known = {root: seen.versions.get(root, 0) for root in decided.before}
    fact = _fact(wish, decided, known, owner)
    position = application.record(known, wish.asked, fact, seen.position)
    after = []
    for root, keys in decided.after.items():
        version = known[root] + 1 if root in known else seen.versions.get(root, 0)
        after.append(Shown(keys, version))
    return _Made(fact.event_id, position, after)


def _check_named(named: Sequence[Named], seen: Seen) -> None:
    """Refuse a decision about a profile that is not what its caller took it for.

    Raises:
        CallError: PROFILE_MERGED_AWAY or STALE_VERSION.
    """
    for one in named:
        root = seen.fold.components[one.key]
        if one.by_id and root != one.key:
            raise errors.profile_merged_away(one.key.hex(), root.hex())
        version = seen.versions.get(root, 0)
        if one.expected_version not in (None, version):
            raise errors.stale_version(root.hex(), version, one.expected_version or 0)


def _chosen(choose: Choose, seen: Seen) -> Decided:
    root = seen.profiles[0][0].hex()
    try:
        return choose(seen.cluster)
    except SameProfile as error:
        raise errors.same_profile(root) from error
    except NotMerged as error:
        raise errors.not_merged(root) from error
    except NotDetachable as error:
        raise errors.identity_not_detachable(root) from error
    except NotSuggested as error:
        raise errors.suggestion_not_found() from error
    except TooLarge as error:
        raise errors.profile_too_large(error.identities, MOST_KEYS) from error


def _fact(wish: Wish, decided: Decided, known: Mapping[bytes, int], owner: Identity) -> Event:
    decision = decided.message
    decision.profiles.extend(
        ProfileVersion(root_key=root, version=version + 1) for root, version in known.items()
    )
    return fact_of(wish, decision, owner, list(known.values()))


def _other_decision() -> errors.CallError:
    told = "names another decision or event; give this decision an id of its own"
    return errors.invalid_request([("decision_id", told)])
