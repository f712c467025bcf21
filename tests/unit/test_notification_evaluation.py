"""What rules make of events."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

from libs.expressions import Scope
from services.notification.domain.evaluation import can_match, evaluate
from services.notification.domain.knowledge import attributes_in, consents_in
from services.notification.domain.rules import compile_rule
from services.notification.domain.scopes import Scopes
from services.profile.domain import Touch
from tests.given import (
    KEY,
    consent,
    contact,
    email,
    note,
    outcome,
    public_post,
    signal,
    touch,
    traits,
    words,
)
from tests.ruling import (
    CUSTOMER,
    TEAM,
    a_rule,
    example,
    known,
    made_of,
    notice,
    told_to,
    values_of,
)
from touchline.events.v1.decisions_pb2 import ScoreCrossed
from touchline.events.v1.event_pb2 import Context, Location
from touchline.events.v1.facts_pb2 import (
    CheckedIn,
    PaymentAttempted,
)
from touchline.notification.v1.notification_pb2 import (
    RULE_VERDICT_FAILED,
    RULE_VERDICT_MATCHED,
    RULE_VERDICT_NOT_MATCHED,
    RULE_VERDICT_STOPPED,
)

NEW_YORK = Context(location=Location(latitude=40.7128, longitude=-74.006, name="New York"))
PARIS = Context(location=Location(latitude=48.8566, longitude=2.3522, name="Paris"))


def check_in(time: str) -> Touch:
    return touch(time, context=NEW_YORK, checked_in=CheckedIn(place="Hotel Astor"))


def payment(time: str) -> Touch:
    return touch(time, context=PARIS, payment_attempted=PaymentAttempted(payment_id="P-7"))


def test_a_card_paid_too_far_away_too_soon_alerts_with_distance_time_and_speed() -> None:
    found = made_of(
        example("impossible-travel"), payment("2026-03-01 12:40"), check_in("2026-03-01 12:00")
    )
    assert found.verdict == RULE_VERDICT_MATCHED
    assert found.reason == (
        "New York and Paris are 5837 km apart, and 40 min lie between: that takes 8756 km/h"
    )
    assert told_to(found).title == "Was this you in Paris?"
    assert "5837 km apart" in told_to(found).text
    assert told_to(found, "team:fraud").text == found.reason


def test_a_day_apart_nothing_and_it_is_said_why() -> None:
    found = made_of(
        example("impossible-travel"), payment("2026-03-02 12:40"), check_in("2026-03-01 12:00")
    )
    assert (found.verdict, found.told) == (RULE_VERDICT_NOT_MATCHED, ())
    assert found.reason == "speed > 1000.0 is false: speed is 236.65"
    assert values_of(found)["distance"] == "5837.25"


def test_nothing_to_compare_with_is_no_failure() -> None:
    found = made_of(example("impossible-travel"), payment("2026-03-01 12:40"))
    assert found.verdict == RULE_VERDICT_NOT_MATCHED
    assert found.reason == "placed.size() > 0 is false: placed is nothing"


def test_a_changed_job_is_a_task_for_the_accounts_owner() -> None:
    rule, change = example("job-change"), signal("2026-03-01", "job_change", "Now at Umbrella")
    owned = traits("2026-02-01", {"account_owner": "agent-7", "name": "Ana"})
    told = told_to(made_of(rule, change, owned), "agent-7")
    assert (told.title, told.text) == (
        "Call Ana: a new job",
        "Ana changed jobs: Now at Umbrella",
    )
    nobody = made_of(rule, change)
    assert (nobody.verdict, nobody.told) == (RULE_VERDICT_MATCHED, ())
    assert made_of(rule, signal("2026-03-01", "recall")).verdict == RULE_VERDICT_NOT_MATCHED


def test_a_public_complaint_sets_an_expectation() -> None:
    complaint = public_post("2026-03-02 10:00", intent="complaint")
    found = made_of(example("public-complaint"), complaint)
    assert (found.promise, found.told) == ("An answer to the public complaint on w", ())
    question = made_of(example("public-complaint"), public_post("2026-03-02", intent="question"))
    assert question.verdict == RULE_VERDICT_NOT_MATCHED
    assert question.reason == "event.fact.intent == 'complaint' is false"


def test_a_rule_never_triggers_itself() -> None:
    rule = example("complaint-broken")
    broken = outcome("2026-03-02", "e-1", "broken")
    broken.event.expectation_resolved.rules.append("public-complaint")
    assert made_of(rule, broken, chain=["public-complaint"]).verdict == RULE_VERDICT_MATCHED
    stopped = made_of(rule, broken, chain=["public-complaint", "complaint-broken"])
    assert (stopped.verdict, stopped.told) == (RULE_VERDICT_STOPPED, ())
    assert "public-complaint → complaint-broken" in stopped.reason
    assert "16" in made_of(rule, broken, chain=[f"r{n}" for n in range(16)]).reason


def test_what_fails_says_which_expression_and_nothing_of_the_event() -> None:
    secret = email("2026-03-01", text="my secret")
    lets = [{"name": "first", "expression": "recent[0]"}]
    rule = a_rule(let=lets, window="60s", condition="first.type == event.fact.text")
    found = made_of(rule, secret)
    assert found.verdict == RULE_VERDICT_FAILED
    assert found.reason.startswith("let first: ")
    assert "secret" not in found.reason


def test_a_named_value_that_fails_is_no_other_rules_value() -> None:
    """Rules share a scope, in which an earlier rule may have named something alike."""
    scopes = Scopes(known(email("2026-03-01")))
    one = compile_rule(a_rule(let=[{"name": "x", "expression": "7"}], condition="x == 7"))
    other = compile_rule(
        a_rule(
            let=[{"name": "y", "expression": "1"}, {"name": "x", "expression": "recent[0].at"}],
            condition="y == 1 && x == 7",
        )
    )
    assert evaluate(one, scopes).verdict == RULE_VERDICT_MATCHED
    assert evaluate(other, scopes).verdict == RULE_VERDICT_FAILED
    guarded = compile_rule(
        a_rule(let=[{"name": "x", "expression": "recent[0].at"}], condition="false && x == 7")
    )
    assert evaluate(guarded, scopes).verdict == RULE_VERDICT_NOT_MATCHED
    assert evaluate(one, scopes).verdict == RULE_VERDICT_MATCHED


def test_one_notice_that_fails_does_not_stop_the_others() -> None:
    rule = a_rule(notices=[notice(title="{{ attributes.nickname }}"), notice({"reference": "b"})])
    found = made_of(rule, email("2026-03-01"))
    assert found.verdict == RULE_VERDICT_FAILED
    assert found.reason.startswith("notices[0].title: ")
    assert [told.recipient.reference for told in found.told] == ["b"]


@pytest.mark.parametrize(
    ("expression", "verdict", "told"),
    [
        ("''", RULE_VERDICT_MATCHED, []),
        ("'team:' + event.source", RULE_VERDICT_MATCHED, ["team:test"]),
        ("7", RULE_VERDICT_FAILED, []),
        ("'anna@example.com'", RULE_VERDICT_FAILED, []),
    ],
)
def test_an_expression_may_say_who_is_told(expression: str, verdict: int, told: list[str]) -> None:
    found = made_of(a_rule(notices=[notice({"expression": expression})]), email("2026-03-01"))
    assert found.verdict == verdict
    assert [one.recipient.reference for one in found.told] == told


def test_customers_templates_see_nothing_internal() -> None:
    before = (
        note("2026-03-01 10:00", "A difficult person"),
        contact("2026-03-01 10:01", "chat", "internal", text="Careful!"),
        signal("2026-03-01 10:02", "risk", "Likely to leave"),
        touch("2026-03-01 10:03", score_crossed=ScoreCrossed(model="risk", to_level="high")),
        contact("2026-03-01 10:04", "chat", "outbound", text="Hello", participants=["agent-9"]),
    )
    text = (
        "{{ recent.size() }} {{ recent[0].fact.text }} {{ scores.size() }} "
        "{{ recent.exists(e, has(e.fact.participants)) }} {{ has(event.actor.reference) }}"
    )
    rule = a_rule(window="3600s", notices=[notice(TEAM, text=text), notice(CUSTOMER, text=text)])
    found = made_of(rule, email("2026-03-01 10:05"), *before)
    assert told_to(found, "team:fraud").text == "5 Hello 1 yes yes"
    assert told_to(found).text == "1 Hello 0 no no"


def test_named_values_are_computed_anew_for_customers() -> None:
    before = note("2026-03-01 10:00", "A difficult person")
    lets = [
        {"name": "notes", "expression": "recent.filter(e, e.type == 'note_added')"},
        {"name": "told", "expression": "notes[0].fact.text"},
        {"name": "source", "expression": "event.source"},
    ]
    rule = a_rule(
        window="3600s",
        let=lets,
        reason="{{ told }}",
        notices=[
            notice(TEAM),
            notice(CUSTOMER, title="{{ source }}", text="Hello"),
            notice(CUSTOMER, text="{{ told }}"),
            notice(CUSTOMER),
        ],
    )
    found = made_of(rule, email("2026-03-01 10:05"), before)
    assert told_to(found, "team:fraud").reason == "A difficult person"
    hello = told_to(found)
    assert (hello.title, hello.text, hello.reason) == ("test", "Hello", "")
    assert [value.name for value in hello.values] == ["notes", "source"]
    assert "difficult" not in str(hello)
    assert found.verdict == RULE_VERDICT_FAILED
    assert [one.notice for one in found.told] == [0, 1]


def test_an_internal_event_is_no_more_than_a_time_to_a_customer() -> None:
    talk = contact("2026-03-01 10:00", "chat", "internal", text="Careful!")
    rule = a_rule(
        notices=[
            notice(CUSTOMER, text="{{ event.fact.text }}"),
            notice(CUSTOMER, text="{{ event.at }}"),
        ]
    )
    found = made_of(rule, talk)
    assert told_to(found).text == "2026-03-01T10:00:00Z"
    assert found.verdict == RULE_VERDICT_FAILED


def test_recent_reaches_as_far_as_the_rules_window() -> None:
    scopes = Scopes(
        known(email("2026-03-01 12:00"), email("2026-03-01 11:30"), email("2026-03-01 11:00"))
    )
    for window, count in (("1800s", 1), ("3600s", 2), ("60s", 0), ("1800s", 1)):
        rule = compile_rule(a_rule(window=window, reason="{{ recent.size() }}"))
        assert evaluate(rule, scopes).reason == str(count)
    assert evaluate(compile_rule(a_rule(reason="{{ recent.size() }}")), scopes).reason == "0"


def test_a_headline_or_promise_that_is_empty_fails_and_is_said() -> None:
    expect = {"promise": "{{ event.fact.title }}", "within": "60s", "team": "t"}
    rule = a_rule(notices=[notice(title=" {{ event.fact.title }}")], expect=expect)
    found = made_of(rule, email("2026-03-01"))
    assert (found.verdict, found.told, found.promise) == (RULE_VERDICT_FAILED, (), "")
    assert found.reason == (
        "notices[0].title: is empty on this event; expect.promise: is empty on this event"
    )
    assert made_of(rule, email("2026-03-01", title="Hi")).promise == "Hi"


def test_a_promise_holds_nothing_that_customers_may_not_see() -> None:
    expect = {"promise": "{{ recent[0].fact.text }}", "within": "60s", "team": "t"}
    rule = a_rule(window="3600s", expect=expect)
    told = note("2026-03-01 10:00", "A difficult person")
    assert made_of(rule, email("2026-03-01 10:05"), told).verdict == RULE_VERDICT_FAILED
    said = email("2026-03-01 10:00", text="Hello")
    assert made_of(rule, email("2026-03-01 10:05"), said).promise == "Hello"


def test_long_texts_are_cut_and_values_are_shown() -> None:
    lets: list[dict[str, Any]] = [
        {"name": "event_", "expression": "event"},
        {"name": "some", "expression": "[event, event]"},
        {"name": "map_", "expression": "{'a': 1}"},
        {"name": "odd", "expression": "{'type': 1, 'at': {'a': 1}, 'location': 'x'}"},
        {"name": "none", "expression": "recent"},
        {"name": "long", "expression": "event.fact.text"},
    ]
    rule = a_rule(let=lets, notices=[notice(title="{{ long }}")])
    found = made_of(rule, email("2026-03-01", text="x" * 3000))
    assert len(told_to(found, "team:fraud").title) == 500
    values = values_of(found)
    assert values.pop("long") == "x" * 199 + "…"
    assert values == {
        "event_": "interaction 2026-03-01T00:00:00Z",
        "some": "2 of them",
        "map_": "a map",
        "odd": "a map",
        "none": "nothing",
    }


@pytest.mark.parametrize("slow", range(1, 8))
def test_a_rule_fails_after_whichever_expression_took_too_long(slow: int) -> None:
    lets = [{"name": "bad", "expression": "recent[0]"}, {"name": "x", "expression": "1"}]
    rule = compile_rule(a_rule(let=lets, condition="x == 1", notices=[notice(), notice(CUSTOMER)]))
    looks = itertools.count()
    scopes = Scopes(known(email("2026-03-01")))
    found = evaluate(rule, scopes, clock=lambda: 0.251 if next(looks) >= slow else 0.0)
    assert (found.verdict, found.told, found.promise) == (RULE_VERDICT_FAILED, (), "")
    assert found.reason.startswith("took longer than 250 ms: ")
    assert next(looks) == slow + 1  # nothing ran after it


def test_a_rule_may_take_as_long_as_the_limit() -> None:
    rule = compile_rule(a_rule(condition="true"))
    looks = itertools.count()
    scopes = Scopes(known(email("2026-03-01")))
    found = evaluate(rule, scopes, clock=lambda: 0.25 if next(looks) else 0.0)
    assert found.verdict == RULE_VERDICT_MATCHED


def test_consents_are_known_by_purpose_and_channel_or_every() -> None:
    said = words(
        consent("2026-03-01", "news", "granted"),
        consent("2026-03-02", "news", "withdrawn", "email"),
        consent("2026-03-01", "calls", "withdrawn"),
    )
    assert consents_in(said, [KEY]) == {
        "news": {"every": "granted", "email": "withdrawn"},
        "calls": {"every": "withdrawn"},
    }


@any_of(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["", "a", "b"])), max_size=6))
def test_the_last_word_on_an_attribute_counts_in_any_order(told: list[tuple[int, str]]) -> None:
    touches = [traits(f"2026-03-0{day}", {"city": city}) for day, city in told]
    in_order = sorted(touches, key=lambda one: (one.occurred_at_us, one.event_id))
    last = in_order[-1].event.traits_observed.traits["city"] if in_order else ""
    for order in (touches, touches[::-1]):
        assert attributes_in([one.event for one in order]) == ({"city": last} if last else {})


@any_of(
    st.lists(
        st.sampled_from(
            [
                "event.source == 'test'",
                "event.source != 'test'",
                "event.fact.amount.amount > 1.0",
                "recent.size() > 0",
                "recent.size() == 0",
                "recent[3].source == ''",
            ]
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_quick_look_never_rules_out_a_match(parts: list[str]) -> None:
    rule = compile_rule(a_rule(condition=" && ".join(parts), window="60s"))
    what = known(email("2026-03-01 10:05"))
    if not can_match(rule, Scope({"event": what.event})):
        assert evaluate(rule, Scopes(what)).verdict == RULE_VERDICT_NOT_MATCHED
    assert len(rule.quick) == sum("recent" not in part for part in parts)
