"""A score against the formula of DESIGN §9 in plain floating point, and every point explained."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engagement.domain.scoring import (
    DAY_US,
    ONE,
    THOUSAND,
    DaySum,
    Scored,
    Tally,
    Terms,
    day_of,
    factor,
    factors,
    score,
)

TODAY = 20_000
DAY_NS = 86_400_000_000_000

caps = st.none() | st.integers(1, 20_000)
weights = st.integers(-5_000, 5_000).filter(bool)
half_lives = st.none() | st.integers(DAY_NS // 24, 400 * DAY_NS)
terms = st.builds(Terms, weights, half_lives, caps, caps)
models = st.lists(terms, min_size=1, max_size=4)
events = st.lists(st.tuples(st.integers(0, 3), st.integers(TODAY - 300, TODAY + 1)), max_size=40)
"""Which rule counts an event, and on which day it happened."""


def sums_of(rules: list[Terms], history: list[tuple[int, int]]) -> list[DaySum]:
    """One sum per event, as if each had an identity of its own."""
    return [DaySum(n % len(rules), day, rules[n % len(rules)].weight) for n, day in history]


def by_the_formula(rules: list[Terms], sums: list[DaySum], today: int) -> float:
    """The score as docs/scoring.md writes it, in floating point."""
    return math.fsum(_rule_by_the_formula(n, one, sums, today) for n, one in enumerate(rules))


def _rule_by_the_formula(number: int, rule: Terms, sums: list[DaySum], today: int) -> float:
    days = Counter[int]()
    for one in sums:
        if one.rule == number:
            days[one.day] += one.weight
    total = math.fsum(
        _within(weight / THOUSAND, rule.day_cap)
        * 2.0 ** -(max(0, today - day) * DAY_NS / (rule.half_life_ns or math.inf))
        for day, weight in days.items()
    )
    return _within(total, rule.total_cap)


def _within(points: float, cap: int | None) -> float:
    limit = math.inf if cap is None else cap / THOUSAND
    return max(-limit, min(limit, points))


@given(rules=models, history=events, today=st.integers(TODAY - 100, TODAY + 3_000))
def test_a_score_is_what_the_formula_says(
    rules: list[Terms], history: list[tuple[int, int]], today: int
) -> None:
    sums = sums_of(rules, history)
    scored = score(rules, sums, today)
    assert math.isclose(scored.score, by_the_formula(rules, sums, today), abs_tol=1e-9)
    assert math.isclose(sum(one.points for one in scored.rules), scored.score, abs_tol=1e-9)


@given(rules=models, history=events, today=st.integers(TODAY - 100, TODAY + 3_000))
def test_contributions_add_up_to_the_score_and_their_weights_to_each_days_sum_exactly(
    rules: list[Terms], history: list[tuple[int, int]], today: int
) -> None:
    sums = sums_of(rules, history)
    scored = score(rules, sums, today)
    shares = [scored.rules[rule].share(day) for rule, day, _ in sums]
    assert math.isclose(math.fsum(shares), scored.score, abs_tol=1e-9)
    weights = Counter[tuple[int, int]]()
    for rule, day, weight in sums:
        weights[rule, day] += weight
    assert weights == {
        (number, day): points.weight
        for number, rule_points in enumerate(scored.rules)
        for day, points in rule_points.days.items()
    }
    assert [one.events for one in scored.rules] == [
        sum(rule == number for rule, _, _ in sums) for number in range(len(rules))
    ]


@given(rules=models, history=events, seed=st.integers())
def test_the_order_of_arrival_and_whose_identity_it_was_do_not_matter(
    rules: list[Terms], history: list[tuple[int, int]], seed: int
) -> None:
    sums = sums_of(rules, history)
    shuffled = list(sums)
    Random(seed).shuffle(shuffled)
    together = Counter[tuple[int, int]]()
    for rule, day, weight in sums:
        together[rule, day] += weight
    merged = [DaySum(rule, day, weight) for (rule, day), weight in together.items()]
    expected = score(rules, sums, TODAY)
    assert score(rules, shuffled, TODAY) == score(rules, merged, TODAY) == expected


@given(rules=models, history=events, today=st.integers(TODAY, TODAY + 3_000))
def test_caps_bound_days_and_rules_and_the_uncapped_points_tell_what_they_cost(
    rules: list[Terms], history: list[tuple[int, int]], today: int
) -> None:
    sums = sums_of(rules, history)
    scored = score(rules, sums, today)
    free = score([replace(one, day_cap=None, total_cap=None) for one in rules], sums, today)
    for rule, points, uncapped in zip(rules, scored.rules, free.rules, strict=True):
        assert abs(points.capped_units) <= (rule.total_cap or 10**9) * ONE
        assert all(abs(day.capped) <= (rule.day_cap or 10**9) for day in points.days.values())
        assert points.uncapped_units == uncapped.capped_units
        assert abs(points.capped_units) <= abs(points.uncapped_units)


def points(rule: Terms, *days: int, today: int = TODAY) -> Scored:
    return score([rule], [DaySum(0, day, rule.weight) for day in days], today)


def test_after_a_half_life_points_are_worth_half() -> None:
    rule = Terms(weight=8_000, half_life_ns=7 * DAY_NS)
    ages = [points(rule, TODAY, today=TODAY + age).score for age in (0, 7, 14, 21)]
    assert ages == [8.0, 4.0, 2.0, 1.0]


def test_within_a_utc_day_nothing_fades() -> None:
    assert day_of(TODAY * DAY_US) == day_of(TODAY * DAY_US + DAY_US - 1) == TODAY
    assert factor(DAY_NS, 0) == ONE


def test_without_a_half_life_points_stay() -> None:
    assert points(Terms(weight=2_500), TODAY - 9_000).score == 2.5


def test_what_is_yet_to_happen_counts_as_of_today() -> None:
    rule = Terms(weight=1_000, half_life_ns=DAY_NS)
    assert points(rule, TODAY + 1).score == points(rule, TODAY).score == 1.0


@pytest.mark.parametrize(("weight", "expected"), [(1_000, 6.0), (-1_000, -6.0)])
def test_a_day_gives_at_most_its_cap_and_a_rule_its_own_of_either_sign(
    weight: int, expected: float
) -> None:
    rule = Terms(weight, day_cap=4_000, total_cap=6_000)
    assert points(rule, *[TODAY] * 9).score == math.copysign(4.0, weight)
    scored = points(rule, *[TODAY] * 9, *[TODAY - 1] * 5)
    assert scored.score == expected
    # 8 points of both days become 6, and each day's 4 are shared by 9 and by 5 events.
    assert scored.rules[0].share(TODAY) == pytest.approx(expected / 2 / 9)
    assert scored.rules[0].share(TODAY - 1) == pytest.approx(expected / 2 / 5)


def test_a_sum_of_0_is_no_day_and_no_event() -> None:
    scored = score([Terms(1_000)], [DaySum(0, TODAY, 1_000), DaySum(0, TODAY, -1_000)], TODAY)
    assert (scored.score, scored.rules[0].days, scored.rules[0].events) == (0.0, {}, 0)


def test_what_has_faded_altogether_gives_0_to_everybody() -> None:
    scored = points(Terms(1_000, half_life_ns=DAY_NS), TODAY - 400, TODAY - 500)
    assert (scored.score, scored.rules[0].share(TODAY - 400), scored.rules[0].events) == (0, 0, 2)


@given(half_life=st.integers(1, 3_653 * DAY_NS), oldest=st.integers(0, 30_000))
def test_all_ages_that_leave_anything_have_a_factor(half_life: int, oldest: int) -> None:
    known = factors(half_life, oldest)
    assert list(known) == [factor(half_life, age) for age in range(len(known))]
    assert len(known) == oldest + 1 or factor(half_life, len(known)) == 0
    assert known[0] == ONE < 2**63


@given(models, events, st.lists(st.integers(TODAY - 2, TODAY + 2), min_size=1))
def test_given_what_counts_comes_bit_by_bit_then_the_tally_is_the_score_at_each_day(
    rules: list[Terms], history: list[tuple[int, int]], days: list[int]
) -> None:
    tally, told = Tally(rules, days[0]), list[DaySum]()
    for number, counted in enumerate(sums_of(rules, history)):
        today = days[number % len(days)]
        tally.turn(today)
        assert tally.units == score(rules, told, today).units
        tally.add(counted)
        told.append(counted)
        assert tally.units == score(rules, told, today).units
    for counted in reversed(told):
        tally.add(counted._replace(weight=-counted.weight))
    assert tally.units == 0
