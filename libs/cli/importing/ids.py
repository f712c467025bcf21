"""The ids of imported rows (docs/adr/0004): the same file gives the same ids, every time.

An id is a hash over the source, the fact's name, the row's content and how many identical rows came
before it in the file; or over the source, the fact's name and a named id. Neither the size of a
batch nor the place of a row in the file matters, so an import that broke off is simply repeated.

Counting identical rows takes some 105 MB of memory per million different rows; naming an id column
takes none.
"""

from collections.abc import Callable

from libs.cli.importing.errors import EmptyError
from libs.cli.importing.readers import Row
from touchline.ids import import_digest, import_id

MakeId = Callable[[int, Row, bytes], str]
"""(milliseconds of occurred_at, row, content) → event_id."""


def ids_by_content(source: str, kind: str) -> MakeId:
    """Return what names rows by their content, and identical ones by their order too."""
    seen: dict[bytes, int] = {}

    def make(millis: int, _row: Row, content: bytes) -> str:
        digest = import_digest(source, kind, content)
        ordinal = seen.get(digest, 0)
        seen[digest] = ordinal + 1
        return import_id(millis, digest, ordinal)

    return make


def ids_by_column(source: str, kind: str, get: Callable[[Row], str], label: str) -> MakeId:
    """Return what names rows by an id of their own; a row without one is broken."""

    def make(millis: int, row: Row, _content: bytes) -> str:
        named = get(row)
        if not named:
            raise EmptyError("is empty, and the row is named by it", label)
        return import_id(millis, import_digest(source, kind, b"id" + named.encode()))

    return make
