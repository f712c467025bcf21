"""What authors of rules may write, what they are told when it is wrong, and what it gives."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from libs.expressions import (
    EvaluationError,
    ExpressionError,
    Scope,
    compile_expression,
    compile_template,
    event_value,
    shown,
)
from touchline.events.v1.event_pb2 import Event

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "expressions.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
[[_, _EVENTS]] = [block for block in BLOCKS if block[0] == "json"]
CHECK_IN, PAYMENT = (ParseDict(event, Event()) for event in json.loads(_EVENTS))
NAMES = {"event", "recent", "attributes", "consents", "scores", "now"}


def scope(**changed: Any) -> Scope:
    now = datetime(2026, 3, 1, 12, 2, tzinfo=UTC)
    values = {"event": event_value(PAYMENT), "recent": [event_value(CHECK_IN)], "now": now}
    return Scope(
        values | {"attributes": {"owner": "agent-7"}, "scores": {"default": 12.5}} | changed
    )


def value(source: str, **changed: Any) -> object:
    return compile_expression(source, NAMES).evaluate(scope(**changed))


def refusal(source: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as refused:
        compile_expression(source, NAMES)
    return refused.value


def failure(source: str, **changed: Any) -> str:
    with pytest.raises(EvaluationError) as failed:
        value(source, **changed)
    return str(failed.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        re.split(r" +// ", line, maxsplit=1)
        for kind, block in BLOCKS
        if kind == "cel"
        for line in block.splitlines()
    ],
)
def test_an_example_on_the_page_gives_what_the_page_says(source: str, told: str) -> None:
    assert shown(value(source)) == told


@pytest.mark.parametrize(
    ("source", "told"),
    re.findall(
        r"^(.*)\n-> (.*)$",
        next(block for kind, block in BLOCKS if kind == "template"),
        re.MULTILINE,
    ),
)
def test_a_template_on_the_page_gives_what_the_page_says(source: str, told: str) -> None:
    assert compile_template(source, NAMES).render(scope()) == told


@pytest.mark.parametrize(
    ("source", "line", "column", "said"),
    [
        ("event.", 1, 7, "ends too early"),
        ("", 1, 1, "empty"),
        ("true &&\n  (event.type ==", 2, 17, "ends too early"),
        ("1 2", 1, 3, "unexpected 2"),
        ("event.type == 'open", 1, 15, "token"),
        ("true &&\n  evnt.type == 'x'", 2, 3, "unknown name evnt"),
        ("'é' == nope", 1, 8, "unknown name nope"),
        ("event.at > today()", 1, 12, "unknown function today"),
        ("event.fact.amout.amount > 1.0", 1, 12, "unknown field amout"),
        ("event.fact.amount.micros > 1", 1, 19, "unknown field micros"),
        ("has(event.location.city)", 1, 20, "unknown field city"),
        ("distance_km(event)", 1, 12, "takes 2 arguments, not 1"),
        ("event.at.getHours('Europe/Paris')", 1, 18, "takes 1"),
        ("recent.map(e, e.type) == [e.type]", 1, 27, "unknown name e"),
        ("recent.exists(event, true)", 1, 15, "names a value already"),
        ("recent.exists(e, recent.all(e, true))", 1, 29, "names a value already"),
        (".nope", 1, 1, "no point"),
        ("event.source.matches('(')", 1, 22, "no valid pattern"),
        ("event.source.matches(event.type)", 1, 14, "no variable"),
        ("touchline.events.v1.Event{}", 1, 1, "unknown name touchline"),
        ("event{}", 1, 1, "can't be built"),
        ("cel.bind(x, 1, x)", 1, 1, "unknown name cel"),
    ],
)
def test_what_does_not_compile_is_refused_with_its_place(
    source: str, line: int, column: int, said: str
) -> None:
    refused = refusal(source)
    assert (refused.line, refused.column) == (line, column)
    assert said in refused.description
    assert str(refused) == f"line {line}, column {column}: {refused.description}"


@pytest.mark.parametrize(
    "source",
    [
        "[recent]" + ".map(x, x + x)" * 50,
        "[recent].map(x, [x, x]).map(x, [x, x]).map(x, [x, x])",
        "recent.exists(a, recent.exists(b, recent.exists(c, true)))",
        "recent.map(a, recent.map(b, b))",
        "recent.exists(a, recent.filter(b, true).size() > 1)",
        "recent" + ".map(x, x)" * 3,
        " && ".join(["recent.exists(x, true)"] * 5),
        "+".join(["recent"] * 22),
        "(recent + recent + recent).exists(a, true)",
        "[event.type].map(x, x + '' + x).map(x, x + '' + x)",
        "(recent + recent).exists(a, recent.exists(b, true))",
        "recent.exists(a, recent.exists(b, true" + " || a.at > b.at" * 8 + "))",
        "recent.exists(a, recent.exists(b, distance_km(a, b) + speed_kmh(a, b) > minutes(now)))",
        "(" * 25 + "1" + ")" * 25,
        "'" + "a" * 2_000 + "'",
        r"event.source.matches('\\w\\w\\w')",
        "event.source.matches('a{500}')",
        f"event.source.matches('{'a' * 100}')",
    ],
    ids=lambda source: source[:30],
)
def test_what_could_take_long_is_refused(source: str) -> None:
    refusal(source)


@pytest.mark.parametrize(
    "source",
    [
        "event.type in ['a', 'b', 'c', 'd', 'e', 'f'] && recent.exists(e, e.type == event.type)",
        "recent.exists(a, recent.exists(b, a.at < b.at))",
        "recent.filter(e, e.type == 'checked_in').map(e, e.fact.place + ', ' + e.location.name)",
        "recent.exists(a, recent.exists(b, has(a.location) && has(b.location) && "
        "distance_km(a, b) > 500.0 && minutes(a.at - b.at) < 30.0))",
        "sum(recent.map(e, e.fact.amount.amount)) + event.fact.amount.amount > 1000.0",
        "event.source + ' ' + event.type + ' ' + text(event.at) + ' ' + event.id",
        "' + '.size() == 3 // + + + nope(",
        r"'\'nope' == r'\' + " + '"""nope" \'"""',
        "{'a': 1}.a == 1 && [1, 2][0] == 1",
    ],
)
def test_what_is_sound_compiles(source: str) -> None:
    compile_expression(source, NAMES)


