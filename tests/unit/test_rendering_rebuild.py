"""A rebuild tells how far it is and what came of it, to a person and to a log."""

import io
import re
from datetime import timedelta

import pytest
from rich.console import Console

from libs.cli.rendering import rebuild
from libs.cli.rendering.stages import Stages
from tests.terminal import NOW, joined, shown
from touchline.projection.v1 import projection_pb2 as projection
from touchline.projection.v1 import projection_service_pb2 as api

EVENT = "019be2a0-7c00-7000-8000-000000000001"
FILLING, INDEXING, CATCHING_UP, FOLLOWING = (
    api.REBUILD_STAGE_FILLING,
    api.REBUILD_STAGE_INDEXING,
    api.REBUILD_STAGE_CATCHING_UP,
    api.REBUILD_STAGE_FOLLOWING,
)


def told(
    stage: int, folded: int = 0, events: int = 100, **rest: object
) -> api.RebuildProjectionResponse:
    said = {"generation": 14, "stage": stage, "folded_events": folded, "events": events}
    return api.RebuildProjectionResponse(**{**said, **rest})  # type: ignore[arg-type]


def written(
    *messages: api.RebuildProjectionResponse | api.CompareGenerationsResponse,
    terminal: bool = False,
    width: int = 80,
) -> str:
    """Returns what is shown of a rebuild: on a terminal all that was ever drawn."""
    to = io.StringIO()
    console = Console(file=to, width=width, force_terminal=terminal, highlight=False)
    with Stages(console) as stages:
        for one in messages:
            if isinstance(one, api.CompareGenerationsResponse):
                stages.show_comparison(one)
            else:
                stages.show(one)
    return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", to.getvalue())


def compared(*tables: projection.TableComparison) -> api.CompareGenerationsResponse:
    return api.CompareGenerationsResponse(
        serving=12,
        generation=14,
        position=69_682,
        tables=tables,
        table_count=len(tables),
        finished=True,
    )


def table(
    name: str, rows: int, *differences: projection.RowDifference, differ: int = 0
) -> projection.TableComparison:
    return projection.TableComparison(
        table=name,
        live_rows=rows,
        copied_rows=rows,
        differing_rows=differ or len(differences),
        differences=differences,
    )


def test_off_a_terminal_each_stage_is_one_line() -> None:
    text = written(
        told(FILLING, 0, 70_000, workers=2),
        told(FILLING, 66_000, 70_000, workers=2),
        told(INDEXING, 68_000, 70_000, indexed=0.5),
        told(CATCHING_UP, 68_000, 70_000),
        told(CATCHING_UP, 69_500, 70_100, workers=2),
        told(FOLLOWING, 70_100, 70_100),
    )
    filling, indexing, catching_up = text.splitlines()
    assert filling.startswith("filling · 2 workers: 68,000 events")
    assert indexing.startswith("indexing: 100 %")
    assert catching_up.startswith("catching up: 2,100 events")


@pytest.mark.parametrize("width", [80, 100, 140])
def test_on_a_terminal_each_stage_has_a_bar(width: int) -> None:
    text = written(
        told(FILLING, 0, 5_000_000, workers=8),
        told(FILLING, 2_500_000, 5_000_000, workers=8),
        told(CATCHING_UP, 4_000_000, 5_000_000),
        told(FOLLOWING),
        terminal=True,
        width=width,
    )
    for part in ("filling · 8 workers", "4,000,000 events", "catching up", "━", "✓"):
        assert part in text
    assert all(len(line) <= width for line in re.split("[\r\n]", text))


def test_what_it_waits_for_is_told_once_in_a_log() -> None:
    waiting = told(FILLING, 5, waits_for="the store does not answer")
    text = written(told(FILLING, 5), waiting, waiting, told(FILLING, 9), waiting)
    assert text.count("waits: the store does not answer\n") == 2


def test_what_it_waits_for_stands_below_the_bar() -> None:
    waiting = told(FILLING, 5, waits_for="the store is away")
    assert "waits: the store" in written(waiting, terminal=True)


def test_a_rebuild_that_is_watched_from_its_middle_counts_what_was_seen_in_its_rate() -> None:
    text = written(told(FILLING, 60_000, 70_000), told(FOLLOWING, 60_000, 70_000))
    assert text.startswith("filling: 60,000 events, 0.")  # and no rate: nothing was folded since


