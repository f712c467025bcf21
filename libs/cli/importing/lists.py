"""Fields that hold several plain values: lists of text and the like, and maps."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from libs.cli.importing.cells import Columns, template_text
from libs.cli.importing.errors import Place, RowError
from libs.cli.importing.leaves import Cell, Constant, Leaf, compile_leaf, source_text
from libs.cli.importing.readers import Row
from libs.cli.importing.values import OPTIONS, Convert, converter, kind_of, message_type

Fill = Callable[[Any, Row], bool]
"""Sets fields of a message from a row; tells whether it set any."""


def is_map(field: FieldDescriptor) -> bool:
    """Tell whether a field is a map."""
    return field.type == FieldDescriptor.TYPE_MESSAGE and message_type(field).GetOptions().map_entry


def compile_map(
    message: Any, field: FieldDescriptor, spec: Any, place: Place, columns: Columns
) -> Fill | None:
    """Compile a map from a table with one value per key; keys without a value are left out.

    A key with braces is a template, such as `"{name}"`: each row names its own.

    Raises:
        MappingError: It is no such table.
    """
    if not isinstance(spec, dict) or not spec:
        raise place.error('must be a table such as {city = {column = "city"}}')
    value_field = message_type(field).fields_by_name["value"]
    name = field.name
    cells: list[tuple[Callable[[Row], str], Callable[[Row], Any]]] = []
    for key, value in spec.items():
        leaf = compile_leaf(value_field, value, place.at(key), columns)
        if "{" in key and leaf:
            key_text, _ = template_text(key, columns, place.at(key), optional=False)
            cells.append((key_text, _getter(leaf)))
        elif isinstance(leaf, Constant):
            getattr(message, name)[key] = leaf.value
        elif leaf:
            cells.append((partial(_same, key), leaf.get))
    if not cells:
        return None

    def fill(target: Any, row: Row) -> bool:
        entries = getattr(target, name)
        filled = False
        for key, get in cells:
            value = get(row)
            if value is not None and (name_of_it := key(row)):
                entries[name_of_it] = value
                filled = True
        return filled

    return fill


def _same(key: str, _: Row) -> str:
    return key


def compile_values(
    message: Any, field: FieldDescriptor, spec: Any, place: Place, columns: Columns
) -> Fill | None:
    """Compile a list from a list of values, or from one cell with a separator or a JSON array.

    Raises:
        MappingError: It is neither.
    """
    name = field.name
    get: Callable[[Row], Sequence[Any]] | None
    if isinstance(spec, list):
        leaves = [
            compile_leaf(field, element, place.at(str(index)), columns)
            for index, element in enumerate(spec)
        ]
        if not any(isinstance(leaf, Cell) for leaf in leaves):
            getattr(message, name).extend(
                leaf.value for leaf in leaves if isinstance(leaf, Constant)
            )
            return None
        get = _together(leaves)
    elif isinstance(spec, dict):
        get = _from_one(field, spec, place, columns)
    else:
        raise place.error('must be a list, or a table such as {column = "names", separator = ";"}')
    if get is None:
        return None

    def fill(target: Any, row: Row) -> bool:
        values = get(row)
        getattr(target, name).extend(values)
        return len(values) > 0

    return fill


def _together(leaves: Sequence[Leaf]) -> Callable[[Row], Sequence[Any]]:
    getters = [_getter(leaf) for leaf in leaves if leaf]

    def get(row: Row) -> Sequence[Any]:
        return [value for read in getters if (value := read(row)) is not None]

    return get


def _getter(leaf: Cell | Constant) -> Callable[[Row], Any]:
    return leaf.get if isinstance(leaf, Cell) else lambda _: leaf.value


def _from_one(
    field: FieldDescriptor, spec: Mapping[str, Any], place: Place, columns: Columns
) -> Callable[[Row], Sequence[Any]] | None:
    kind = kind_of(field) or ""
    place.check_keys(spec, ("column", "separator", "optional", *OPTIONS[kind]))
    column = spec.get("column")
    separator = spec.get("separator", "")
    if not isinstance(column, str):
        raise place.error("needs a column")
    if not isinstance(separator, str):
        raise place.at("separator").error("must be text in quotes")
    convert = converter(field, spec, place)
    if columns.nested:
        raw = columns.raw(column, place, optional=spec.get("optional") is True)
        return raw and (lambda row: _values(_parts(raw(row), separator, column), convert, column))
    text, _ = source_text(spec, place, columns)
    return lambda row: _values(_parts(text(row), separator, column), convert, column)


def _parts(found: Any, separator: str, column: str) -> Sequence[str]:
    if found is None:
        return []
    if isinstance(found, str):
        return found.split(separator) if separator else [found]
    if isinstance(found, list) and all(isinstance(part, str | int) for part in found):
        return [str(part) for part in found]
    raise RowError("is neither text nor a list of texts and numbers", column)


def _values(parts: Sequence[str], convert: Convert | None, column: str) -> Sequence[Any]:
    texts = [text for part in parts if (text := part.strip())]
    if convert is None:
        return texts
    try:
        return [convert(text) for text in texts]
    except ValueError as error:
        raise RowError(str(error), column) from None
