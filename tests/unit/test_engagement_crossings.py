"""Where a score crosses a level: by an event, by a midnight, and not by anything else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from services.engagement.domain.crossings import Change, Crossing, crossings, midnight_crossing
from services.engagement.domain.model import Model, compile_model
from services.engagement.domain.scoring import ONE, THOUSAND, DaySum, points_of
from services.engagement.levels import edges
from touchline.engagement.v1.engagement_pb2 import ModelDefinition, ScoreLevel, ScoringRule

TODAY = 20_000
DAY = Duration(seconds=86_400)


def model(*levels: float, half_life: Duration | None = DAY) -> Model:
    """One rule of one point, and levels named by their scores."""
    return compile_model(
        ModelDefinition(
            name="m",
            rules=[ScoringRule(name="r", weight=1, half_life=half_life)],
            levels=[ScoreLevel(name=f"{score:g}", from_score=score) for score in levels],
        )
    )


def points(position: int, score: float, day: int = TODAY) -> Change:
    return Change(position, 0, day, round(score * THOUSAND))


def found(
    changes: Sequence[Change], acting: Sequence[int], of: Model | None = None
) -> list[tuple[int, str, str]]:
    of = of or model(2, 4)
    crossed = crossings(of, changes, dict.fromkeys(acting, TODAY))
    return [(one.position, one.from_level, one.to_level) for one in crossed]


def test_given_an_event_that_lifts_a_score_over_an_edge_then_it_crosses() -> None:
    (crossing,) = crossings(model(2, 4), [points(0, 1), points(7, 1.5)], {7: TODAY})
    assert crossing == Crossing(7, "", "2", 2.5, rising=True)


def test_given_a_score_just_at_the_edge_then_the_level_is_reached() -> None:
    assert found([points(0, 1.999), points(7, 0.001)], [7]) == [(7, "", "2")]
    assert found([points(0, 1.998), points(7, 0.001)], [7]) == []


def test_given_an_event_that_lifts_over_two_edges_then_it_crosses_once() -> None:
    assert found([points(7, 9)], [7]) == [(7, "", "4")]


def test_given_events_up_and_down_then_each_crosses() -> None:
    changes = [points(7, 2), points(8, -1), points(9, 1), points(10, 0.5)]
    assert found(changes, [7, 8, 9, 10]) == [(7, "", "2"), (8, "2", ""), (9, "", "2")]


def test_given_events_that_may_not_act_then_they_move_the_score_in_silence() -> None:
    changes = [points(5, 1.5), points(6, 2), points(7, 0.25), points(8, 0.25)]
    assert found(changes, [7, 8]) == [(8, "2", "4")]


def test_given_what_counted_long_ago_then_it_weighs_what_is_left_today() -> None:
    assert found([points(0, 4, TODAY - 1), points(7, 0.001)], [7]) == []
    assert found([points(0, 3.998, TODAY - 1), points(7, 0.001)], [7]) == [(7, "", "2")]


@given(st.permutations([points(0, 1), points(3, 2), points(5, -2), points(5, 0.5), points(9, 3)]))
def test_given_any_order_then_the_crossings_are_the_same(changes: list[Change]) -> None:
    assert found(changes, [3, 5, 9]) == [(3, "", "2"), (5, "2", ""), (9, "", "4")]


def test_given_no_levels_then_nothing_crosses() -> None:
    assert found([points(7, 9)], [7], model()) == []


@pytest.mark.parametrize(
    ("score", "crosses"),
    [(4.0, ("4", "2")), (8.0, None), (3.998, ("2", "")), (1.0, None), (0.0, None)],
)
def test_given_a_midnight_then_what_fades_over_an_edge_crosses(
    score: float, crosses: tuple[str, str] | None
) -> None:
    sums = [DaySum(0, TODAY - 1, round(score * THOUSAND))]
    crossing = midnight_crossing(model(2, 4), sums, TODAY)
    assert (crossing and crossing[1:3]) == crosses
    assert crossing is None or (crossing.score, crossing.rising) == (score / 2, False)


def test_given_a_grudge_that_fades_faster_than_the_rest_then_the_score_rises() -> None:
    grudging = compile_model(
        ModelDefinition(
            name="m",
            rules=[
                ScoringRule(name="good", weight=1),
                ScoringRule(name="bad", weight=-1, half_life=DAY),
            ],
            levels=[ScoreLevel(name="fine", from_score=4)],
        )
    )
    sums = [DaySum(0, TODAY - 1, 5_000), DaySum(1, TODAY - 1, -2_000)]
    crossing = midnight_crossing(grudging, sums, TODAY)
    assert crossing == Crossing(0, "", "fine", 4.0, rising=True)


@given(st.floats(min_value=1e-3, max_value=1e9, exclude_min=True))
def test_an_edge_in_units_is_where_the_rounded_score_reaches_the_level(score: float) -> None:
    (edge,) = edges(model(score))
    assert points_of(edge) >= score > points_of(edge - 1)
    assert abs(edge - score * THOUSAND * ONE) <= edge * 2**-52
