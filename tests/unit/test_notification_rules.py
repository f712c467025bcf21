"""What a rule must be, and what is said of one that is not."""

from __future__ import annotations

from typing import Any

import pytest

from services.notification.domain.rules import NAMES, compile_rule
from tests.ruling import CUSTOMER, EXAMPLES, TEAM, a_rule, example, notice, wrong_with
from touchline.events.v1.facts_pb2 import DIRECTION_INTERNAL
from touchline.notification.v1.notification_pb2 import RuleDefinition

OPEN = {"weekday": 1, "from": "09:00", "to": "17:00"}


def expecting(**hours: Any) -> dict[str, Any]:
    told = {"time_zone": "Europe/Vienna", "intervals": [OPEN], **hours}
    return {"promise": "A call", "within": "3600s", "team": "team:care", "hours": told}


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.json")))
def test_an_example_can_be_published(name: str) -> None:
    assert wrong_with(example(name)) == {}
    assert example(name).name == name


def test_nothing_at_all_is_said_field_by_field() -> None:
    assert wrong_with(RuleDefinition()).keys() == {"name", "on.types", "reason"}


@pytest.mark.parametrize(
    ("said", "path", "told"),
    [
        ({"name": "Überfall"}, "name", "lower-case"),
        ({"name": "a" * 65}, "name", "1 to 64"),
        ({"on": {"types": ["EVENT_TYPE_UNSPECIFIED"]}}, "on.types[0]", "no type of event"),
        ({"on": {"types": [4711]}}, "on.types[0]", "no type of event"),
        ({"window": "-1s"}, "window", "at most 400 days"),
        ({"window": f"{401 * 86400}s"}, "window", "at most 400 days"),
        ({"max_age": "0s"}, "max_age", "more than 0"),
        ({"max_age": f"{8 * 86400}s"}, "max_age", "at most 7 days"),
        ({"condition": "event.source =="}, "condition", "line 1, column 16"),
        ({"condition": "true &&\n  evnt.source == 'x'"}, "condition", "line 2, column 3"),
        ({"reason": "{{ event.source"}, "reason", "column 1"),
        ({"reason": "Now {{ teleport(event) }}"}, "reason", "line 1, column 8"),
        ({"reason": "  "}, "reason", "missing"),
        ({"let": [{"name": "event", "expression": "1"}]}, "let[0].name", "already"),
        ({"let": [{"name": "for", "expression": "1"}]}, "let[0].name", "a name in CEL"),
        ({"let": [{"name": "x-y", "expression": "1"}]}, "let[0].name", "a name in CEL"),
        ({"let": [{"name": "x", "expression": ""}]}, "let[0].expression", "missing"),
        ({"let": [{"name": f"x{n}", "expression": "1"} for n in range(21)]}, "let", "at most 20"),
        ({"notices": [{"title": "Look"}]}, "notices[0]", "no addressee"),
        ({"notices": [{"customer": False, "title": "Look"}]}, "notices[0].customer", "true"),
        ({"notices": [notice({"reference": "a@b.example"})]}, "notices[0].reference", "no address"),
        ({"notices": [notice({"expression": "1 +"})]}, "notices[0].expression", "line 1"),
        ({"notices": [notice(title="")]}, "notices[0].title", "missing"),
        ({"notices": [notice()] * 11}, "notices", "at most 10"),
        ({"notices": [notice(purpose="news")]}, "notices[0].purpose", "only notices to customers"),
        (
            {"notices": [notice(channels=["NOTIFICATION_CHANNEL_INBOX"] * 2)]},
            "notices[0].channels[1]",
            "twice",
        ),
        ({"notices": [notice(channels=[0])]}, "notices[0].channels[0]", "no channel"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(said: dict[str, Any], path: str, told: str) -> None:
    wrong = wrong_with(a_rule(**said))
    assert list(wrong) == [path]
    assert told in wrong[path]


@pytest.mark.parametrize(
    "own",
    [
        *("notification_decided", "delivery_attempted", "notification_read"),
        *("aggregate_changed", "aggregate_snapshot"),
    ],
)
def test_rules_never_look_at_what_services_tell_each_other(own: str) -> None:
    assert "rules never see it" in wrong_with(a_rule(own))["on.types[0]"]


@pytest.mark.parametrize(
    ("quiet", "path"),
    [
        ({"from": "22:00", "to": "07:00", "time_zone": "Mars/Olympus"}, "time_zone"),
        ({"from": "22:00", "to": "07:00", "time_zone": "../etc/passwd"}, "time_zone"),
        ({"from": "22:00", "to": "07:00"}, "time_zone"),
        ({"from": "25:00", "to": "07:00", "time_zone": "UTC"}, "from"),
        ({"from": "22:00", "to": "7:00", "time_zone": "UTC"}, "to"),
        ({"from": "22:00", "to": "24:00", "time_zone": "UTC"}, ""),
        ({"from": "22:00", "to": "22:00", "time_zone": "UTC"}, ""),
    ],
)
def test_quiet_hours_need_times_and_a_known_time_zone(quiet: dict[str, str], path: str) -> None:
    wrong = wrong_with(a_rule(notices=[notice(quiet_hours=quiet)]))
    assert list(wrong) == [f"notices[0].quiet_hours{path and f'.{path}'}"]


@pytest.mark.parametrize(
    ("hours", "path", "told"),
    [
        ({"time_zone": "Berlin"}, "hours.time_zone", "IANA"),
        ({"intervals": []}, "hours.intervals", "1 to 70"),
        ({"intervals": [{**OPEN, "weekday": 8}]}, "hours.intervals[0].weekday", "1 (Monday)"),
        ({"intervals": [{**OPEN, "to": "09:00"}]}, "hours.intervals[0].to", "not after"),
        (
            {"intervals": [OPEN, {"weekday": 1, "from": "16:59", "to": "18:00"}]},
            "hours.intervals[1]",
            "overlaps",
        ),
        ({"holidays_country": "XX"}, "hours.holidays_country", "ISO 3166"),
        (
            {"holidays_country": "DE", "holidays_subdivision": "TX"},
            "hours.holidays_subdivision",
            "no subdivision of DE",
        ),
        ({"holidays_subdivision": "BY"}, "hours.holidays_subdivision", "without a country"),
    ],
)
def test_business_hours_make_sense(hours: dict[str, Any], path: str, told: str) -> None:
    wrong = wrong_with(a_rule(expect=expecting(**hours)))
    assert list(wrong) == [f"expect.{path}"]
    assert told in wrong[f"expect.{path}"]


def test_several_intervals_a_day_that_touch_are_fine() -> None:
    intervals = [OPEN, {"weekday": 1, "from": "17:00", "to": "24:00"}, {**OPEN, "weekday": 2}]
    assert wrong_with(a_rule(expect=expecting(intervals=intervals))) == {}


def test_an_expectation_that_no_hours_can_hold_is_refused() -> None:
    minute = {"weekday": 1, "from": "09:00", "to": "09:01"}
    expect = expecting(intervals=[minute]) | {"within": f"{90 * 86400}s"}
    assert "ten years" in wrong_with(a_rule(expect=expect))["expect.within"]


def test_a_named_value_sees_those_before_it_alone() -> None:
    lets = [{"name": "a", "expression": "b + 1"}, {"name": "b", "expression": "1"}]
    assert "line 1, column 1" in wrong_with(a_rule(let=lets))["let[0].expression"]
    assert wrong_with(a_rule(let=[*reversed(lets)], condition="a > b")) == {}


@pytest.mark.parametrize("kind", ["note_added", "signal_observed", "score_crossed", "case_changed"])
def test_a_customers_notice_does_not_tell_what_customers_may_not_see(kind: str) -> None:
    direct = a_rule(kind, notices=[notice(CUSTOMER, text="So: {{ event.fact }}")])
    assert "customers may not see" in wrong_with(direct)["notices[0]"]
    by_name = a_rule(
        kind,
        let=[{"name": "told", "expression": "event.fact.text"}]
        if kind == "note_added"
        else [{"name": "told", "expression": "event.id"}],
        notices=[notice(CUSTOMER, title="{{ told }}", text="Hello")],
    )
    assert wrong_with(by_name).keys() == {"notices[0]"}
    by_reason = a_rule(kind, reason="{{ event.source }}", notices=[notice(CUSTOMER)])
    assert wrong_with(by_reason).keys() == {"notices[0]"}
    promised = expecting() | {"promise": "About {{ event.source }}"}
    assert wrong_with(a_rule(kind, expect=promised)).keys() == {"expect.promise"}
    assert wrong_with(a_rule(kind, expect=expecting())) == {}
    harmless = a_rule(kind, notices=[notice(CUSTOMER, text="At {{ event.at }}, event or not")])
    assert wrong_with(harmless) == {}
    assert wrong_with(a_rule(kind, notices=[notice(TEAM, text="{{ event.fact }}")])) == {}


def test_talk_within_the_company_is_not_told_to_customers() -> None:
    told = notice(CUSTOMER, text="{{ event.fact.text }}")
    internal = a_rule("interaction", notices=[told])
    assert wrong_with(internal) == {}
    internal.on.directions.append(DIRECTION_INTERNAL)
    assert wrong_with(internal).keys() == {"notices[0]"}


def test_a_rule_knows_what_it_needs() -> None:
    lets = [{"name": "past", "expression": "recent.size()"}]
    rule = compile_rule(a_rule(let=lets, condition="past > 1 && now > event.at"), 7)
    assert rule.needs == {"recent", "now", "event"}
    assert [source for source, _ in rule.conjuncts] == ["past > 1", "now > event.at"]
    assert (rule.version, rule.window_us, rule.max_age_us) == (7, 0, 86_400_000_000)
    assert compile_rule(a_rule()).needs == set()
    assert len(NAMES) == 6


@pytest.mark.parametrize(
    ("condition", "parts"),
    [
        ("1 < 2", ["1 < 2"]),
        ("1 < 2 && (3 < 4 && 5 < 6)", ["1 < 2", "(3 < 4 && 5 < 6)"]),
        ("'&&' == 'a' && [1 < 2 && 2 < 3][0]", ["'&&' == 'a'", "[1 < 2 && 2 < 3][0]"]),
        ("1 < 2 && 2 < 3 || 3 < 4", ["1 < 2 && 2 < 3 || 3 < 4"]),
        ("1 < 2 ? true && true : false", ["1 < 2 ? true && true : false"]),
    ],
)
def test_a_condition_falls_into_what_must_all_be_true(condition: str, parts: list[str]) -> None:
    rule = compile_rule(a_rule(condition=condition))
    assert [source for source, _ in rule.conjuncts] == parts
