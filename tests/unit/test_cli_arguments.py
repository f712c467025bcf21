"""What people type: whose inbox, until when, and definitions in files."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from libs.cli.__main__ import app
from libs.cli.expectation_commands import due_of
from libs.cli.notification_commands import inbox_of
from libs.cli.publish_command import DefinitionError, read_definition
from touchline.engagement.v1.engagement_pb2 import ModelDefinition
from touchline.notification.v1.notification_pb2 import RuleDefinition

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("owner", ["agent-7", "team:fraud", " team:social-care ", "sales"])
def test_an_employee_or_a_team_has_an_inbox_by_reference(owner: str) -> None:
    assert inbox_of(owner).reference == owner.strip()


@pytest.mark.parametrize(
    "owner", ["ann@example.com", "+493012345678", "@ann@mastodon", "crm:C-1", "0" * 32]
)
def test_a_customer_has_an_inbox_by_identity(owner: str) -> None:
    assert inbox_of(owner).HasField("customer")


def test_what_looks_like_an_identity_and_is_none_is_refused() -> None:
    with pytest.raises(typer.BadParameter):
        inbox_of("ann@nowhere")


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("45s", timedelta(seconds=45)),
        ("30min", timedelta(minutes=30)),
        ("4h", timedelta(hours=4)),
        (" 2d ", timedelta(days=2)),
    ],
)
def test_a_deadline_may_be_said_by_how_far_off_it_is(text: str, apart: timedelta) -> None:
    off = due_of(text) - datetime.now().astimezone()
    assert apart - timedelta(seconds=5) < off <= apart


def test_a_deadline_may_be_a_local_time() -> None:
    assert due_of("2027-01-31T17:00") == datetime(2027, 1, 31, 17).astimezone()


@pytest.mark.parametrize("text", ["", "soon", "4", "4 hours", "1.5h", "99:99"])
def test_another_deadline_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="30min"):
        due_of(text)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("rules/*.json")), ids=lambda path: path.stem)
def test_every_example_of_a_rule_is_read_as_one(path: Path) -> None:
    definition = read_definition(path)
    assert isinstance(definition, RuleDefinition)
    assert definition.name == path.stem


def test_what_has_rules_is_a_scoring_model(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"name": "churn", "rules": [{"name": "calls", "weight": 2}]}))
    definition = read_definition(path)
    assert isinstance(definition, ModelDefinition)
    assert definition.rules[0].weight == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no rule"),
        ("{", "holds no rule"),
        ("3", "holds no rule"),
        ("[]", "holds no rule"),
        ('{"name": "x", "surprise": 1}', "surprise"),
        ('{"name": "x", "rules": [{"surprise": 1}]}', "surprise"),
        ('{"on": {"types": ["NOTHING"]}}', "NOTHING"),
    ],
)
def test_what_is_no_definition_is_said_with_the_file(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "definition.json"
    path.write_text(text)
    with pytest.raises(DefinitionError, match=complaint) as refused:
        read_definition(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="No such file"):
        read_definition(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("profile ann@example.com --history city --why", "none of the others"),
        ("profile ann@example.com --between ann@example.com nobody", "Give ann@example.com"),
        ("merge ann@example.com", "Missing argument"),
        ("merge ann@example.com ben@example.com", "--because"),
        ("unmerge ann@example.com --because x", "Give one of --merge"),
        ("unmerge ann@example.com --because x --merge y --absorbed z", "Give one of --merge"),
        ("detach ann@example.com nobody --because x", "Give ann@example.com"),
        ("export ann@example.com", "--out"),
        ("erase", "Give one of IDENTITY"),
        ("erase ann@example.com --yes", "Say why"),
        ("erase ann@example.com --check README.md", "Give one of IDENTITY"),
        ("erase --check README.md", "no certificate"),
        ("erase --again none.json", "can't be read"),
        (
            "erase ann@example.com --reason x --from 2026-02-01 --before 2026-02-01",
            "must be before",
        ),
    ],
)
def test_a_wrong_command_line_about_who_is_who_says_what_is_wrong(
    arguments: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert complaint in done.output
