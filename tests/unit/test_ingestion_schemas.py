"""Schemas of custom events: what may be registered, and what is said of properties."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingestion.domain.schema_rules import DIALECT, MAX_PARTS
from services.ingestion.schemas import PROPERTIES, Schema, SchemaError, read_properties

CANARY = "Zaphod-canary"
WEBINAR: dict[str, Any] = {
    "$schema": DIALECT,
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 20, "pattern": "^[A-Z]"},
        "minutes": {"type": "integer", "minimum": 0, "maximum": 600},
        "rating": {"enum": ["good", "bad"]},
        "fee": {"type": "number", "multipleOf": 0.01},
        "at": {"format": "date-time"},
        "guests": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/guest"}},
        "hosts": {"uniqueItems": True, "maxItems": 3},
        "votes": {"additionalProperties": {"type": "integer"}},
    },
    "required": ["title"],
    "additionalProperties": False,
    "$defs": {"guest": {"type": "object", "required": ["name"]}},
}


def refused(schema: object) -> list[tuple[str, str]]:
    with pytest.raises(SchemaError) as failed:
        Schema(schema if isinstance(schema, str) else json.dumps(schema))
    return failed.value.violations


def found(schema: object, properties: object) -> list[tuple[str, str]]:
    text = properties if isinstance(properties, str) else json.dumps(properties)
    value, violations = read_properties(text)
    return violations or Schema(json.dumps(schema)).violations_of(value)


REFUSED: dict[str, tuple[object, str, str]] = {
    "no JSON": ("{", "", "is not JSON, from character 2 on"),
    "no object": ([], "", "is not a JSON object"),
    "true": (True, "", "is not a JSON object"),
    "an unknown type": ({"type": "strin"}, "#/type", '"strin" is not valid'),
    "a wrong keyword deep inside": (
        {"properties": {"a": {"minimum": "3"}}},
        "#/properties/a/minimum",
        '"3" is not of type "number"',
    ),
    "a slip": (
        {"properties": {"a/b": {"requierd": []}}},
        "#/properties/a~1b/requierd",
        "is no keyword",
    ),
    "an earlier draft": (
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        "#/$schema",
        "may only be https://json-schema.org/draft/2020-12/schema",
    ),
    "a document elsewhere": ({"$ref": "https://example.com/s"}, "#/$ref", "nothing is fetched"),
    "a file": ({"$ref": "file:///etc/passwd"}, "#/$ref", "nothing is fetched"),
    "a document beside it": ({"$ref": "other.json"}, "#/$ref", "nothing is fetched"),
    "a reference to nothing": ({"$ref": "#/$defs/a"}, "#/$ref", "leads nowhere"),
    "another base": ({"items": {"$id": "https://example.com"}}, "#/items/$id", "at the top only"),
    "anchors": ({"$anchor": "a"}, "#/$anchor", "is not supported"),
    "itself": ({"$ref": "#"}, "#/$ref", "may not refer to itself"),
    "itself further down": (
        {"$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"},
        "#/$defs/n/items/$ref",
        "may not refer to itself",
    ),
    "a format that nobody checks": ({"format": "postcode"}, "#/format", "is none of date, "),
    "a pattern that looks around": ({"pattern": "(?=a)"}, "#/pattern", "linear time"),
    "a pattern that remembers": ({"pattern": r"(a)\1"}, "#/pattern", "linear time"),
    "a pattern for names that looks around": (
        {"patternProperties": {"(?!a)": {}}},
        "#/patternProperties/(?!a)",
        "linear time",
    ),
    "a pattern too large": ({"pattern": "(a{1000}){1000}"}, "#/pattern", "very large"),
    "a broken pattern": ({"pattern": "["}, "#/pattern", "is no pattern"),
    "a name twice": ('{"type": "object", "type": "object"}', "", "names a property twice"),
    "too many parts": (
        {"properties": {f"p{n}": {} for n in range(MAX_PARTS)}},
        "",
        f"more than {MAX_PARTS} parts",
    ),
    "three unevaluated within one another": (
        {
            "unevaluatedProperties": False,
            "allOf": [{"unevaluatedProperties": {"unevaluatedItems": {}}}],
        },
        "#/allOf/0/unevaluatedProperties",
        "more than 2 unevaluated",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_schema_may_not_say_is_refused_with_its_place(name: str) -> None:
    schema, place, told = REFUSED[name]
    ((field, description),) = refused(schema)
    assert field == f"json_schema{place}"
    assert told in description


def test_references_that_multiply_are_counted_each_time() -> None:
    # Fifteen lines of a schema that would check each value 2**15 times.
    doubling = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
        for n in range(15)
    }
    ((_, told),) = refused({"$ref": "#/$defs/d0", "$defs": {**doubling, "d15": {"type": "object"}}})
    assert f"more than {MAX_PARTS} parts" in told


def test_a_schema_may_use_all_of_the_draft_but_that() -> None:
    schema = {
        **WEBINAR,
        "$id": "https://example.com/webinar",
        "x-owner": "team:events",
        "$comment": "as agreed",
        "dependentRequired": {"fee": ["title"]},
        "if": {"required": ["fee"]},
        "then": {"properties": {"fee": {"minimum": 1}}},
        "propertyNames": {"maxLength": 20},
        "unevaluatedProperties": False,
    }
    assert found(schema, {"title": "Glazing", "fee": 9.99}) == []


BROKEN: dict[str, tuple[object, str, str]] = {
    "nothing": ({}, "", 'lacks "title", which is required'),
    "no JSON": ("{'title'}", "", "is not JSON, from character 2 on"),
    "no object": ([], "", "is not a JSON object"),
    "a name twice": ('{"title": "A", "title": "B"}', "", "names a property twice"),
    "a name twice, deep inside": (
        '{"title": "A", "votes": {"a": 1, "a": 1}}',
        "",
        "names a property twice",
    ),
    "no number": ('{"title": "A", "fee": NaN}', "", "NaN or Infinity"),
    "half a pair": ('{"title": "\\ud800"}', "", "half of a surrogate pair"),
    "half a pair as a name": ('{"\\udfff": 1}', "", "half of a surrogate pair"),
    "a number out of bounds": ('{"fee": 1e999999999}', "", "beyond 1e±300"),
    "a number without end": ('{"fee": ' + "9" * 101 + "}", "", "more than 100 characters"),
    "too deep": ("[" * 40 + "]" * 40, "", "nested more than 32 deep"),
    "far too deep": ("[" * 60_000, "", "nested more than 32 deep"),
    "too large": ('{"title": "' + "a" * 65_536 + '"}', "", "more than 65,536 bytes"),
    "too many values": ({"guests": [1] * 4095}, "", "more than 4,096 values"),
    "too large in bytes": ('{"title": "' + "ä" * 33_000 + '"}', "", "more than 65,536 bytes"),
    "a number for a text": ({"title": 1}, "#/title", "is not of the type string"),
    "an empty list": ({"title": "A", "guests": []}, "#/guests", "has fewer than 1 entries"),
    "a long text": ({"title": "A" * 21}, "#/title", "has more than 20 characters"),
    "a small letter": ({"title": "a"}, "#/title", 'does not match the pattern "^[A-Z]"'),
    "too few": ({"title": "A", "minutes": -1}, "#/minutes", "is less than 0"),
    "too many": ({"title": "A", "minutes": 601}, "#/minutes", "is more than 600"),
    "no integer": ('{"title": "A", "minutes": 1.5}', "#/minutes", "is not of the type integer"),
    "none of those": ({"title": "A", "rating": "so"}, "#/rating", 'allowed: "good", "bad"'),
    "a fraction": ('{"title": "A", "fee": 0.295}', "#/fee", "is no multiple of 0.01"),
    "no time": ({"title": "A", "at": "noon"}, "#/at", "is not of the format date-time"),
    "a nameless guest": ({"title": "A", "guests": [{}]}, "#/guests/0", 'lacks "name"'),
    "a host twice": (
        {"title": "A", "hosts": [{"name": 1}, {"name": 1}]},
        "#/hosts",
        "has the same entry twice",
    ),
    "a name that the schema does not give": (
        {"title": "A", "votes": {CANARY: "x"}},
        "#/votes/*",
        "is not of the type integer",
    ),
    "names that are too many": ({"title": "A", CANARY: 1}, "", "has 1 more than the schema"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_properties_is_told_with_its_place_and_without_it(name: str) -> None:
    properties, place, told = BROKEN[name]
    ((field, description),) = found(WEBINAR, properties)
    assert field == f"{PROPERTIES}{place}"
    assert told in description
    assert CANARY not in field + description


@pytest.mark.parametrize(
    "properties",
    [
        "",
        "{}",
        '{"fee": 0.29, "whole": 9007199254740993, "small": 1e-300, "none": null}',
        '{"text": "\\ud83d\\ude00 \\u0000"}',
        '{"deep": ' + "[" * 31 + "]" * 31 + "}",
    ],
)
def test_a_schema_without_rules_takes_any_object(properties: str) -> None:
    assert found({"properties": {"fee": {"multipleOf": 0.01}}}, properties) == []


def test_no_more_is_told_than_anybody_reads() -> None:
    schema = {"properties": {"all": {"items": {"type": "string"}}}}
    told = found(schema, {"all": [1] * 4000})
    assert len(told) == 20
    assert told[19] == (f"{PROPERTIES}#/all/19", "is not of the type string")


values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(CANARY) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*WEBINAR["properties"], CANARY, "x"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@settings(max_examples=150)
@given(values)
def test_whatever_is_sent_gets_a_verdict_that_does_not_repeat_it(value: object) -> None:
    votes = {"allOf": [WEBINAR["properties"]["votes"], {"maxProperties": 3}]}
    schemas: list[dict[str, Any]] = [
        WEBINAR,
        {"not": {}},
        {"anyOf": [votes, {"maxProperties": 0}]},
        {"oneOf": [votes]},
    ]
    for schema in schemas:
        for field, told in found(schema, value):
            assert field.startswith(PROPERTIES)
            assert CANARY not in field + told


@settings(max_examples=150)
@given(st.text(alphabet='{}[]":,\\u0d8eE+-.1 tfn', max_size=60) | st.text(max_size=60))
def test_whatever_text_is_sent_gets_a_verdict(text: str) -> None:
    for field, told in found(WEBINAR, text):
        assert field.startswith(PROPERTIES)
        assert told
