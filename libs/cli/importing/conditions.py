"""Which rows are meant: `{ type = "OPEN" }`, `{ name = ["phone", "mobile"], closed = true }`."""

from collections.abc import Callable
from typing import Any

from libs.cli.importing.cells import Columns, GetText
from libs.cli.importing.errors import Place
from libs.cli.importing.readers import Row

Condition = Callable[[Row], bool]


def compile_condition(table: Any, place: Place, columns: Columns) -> Condition:
    """Compile what cells must hold, all of them together.

    Args:
        table: Column → a text or several, whatever their capitals (an empty one is an empty cell);
            true: it isn't empty; false: it is empty.
        place: Where the table stands.
        columns: The file's columns.

    Raises:
        MappingError: It is no such table, or the file has no such column.
    """
    if not isinstance(table, dict) or not table:
        raise place.error('must be a table such as {type = "OPEN"}: which cells hold what')
    tests = [_test(name, meant, place, columns) for name, meant in table.items()]
    if len(tests) == 1:
        return tests[0]
    return lambda row: all(test(row) for test in tests)


def _test(name: str, meant: Any, place: Place, columns: Columns) -> Condition:
    get = _cell(name, place.at(name), columns)
    if isinstance(meant, bool):
        return lambda row: bool(get(row)) is meant
    texts = [meant] if isinstance(meant, str) else meant
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts) or not texts:
        raise place.at(name).error(
            "must be a text, a list of texts, true (filled) or false (empty)"
        )
    known = frozenset(text.casefold() for text in texts)
    return lambda row: get(row).casefold() in known


def _cell(name: str, place: Place, columns: Columns) -> GetText:
    get = columns.text(name, place)
    if get is None:
        raise place.error("can't be optional here")
    return get
