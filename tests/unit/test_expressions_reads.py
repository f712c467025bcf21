"""What expressions read of events, and that they can't tell it from whole events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from libs.expressions import (
    EvaluationError,
    Reads,
    Scope,
    compile_expression,
    compile_template,
    event_value,
)
from libs.expressions.following import follow
from libs.expressions.reads import EVENTS, EVERYTHING, PLAIN, Shape
from services.notification.domain.evaluation import evaluate
from services.notification.domain.rules import InvalidRule, compile_rule, reads_of
from services.notification.domain.scopes import Scopes
from services.profile.domain import Touch
from tests.given import email, money, signal, touch, traits
from tests.ruling import CUSTOMER, TEAM, a_rule, example, known, notice
from touchline.events.v1.event_pb2 import Actor, Context, Location
from touchline.events.v1.facts_pb2 import CheckedIn, PaymentAttempted

HERE: Final = Context(location=Location(latitude=1.5, longitude=2.5, name="Here"), device="phone")
THERE: Final = Context(location=Location(latitude=9.5, longitude=2.5, name="There"))
EVENT: Final = touch(
    "2026-03-01 12:00",
    context=THERE,
    actor=Actor(reference="a"),
    payment_attempted=PaymentAttempted(payment_id="a", amount=money(3.5), method="type"),
)
BEFORE: Final[Sequence[Touch]] = (
    touch("2026-03-01 11:50", context=HERE, checked_in=CheckedIn(place="a")),
    email("2026-03-01 11:40", "inbound", text="location", title="a", context=HERE),
    email("2026-03-01 11:30", "internal", text="text"),
    signal("2026-03-01 11:20", "risk", "a"),
    touch("2026-03-01 11:10", payment_attempted=PaymentAttempted(payment_id="a", method="a")),
    traits("2026-03-01 11:00", {"field": "text", "name": "a"}),
)

FIELDS: Final = ("type", "at", "location", "source", "device", "actor", "nothing")
OF_FACTS: Final = ("text", "title", "method", "amount", "place", "payment_id", "traits")


def reads(*fields: str, fact: Sequence[str] | None = ()) -> Reads:
    return Reads(frozenset(fields), None if fact is None else frozenset(fact))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("1 + 2 > 3", {}),
        ("event.type == 'x' || has(event.location)", {"event": reads("type", "location")}),
        ("event.fact.amount.amount > 1.0", {"event": reads("fact", fact=["amount"])}),
        ("has(event.fact.place)", {"event": reads("fact", fact=["place"])}),
        ("event['fact'][\"place\"]", {"event": reads("fact", fact=["place"])}),
        ("'device' in event && 'text' in event.fact",
         {"event": reads("device", "fact", fact=["text"])}),
        ("recent.size() + size(recent) > 3", {}),
        ("recent[0].type", {"recent": reads("type")}),
        ("recent[event.fact.amount.amount > 1.0 ? 0 : 1].at", {
            "recent": reads("at"), "event": reads("fact", fact=["amount"])}),
        ("recent.filter(e, e.type == 'x' && e.source != event.source)[0].fact.text", {
            "recent": reads("type", "source", "fact", fact=["text"]), "event": reads("source")}),
        ("recent.exists(e, recent.exists(f, e.at < f.at && f.device == ''))",
         {"recent": reads("at", "device")}),
        ("recent.map(e, has(e.location), e.fact).exists(f, f.text == '')",
         {"recent": reads("location", "fact", fact=["text"])}),
        ("recent.map(e, e.fact.text + e.type)", {"recent": reads("fact", "type", fact=["text"])}),
        ("(recent + [event]).all(e, e.device != '')",
         {"recent": reads("device"), "event": reads("device")}),
        ("(has(event.location) ? event : recent[0]).source",
         {"event": reads("location", "source"), "recent": reads("source")}),
        ("speed_kmh(recent[0], event) > distance_km(event, event)",
         {"recent": reads("location", "at"), "event": reads("location", "at")}),
        ("{'a': event.type}[event.source]", {"event": reads("type", "source")}),
    ],
)  # fmt: skip
def test_fields_that_are_named_are_read(source: str, found: dict[str, Reads]) -> None:
    nothing = {name: read for name, read in follow(source, EVENTS).reads.items() if read != reads()}
    assert nothing == found


@pytest.mark.parametrize(
    "source",
    [
        "event == recent[0]",
        "event in recent",
        "size(event) > 3",
        "event.size() > 3",
        "event[event.source] == ''",
        "event['fa' + 'ct'] == {}",
        r"event['\x74ype'] == ''",
        "event[r'type'] == ''",
        "event.source in event",
        "[event.type][0] in event",
        "event.exists(name, name == 'type')",
        "{'a': event}.a.type",
        "[event, event.fact][0].type",
        "string(event) == ''",
        "max([event]).type",
        "!event",
        "event ? 1 : 2",
        "event + [event]",
        "[[event]] == []",
        "'a' + event",
    ],
)
def test_what_could_tell_a_whole_event_reads_all_of_it(source: str) -> None:
    assert follow(source, EVENTS).reads["event"] == EVERYTHING


def test_a_fact_as_a_whole_is_all_of_it_and_not_of_the_event() -> None:
    found = follow("event.fact == recent[0].fact && 'a' in event.fact.map(f, f)", EVENTS)
    assert dict(found.reads) == dict.fromkeys(("event", "recent"), reads("fact", fact=None))


def test_words_that_are_not_understood_read_everything() -> None:
    assert follow("event.type ~ 1", EVENTS).reads == dict.fromkeys(EVENTS, EVERYTHING)


def test_named_values_hand_on_what_they_are() -> None:
    assert follow("recent.filter(e, e.type == '')", EVENTS).gives == EVENTS["recent"]
    placed = {"placed": EVENTS["recent"], "facts": Shape("fact", 1, frozenset({"recent"}))}
    found = follow("placed[0].location.name == facts[1]['text']", {**EVENTS, **placed})
    assert found.reads["recent"] == reads("location", "fact", fact=["text"])
    assert found.gives == PLAIN


def test_a_template_reads_what_its_expressions_read() -> None:
    template = compile_template("{{ event.type }} of {{ recent[0].at }}", {"event", "recent"})
    assert dict(template.reads) == {"event": reads("type"), "recent": reads("at")}


def test_impossible_travel_reads_three_fields_of_recent_events() -> None:
    (read,) = (rule.reads["recent"] for rule in [compile_rule(example("impossible-travel"))])
    assert read == reads("type", "at", "location")


def test_events_count_alike_in_a_result_however_much_of_them_is_there() -> None:
    """Else what other rules read would decide whether one is too large."""
    long = event_value(email("2026-03-01", text="x" * 10_000).event)
    for value in (long, {"type": ""}):
        scope = Scope({"recent": [value] * 400})
        assert compile_expression("recent", {"recent"}).evaluate(scope) == [value] * 400
        with pytest.raises(EvaluationError, match="larger"):
            compile_expression("recent + recent", {"recent"}).evaluate(scope)


def join(*parts: str | st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Joins texts and strategies of texts."""
    made = (st.just(part) if isinstance(part, str) else part for part in parts)
    return st.tuples(*made).map("".join)


