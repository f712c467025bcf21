"""What a verification found is readable, and nothing that is wrong reads as right."""

import pytest

from libs.cli.rendering.verify import (
    Check,
    Verification,
    copy_check,
    feed_check,
    silent_check,
    standing_check,
    store_checks,
    verify_result,
)
from tests.terminal import joined, shown
from touchline.ingestion.v1 import ingestion_service_pb2 as ingestion
from touchline.projection.v1 import projection_pb2 as projection
from touchline.projection.v1 import projection_service_pb2 as projections

LIVE = projection.PROJECTION_STATE_LIVE
TIMELINE = projection.Projection(name="timeline", position=71_840, chain=b"t" * 32, state=LIVE)
CHAINS = {71_853: b"g" * 32, 71_840: b"t" * 32}


def store(**changes: object) -> ingestion.VerifyStoreResponse:
    said = {"checked_events": 71_853, "head_position": 71_853, "finished": True}
    return ingestion.VerifyStoreResponse(**{**said, **changes})  # type: ignore[arg-type]


def feed(**changes: object) -> ingestion.VerifyFeedResponse:
    said = {
        "checked_batches": 311,
        "batches": 311,
        "checked_events": 60_000,
        "finished": True,
        "first_position": 11_851,
        "last_position": 71_850,
        "head_position": 71_853,
    }
    return ingestion.VerifyFeedResponse(**{**said, **changes})  # type: ignore[arg-type]


def table(live: list[str], anew: list[str], **changes: object) -> projection.TableComparison:
    differences = sorted([(row, True) for row in live] + [(row, False) for row in anew])
    said = {
        "table": "timeline",
        "live_rows": 9,
        "copied_rows": 9,
        "differing_rows": len(differences),
        "differences": [
            projection.RowDifference(row=row, is_live=is_live) for row, is_live in differences
        ],
    }
    return projection.TableComparison(**{**said, **changes})  # type: ignore[arg-type]


def compared(*tables: projection.TableComparison, **changes: object) -> Check:
    said = {"finished": True, "position": 71_840, "tables": tables}
    last = projections.VerifyProjectionResponse(**{**said, **changes})  # type: ignore[arg-type]
    return copy_check("profile", "timeline", last)


def test_when_everything_holds_it_says_so_and_what_was_read() -> None:
    checks = [*store_checks(store()), feed_check(feed()), compared(table([], []))]
    checks.append(standing_check("notification", TIMELINE, CHAINS))
    result = Verification(checks, sealed=3)
    text = shown(verify_result(result), 80)
    assert result.passed
    assert text.count("✓") == 5
    assert "✗" not in text
    for told in (
        "Everything holds",
        "71,853 events hashed anew",
        "11,851 to 71,850 in 311 messages, 3 behind",
        "as folded anew: 9 rows at 71,840",
        "3 events of erased customers stay sealed",
    ):
        assert told in joined(text)


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        (store_checks(store(problems=["the chain is broken at event 5"])), "broken at event 5"),
        (store_checks(store(checked_events=71_852)), "71,852 events up to position 71,853"),
        (store_checks(store(finished=False)), "see below"),
        ([feed_check(feed(problems=["event 5 missing"]))], "feed as the store ✗ event 5"),
        ([feed_check(feed(finished=False))], "not read to its end"),
        ([standing_check("p", TIMELINE, {71_840: b"x" * 32})], "another chain at position 71,840"),
        ([standing_check("p", TIMELINE, {})], "position 71,840 is past the head"),
        ([silent_check("profile")], "profile it does not answer"),
        ([compared(finished=False)], "not compared"),
        ([compared(table(["(1,a)"], []))], "not as folded anew: 1 row, see below"),
    ],
    ids=range(10),
)
def test_what_does_not_hold_fails_and_is_told(checks: list[Check], said: str) -> None:
    result = Verification([*checks, Check("something else", holds=True)])
    text = joined(shown(verify_result(result), 120))
    assert not result.passed
    assert "✗" in text
    assert said in text


def test_a_halted_projection_fails_and_one_that_read_nothing_does_not() -> None:
    halted = projection.Projection(name="h", state=projection.PROJECTION_STATE_HALTED)
    assert not standing_check("p", halted, {}).holds
    assert standing_check("p", projection.Projection(name="new"), {}).holds


def test_an_empty_store_and_an_empty_feed_are_sound() -> None:
    nothing = ingestion.VerifyStoreResponse(finished=True)
    assert all(check.holds for check in store_checks(nothing))
    assert feed_check(ingestion.VerifyFeedResponse(finished=True)).holds


def test_a_reactor_is_said_not_to_be_folded_anew() -> None:
    reactor = projection.Projection(name="rules", position=71_853, chain=b"g" * 32, is_reactor=True)
    assert "reactor" in standing_check("notification", reactor, CHAINS).remark


def test_parked_customers_are_told() -> None:
    assert "without 2 parked customers" in compared(table([], []), parked_keys=2).remark


def test_two_versions_of_a_row_are_shown_by_their_key_and_from_where_they_differ() -> None:
    key, alike = "(1,\\x5e1f3c,17", "9" * 90
    old, new = (f"{key},{alike},{word},{alike},1)" for word in ("old", "new"))
    lines = shown(verify_result(Verification([compared(table([old], [new, "(2,other)"]))])), 80)
    rows = [line for line in lines.splitlines() if line.startswith(("  only live", "  only anew"))]
    assert [line.split()[1] for line in rows] == ["anew", "live", "anew"]
    assert all(line.split()[2].startswith(key) for line in rows[:2])
    assert ["new" in rows[0], "old" in rows[1], "(2,other)" in rows[2]] == [True, True, True]
    assert all(len(line) <= 80 for line in lines.splitlines())


def test_differences_that_are_not_shown_are_counted() -> None:
    check = compared(table(["(1)", "(2)"], [], differing_rows=1002))
    text = joined(shown(verify_result(Verification([check])), 80))
    assert "timeline has 9 rows, its copy 9; 1,002 rows only one of them has" in text
    assert "and 1,000 more" in text