def test_an_expression_says_which_names_it_uses() -> None:
    assert compile_expression("recent.all(e, e.at < now)", NAMES).names == {"recent", "now"}
    assert compile_template("{{ scores.default }} {{ now }}", NAMES).names == {"scores", "now"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("recent[0].fact.amount.amount > 1.0", "there is no amount here: ask has(….amount) before"),
        ("recent[7].type", "a list is shorter"),
        ("1 / (recent.size() - 1)", "division by zero"),
        ("9223372036854775807 + recent.size()", "too large"),
        ("event.fact.amount.amount + 1", "don't go together"),
        ("distance_km(event, attributes)", "distance_km failed: an event has no location"),
        ("round(1.5, 99)", "round failed: round takes 0 to 9 digits"),
        ("consents.news", "consents has no value here"),
    ],
)
def test_what_fails_on_an_event_says_why(source: str, said: str) -> None:
    assert said in failure(source)


@pytest.mark.parametrize(
    "source",
    [
        "attributes[event.fact.method]",
        "hour_in(event.at, event.fact.method)",
        "int(event.fact.method)",
        "timestamp(event.fact.method)",
        "lower(attributes) + event.fact.method",
        "duration(event.fact.method)",
    ],
)
def test_a_failure_tells_nothing_of_the_event(
    source: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    payment = Event.FromString(PAYMENT.SerializeToString())
    payment.payment_attempted.method = "Jane Doe"
    with caplog.at_level(logging.DEBUG):
        told = failure(source, event=event_value(payment))
    assert "Jane" not in told + caplog.text + "".join(capfd.readouterr())


def test_what_is_too_large_is_no_result() -> None:
    large = ["a" * 600_000, "b" * 600_000]
    assert "larger than" in failure("attributes", attributes=large)
    assert "larger than" in failure("attributes", attributes=[0] * 20_001)


def test_a_condition_is_true_or_false() -> None:
    assert compile_expression("event.source == 'bank'", NAMES).test(scope())
    with pytest.raises(EvaluationError, match="true or false"):
        compile_expression("event.source", NAMES).test(scope())


def test_a_scope_takes_further_values() -> None:
    given = scope()
    given.set("far", 12.0)
    assert compile_expression("far > 10.0", {"far"}).test(given)
    given.set("far", 8.0)
    assert not compile_expression("far > 10.0", {"far"}).test(given)


def test_and_and_or_do_not_look_further_than_they_must() -> None:
    assert value("false && recent[7].type == ''") is False
    assert value("recent[7].type == '' || true") is True


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("a {{ event.at", 1, 3),
        ("a\n {{ 'b }}", 2, 5),
        ("{{ {'a': 1 }}", 1, 1),
        ("a\nb {{ true &&\n nope }}", 3, 2),
        ("{{ }}", 1, 3),
        ("{{ event.at }} {{ attributes.x + secret }}", 1, 34),
        ("{{ 1 }}" * 51, 1, 7 * 50 + 1),
        ("a" * 10_001, 1, 10_001),
    ],
    ids=lambda given: given[:20] if isinstance(given, str) else None,
)
def test_a_template_that_does_not_compile_is_refused_with_its_place(
    source: str, line: int, column: int
) -> None:
    with pytest.raises(ExpressionError) as refused:
        compile_template(source, NAMES)
    assert (refused.value.line, refused.value.column) == (line, column)


