"""A mapping: the TOML file that says how a row becomes an event. docs/importing.md describes it.

It is read and checked against the contract first (`load_mapping`), then against the file's columns
(`Mapping.compile`), all before anything is sent. The result is one function from a row to an event.
"""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from libs.cli.importing.cells import EVENT_ID, Columns
from libs.cli.importing.errors import Place, RowError, listed, suggestion
from libs.cli.importing.formats import FileFormat, parse_format
from libs.cli.importing.ids import MakeId, ids_by_column, ids_by_content
from libs.cli.importing.leaves import Cell, compile_leaf, source_text
from libs.cli.importing.lists import Fill
from libs.cli.importing.readers import Row
from libs.cli.importing.tables import compile_table, fill_all
from touchline.events.v1.event_pb2 import Event

Build = Callable[[Row, bytes], Event]
"""(row, content) → event; raises RowError."""

_FACTS = Event.DESCRIPTOR.oneofs_by_name["fact"].fields
_FACT_NAMES = tuple(field.name for field in _FACTS)
_OWN = ("event_id", "tenant", "identities", "historical", "occurred_at", "source")
_EVENT_KEYS = (
    "id",
    "source",
    "occurred_at",
    *(name for name in Event.DESCRIPTOR.fields_by_name if name not in (*_OWN, *_FACT_NAMES)),
)
_IDENTITY_KEYS = ("kind", "namespace", "value")
_MOST_IDENTITIES = 16


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping that was read.

    Attributes:
        place: Its file, for messages.
        file_format: Its `[file]`.
        fact: The fact's field in Event, such as `order_changed`.
        tables: The whole TOML document.
    """

    place: Place
    file_format: FileFormat
    fact: str
    tables: dict[str, Any]

    def compile(self, names: Sequence[str], *, historical: bool) -> Build:
        """Compile the mapping for a file with these columns.

        The function it returns counts identical rows: use it for one reading of one file.

        Raises:
            MappingError: A column isn't there, or a value can't be used.
        """
        columns = Columns(tuple(names), nested=self.file_format.kind == "jsonl")
        event_table = self.tables["event"]
        place = self.place.inside("event")
        prototype = Event(source=event_table["source"], historical=historical)
        rest = {k: v for k, v in event_table.items() if k not in ("id", "source", "occurred_at")}
        fills = compile_table(prototype, rest, place, columns)
        fact = getattr(prototype, self.fact)
        fact.SetInParent()
        fact_place = self.place.inside("fact").inside(self.fact)
        fills += _shielded(
            self.fact, compile_table(fact, self.tables["fact"][self.fact], fact_place, columns)
        )
        fills.append(self._identities(prototype, columns))
        return _builder(
            prototype, self._occurred_at(columns), self._ids(columns), fills, columns.nested
        )

    def _occurred_at(self, columns: Columns) -> Callable[[Row], Any]:
        place = self.place.inside("event").at("occurred_at")
        field = Event.DESCRIPTOR.fields_by_name["occurred_at"]
        leaf = compile_leaf(field, self.tables["event"]["occurred_at"], place, columns)
        if leaf is None:
            raise place.error("is required, so its column can't be optional")
        if not isinstance(leaf, Cell):
            return lambda _: leaf.value
        return leaf.get

    def _ids(self, columns: Columns) -> MakeId:
        source = self.tables["event"]["source"]
        if "id" not in self.tables["event"]:
            return ids_by_content(source, self.fact)
        place = self.place.inside("event").at("id")
        spec = self.tables["event"]["id"]
        if not isinstance(spec, dict) or ("column" in spec) == ("template" in spec):
            raise place.error('must be {column = "…"} or {template = "…"}')
        place.check_keys(spec, ("column", "template"))
        if EVENT_ID in str(spec):
            raise place.error(f"{EVENT_ID} is made from the id, not the other way round")
        get, label = source_text(spec, place, columns)
        return ids_by_column(source, self.fact, get, label)

    def _identities(self, prototype: Event, columns: Columns) -> Fill:
        entries = self.tables["identities"]
        tables = [
            _identity_table(entry, self.place.inside(f"identities.{index}"))
            for index, entry in enumerate(entries)
        ]
        compiled = [
            compile_table(
                prototype.identities.add(),
                table,
                self.place.inside(f"identities.{index}"),
                columns,
            )
            for index, table in enumerate(tables)
        ]
        backwards = list(enumerate(compiled))[::-1]

        def fill(event: Any, row: Row) -> bool:
            identities = event.identities
            for index, fills in backwards:
                if fills:
                    fill_all(fills, identities[index], row)
                if not identities[index].value:
                    del identities[index]
            if not identities:
                raise RowError("no identity: all columns of [[identities]] are empty")
            return True

        return fill


def load_mapping(path: Path) -> Mapping:
    """Read a mapping and check what can be checked without the file.

    Raises:
        MappingError: It can't be read, a table is missing, or a key or a fact is unknown.
    """
    place = Place(str(path))
    try:
        tables = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as error:
        raise place.error(f"can't be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise place.error(f"is no TOML: {error}.") from None
    place.check_keys(tables, ("file", "event", "identities", "fact"))
    for name in ("file", "event", "fact"):
        if not isinstance(tables.get(name), dict):
            raise place.inside(name).error("the table is missing")
    identities = tables.get("identities")
    if not isinstance(identities, list) or not 1 <= len(identities) <= _MOST_IDENTITIES:
        raise place.error("needs 1 to 16 tables [[identities]]: whom a row concerns")
    event = place.inside("event")
    event.check_keys(tables["event"], _EVENT_KEYS)
    if not isinstance(tables["event"].get("source"), str) or not tables["event"]["source"]:
        raise event.at("source").error('must be text in quotes, such as "shop"; ids depend on it')
    if "occurred_at" not in tables["event"]:
        raise event.at("occurred_at").error('is missing, such as {column = "date"}')
    file_format = parse_format(tables["file"], place.inside("file"))
    return Mapping(place, file_format, _fact(tables["fact"], place.inside("fact")), tables)


def _fact(table: dict[str, Any], place: Place) -> str:
    if len(table) != 1:
        raise place.error(f"needs exactly one table [fact.…]. {listed(_FACT_NAMES)}")
    name = next(iter(table))
    if name not in _FACT_NAMES:
        close = suggestion(name, _FACT_NAMES)
        raise place.inside(name).error(f"unknown fact.{close} {listed(_FACT_NAMES)}")
    if not isinstance(table[name], dict):
        raise place.inside(name).error("must be a table")
    return name


def _identity_table(entry: Any, place: Place) -> dict[str, Any]:
    """Return an identity's table with `column = …` and its options moved into `value`."""
    if not isinstance(entry, dict) or "kind" not in entry:
        raise place.error('must be a table with kind = "email" or another')
    own = {key: spec for key, spec in entry.items() if key in _IDENTITY_KEYS}
    options = {key: spec for key, spec in entry.items() if key not in _IDENTITY_KEYS}
    if bool(options) == ("value" in own):
        raise place.error('needs column = "…" (or template, or value), and only one of them')
    if options:
        own["value"] = options
    return own


def _shielded(name: str, fills: list[Fill]) -> list[Fill]:
    """Return fillers of a fact as one filler of its event."""
    if not fills:
        return []

    def fill(event: Any, row: Row) -> bool:
        return fill_all(fills, getattr(event, name), row)

    return [fill]


def _builder(
    prototype: Event,
    occurred_at: Callable[[Row], Any],
    make_id: MakeId,
    fills: Sequence[Fill],
    nested: bool,
) -> Build:
    def build(row: Row, content: bytes) -> Event:
        when = occurred_at(row)
        if when is None:
            raise RowError("no time: the column of occurred_at is empty")
        event = Event()
        event.CopyFrom(prototype)
        event.occurred_at.CopyFrom(when)
        event_id = make_id(when.seconds * 1000 + when.nanos // 1_000_000, row, content)
        event.event_id = event_id
        if nested:
            row[EVENT_ID] = event_id
        else:
            row.append(event_id)
        try:
            for fill in fills:
                fill(event, row)
        except UnicodeEncodeError:
            raise RowError("has text with half a surrogate pair, which is no Unicode") from None
        return event

    return build
