"""A value of a mapping (`"placed"`, `{column = "date", …}`, `{template = "{a} {b}"}`), compiled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from libs.cli.importing.cells import Columns, GetText, template_text
from libs.cli.importing.conditions import compile_condition
from libs.cli.importing.errors import EmptyError, Place, RowError
from libs.cli.importing.readers import Row
from libs.cli.importing.values import OPTIONS, Convert, converter, kind_of, money_converter
from touchline.events.v1.facts_pb2 import Money

_SOURCES = ("column", "template", "value")
_COMMON = (*_SOURCES, "map", "otherwise", "default", "required", "optional", "when")
_LITERALS = (str, bool, int, Decimal, datetime, date, time)


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that every row has."""

    value: Any


@dataclass(frozen=True, slots=True)
class Cell:
    """A value that each row has for itself; `get` returns None when it has none."""

    get: Callable[[Row], Any]


Leaf = Constant | Cell | None
"""None: an optional column that the file doesn't have, without a default."""


def compile_leaf(
    field: FieldDescriptor, spec: Any, place: Place, columns: Columns, extra: tuple[str, ...] = ()
) -> Leaf:
    """Compile the value of a field that text can fill.

    Args:
        field: A field for which `kind_of` is not None.
        spec: A literal, or a table with `column`, `template` or `value` and options.
        place: Where it stands.
        columns: The file's columns.
        extra: Keys of the table that the caller reads.

    Raises:
        MappingError: The value can't be used.
    """
    if isinstance(spec, _LITERALS):
        spec = {"value": spec}
    if not isinstance(spec, dict):
        raise place.error('must be a value, or a table such as {column = "name"}')
    kind = kind_of(field) or ""
    place.check_keys(spec, (*_COMMON, *OPTIONS[kind], *extra))
    if sum(key in spec for key in _SOURCES) != 1:
        raise place.error("needs exactly one of column, template and value")
    for key in ("required", "optional"):
        if not isinstance(spec.get(key, False), bool):
            raise place.at(key).error("must be true or false")
    if kind == "money" and isinstance(spec.get("currency"), dict):
        leaf: Leaf = _amount_with_currency_column(spec, place, columns)
    else:
        leaf = _leaf(field, spec, place, columns, converter(field, spec, place))
    return _only_when(leaf, spec, place, columns) if "when" in spec else leaf


def constant(field: FieldDescriptor, value: Any, convert: Convert | None, place: Place) -> Any:
    """Return a literal of the mapping as the field's value.

    Raises:
        MappingError: It has the wrong type or can't be converted.
    """
    if not isinstance(value, _LITERALS):
        raise place.error("must be a single value")
    kind = kind_of(field)
    if isinstance(value, str) or kind not in ("text", "enum"):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            return convert(text) if convert else text
        except ValueError as error:
            raise place.error(f"the value {error}") from None
    raise place.error('must be text in quotes, such as "5"')


def source_text(spec: Mapping[str, Any], place: Place, columns: Columns) -> tuple[GetText, str]:
    """Return the getter of a column's or template's text, and its name in messages.

    An optional column that the file doesn't have reads as empty.

    Raises:
        MappingError: The column isn't there, or the template can't be read.
    """
    optional = bool(spec.get("optional", False))
    key = "column" if "column" in spec else "template"
    name = spec[key]
    if not isinstance(name, str):
        raise place.at(key).error("must be text in quotes")
    if key == "column":
        return columns.text(name, place, optional=optional) or _nothing, name
    get, names = template_text(name, columns, place, optional=optional)
    return get, " + ".join(names)


def _nothing(_: Row) -> str:
    return ""


def _only_when(leaf: Leaf, spec: Mapping[str, Any], place: Place, columns: Columns) -> Leaf:
    """Return a value that only the rows of a condition have."""
    is_meant = compile_condition(spec["when"], place.at("when"), columns)
    if leaf is None:
        return None
    if isinstance(leaf, Constant):
        value = leaf.value
        return Cell(lambda row: value if is_meant(row) else None)
    get = leaf.get
    return Cell(lambda row: get(row) if is_meant(row) else None)


def _leaf(
    field: FieldDescriptor,
    spec: Mapping[str, Any],
    place: Place,
    columns: Columns,
    convert: Convert | None,
) -> Leaf:
    if "value" in spec:
        return Constant(constant(field, spec["value"], convert, place))
    get_text, label = source_text(spec, place, columns)
    default = None
    if "default" in spec:
        default = constant(field, spec["default"], convert, place.at("default"))
    if get_text is _nothing:
        return None if default is None else Constant(default)
    if "map" in spec:
        convert = _translation(field, spec, place, convert)
    elif "otherwise" in spec:
        raise place.at("otherwise").error("is for values that the map lacks; there is no map")
    return Cell(_getter(get_text, convert, label, default, required=spec.get("required", False)))


def _getter(
    get_text: GetText, convert: Convert | None, label: str, default: Any, *, required: bool
) -> Callable[[Row], Any]:
    def get(row: Row) -> Any:
        text = get_text(row)
        if not text:
            if required:
                raise EmptyError("is empty", label)
            return default
        if convert is None:
            return text
        try:
            return convert(text)
        except ValueError as error:
            raise RowError(str(error), label) from None

    return get


def _translation(
    field: FieldDescriptor, spec: Mapping[str, Any], place: Place, convert: Convert | None
) -> Convert:
    given = spec["map"]
    if not isinstance(given, dict) or not given:
        raise place.at("map").error('must be a table such as {"CALL" = "phone"}')
    table = {
        key.strip(): None
        if value == ""
        else constant(field, value, convert, place.at("map").at(key))
        for key, value in given.items()
    }
    if "otherwise" not in spec:

        def strict(text: str) -> Any:
            if text not in table:
                raise ValueError("has a value that the map lacks; add it, or set otherwise")
            return table[text]

        return strict
    rest = spec["otherwise"]
    other = None if rest == "" else constant(field, rest, convert, place.at("otherwise"))
    return lambda text: table.get(text, other)


def _amount_with_currency_column(
    spec: Mapping[str, Any], place: Place, columns: Columns
) -> Cell | None:
    for key in ("value", "map", "otherwise", "default"):
        if key in spec:
            raise place.at(key).error("does not go with a currency that is a column")
    convert = money_converter(spec, place)
    code_field = Money.DESCRIPTOR.fields_by_name["currency_code"]
    code = compile_leaf(code_field, spec["currency"], place.at("currency"), columns)
    get_text, label = source_text(spec, place, columns)
    if get_text is _nothing:
        return None
    required = spec.get("required", False)

    def get(row: Row) -> Money | None:
        text = get_text(row)
        if not text:
            if required:
                raise EmptyError("is empty", label)
            return None
        currency = code.get(row) if isinstance(code, Cell) else code and code.value
        if not currency:
            raise RowError("is an amount without a currency", label)
        try:
            return convert(text, currency)
        except ValueError as error:
            raise RowError(str(error), label) from None

    return Cell(get)
