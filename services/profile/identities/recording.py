"""Makes decisions about who is who: on a graph that knows all earlier ones, once, in one unit.

A decision is computed from the graph's tables, which follow the line. It is recorded with the next
version of every profile that it concerns, so of two that were made on the same versions one is
refused, and made again on what the other left.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
from eventsourcing.persistence import DataError, IntegrityError, OperationalError

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.eventstore.records import event_id_bytes
from libs.identity.graph import GraphFold
from libs.postgres.queries import load_queries
from libs.projection.clusters import Cluster, read_cluster
from libs.projection.profiles import erased_among, profile_versions, views_errors
from libs.projection.projection import Connection
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
from services.profile.identities.showing import Shown, first_keys, open_identities, suggested
from services.profile.reading import Reader
from touchline.events.v1.decisions_pb2 import ProfileVersion
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.profile.v1.profile_service_pb2 import DecisionResult

GRAPH: Final = ("identity_graph",)
"""What decisions are made from."""

_ATTEMPTS: Final = 3
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))

Choose = Callable[[Cluster], Decided]
"""Says what is decided, from all that says who is who around the named profiles."""

Wait = Callable[[int], Awaitable[None]]
"""Waits until the graph has folded a position, or the call's deadline."""


class _Behind(Exception):
    """Somebody decided about one of the profiles what the graph does not know yet."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a decision is made on: one snapshot of the graph.

    Attributes:
        cluster: All that says who is who around the named profiles.
        fold: What it says.
        versions: Of profiles with these roots, as the graph knows them.
        profiles: The identities of each named profile in their order, its root first.
        erased: Positions of erasures by those of these identities that were erased.
        position: The graph had folded everything up to it.
        decided: The roots of the profiles about which the decision with the caller's decision_id
            was; none when the graph knows no such decision.
    """

    cluster: Cluster
    fold: GraphFold
    versions: Mapping[bytes, int]
    profiles: Sequence[tuple[bytes, ...]]
    erased: Mapping[bytes, int]
    position: int
    decided: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class _Made:
    """A decision that stands on the line.

    Attributes:
        event_id: Its event.
        position: The event's position; 0 when only the graph can tell.
        after: The profiles that it leaves; none when it was made before.
    """

    event_id: str
    position: int
    after: Sequence[Shown] = ()


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
        self._checkpoints = checkpoints
        self._applications = applications

    async def decide(
        self,
        reader: Reader,
        named: Sequence[Named],
        wish: Wish,
        choose: Choose,
        wait: Wait,
        unknown: Callable[[], errors.CallError] = errors.profile_not_found,
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
        forestalled = 0
        while forestalled < _ATTEMPTS:
            seen = await self._see(reader, named, wish, unknown)
            owner = await self._owner(reader, seen)
            try:
                made = await asyncio.to_thread(
                    self._make, reader.tenant, named, wish, choose, seen, owner
                )
            except _Behind:
                await wait(await self._head())
            except IntegrityError:
                forestalled += 1
            except DataError:  # somebody was erased meanwhile, which the next look at it says
                forestalled += 1
                if forestalled == _ATTEMPTS:
                    raise
                await wait(await self._head())
            except OperationalError as error:
                raise errors.store_unavailable() from error
            else:
                return await self._result(reader, made, wait)
        raise await self._contended(reader, named, wish, seen)

    async def _see(
        self,
        reader: Reader,
        named: Sequence[Named],
        wish: Wish,
        unknown: Callable[[], errors.CallError],
    ) -> _Seen:
        tenant, keys = reader.tenant, [one.key for one in named]
        position = self._checkpoints.position(GRAPH)
        async with views_errors(), self._snapshot() as connection:
            cluster = await read_cluster(connection, tenant, keys)
            fold = cluster.fold()
            if not all(key in fold.components for key in keys):
                raise unknown()
            around = [node.key for node in cluster.nodes]
            versions = await profile_versions(connection, tenant, around)
            profiles = [_members(cluster, fold, key) for key in keys]
            concerned = {key for profile in profiles for key in profile}
            erased = await erased_among(connection, tenant, concerned)
            decided = await _decided_about(connection, tenant, wish)
        positions = {one.key: one.position for one in erased}
        return _Seen(cluster, fold, versions, profiles, positions, position, decided)

    async def _owner(self, reader: Reader, seen: _Seen) -> Identity:
        """Return the first identity of the profile that was named first that was not erased.

        Raises:
            CallError: PROFILE_ERASED, of any of the profiles.
        """
        for profile in seen.profiles:
            if all(key in seen.erased for key in profile):
                raise errors.profile_erased(max(seen.erased[key] for key in profile))
        owner = next(key for key in seen.profiles[0] if key not in seen.erased)
        opened = await open_identities(self._pool, self._store, reader, [owner])
        identity = opened[owner].identity
        if not identity.value:
            raise errors.profile_erased(await self._head())  # a moment ago
        return identity

    def _make(
        self,
        tenant: int,
        named: Sequence[Named],
        wish: Wish,
        choose: Choose,
        seen: _Seen,
        owner: Identity,
    ) -> _Made:
        """Record the decision; it is synchronous, as aggregates are.

        Raises:
            CallError: it can't be decided.
            _Behind: somebody decided what the graph does not know.
            IntegrityError: another decided meanwhile.
            PersistenceError: the store does not take it, or can't be reached.
        """
        application = self._applications[tenant]
        roots = list(dict.fromkeys(profile[0] for profile in seen.profiles))
        known = application.find(list(dict.fromkeys([*roots, *seen.decided])))
        if made := _made_before(known.values(), wish, seen):
            return made
        _check_fresh(roots, known, seen.versions)
        _check_named(named, seen, known)
        decided = _chosen(choose, seen, roots[0])
        known |= application.find([root for root in decided.before if root not in known])
        _check_fresh(decided.before, known, seen.versions)
        concerned = {root: known.get(root) for root in decided.before}
        fact = _fact(wish, decided, concerned, owner)
        position = application.record(concerned, wish.asked, fact, seen.position)
        return _Made(fact.event_id, position, _after(decided, concerned, seen.versions))

    async def _result(self, reader: Reader, made: _Made, wait: Wait) -> DecisionResult:
        position, after = made.position, made.after
        if not after:
            position, after = await self._standing(reader, made.event_id, wait)
        opened = await open_identities(self._pool, self._store, reader, first_keys(after))
        return DecisionResult(
            event_id=made.event_id,
            position=position,
            profiles=[suggested(profile, opened) for profile in after],
        )

    async def _standing(
        self, reader: Reader, event_id: str, wait: Wait
    ) -> tuple[int, Sequence[Shown]]:
        """Return the position of a decision made before, and whom it named as they are now."""
        tenant = reader.tenant
        async with views_errors():
            row = await self._pool.fetchrow(_SQL["decision"], tenant, event_id)
        if row is None:
            await wait(await self._head())
        async with views_errors(), self._snapshot() as connection:
            row = await connection.fetchrow(_SQL["decision"], tenant, event_id)
            if row is None:
                raise errors.internal()
            position, left, right = row
            cluster = await read_cluster(connection, tenant, [*left, *right])
            fold = cluster.fold()
            roots = list(dict.fromkeys(fold.components[key] for key in (*left, *right)))
            versions = await profile_versions(connection, tenant, roots)
        return position, [Shown(_members(cluster, fold, root), versions[root]) for root in roots]

    async def _contended(
        self, reader: Reader, named: Sequence[Named], wish: Wish, seen: _Seen
    ) -> errors.CallError:
        """Return the error of a decision that others forestalled again and again."""
        root = seen.profiles[0][0]
        application = self._applications[reader.tenant]
        known = await asyncio.to_thread(application.find, [one[0] for one in seen.profiles])
        if wish.event_id and all(
            one.version == seen.versions.get(key, 0) for key, one in known.items()
        ):
            return _other_decision()
        version = known[root].version if root in known else 0
        expected = named[0].expected_version
        return errors.stale_version(
            root.hex(), version, seen.versions[root] if expected is None else expected
        )

    async def _head(self) -> int:
        try:
            return (await self._store.head()).position
        except StoreError as error:
            raise errors.store_unavailable() from error

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection


async def _decided_about(connection: Connection, tenant: int, wish: Wish) -> list[bytes]:
    """Return the first identity of each side of the decision that has the caller's id."""
    if not wish.event_id:
        return []
    row = await connection.fetchrow(_SQL["decision"], tenant, wish.event_id)
    return [] if row is None else [keys[0] for keys in row[1:] if keys]


def _members(cluster: Cluster, fold: GraphFold, key: bytes) -> tuple[bytes, ...]:
    """Return the identities of the profile that has one, its root first."""
    root = fold.components[key]
    return tuple(node.key for node in cluster.nodes if fold.components[node.key] == root)


def _made_before(profiles: Iterable[Profile], wish: Wish, seen: _Seen) -> _Made | None:
    """Return the decision if it is the one that the caller asks for once more.

    Raises:
        CallError: another decision has the caller's decision_id.
    """
    gone = {one.event_id for one in seen.cluster.decisions if not one.holds}
    for profile in profiles:
        if not wish.event_id:
            last = profile.last
            if profile.asked_as[last] == wish.asked and event_id_bytes(last) not in gone:
                return _Made(last, 0)
        elif asked := profile.asked_as.get(wish.event_id):
            if asked != wish.asked:
                raise _other_decision()
            return _Made(wish.event_id, 0)
    if seen.decided:
        raise _other_decision()
    return None


def _other_decision() -> errors.CallError:
    told = "names another decision or event; give this decision an id of its own"
    return errors.invalid_request([("decision_id", told)])


def _check_fresh(
    roots: Iterable[bytes], known: Mapping[bytes, Profile], versions: Mapping[bytes, int]
) -> None:
    for root in roots:
        if root in known and known[root].version > versions.get(root, 0):
            raise _Behind


def _check_named(named: Sequence[Named], seen: _Seen, known: Mapping[bytes, Profile]) -> None:
    """Refuse a decision about a profile that is not what its caller took it for.

    Raises:
        CallError: PROFILE_MERGED_AWAY or STALE_VERSION.
    """
    for one in named:
        root = seen.fold.components[one.key]
        if one.by_id and root != one.key:
            raise errors.profile_merged_away(one.key.hex(), root.hex())
        version = known[root].version if root in known else 0
        if one.expected_version not in (None, version):
            raise errors.stale_version(root.hex(), version, one.expected_version or 0)


def _chosen(choose: Choose, seen: _Seen, root: bytes) -> Decided:
    try:
        return choose(seen.cluster)
    except SameProfile as error:
        raise errors.same_profile(root.hex()) from error
    except NotMerged as error:
        raise errors.not_merged(root.hex()) from error
    except NotDetachable as error:
        raise errors.identity_not_detachable(root.hex()) from error
    except NotSuggested as error:
        raise errors.suggestion_not_found() from error
    except TooLarge as error:
        raise errors.profile_too_large(error.identities, MOST_KEYS) from error


def _fact(
    wish: Wish, decided: Decided, concerned: Mapping[bytes, Profile | None], owner: Identity
) -> Event:
    decision = decided.message
    versions = [0 if profile is None else profile.version for profile in concerned.values()]
    decision.profiles.extend(
        ProfileVersion(root_key=root, version=version + 1)
        for root, version in zip(concerned, versions, strict=True)
    )
    return fact_of(wish, decision, owner, versions)


def _after(
    decided: Decided, concerned: Mapping[bytes, Profile | None], versions: Mapping[bytes, int]
) -> list[Shown]:
    shown = []
    for root, keys in decided.after.items():
        profile = concerned.get(root)  # it has been changed by now
        new = 1 if root in concerned else versions.get(root, 0)
        shown.append(Shown(keys, new if profile is None else profile.version))
    return shown