def test_what_fits_into_one_transaction_is_counted_in_the_end() -> None:
    text = written(told(FILLING), told(INDEXING, 90), told(CATCHING_UP, 90), told(FOLLOWING, 90))
    filling, _, catching_up = text.splitlines()
    assert filling.startswith("filling: 90 events, ")
    assert catching_up.startswith("catching up: 0 events, ")


def test_no_stage_is_shown_twice() -> None:
    """Indexes are made in one transaction: before and after it, nothing is seen of them."""
    text = written(
        told(FILLING, 90),
        told(INDEXING, 90, indexed=0.5),
        told(FILLING, 90),
        told(INDEXING, 90, indexed=0.1),
        told(FILLING, 90),
        told(CATCHING_UP, 90),
        told(FOLLOWING, 90),
    )
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        "filling",
        "indexing",
        "catching up",
    ]


def test_nothing_is_said_of_a_rebuild_that_follows_already() -> None:
    assert written(told(FOLLOWING, 100)) == ""


def test_a_comparison_counts_tables() -> None:
    one = table("timeline", 3)
    text = written(compared(one), compared(one, table("timeline_retractions", 0)))
    assert text.startswith("comparing: 2 tables")


def test_equal_generations_are_said_to_be_so_with_what_was_compared() -> None:
    last = compared(table("timeline", 69_680), table("timeline_retractions", 2))
    assert joined(shown(rebuild.compared(last))) == (
        "✓ generation 14 is equal to 12: 69,682 rows in 2 tables, at position 69,682"
    )
    assert rebuild.differing_in(last) == 0


def test_a_row_that_differs_is_shown_in_both_versions_with_its_event_and_columns() -> None:
    said = {"columns": ["kind"], "position": 17_203, "event_id": EVENT}
    key = "(\\x5e1f3c5e1f3c5e1f3c5e,17203," + "9" * 90
    live = projection.RowDifference(is_live=True, row=f"{key},old)", **said)  # type: ignore[arg-type]
    new = projection.RowDifference(row=f"{key},new)", **said)  # type: ignore[arg-type]
    last = compared(table("timeline", 9, live, new), table("timeline_retractions", 0))
    text = shown(rebuild.compared(last), 80)
    rows = [joined(line) for line in text.splitlines()]
    assert "✗ generation 14 is not equal to 12, which answers: 2 rows differ" in joined(text)
    assert "timeline 9 9 2" in rows
    assert "timeline_retractions 0 0 ✓" in rows
    at = rows.index(f"position 17,203, event {EVENT}: kind")
    assert rows[at + 1].startswith("live (\\x5e1f3c")
    assert "old" in rows[at + 1]
    assert rows[at + 2].startswith("new (\\x5e1f3c")
    assert "new)" in rows[at + 2]


def test_a_row_that_one_side_lacks_is_shown_as_that_sides_alone() -> None:
    row = projection.RowDifference(row="(1,a)", position=5)
    last = compared(table("timeline", 9, row, differ=33))
    text = joined(shown(rebuild.compared(last)))
    assert "33 rows differ" in text
    assert "position 5 only new (1,a) and 32 more" in text


def test_many_columns_are_counted() -> None:
    row = projection.RowDifference(row="(1)", columns=[f"c{index}" for index in range(9)])
    assert "c4, c5 and 3 more" in joined(shown(rebuild.compared(compared(table("t", 1, row)))))


def test_after_a_switch_it_says_what_answers_and_how_to_go_back() -> None:
    done = api.SwitchProjectionResponse(generation=14, previous=12, position=69_700)
    done.roll_back_until.FromDatetime(NOW + timedelta(minutes=10))
    text = joined(shown(rebuild.switched(done, "touchline projections roll-back a b", now=NOW)))
    assert text == (
        "✓ generation 14 answers, from position 69,700 on 12 folds on until 15:30, to go back to: "
        "touchline projections roll-back a b"
    )


def test_after_a_roll_back_and_a_pause_it_says_what_holds_now() -> None:
    back = api.RollBackProjectionResponse(generation=12, previous=14, position=69_710)
    assert "generation 12 answers again, from position 69,710" in shown(rebuild.rolled_back(back))
    paused = rebuild.paused(api.PauseProjectionResponse(position=7), "touchline resume")
    assert "paused at position 7" in shown(paused)
    assert "touchline resume" in shown(paused)
