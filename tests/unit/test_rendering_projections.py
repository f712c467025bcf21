"""How projections stand is readable, and nothing that is wrong looks right."""

from datetime import timedelta

import pytest

from libs.cli.rendering.projections import projections_table
from libs.cli.rendering.status import status_table
from tests.terminal import NOW, joined, shown
from touchline.ingestion.v1 import ingestion_pb2 as ingestion
from touchline.projection.v1 import projection_pb2 as api

HEAD = 69_682


def generation(number: int, state: int, position: int = HEAD, **rest: object) -> api.Generation:
    said = {"generation": number, "state": state, "position": position, "fold_version": 1}
    return api.Generation(**{**said, **rest})  # type: ignore[arg-type]


def ranges(*workers: str) -> list[api.PartitionRange]:
    each = 64 // len(workers)
    return [
        api.PartitionRange(first=index * each, last=(index + 1) * each - 1, worker=worker)
        for index, worker in enumerate(workers)
    ]


def projection(name: str, *generations: api.Generation, **rest: object) -> api.Projection:
    said = {
        "name": name,
        "position": HEAD,
        "head_position": HEAD,
        "fold_version": 1,
        "state": api.PROJECTION_STATE_LIVE,
        "generations": generations or [generation(1, api.GENERATION_STATE_SERVING)],
    }
    return api.Projection(**{**said, **rest})  # type: ignore[arg-type]


def lines(*projections: api.Projection, width: int = 100, **options: object) -> list[str]:
    table = projections_table({"profile": projections}, now=NOW, **options)  # type: ignore[arg-type]
    return [joined(line) for line in shown(table, width).splitlines()]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_projection_that_is_rebuilt_is_shown_with_each_of_its_generations(width: int) -> None:
    serving = generation(12, api.GENERATION_STATE_SERVING)
    filling = generation(14, api.GENERATION_STATE_FILLING, 29_963)
    told = lines(projection("timeline", serving, filling), width=width)
    assert "timeline 12 69,682 0 ● live" in told
    assert "14 29,963 39,719 filling 42 %" in told


def test_what_is_filled_to_the_last_event_is_not_called_full() -> None:
    filling = generation(14, api.GENERATION_STATE_FILLING)
    assert "14 69,682 0 filling 99 %" in lines(projection("timeline", filling))


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (generation(2, api.GENERATION_STATE_FOLLOWING), "following"),
        (
            generation(2, api.GENERATION_STATE_FOLLOWING, compared_position=69_000),
            "following, equal at 69,000",
        ),
        (
            generation(
                2, api.GENERATION_STATE_FOLLOWING, compared_position=69_000, differing_rows=1203
            ),
            "following, 1,203 rows differed at 69,000",
        ),
        (generation(2, api.GENERATION_STATE_SERVING, fold_version=2), "serving, fold version 2"),
        (
            generation(2, api.GENERATION_STATE_FOLLOWING, ranges=ranges("a:1", "b:2", "a:1", "")),
            "following, 4 ranges by 2 workers, 1 by nobody",
        ),
        (
            generation(2, api.GENERATION_STATE_FOLLOWING, ranges=ranges("", "")),
            "following, 2 ranges by nobody",
        ),
        (generation(2, api.GENERATION_STATE_FOLLOWING, ranges=ranges("a:1")), "following"),
    ],
    ids=range(7),
)
def test_a_generation_beside_the_one_that_answers_says_what_it_is(
    one: api.Generation, said: str
) -> None:
    first = generation(1, api.GENERATION_STATE_SERVING)
    assert f"2 69,682 0 {said}" in lines(projection("timeline", first, one), width=140)


def test_a_retired_generation_says_since_when() -> None:
    retired = generation(1, api.GENERATION_STATE_RETIRED)
    retired.retired_at.FromDatetime(NOW - timedelta(minutes=2))
    both = projection("timeline", retired, generation(2, api.GENERATION_STATE_SERVING))
    assert "1 69,682 0 retired 2 min ago" in lines(both)


