"""Other files that a row refers to: `[lookups.NAME]` of a mapping joins their columns to the row.

`joins` reads those files and does it.
"""

from dataclasses import dataclass
from typing import Any, Final

from libs.cli.importing.errors import Place

_KEYS: Final = (
    *("file", "key", "by", "separator", "columns", "each", "optional"),
    *("only", "when", "report_unused"),
)
_TRUTHS: Final = ("each", "optional", "report_unused")


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """One `[lookups.NAME]`.

    Attributes:
        name: What the joined columns' names begin with: `NAME.column`.
        file: The other file, in the folder of the one that is imported.
        key: Its column that is looked for.
        by: The column whose cells are looked up; a column of an earlier lookup too.
        separator: What parts several keys in one cell; empty: a cell is one key.
        columns: The columns to join.
        each: Whether every match makes a row of its own; otherwise the first one counts.
        optional: Whether to find nothing is in order, and the file need not be there.
        only: Which rows of the other file count, if not all.
        when: Which rows look it up, if not all.
        report_unused: Whether to tell the other file's rows that nothing refers to.
        place: Where it stands.
    """

    name: str
    file: str
    key: str
    by: str
    separator: str
    columns: tuple[str, ...]
    each: bool
    optional: bool
    only: Any
    when: Any
    report_unused: bool
    place: Place

    @property
    def joined(self) -> tuple[str, ...]:
        """The names of the joined columns."""
        return tuple(f"{self.name}.{column}" for column in self.columns)

    @property
    def target(self) -> str:
        """What it refers to, for people."""
        return f"{self.file} {self.key}"


def parse_lookups(tables: Any, place: Place) -> tuple[Lookup, ...]:
    """Return what `[lookups.…]` says.

    Raises:
        MappingError: A key is unknown, missing or has a value that can't be.
    """
    if not isinstance(tables, dict):
        raise place.error("must be tables such as [lookups.contact]")
    return tuple(_lookup(name, table, place.inside(name)) for name, table in tables.items())


def _lookup(name: str, table: Any, place: Place) -> Lookup:
    if not isinstance(table, dict):
        raise place.error('must be a table with file = "…", key = "…" and by = "…"')
    place.check_keys(table, _KEYS)
    texts = {key: table.get(key, "") for key in ("file", "key", "by", "separator")}
    for key, text in texts.items():
        if not isinstance(text, str) or (not text and key != "separator"):
            raise place.at(key).error("must be text in quotes")
    for key in _TRUTHS:
        if not isinstance(table.get(key, False), bool):
            raise place.at(key).error("must be true or false")
    columns = table.get("columns", [texts["key"]])
    if not isinstance(columns, list) or not all(isinstance(one, str) for one in columns):
        raise place.at("columns").error('must be a list of names, such as ["id", "email"]')
    return Lookup(
        **texts,
        name=name,
        columns=tuple(columns),
        **{key: table.get(key, False) for key in _TRUTHS},
        only=table.get("only"),
        when=table.get("when"),
        place=place,
    )
