"""Files that define types of custom events, and how types are shown."""

import json
from pathlib import Path

import pytest

from libs.cli.event_type_commands import TypeFileError, read_type
from libs.cli.rendering.event_types import event_types
from libs.cli.stack import CHECKOUT
from services.ingestion.schemas import Schema
from tests.terminal import NOW, joined, shown
from touchline.ingestion.v1.ingestion_pb2 import CustomEventType

EXAMPLES = sorted((CHECKOUT / "examples" / "types").glob("*.json"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_defines_a_type_that_can_be_registered(path: Path) -> None:
    read = read_type(path)
    assert read.name
    assert read.description
    assert json.loads(read.json_schema) == json.loads(path.read_text("utf-8"))["schema"]
    Schema(read.json_schema)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no JSON object"),
        ('{"name": "a", "name": "b"}', "'name' is there twice"),
        ('{"name": "a", "schema": {"maximum": NaN}}', "NaN is no number"),
        ('{"schema": {}}', "needs a name"),
        ('{"name": "a"}', "needs a schema"),
        ('{"name": "a", "schema": true}', "needs a schema"),
        ('{"name": "a", "schema": {}, "version": 2}', "has 'version'"),
    ],
    ids=["broken", "list", "twice", "nan", "nameless", "no schema", "true", "unknown"],
)
def test_a_file_that_defines_no_type_says_why(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "type.json"
    file.write_text(text)
    with pytest.raises(TypeFileError, match=told):
        read_type(file)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(TypeFileError, match="can't be read"):
        read_type(tmp_path / "none.json")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_types_are_shown_with_what_their_events_have(width: int) -> None:
    schema = {
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "who\x1b[31m": {"type": ["string", "null"]},
            "rating": {"enum": ["good", 3]},
            "anything": True,
        },
        "required": ["at"],
    }
    one = CustomEventType(name="visit.made", json_schema=json.dumps(schema), version=3)
    one.registered_at.FromDatetime(NOW)
    said = joined(shown(event_types([one], now=NOW), width))
    for part in ("visit.made", "v3 · today 15:20", "not said", "at string date-time", "good, 3"):
        assert part in said
    assert "\x1b" not in said
    assert "register it so" in shown(event_types([], now=NOW, hint="register it so"))
