"""Properties of custom events from the rows of a file."""

import json
from pathlib import Path

import pytest

from libs.cli.event_type_commands import read_type
from libs.cli.importing.errors import MappingError, RowError
from libs.cli.importing.mapping import load_mapping
from libs.cli.importing.readers import RowFile
from libs.cli.stack import CHECKOUT
from services.ingestion.schemas import Schema, read_properties
from touchline.events.v1.event_pb2 import Event

HEAD = """
[file]
format = "jsonl"
[event]
source = "test"
occurred_at = "2026-11-03T17:00:00Z"
[[identities]]
kind = "email"
value = "anna@example.com"
[fact.custom_event]
name = "test.seen"
"""


def built(tmp_path: Path, properties: str, row: dict[str, object]) -> str:
    """The properties that a row gets."""
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(f"{HEAD}\n[fact.custom_event.properties]\n{properties}\n")
    return _events(mapping, tmp_path, json.dumps(row) + "\n")[0].custom_event.properties_json


def _events(mapping: Path, directory: Path, text: str) -> list[Event]:
    file = directory / "rows"
    file.write_text(text)
    return imported(mapping, file)


def imported(mapping: Path, path: Path) -> list[Event]:
    """The events that a file's rows become."""
    loaded = load_mapping(mapping)
    with RowFile(path, loaded.file_format) as file:
        build = loaded.compile(file.columns, historical=True)
        rows = list(file.rows())
    assert not [row for _, row, _ in rows if isinstance(row, RowError)]
    made = [build(row, content) for _, row, content in rows if not isinstance(row, RowError)]
    return [one for one in made if isinstance(one, Event)]


def test_each_value_is_of_its_kind_and_keeps_its_digits(tmp_path: Path) -> None:
    text = built(
        tmp_path,
        """
        title = { column = "t" }
        fee = { column = "fee", as = "number" }
        big = { column = "big", as = "number" }
        member = { column = "m", as = "truth" }
        tags = { column = "tags", as = "json" }
        kind = "online"
        seats = 20
        price = 9.90
        free = false
        days = ["mon", "tue"]
        stars = { column = "s", map = { "5" = "good" }, otherwise = "poor" }
        missing = { column = "none", optional = true }
        host.name = { column = "h" }
        host.role = { column = "none", optional = true }
        room.number = { column = "none", optional = true, as = "number" }
        """,
        {
            "t": 'says "ä"',
            "fee": 9.90,
            "big": 10**20,
            "m": "Yes",
            "tags": "[1.50]",
            "s": 5,
            "h": "I",
        },
    )
    assert json.loads(text, parse_float=str) == {
        "title": 'says "ä"',
        "fee": "9.9",
        "big": 10**20,
        "member": True,
        "tags": ["1.50"],
        "kind": "online",
        "seats": 20,
        "price": "9.90",
        "free": False,
        "days": ["mon", "tue"],
        "stars": "good",
        "host": {"name": "I"},
    }


def test_a_row_without_any_property_has_none(tmp_path: Path) -> None:
    assert built(tmp_path, 'title = { column = "t" }', {"t": ""}) == ""


@pytest.mark.parametrize(
    ("kind", "cell", "told"),
    [
        ("number", "1,5", "is no number"),
        ("number", "0x1", "is no number"),
        ("number", "NaN", "is no number"),
        ("truth", "perhaps", "is neither true nor false"),
        ("json", "[1,", "is not JSON"),
    ],
    ids=["comma", "hexadecimal", "nan", "perhaps", "broken"],
)
def test_a_cell_of_another_kind_breaks_its_row_without_being_told(
    tmp_path: Path, kind: str, cell: str, told: str
) -> None:
    with pytest.raises(RowError) as failed:
        built(tmp_path, f'a = {{ column = "c", as = "{kind}" }}', {"c": cell})
    assert failed.value.reason.startswith(f'column "c" {told}')
    assert cell not in failed.value.reason


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ('a = { column = "c", as = "date" }', "a.as: must be one of text, number, truth, json"),
        ('a = { column = "nowhere" }', 'have no column "nowhere"'),
        ("a = 2026-01-01", "a: must be text, a number"),
        ('a = { value = "x", as = "number" }', "a: the value is no number"),
        ('a = { column = "c", format = "iso" }', "a.format: unknown key"),
    ],
    ids=["kind", "column", "date", "constant", "option"],
)
def test_a_mapping_of_properties_that_makes_no_sense_is_refused(
    tmp_path: Path, properties: str, told: str
) -> None:
    with pytest.raises(MappingError) as failed:
        built(tmp_path, properties, {"c": "x"})
    assert told in str(failed.value)


def test_the_example_makes_events_of_the_example_type() -> None:
    examples = CHECKOUT / "examples"
    events = imported(examples / "webinars.toml", examples / "webinars.csv")
    schema = Schema(read_type(examples / "types" / "webinar-attended.json").json_schema)
    assert len(events) == 2
    for event in events:
        properties, violations = read_properties(event.custom_event.properties_json)
        assert violations == []
        assert schema.violations_of(properties) == []
    assert '"fee": 9.90' in events[0].custom_event.properties_json
    assert "fee" not in events[1].custom_event.properties_json
