"""A score, a list of scores and an explanation are readable, and say when they do not add up."""

from datetime import timedelta

import pytest

from libs.cli.rendering import scores
from libs.cli.rendering.lines import Line
from tests.terminal import NOW, joined, shown
from touchline.engagement.v1 import engagement_pb2 as engagement
from touchline.events.v1 import event_pb2 as ev

INES = "ab" * 16
LEVELS = [
    engagement.ScoreLevel(name="cold", from_score=1),
    engagement.ScoreLevel(name="warm", from_score=50),
    engagement.ScoreLevel(name="hot", from_score=100),
]
RULES = [
    engagement.RulePoints(rule="product_use", points=38.2, uncapped_points=38.2, events=1),
    engagement.RulePoints(rule="orders", points=20, uncapped_points=31.4, events=1),
    engagement.RulePoints(rule="complaints", points=-8, uncapped_points=-8, events=1),
    engagement.RulePoints(rule="community", events=0),
]
WIDTHS = pytest.mark.parametrize("width", [80, 100, 120, 200])


def score(value: float, level: str = "", profile_id: str = INES) -> engagement.Score:
    one = engagement.Score(
        profile_id=profile_id, model="default", model_version=2, score=value, level=level
    )
    one.as_of.FromDatetime(NOW)
    return one


def contribution(event_id: str, rule: str, points: float) -> engagement.Contribution:
    one = engagement.Contribution(
        event_id=event_id,
        type=ev.EVENT_TYPE_PRODUCT_USED,
        rule=rule,
        weight=5,
        age_days=12,
        decayed=4.25,
        points=points,
    )
    one.occurred_at.FromDatetime(NOW - timedelta(days=12))
    return one


CONTRIBUTIONS = [
    contribution("event-1", "product_use", 38.2),
    contribution("event-2", "orders", 20),
    contribution("event-3", "complaints", -8),
]
TOLD = {"event-2": Line("◆", "cyan", "order", headline="Order S-50731 placed")}


def explained(value: float = 50.2, *, most: int = 10, ids: bool = False, width: int = 120) -> str:
    one = scores.Explained(score(value, "warm"), RULES, CONTRIBUTIONS, TOLD)
    return shown(scores.explanation(one, "Ines Falk", now=NOW, most=most, ids=ids), width)


@WIDTHS
def test_a_score_stands_on_the_scale_of_its_models_levels(width: int) -> None:
    text = shown(scores.score(score(50.2, "warm"), "Ines Falk", LEVELS, now=NOW), width)
    assert "Ines Falk 50.20 ● warm model default v2 · as of today 15:20" in joined(text)
    assert "cold from 1 · warm from 50 · hot from 100 49.80 to hot" in joined(text)
    assert text.count("┿") == 2
    assert text.count("┼") == 1


@pytest.mark.parametrize(("value", "reached"), [(-3.0, 0), (0.0, 0), (100.0, 3), (900.0, 3)])
def test_a_scale_holds_every_score(value: float, reached: int) -> None:
    text = shown(scores.score(score(value), "", LEVELS, now=NOW))
    assert text.count("┿") == reached
    assert (" to " in text) is (value < 100)


def test_a_model_without_levels_has_no_scale() -> None:
    assert "━" not in shown(scores.score(score(5), "Ines Falk", [], now=NOW))


@WIDTHS
def test_scores_are_listed_in_their_order_with_names_as_far_as_they_are_known(width: int) -> None:
    other = score(-3.25, profile_id="cd" * 16)
    text = joined(
        shown(scores.scores([score(50.2, "warm"), other], {INES: "Ines"}, now=NOW), width)
    )
    assert "1 Ines 50.20 ● warm" in text
    assert "2 cdcdcdcd -3.25 –" in text  # noqa: RUF001 - the dash that is shown


def test_when_nothing_counts_for_anybody_it_says_so() -> None:
    assert "Nothing counts" in shown(scores.scores([], {}, now=NOW))


@WIDTHS
def test_an_explanation_shows_each_rule_each_event_and_that_both_sum_to_the_score(
    width: int,
) -> None:
    text = joined(explained(width=width))
    assert "product_use 1 38.20" in text
    assert "orders 1 20.00" in text
    assert "capped, else 31.40" in text
    assert "complaints 1 -8.00" in text
    assert "1 other 0 0.00" in text
    assert "sum 3 50.20 ✓ the score" in text
    assert text.count("✓ the score") == 2
    assert "5.00 12 d 4.25 38.20" in text
    assert "◆" in text


def test_in_a_wide_terminal_events_are_told_in_words() -> None:
    text = joined(explained())
    assert "◆ order Order S-50731 placed" in text
    assert "Product use" in text


def test_ids_of_events_are_shown_whole_when_asked_for() -> None:
    text = explained(ids=True, width=80)
    assert all(one.event_id in text for one in CONTRIBUTIONS)
    assert "S-50731" not in text


def test_what_is_not_shown_one_by_one_is_summed() -> None:
    text = joined(explained(most=1))
    assert "and 2 more 12.00" in text
    assert text.count("✓ the score") == 2


def test_an_explanation_that_does_not_add_up_says_by_how_much() -> None:
    text = joined(explained(58.2))
    assert text.count("✗ not the score: off by -8") == 2
    assert "✓" not in text


def test_a_customer_for_whom_nothing_counts_has_an_explanation_too() -> None:
    one = scores.Explained(score(0), RULES[3:], [], {})
    text = shown(scores.explanation(one, "Ines Falk", now=NOW, most=5))
    assert "No event counts." in text
    assert "✓ the score" in text
