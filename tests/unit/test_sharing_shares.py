"""What each process takes, gives up, splits and merges, of what all of them see."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from libs.projection.checkpoints import RangeState
from libs.projection.continuity import Checkpoint
from libs.projection.generations.generation import Generation
from libs.projection.partitions import ALL, Partitions, divided
from libs.projection.sharing.shares import Plan, Share, Worker, plan

A, B, C = (UUID(int=n) for n in (1, 2, 3))


def worker(owner: UUID, *, reacts: bool = True, folds: bool = True, version: int = 1) -> Worker:
    """A process that lives, and reads everything in one version."""
    versions = dict.fromkeys(("timeline", "graph", "consents"), version)
    return Worker(owner, folds=folds, reacts=reacts, fold_versions=versions)


def share(
    projection: str = "timeline",
    partitions: Partitions = ALL,
    owner: UUID | None = None,
    *,
    version: int = 1,
    halt_reason: str = "",
    is_reactor: bool = False,
    divisible: bool = False,
) -> Share:
    """A range that somebody has, or nobody."""
    began = datetime(2024, 1, 1, tzinfo=UTC)
    number = sum(projection.encode()) + version
    generation = Generation(
        *(number, projection, version, "public", "serving", 1, 0, began, None, None, None),
        *(0, 0, "", ""),
    )
    state = RangeState(
        *(projection, number, partitions, Checkpoint(0), halt_reason, owner),
        leased=owner is not None,
        held=False,
        erasure_waits=False,
    )
    return Share(generation, state, is_reactor=is_reactor, divisible=divisible)


def named(shares: Iterable[Share]) -> set[tuple[str, Partitions]]:
    """What shares are of."""
    return {(one.generation.projection, one.partitions) for one in shares}


def settled(shares: list[Share], workers: list[Worker]) -> tuple[list[Share], int]:
    """The shares once nobody does anything any more, and in how many rounds that was."""
    for round_ in range(50):
        before = [one.state.owner for one in shares]
        for me in workers:
            made = plan(shares, workers, me)
            shares = [after(one, made, me) for one in shares]
        if before == [one.state.owner for one in shares]:
            return shares, round_
    raise AssertionError("they never come to rest")


def after(one: Share, made: Plan, me: Worker) -> Share:
    """A share once a process did what it planned."""
    if one == made.give_up:
        return one._replace(state=one.state._replace(owner=None, leased=False))
    if one in made.take:
        return one._replace(state=one.state._replace(owner=me.owner, leased=True))
    return one


def counts(shares: list[Share], workers: list[Worker]) -> list[int]:
    """How many of the shares each process has."""
    return [sum(one.state.owner == each.owner for one in shares) for each in workers]


def test_given_one_process_then_it_takes_everything() -> None:
    shares = [share("graph"), share("timeline"), share("rules", is_reactor=True)]
    made = plan(shares, [], worker(A))
    assert named(made.take) == named(shares)
    assert made.give_up is None


def test_given_two_that_come_at_once_then_each_asks_for_other_ranges() -> None:
    shares = [share("timeline", one) for one in divided(4)]
    both = [worker(A), worker(B)]
    first, second = (named(plan(shares, both, me).take) for me in both)
    assert len(first) == len(second) == 2
    assert not first & second


def test_given_one_that_has_everything_and_one_that_joins_then_they_come_to_halves_and_rest() -> (
    None
):
    shares = [share("timeline", one, A) for one in divided(4)] + [share("graph", owner=A)]
    both = [worker(A), worker(B)]
    rested, rounds = settled(shares, both)
    assert counts(rested, both) == [3, 2]
    assert rounds <= 3


@pytest.mark.parametrize("lives", [[1, 2, 3], [2, 3], [3]])
def test_given_processes_that_die_then_the_others_have_everything(lives: list[int]) -> None:
    dead = UUID(int=9)
    shares = [share("timeline", one, dead) for one in divided(8)]
    workers = [worker(UUID(int=n)) for n in lives]
    # While its leases last nobody takes what is another's.
    assert counts(settled(shares, workers)[0], workers) == [0] * len(lives)
    free = [one._replace(state=one.state._replace(leased=False)) for one in shares]
    rested, _ = settled(free, workers)
    assert sum(counts(rested, workers)) == 8
    assert max(counts(rested, workers)) <= -(-8 // len(lives))


def test_given_roles_apart_then_what_only_one_can_do_is_not_left_lying() -> None:
    views = [share(name) for name in ("consents", "graph", "timeline")]
    reactors = [share(name, is_reactor=True) for name in ("rules", "deliveries")]
    projects, reacts = worker(A, reacts=False), worker(B, folds=False)
    rested, _ = settled(views + reactors, [projects, reacts])
    assert [one.state.owner for one in rested] == [A, A, A, B, B]


def test_given_two_releases_then_each_folds_its_own_version() -> None:
    shares = [share("timeline", version=1), share("timeline", version=2)]
    old, new = worker(A), worker(B, version=2)
    rested, _ = settled(shares, [old, new])
    assert [one.state.owner for one in rested] == [A, B]


def test_given_more_processes_then_only_what_is_divisible_is_split_into_a_power_of_two() -> None:
    shares = [share("timeline", owner=A, divisible=True), share("graph", owner=A)]
    assert named(plan(shares, [worker(A)], worker(A)).split) == set()
    assert named(plan(shares, [worker(A), worker(B)], worker(A)).split) == {("timeline", ALL)}
    halves = [share("timeline", one, A, divisible=True) for one in divided(2)]
    three = [worker(A), worker(B), worker(C)]
    assert named(plan(halves[:1], three[:2], worker(A)).split) == set()
    assert len(plan(halves, three, worker(A)).split) == 2
    many = [worker(UUID(int=n)) for n in range(1, 30)]
    eighths = [share("timeline", one, A, divisible=True) for one in divided(8)]
    assert not plan(eighths, many, worker(A)).split


def test_given_a_halted_range_then_it_is_neither_split_nor_merged() -> None:
    whole = share("timeline", owner=A, divisible=True, halt_reason="another store")
    assert not plan([whole], [worker(A), worker(B)], worker(A)).split
    first, second = divided(2)
    halves = [
        share("timeline", first, A, divisible=True),
        share("timeline", second, A, divisible=True, halt_reason="another store"),
    ]
    assert not plan(halves, [worker(A)], worker(A)).merge


def test_given_fewer_processes_then_the_owner_of_the_first_half_merges_both() -> None:
    first, second = divided(2)
    halves = [
        share("timeline", first, A, divisible=True),
        share("timeline", second, B, divisible=True),
    ]
    both = [worker(A), worker(B)]
    assert not plan(halves, both, worker(A)).merge
    assert named(plan(halves, [worker(A)], worker(A)).merge) == {("timeline", first)}
    assert not plan(halves, [worker(B)], worker(B)).merge
    # One that nobody folds can't be met.
    free = [halves[0], share("timeline", second, divisible=True)]
    assert not plan(free, [worker(A)], worker(A)).merge