def test_a_generation_that_failed_has_no_position_and_says_why() -> None:
    failed = generation(2, api.GENERATION_STATE_FAILED, 0, failure="the disk is full")
    told = lines(projection("timeline", generation(1, api.GENERATION_STATE_SERVING), failed))
    assert "2 failed" in told
    assert "profile/timeline, generation 2 failed: the disk is full" in told


def test_without_a_generation_of_this_release_no_number_answers() -> None:
    older = generation(1, api.GENERATION_STATE_SERVING, fold_version=1)
    told = lines(projection("timeline", older, fold_version=2, position=0))
    assert "timeline – 0 69,682 ● live" in told  # noqa: RUF001 - the dash that is shown
    assert "1 69,682 0 serving, fold version 1" in told


def test_what_lags_says_by_how_much_and_since_when() -> None:
    behind = projection("timeline", position=69_000, state=api.PROJECTION_STATE_CATCHING_UP)
    behind.behind_since.FromDatetime(NOW - timedelta(seconds=12))
    assert "timeline 1 69,000 682, 12 s ○ catching up" in lines(behind)


def test_lag_is_told_by_whoever_heard_of_the_furthest_head() -> None:
    slow = projection("timeline", position=69_000, head_position=69_000)
    assert "timeline 1 69,000 682 ● live" in lines(slow, projection("consents"))


def test_rates_are_shown_while_somebody_watches() -> None:
    rates = {("profile", "timeline", 1): 12_345.6, ("profile", "timeline", 2): 0.0}
    filling = generation(2, api.GENERATION_STATE_FILLING, 5)
    one = projection("timeline", generation(1, api.GENERATION_STATE_SERVING), filling)
    told = lines(one, rates=rates)
    assert "timeline 1 69,682 0 12,346/s ● live" in told
    assert "2 5 69,677 0/s filling 0 %" in told
    assert not any("rate" in line for line in lines(one))


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        (
            {"state": api.PROJECTION_STATE_PAUSED, "pause_reason": "the disk grows"},
            "◌ paused",
            "profile/timeline is paused: the disk grows",
        ),
        ({"state": api.PROJECTION_STATE_PAUSED}, "◌ paused", ""),
        (
            {"state": api.PROJECTION_STATE_HALTED, "halt_reason": "another chain"},
            "✗ halted",
            "profile/timeline halted: another chain",
        ),
        ({"parked_keys": 3}, "● live, 3 parked", ""),
        ({"is_reactor": True}, "● live, a reactor", ""),
        ({"state": 99}, "? unknown", ""),
    ],
    ids=range(6),
)
def test_states_are_words_and_reasons_stand_below(
    changes: dict[str, object], state: str, reason: str
) -> None:
    one = projection("timeline", **changes)
    told = lines(one)
    assert f"timeline 1 69,682 0 {state}" in told
    assert reason in told
    status = shown(status_table(ingestion.StoreStatus(), {"profile": [one]}, now=NOW))
    assert state.removesuffix(", a reactor") in status
    assert reason in status


def test_a_service_that_does_not_answer_is_a_row_that_says_so() -> None:
    table = projections_table({"profile": None, "engagement": []}, now=NOW)
    told = [joined(line) for line in shown(table, 80).splitlines()]
    assert "profile ✗ does not answer" in told
    assert "engagement" in told


def test_where_the_screen_is_too_low_what_is_quiet_is_counted() -> None:
    quiet = [projection(f"one_{index}") for index in range(20)]
    behind = projection("behind", position=5)
    rebuilt = projection(
        "rebuilt",
        generation(1, api.GENERATION_STATE_SERVING),
        generation(2, api.GENERATION_STATE_FILLING, 5),
    )
    told = lines(*quiet, behind, rebuilt, height=24)
    assert len(told) <= 24
    assert "and 20 more, live and at the head" in told
    assert any(line.startswith("behind") for line in told)
    assert any(line.startswith("rebuilt") for line in told)
    assert "more" not in joined(" ".join(lines(*quiet, height=40)))


def test_what_a_service_says_can_not_steer_the_terminal() -> None:
    halted = projection("time\x1b[2Jline", halt_reason="\x1b[31mred")
    assert "\x1b" not in shown(projections_table({"profile": [halted]}, now=NOW))
