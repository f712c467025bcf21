"""A mapping: the TOML file that says how a row becomes an event. docs/importing.md describes it.

It is read and checked against the contract first (`load_mapping`), then against the file's columns
(`Mapping.compile`), all before anything is sent. The result is one function from a row to an event,
or to the request that merges two profiles.
"""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from libs.cli.importing.cells import EVENT_ID, Columns
from libs.cli.importing.conditions import Condition, compile_condition
from libs.cli.importing.errors import EmptyError, Place, RowError, listed, suggestion
from libs.cli.importing.formats import FileFormat, parse_format
from libs.cli.importing.identities import MOST_IDENTITIES, compile_identities
from libs.cli.importing.ids import MakeId, ids_by_column, ids_by_content
from libs.cli.importing.leaves import Cell, compile_leaf, source_text
from libs.cli.importing.lists import Fill
from libs.cli.importing.lookups import Lookup, parse_lookups
from libs.cli.importing.merges import KIND, compile_merge
from libs.cli.importing.properties import compile_properties
from libs.cli.importing.readers import Row
from libs.cli.importing.tables import compile_table, fill_all
from touchline.events.v1.event_pb2 import Event
from touchline.profile.v1.profile_service_pb2 import MergeProfilesRequest

Build = Callable[[Row, bytes], Event | MergeProfilesRequest]
"""(row, content) → event, or the request to merge; raises RowError."""

_FACTS = Event.DESCRIPTOR.oneofs_by_name["fact"].fields
_FACT_NAMES = tuple(field.name for field in _FACTS)
_OWN = ("event_id", "tenant", "identities", "historical", "occurred_at", "source")
_TABLES = ("file", "lookups", "event", "identities", "fact", KIND)
_EVENT_KEYS = (
    "id",
    "source",
    "occurred_at",
    *(name for name in Event.DESCRIPTOR.fields_by_name if name not in (*_OWN, *_FACT_NAMES)),
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping that was read.

    Attributes:
        place: Its file, for messages.
        file_format: Its `[file]`.
        fact: The fact's field in Event, such as `order_changed`; `merge`: a row is a merge.
        lookups: The files that a row refers to.
        tables: The whole TOML document.
    """

    place: Place
    file_format: FileFormat
    fact: str
    lookups: tuple[Lookup, ...]
    tables: dict[str, Any]

    @property
    def merges(self) -> bool:
        """Whether a row is a merge of two profiles, not a fact."""
        return self.fact == KIND

    def columns(self, names: Sequence[str]) -> Columns:
        """Return a file's columns with those of the lookups."""
        joined = [name for lookup in self.lookups for name in lookup.joined]
        return Columns((*names, *joined), nested=self.file_format.kind == "jsonl")

    def only(self, names: Sequence[str]) -> Condition | None:
        """Return which rows of a file with these columns are meant; None: all.

        Raises:
            MappingError: A column isn't there.
        """
        table = self.tables["file"].get("only")
        if table is None:
            return None
        columns = Columns(tuple(names), nested=self.file_format.kind == "jsonl")
        return compile_condition(table, self.place.inside("file").at("only"), columns)

    def compile(self, names: Sequence[str], *, historical: bool, anonymised: str = "") -> Build:
        """Compile the mapping for a file with these columns.

        The function it returns counts identical rows: use it for one reading of one file.

        Args:
            names: The file's columns, without those of lookups.
            historical: Whether events are marked so.
            anonymised: The namespace in which an email without @ is an external id; empty: none.

        Raises:
            MappingError: A column isn't there, or a value can't be used.
        """
        columns = self.columns(names)
        if self.merges:
            source, table = self.tables["event"]["source"], self.tables[KIND]
            merge = compile_merge(source, table, self.place.inside(KIND), columns, anonymised)
            return lambda row, _: merge(row)
        event_table = self.tables["event"]
        place = self.place.inside("event")
        prototype = Event(source=event_table["source"], historical=historical)
        rest = {k: v for k, v in event_table.items() if k not in ("id", "source", "occurred_at")}
        fills = compile_table(prototype, rest, place, columns)
        fact = getattr(prototype, self.fact)
        fact.SetInParent()
        fact_place = self.place.inside("fact").inside(self.fact)
        fills += _of_fact(self.fact, self._fact_fills(fact, fact_place, columns))
        entries = self.tables["identities"]
        fills.append(compile_identities(prototype, entries, self.place, columns, anonymised))
        return _builder(
            prototype, self._occurred_at(columns), self._ids(columns), fills, columns.nested
        )

    def _fact_fills(self, fact: Any, place: Place, columns: Columns) -> list[Fill]:
        table = self.tables["fact"][self.fact]
        if self.fact != "custom_event" or "properties" not in table:
            return compile_table(fact, table, place, columns)
        if "properties_json" in table:
            raise place.at("properties_json").error("does not go with properties; choose one")
        fields = {key: value for key, value in table.items() if key != "properties"}
        properties = place.at("properties")
        return [
            *compile_table(fact, fields, place, columns),
            compile_properties(table["properties"], properties, columns),
        ]

    def _occurred_at(self, columns: Columns) -> Callable[[Row], Any]:
        place = self.place.inside("event").at("occurred_at")
        field = Event.DESCRIPTOR.fields_by_name["occurred_at"]
        spec = self.tables["event"]["occurred_at"]
        _check_before_id(spec, place)
        leaf = compile_leaf(field, spec, place, columns)
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
        _check_before_id(spec, place)
        get, label = source_text(spec, place, columns)
        return ids_by_column(source, self.fact, get, label)


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
    place.check_keys(tables, _TABLES)
    merges = KIND in tables
    for name in ("file", "event", KIND if merges else "fact"):
        if not isinstance(tables.get(name), dict):
            raise place.inside(name).error("the table is missing")
    event = place.inside("event")
    lookups = parse_lookups(tables.get("lookups", {}), place.inside("lookups"))
    _check_source(tables["event"], event)
    written = {key: value for key, value in tables["file"].items() if key != "only"}
    file_format = parse_format(written, place.inside("file"))
    if merges:
        event.check_keys(tables["event"], ("source",))
        for name in ("fact", "identities"):
            if name in tables:
                raise place.inside(name).error("does not go with [merge]")
        return Mapping(place, file_format, KIND, lookups, tables)
    identities = tables.get("identities")
    if not isinstance(identities, list) or not 1 <= len(identities) <= MOST_IDENTITIES:
        raise place.error("needs 1 to 16 tables [[identities]]: whom a row concerns")
    event.check_keys(tables["event"], _EVENT_KEYS)
    if "occurred_at" not in tables["event"]:
        raise event.at("occurred_at").error('is missing, such as {column = "date"}')
    fact = _fact(tables["fact"], place.inside("fact"))
    return Mapping(place, file_format, fact, lookups, tables)


def _check_source(table: dict[str, Any], event: Place) -> None:
    if not isinstance(table.get("source"), str) or not table["source"]:
        raise event.at("source").error('must be text in quotes, such as "shop"; ids depend on it')


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


def _check_before_id(spec: Any, place: Place) -> None:
    if EVENT_ID in str(spec):
        raise place.error(f"{EVENT_ID} is made from this, not the other way round")


def _of_fact(name: str, fills: list[Fill]) -> list[Fill]:
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
            raise EmptyError("no time: the column of occurred_at is empty")
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