@pytest.mark.parametrize(
    ("given", "look"),
    [
        ("<b>{a}</b> & co", "<b>{a}</b> & co"),
        ("", ""),
        (True, "yes"),
        (False, "no"),
        (None, ""),
        (-3, "-3"),
        (3.0, "3"),
        (-0.0, "0"),
        (1234567.891, "1234567.89"),
        (0.0034567, "0.0035"),
        (0.995, "0.99"),
        (1e-9, "1.00e-09"),
        (1e20, "1.00e+20"),
        (float("inf"), "infinite"),
        (float("-inf"), "-infinite"),
        (float("nan"), "not a number"),
        (datetime(2026, 3, 1, 13, 0, 0, 999_999, tzinfo=UTC), "2026-03-01T13:00:00Z"),
        (timedelta(), "0 s"),
        (timedelta(minutes=40), "40 min"),
        (timedelta(minutes=65, seconds=1), "1 h 5 min"),
        (timedelta(days=2, hours=3, minutes=1), "2 d 3 h"),
        (timedelta(seconds=-90), "-1 min 30 s"),
        (["a", 1.5, True], "a, 1.5, yes"),
        ("x" * 2_001, "x" * 1_999 + "…"),
    ],
)
def test_a_reader_sees_a_value_as_the_page_says(given: object, look: str) -> None:
    assert shown(given) == look


@pytest.mark.parametrize("given", [{"a": 1}, b"a", [{"a": 1}]])
def test_what_has_no_look_is_not_shown(given: object) -> None:
    with pytest.raises(EvaluationError, match="can't be shown"):
        compile_template("{{ attributes }}", NAMES).render(scope(attributes=given))


def test_a_long_text_is_cut_off() -> None:
    many = compile_template("{{ attributes }}" * 20, NAMES).render(scope(attributes="a" * 3_000))
    assert len(many) == 20_000
    assert many.endswith("…")
