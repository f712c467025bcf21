"""An answer that lacks events says so in a line, wherever it ends."""

import pytest

from libs.cli.rendering import scores
from libs.cli.rendering.degraded import degraded
from tests.terminal import NOW, joined, shown
from touchline.engagement.v1 import engagement_pb2 as engagement


@pytest.mark.parametrize("width", [80, 120])
def test_the_warning_is_one_line_that_names_the_projection_and_the_command(width: int) -> None:
    [line] = shown(degraded(["notifications"]), width).strip().splitlines()
    told = "◐ incomplete: some events are not folded (notifications) · touchline parked"
    assert line.strip() == told


@pytest.mark.parametrize(("width", "lines"), [(40, 3), (80, 2), (120, 1)])
def test_when_the_command_does_not_fit_beside_the_warning_it_stands_below_it(
    width: int, lines: int
) -> None:
    text = shown(degraded(["timeline", "identity_graph", "timeline"]), width)
    told = text.strip().splitlines()
    assert len(told) == lines
    assert "(identity_graph, timeline)" in joined(text)
    assert told[-1].strip().endswith("touchline parked")
    assert ("·" in text) is (lines == 1)


def test_in_a_list_of_scores_the_customers_who_lack_events_are_marked() -> None:
    lacking = engagement.Score(profile_id="ab" * 16, degraded_projections=["scores:1:default:1"])
    whole = engagement.Score(profile_id="cd" * 16)
    names = {lacking.profile_id: "Ines", whole.profile_id: "Jan"}
    for one in (lacking, whole):
        one.as_of.FromDatetime(NOW)
    text = joined(shown(scores.scores([lacking, whole], names, now=NOW)))
    assert "1 Ines ◐ 0.00" in text
    assert "2 Jan 0.00" in text
    told = "some events of these customers are not folded (scores:1:default:1)"
    assert told in text
    assert "◐" not in shown(scores.scores([whole], names, now=NOW))