def grammar(events: st.SearchStrategy[str], depth: int) -> dict[str, st.SearchStrategy[str]]:
    """Expressions over events, by what they give; macros name their element by their depth."""
    texts = st.sampled_from([f"'{name}'" for name in (*FIELDS, *OF_FACTS, "a")])
    facts = join(events, ".fact")
    wheres = st.sampled_from(FIELDS[:-1]), st.sampled_from(OF_FACTS)
    keys = texts | join(events, ".type") | st.just("attributes.field") | join("'t' + ", texts)
    values = st.one_of(
        texts,
        join(events, ".", wheres[0]),
        join(facts, ".", wheres[1]),
        join(events, "[", keys, "]"),
        join(facts, "[", keys, "]"),
        join(st.sampled_from(["size(", "text(", "string("]), events | facts, ")"),
        events | facts,
    )
    asked = [
        join(values, st.sampled_from([" == ", " != ", " < ", " + ", " in "]), values),
        join("has(", events, ".", wheres[0], ")"),
        join("has(", facts, ".", wheres[1], ")"),
        join(keys, " in ", events | facts),
        join(events | facts, ".exists(k", str(depth), ", k", str(depth), " == ", keys, ")"),
        join(events, " in recent"),
        join(events, " == {'a': ", values, "}"),
        join("distance_km(", events, ", ", events, ") > 1.0"),
        join("{'a': ", events, "}['a']", ".", wheres[0], " == ", texts),
    ]
    tests = st.one_of(asked)
    if depth:
        element = f"e{depth}"
        within = grammar(events | st.just(element), depth - 1)
        tests = st.one_of(*asked, join("recent.exists(", element, ", ", within["test"], ")"))
        kept = join("recent.filter(", element, ", ", within["test"], ")")
        made = join("recent.map(", element, ", ", within["value"] | within["test"], ")")
        lists = st.one_of(kept, made, st.just("recent"), join("(", kept, " + [", events, "])"))
    else:
        lists = st.sampled_from(["recent", "recent + recent"])
    chosen = join("(", tests, " ? ", events, " : ", events, ")")
    return {
        "test": tests | join(tests, " && ", tests),
        "value": values | chosen,
        "list": lists,
        "any": st.one_of(tests, values, lists, chosen, join("(", lists, ")[0]")),
    }


FIRST: Final = grammar(st.sampled_from(["event", "recent[0]", "recent[1]"]), 1)
LATER: Final = grammar(st.sampled_from(["event", "recent[2]", "x", "x[0]", "y", "y[1]"]), 1)


@settings(max_examples=150)
@given(FIRST["any"], LATER["any"], LATER["test"], LATER["any"], FIRST["any"])
def test_a_rule_makes_the_same_of_what_it_reads_as_of_whole_events(
    x: str, y: str, condition: str, shown: str, of_another: str
) -> None:
    lets = [{"name": "x", "expression": x}, {"name": "y", "expression": y.replace("y", "event")}]
    texts = {"title": "T {{ x }}", "text": f"{{{{ {shown} }}}}"}
    notices = [notice(TEAM, **texts), notice(CUSTOMER, **texts)]
    said: dict[str, Any] = {"window": "86400s", "let": lets, "notices": notices}
    try:
        rules = [compile_rule(a_rule(**said, condition=one)) for one in (condition, "true")]
        other = compile_rule(a_rule(window="86400s", condition=of_another))
    except InvalidRule:
        assume(False)
    what = known(EVENT, *BEFORE)
    for rule in rules:
        whole, own, shared = (
            evaluate(rule, scopes, clock=float)
            for scopes in (
                Scopes(what),
                Scopes(what, reads_of([rule])),
                Scopes(what, reads_of([rule, other])),
            )
        )
        assert own == shared == whole
