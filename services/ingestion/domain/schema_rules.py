"""What a JSON Schema of custom events may say, beside being one.

Events are checked inside the loop that serves everybody, and a check can't be stopped half-way. So
a schema is refused when it is registered if checking could take long: when it refers to itself, or
has too many parts once its references are followed. Then each part looks at a value at most once.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

from services.ingestion.domain.rules import Violation

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MAX_PARTS: Final = 500
MAX_UNEVALUATED: Final = 2
"""How many `unevaluated…` may stand within one another: each doubles the work below it."""

FORMATS: Final = (
    *("date", "date-time", "time", "duration", "email", "idn-email", "hostname", "ipv4", "ipv6"),
    *("uri", "uri-reference", "iri", "iri-reference", "uuid", "json-pointer"),
)

_ONE: Final = frozenset(
    {
        *("additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"),
        *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
    }
)
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS: Final = frozenset({"$defs", "dependentSchemas", "patternProperties", "properties"})
_UNEVALUATED: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})
_PLAIN: Final = frozenset(
    {
        *("$comment", "$id", "$ref", "$schema", "const", "contentEncoding", "contentMediaType"),
        *("default", "dependentRequired", "deprecated", "description", "enum", "examples"),
        *("exclusiveMaximum", "exclusiveMinimum", "format", "maxContains", "maxItems", "maxLength"),
        *("maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties"),
        *("minimum", "multipleOf", "pattern", "readOnly", "required", "title", "type"),
        *("uniqueItems", "writeOnly"),
    }
)
_KNOWN: Final = _ONE | _LISTS | _MAPS | _PLAIN
_REFERENCES: Final = frozenset({"$anchor", "$dynamicAnchor", "$dynamicRef", "$vocabulary"})


class _Refused(Exception):
    """A schema is refused for what stands at a place in it."""

    def __init__(self, place: tuple[str, ...], told: str) -> None:
        super().__init__(told)
        self.place = place
        self.told = told


class _Part(NamedTuple):
    schema: object
    place: tuple[str, ...]
    within: frozenset[tuple[str, ...]]
    unevaluated: int


def schema_violations(schema: object, field: str) -> list[Violation]:
    """Return what is wrong with a schema apart from its form, the first thing only.

    Args:
        schema: The schema as it was read.
        field: The path of the field that holds it; JSON pointers are added to it.
    """
    if not isinstance(schema, dict):
        return [(field, "is not a JSON object; properties always are")]
    try:
        _walk(schema)
    except _Refused as refused:
        return [(field + pointer(refused.place), refused.told)]
    return []


def pointer(path: tuple[str | int, ...]) -> str:
    """Return the JSON pointer of a path, behind a `#` unless it is empty (RFC 6901)."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "#" + "".join(f"/{step}" for step in steps) if path else ""


def names_in(schema: object) -> frozenset[str]:
    """Return the names of properties that a schema gives, which its violations may tell."""
    found: set[str] = set()
    rest = [schema]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            properties = one.get("properties")
            found |= properties.keys() if isinstance(properties, dict) else set()
            rest += one.values()
        elif isinstance(one, list):
            rest += one
    return frozenset(found)


def _walk(root: dict[str, object]) -> None:
    """Look at every part of a schema, each as often as it is applied."""
    rest = [_Part(root, (), frozenset(), 0)]
    parts = 0
    while rest:
        part = rest.pop()
        parts += 1
        if parts > MAX_PARTS:
            told = f"has more than {MAX_PARTS} parts, those behind references counted each time"
            raise _Refused((), told)
        if isinstance(part.schema, dict):
            _check_keywords(part.schema, part.place)
            rest += _below(part, part.schema, root)


def _check_keywords(schema: Mapping[str, object], place: tuple[str, ...]) -> None:
    for keyword, value in schema.items():
        at = (*place, keyword)
        if keyword in _REFERENCES:
            raise _Refused(at, "is not supported; refer to `#/$defs/…`")
        if keyword not in _KNOWN and not keyword.startswith("x-"):
            raise _Refused(at, "is no keyword of draft 2020-12; correct it, or begin it with x-")
        if keyword == "$id" and place:
            raise _Refused(at, "is allowed at the top only")
        if keyword == "$schema" and (place or value != DIALECT):
            raise _Refused(at, f"may only be {DIALECT}, at the top; schemas are of that draft")
        if keyword == "format" and value not in FORMATS:
            raise _Refused(at, f"is none of {', '.join(FORMATS)}")


def _below(part: _Part, schema: Mapping[str, object], root: object) -> Iterator[_Part]:
    """Yield what a part applies besides itself, to the same value or to what is in it."""
    unevaluated = part.unevaluated + bool(_UNEVALUATED & schema.keys())
    if unevaluated > MAX_UNEVALUATED:
        told = f"has more than {MAX_UNEVALUATED} unevaluated… within one another"
        raise _Refused(part.place, told)
    within = part.within | {part.place}
    for keyword, value in schema.items():
        if keyword == "$ref":
            at = (*part.place, keyword)
            target = _target(value, at)
            if target in within:
                raise _Refused(at, "leads back to where it is; a schema may not refer to itself")
            yield _Part(_found(root, target, at), target, within, unevaluated)
        # What nothing refers to is there all the same, so the root's definitions are looked at.
        elif keyword != "$defs" or not part.within:
            for steps, one in _inner(keyword, value):
                yield _Part(one, (*part.place, keyword, *steps), within, unevaluated)


def _inner(keyword: str, value: object) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the schemas in a keyword's value, with the way there."""
    if keyword in _ONE:
        yield (), value
    elif keyword in _LISTS and isinstance(value, list):
        for index, one in enumerate(value):
            yield (str(index),), one
    elif keyword in _MAPS and isinstance(value, dict):
        for name, one in value.items():
            yield (name,), one


def _target(reference: object, place: tuple[str, ...]) -> tuple[str, ...]:
    if reference == "#":
        return ()
    if not isinstance(reference, str) or not reference.startswith("#/"):
        told = "leads to another document, and nothing is fetched; refer to `#/$defs/…`"
        raise _Refused(place, told)
    steps = unquote(reference[2:]).split("/")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)


def _found(root: object, target: tuple[str, ...], place: tuple[str, ...]) -> object:
    found = root
    for step in target:
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            raise _Refused(place, "leads nowhere")
    return found
