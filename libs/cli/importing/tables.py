"""A table of a mapping, compiled over the descriptor of the message it fills.

Constants are set once, in a prototype; what differs from row to row becomes fillers. So a row costs
a copy of the prototype and one call per mapped column, however general the mapping.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from libs.cli.importing.cells import Columns
from libs.cli.importing.errors import Place, RowError, listed
from libs.cli.importing.leaves import Cell, Constant, Leaf, compile_leaf
from libs.cli.importing.lists import Fill, compile_map, compile_values, is_map
from libs.cli.importing.readers import Row
from libs.cli.importing.values import kind_of, message_type


def compile_table(
    message: Message, table: Mapping[str, Any], place: Place, columns: Columns
) -> list[Fill]:
    """Set a table's constants in a message and return the fillers of the rest.

    Args:
        message: The prototype; its fields of these names are unset.
        table: Field name → value, sub-table or list, as docs/importing.md says.
        place: Where the table stands.
        columns: The file's columns.

    Raises:
        MappingError: A key is no field of the message, or its value can't be used.
    """
    fields = message.DESCRIPTOR.fields_by_name
    place.check_keys(table, fields)
    fills = []
    for name, spec in table.items():
        field = cast("FieldDescriptor", fields[name])
        fill = _compile_field(message, field, spec, place.at(name), columns)
        if fill:
            fills.append(fill)
    return fills


def fill_all(fills: Sequence[Fill], message: Any, row: Row) -> bool:
    """Run fillers on a message; tell whether any of them set something."""
    filled = False
    for fill in fills:
        if fill(message, row):
            filled = True
    return filled


def _compile_field(
    message: Any, field: FieldDescriptor, spec: Any, place: Place, columns: Columns
) -> Fill | None:
    if is_map(field):
        return compile_map(message, field, spec, place, columns)
    plain_money = isinstance(spec, dict) and ("currency_code" in spec or "micros" in spec)
    if kind_of(field) is None or plain_money:
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            raise place.error("has a type that can't be imported")
        if field.is_repeated:
            return _compile_messages(message, field, spec, place, columns)
        return _compile_message(message, field, spec, place, columns)
    if field.is_repeated:
        return compile_values(message, field, spec, place, columns)
    return set_field(message, field, compile_leaf(field, spec, place, columns))


def set_field(message: Any, field: FieldDescriptor, leaf: Leaf) -> Fill | None:
    """Set a constant in a message, or return the filler of a value that differs by row."""
    name = field.name
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE

    def assign(target: Any, value: Any) -> None:
        if is_message:
            getattr(target, name).CopyFrom(value)
        else:
            setattr(target, name, value)

    if isinstance(leaf, Constant):
        assign(message, leaf.value)
    if not isinstance(leaf, Cell):
        return None
    get = leaf.get

    def fill_message(target: Any, row: Row) -> bool:
        value = get(row)
        if value is None:
            return False
        getattr(target, name).CopyFrom(value)
        return True

    def fill_scalar(target: Any, row: Row) -> bool:
        value = get(row)
        if value is None:
            return False
        setattr(target, name, value)
        return True

    return fill_message if is_message else fill_scalar


def _compile_message(
    message: Any, field: FieldDescriptor, spec: Any, place: Place, columns: Columns
) -> Fill | None:
    if not isinstance(spec, dict):
        raise place.error(f"must be a table. {listed(message_type(field).fields_by_name)}")
    name = field.name
    part = getattr(message, name)
    part.SetInParent()
    fills = compile_table(part, spec, place, columns)
    if not fills:
        return None

    def fill(target: Any, row: Row) -> bool:
        # Constants alone say nothing when every column they go with is empty.
        if fill_all(fills, getattr(target, name), row):
            return True
        target.ClearField(name)
        return False

    return fill


def _compile_messages(
    message: Any, field: FieldDescriptor, spec: Any, place: Place, columns: Columns
) -> Fill | None:
    if isinstance(spec, dict) and "each" in spec:
        return _compile_array(message, field, spec, place, columns)
    if not isinstance(spec, list) or not all(isinstance(element, dict) for element in spec):
        raise place.error('must be a list of tables, or for JSON lines a table with each = "path"')
    name = field.name
    elements = getattr(message, name)
    compiled = [
        compile_table(elements.add(), element, place.at(str(index)), columns)
        for index, element in enumerate(spec)
    ]
    varying = [(index, fills) for index, fills in enumerate(compiled) if fills]
    if not varying:
        return None
    backwards = varying[::-1]

    def fill(target: Any, row: Row) -> bool:
        elements = getattr(target, name)
        filled = False
        for index, fills in backwards:
            if fill_all(fills, elements[index], row):
                filled = True
            else:
                del elements[index]
        return filled

    return fill


def _compile_array(
    message: Any, field: FieldDescriptor, spec: Mapping[str, Any], place: Place, columns: Columns
) -> Fill | None:
    path = spec["each"]
    if not columns.nested or not isinstance(path, str):
        raise place.at("each").error(
            "must be the path of an array in JSON lines; for other files list the elements"
        )
    get = columns.raw(path, place.at("each"), optional=spec.get("optional") is True)
    if get is None:
        return None
    name = field.name
    prototype = getattr(type(message)(), name).add()
    inner = {key: value for key, value in spec.items() if key not in ("each", "optional")}
    fills = compile_table(prototype, inner, place, columns.within(path))

    def fill(target: Any, row: Row) -> bool:
        parts = get(row)
        if parts is None:
            return False
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise RowError("is no list of objects", path)
        elements = getattr(target, name)
        for part in parts:
            element = elements.add()
            element.CopyFrom(prototype)
            if not fill_all(fills, element, part):
                del elements[-1]
        return len(elements) > 0

    return fill
