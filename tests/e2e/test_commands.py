"""The commands beside a running `touchline up`: what they print, and what they say when they can't.

Every test uses identities of its own.
"""

import asyncio
import json
import os
import shlex
import signal
from pathlib import Path

import pytest

from tests.orders import MAPPING, imported
from tests.running import Installation, finished

ROWS = """order,email,at,total
A-1,gwen@example.com,2024-03-01T10:00:00Z,12.50
A-2,gwen@example.com,2024-03-02T10:00:00Z,7.25
"""


async def test_what_was_imported_stands_on_the_timeline_and_in_the_views(
    running: Installation, tmp_path: Path
) -> None:
    done = await imported(running, tmp_path, ROWS)
    assert done.code == 0
    assert "recorded 2" in done.words

    timeline = await running.run("timeline", "gwen@example.com")
    assert timeline.code == 0
    assert timeline.out.index("A-2") < timeline.out.index("A-1")
    assert "2 events" in timeline.out

    newest = await running.run("timeline", "Gwen@Example.com", "--limit", "1")
    assert "A-2" in newest.out
    assert "A-1" not in newest.out

    sales = await running.run("view", "sales", "gwen@example.com")
    assert "2 orders · € 19.75" in sales.words
    for name in ("service", "marketing", "customer"):
        assert (await running.run("view", name, "gwen@example.com")).code == 0
    before = await running.run("view", "sales", "gwen@example.com", "--as-of", "2020-01-01")
    assert before.code == 0
    assert "A-1" not in before.out


async def test_broken_rows_are_told_by_number_and_the_others_recorded(
    running: Installation, tmp_path: Path
) -> None:
    rows = (
        "order,email,at,total\n"
        "B-1,hugo@example.com,2024-03-01T10:00:00Z,1\n"
        "B-2,hugo@example.com,yesterday,1\n"
        "B-3,hugo@example.com\n"
        "B-4,hugo at example,2024-03-01T10:00:00Z,1\n"
        "B-5,hugo@example.com,2024-03-05T10:00:00Z,1\n"
    )
    done = await imported(running, tmp_path, rows)
    assert done.code == 1
    assert "recorded 2" in done.words
    assert "broken 2" in done.words
    assert "rejected 1" in done.words
    report = (tmp_path / "rows.csv.rejected.csv").read_text()
    assert {line.split(",")[0] for line in report.splitlines()[1:]} == {"3", "4", "5"}
    for kept_to_itself in ("yesterday", "hugo"):
        assert kept_to_itself not in done.words + report

    rejected = await running.run("rejected")
    assert rejected.code == 0
    assert "identities[0].value is not an email" in rejected.words
    assert "hugo" not in rejected.out


async def test_a_mapping_that_names_a_missing_column_sends_nothing(
    running: Installation, tmp_path: Path
) -> None:
    done = await imported(running, tmp_path, ROWS, MAPPING.replace('"total"', '"sum"'))
    assert done.code == 2
    assert '"sum"' in done.words
    assert "Nothing was sent." in done.words
    assert "Traceback" not in done.words


async def test_status_and_verify_tell_where_everything_stands(
    running: Installation, tmp_path: Path
) -> None:
    assert (await imported(running, tmp_path, ROWS.replace("gwen", "ida"))).code == 0
    status = await running.run("status")
    assert status.code == 0
    for word in ("head", "queue", "rejected", "profile/identity_graph", "profile/timeline"):
        assert word in status.out
    verified = await running.run("verify")
    assert verified.code == 0
    for claim in ("Everything holds", "chain intact", "positions contiguous", "same chain"):
        assert claim in verified.out


async def test_tail_shows_what_is_recorded_and_nothing_personal(
    running: Installation, tmp_path: Path
) -> None:
    assert (await imported(running, tmp_path, ROWS.replace("gwen", "jule"))).code == 0
    tail = await running.start("tail", "--last", "1")
    assert tail.stdout
    seen = ""
    try:
        async with asyncio.timeout(60):
            seen += (await tail.stdout.readline()).decode()  # it follows the line from now on
            assert (await imported(running, tmp_path, ROWS.replace("gwen", "jana"))).code == 0
            while seen.count("order changed") < 3:
                line = await tail.stdout.readline()
                assert line, seen
                seen += line.decode()
    finally:
        os.killpg(tail.pid, signal.SIGINT)
    told = await finished(tail)
    assert told.code == 130
    assert "past" in seen
    for name in ("jule", "jana"):
        assert name not in seen + told.out
    assert told.err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ("timeline nobody@example.com", 1, "No customer is known by that."),
        (f"timeline {'0' * 32}", 1, "No customer is known by that."),
        ("timeline somebody", 2, "Give ann@example.com"),
        ("timeline ann@nowhere", 2, "is not an email address"),
        ("timeline +49", 2, "is not a phone number"),
        ("timeline @handle", 2, "Give ann@example.com"),
        ("view gossip ann@example.com", 2, "is not one of"),
        ("view sales", 2, "Missing argument"),
        ("import none.csv --mapping examples/cdnow.toml", 2, "none.csv"),
        ("import examples/contacts.csv --mapping none.toml", 2, "none.toml"),
    ],
)
async def test_what_cannot_be_answered_is_said_without_a_traceback(
    running: Installation, arguments: str, code: int, complaint: str
) -> None:
    done = await running.run(*shlex.split(arguments))
    assert done.code == code
    assert complaint in done.words
    assert "Traceback" not in done.words


@pytest.mark.parametrize("arguments", ["timeline ann@example.com", "tail"])
async def test_without_services_a_command_says_how_to_start_them(
    tmp_path: Path, arguments: str
) -> None:
    done = await Installation(tmp_path / "home").run(*shlex.split(arguments))
    assert done.code == 3
    assert "No service answers" in done.err
    assert "touchline up" in done.err
    assert "Traceback" not in done.words


async def test_run_file_and_secrets_are_their_owners_alone(running: Installation) -> None:
    for name in ("run.json", "secrets.json"):
        assert (running.home / name).stat().st_mode & 0o077 == 0
    assert json.loads((running.home / "run.json").read_text())["profile"] == running.profile
