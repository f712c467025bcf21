"""JSON Schemas of custom events, compiled, and what they find wrong with properties.

jsonschema-rs checks. What it says repeats values, so violations are written here, from the rule
that is broken and from what the schema itself says.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, cast

from jsonschema_rs import Draft202012Validator, RegexOptions, ValidationError, meta

from services.ingestion.domain import MAX_VIOLATIONS, Violation
from services.ingestion.domain.json_texts import Unreadable, read_json
from services.ingestion.domain.schema_rules import names_in, pointer, schema_violations

PROPERTIES: Final = "custom_event.properties_json"
MAX_VALUES: Final = 4096
"""What an event may hold: together with the bound on a schema's parts, how long a check may
take."""

# Patterns are matched in linear time, so there are neither look-arounds nor back-references; how
# large a compiled one may be bounds the factor.
_PATTERNS: Final = RegexOptions(size_limit=64 * 1024, dfa_size_limit=64 * 1024)
_MAX_TOLD: Final = 200
_MAX_NAMED: Final = 64
_MAX_OPTIONS: Final = 8
_HIDDEN: Final = "*"
"""Stands in a path for a name that the schema doesn't give: it is what a caller sent."""


class SchemaError(Exception):
    """A schema can't be used.

    Attributes:
        violations: What is wrong with it, by field path.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{field} {told}" for field, told in violations))
        self.violations = list(violations)


class Schema:
    """A schema, ready to check the properties of events.

    Args:
        text: The schema as JSON.
        field: The path of the field that holds it, for what is wrong with it.

    Raises:
        SchemaError: It is no JSON Schema of draft 2020-12, or says what schemas here may not.
    """

    __slots__ = ("_names", "_validator")

    def __init__(self, text: str, field: str = "json_schema") -> None:
        try:
            schema = read_json(text)
        except Unreadable as error:
            raise SchemaError([(field, str(error))]) from None
        if violations := schema_violations(schema, field):
            raise SchemaError(violations)
        try:
            meta.validate(cast("dict[str, Any]", schema))
            self._validator = Draft202012Validator(
                cast("dict[str, Any]", schema),
                validate_formats=True,
                ignore_unknown_formats=False,
                pattern_options=_PATTERNS,
                offline=True,
            )
        except ValidationError as error:
            raise SchemaError([_refused(error, field)]) from None
        self._names = names_in(schema)

    def violations_of(self, properties: object) -> list[Violation]:
        """Return the first 20 things wrong with properties, without any of their values."""
        if self._validator.is_valid(properties):
            return []
        errors = islice(self._validator.iter_errors(properties), MAX_VIOLATIONS)
        return [(self._path(error), _told(error)) for error in errors]

    def _path(self, error: ValidationError) -> str:
        steps = (
            step if isinstance(step, int) or step in self._names else _HIDDEN
            for step in error.instance_path
        )
        return PROPERTIES + _clipped(pointer(tuple(steps)), _MAX_TOLD)


def read_properties(text: str) -> tuple[object, list[Violation]]:
    """Return the properties of an event, or what is wrong with their text. Empty are none."""
    if not text:
        return {}, []
    try:
        properties = read_json(text, MAX_VALUES)
    except Unreadable as error:
        return None, [(PROPERTIES, str(error))]
    if not isinstance(properties, dict):
        return None, [(PROPERTIES, "is not a JSON object; give properties by their names")]
    return properties, []


def _refused(error: ValidationError, field: str) -> Violation:
    """Say what is wrong with a schema. It is its author who reads this, so values may be told."""
    place = tuple(error.instance_path)
    if place[-1:] == ("pattern",) or place[-2:-1] == ("patternProperties",):
        told = (
            "is no pattern that can be matched in linear time: look-arounds and back-references "
            "are not supported, nor what is very large, such as (a{1000}){1000}"
        )
    else:
        told = _clipped(error.message, _MAX_TOLD)
    return field + pointer(place), told


def _told(error: ValidationError) -> str:
    keyword = error.kind.name
    describe = _DESCRIPTIONS.get(keyword)
    if describe is None:
        return f"breaks the rule {keyword} of its type's schema"
    return describe(error.kind)


def _clipped(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _shown(value: object) -> str:
    """Return a value that the schema gives, as JSON."""
    return _clipped(json.dumps(value, ensure_ascii=False, default=str), _MAX_NAMED)


def _type(kind: Any) -> str:
    return f"is not of the type {' or '.join(kind.types)}"


def _required(kind: Any) -> str:
    return f"lacks {_shown(kind.property)}, which is required"


def _enum(kind: Any) -> str:
    shown = ", ".join(map(_shown, kind.options[:_MAX_OPTIONS]))
    more = " and others" if len(kind.options) > _MAX_OPTIONS else ""
    return f"is none of the values that are allowed: {shown}{more}"


def _constant(kind: Any) -> str:
    return f"is not {_shown(kind.expected_value)}, the only value that is allowed"


def _unexpected(kind: Any) -> str:
    count = len(kind.unexpected)
    return f"has {count:,} more than the schema allows; leave out what it does not name"


def _limit(told: str, kind: Any) -> str:
    return told.format(_shown(kind.limit))


def _always(told: str, _: Any) -> str:
    return told


_DESCRIPTIONS: Final[Mapping[str, Callable[[Any], str]]] = {
    "type": _type,
    "required": _required,
    "enum": _enum,
    "const": _constant,
    "additionalProperties": _unexpected,
    "unevaluatedProperties": _unexpected,
    "unevaluatedItems": _unexpected,
    "format": lambda kind: f"is not of the format {kind.format}",
    "pattern": lambda kind: f"does not match the pattern {_shown(kind.pattern)}",
    "multipleOf": lambda kind: f"is no multiple of {_shown(kind.multiple_of)}",
    "minimum": partial(_limit, "is less than {}"),
    "maximum": partial(_limit, "is more than {}"),
    "exclusiveMinimum": partial(_limit, "is not more than {}"),
    "exclusiveMaximum": partial(_limit, "is not less than {}"),
    "minLength": partial(_limit, "has fewer than {} characters"),
    "maxLength": partial(_limit, "has more than {} characters"),
    "minItems": partial(_limit, "has fewer than {} entries"),
    "maxItems": partial(_limit, "has more than {} entries"),
    "minProperties": partial(_limit, "has fewer than {} properties"),
    "maxProperties": partial(_limit, "has more than {} properties"),
    "propertyNames": partial(_always, "has a property whose name is not allowed"),
    "uniqueItems": partial(_always, "has the same entry twice"),
    "contains": partial(_always, "does not contain the entries that its schema asks for"),
    "anyOf": partial(_always, "fits none of the alternatives under anyOf"),
    "oneOf": partial(_always, "does not fit exactly one of the alternatives under oneOf"),
    "not": partial(_always, "is what the schema excludes by not"),
    "falseSchema": partial(_always, "is not allowed here"),
}
"""By the keyword that is broken: what to say of it."""
