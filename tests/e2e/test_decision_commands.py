"""The commands about scores, promises, rules and notifications, beside a running `touchline up`.

Every test uses identities, teams and rules of its own.
"""

import asyncio
import json
import os
import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.orders import imported
from tests.running import Finished, Installation, finished

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
RULE = {
    "name": "told-promises",
    "on": {"types": ["EVENT_TYPE_EXPECTATION_RESOLVED"]},
    "condition": "event.fact.outcome == 'broken' && event.fact.team == 'team:told'",
    "reason": "{{ event.fact.team }} did not keep it",
    "notices": [
        {
            "reference": "team:told",
            "kind": "NOTIFICATION_KIND_TASK",
            "title": "Not kept: {{ event.fact.promise }}",
        }
    ],
}


async def until_says(running: Installation, words: str, *arguments: str) -> Finished:
    """Runs a command until it says some words, as a person does who waits for something."""
    async with asyncio.timeout(30):
        while words not in (done := await running.run(*arguments)).words:
            pass
    return done


async def test_a_score_is_shown_listed_and_explained(running: Installation, tmp_path: Path) -> None:
    days = [datetime.now(UTC) - timedelta(days=ago) for ago in (3, 40)]
    rows = "order,email,at,total\n" + "".join(
        f"S-{number},klara@example.com,{day:%Y-%m-%dT%H:%M:%SZ},20\n"
        for number, day in enumerate(days)
    )
    assert (await imported(running, tmp_path, rows)).code == 0
    explained = await until_says(running, "orders 2", "explain", "klara@example.com")
    assert explained.words.count("✓ the score") == 2
    assert "Order S-0 placed" in explained.out
    [score] = re.findall(r"email klara@example\.com (\d+\.\d\d) ● \w+", explained.words)

    one = await running.run("score", "klara@example.com")
    assert f"{score} ● " in one.words
    assert "model default v1" in one.words
    before = await running.run("score", "klara@example.com", "--as-of", "2020-01-01")
    assert " 0.00 " in before.words
    listed = await running.run("scores", "--limit", "500")
    assert f"email klara@example.com {score}" in listed.words
    ids = await running.run("explain", "klara@example.com", "--ids", "--limit", "1")
    assert len(UUID.findall(ids.out)) == 1
    assert "and 1 more" in ids.words


async def test_a_promise_that_breaks_is_listed_told_read_and_explained(
    running: Installation, tmp_path: Path
) -> None:
    path = tmp_path / "rule.json"
    path.write_text(json.dumps(RULE))
    published = await running.tell("publish", str(path), "--by", "ada")
    assert "✓ rule told-promises v1" in published.words
    again = await running.run("publish", str(path))
    assert "= rule told-promises v1 as it was" in again.words
    rules = await running.run("rules")
    assert "told-promises" in rules.out
    assert "by ada" in rules.words

    watching = await running.start("inbox", "team:told", "--watch")
    given = await running.run(
        "promise", "give", "lars@example.com", "Somebody calls",
        "--due", "1s", "--team", "team:told", "--by", "agent-7",
    )  # fmt: skip
    assert given.code == 0, given.err
    assert "□ promised until today" in given.words

    inbox = await until_says(running, "1 unread", "inbox", "team:told", "--read")
    assert "□ task Not kept: Somebody calls" in inbox.words
    assert "1 marked as read" in inbox.words
    [notification] = UUID.findall(inbox.out)
    await until_says(running, "all read", "inbox", "team:told")
    assert watching.stdout
    async with asyncio.timeout(30):
        while b"Not kept: Somebody calls" not in (line := await watching.stdout.readline()):
            assert line, "it ended"
    os.killpg(watching.pid, signal.SIGINT)
    assert (await finished(watching)).code == 130

    expected = await running.run("expectations", "lars@example.com", "--team", "team:told")
    assert "✗ broken Somebody calls" in expected.words
    why = await running.run("why", notification)
    assert "✓ matched told-promises v1 team:told did not keep it" in why.words
    assert "team:told · decided today" in why.words
    assert "inbox ✓ chosen" in why.words


async def test_a_promise_can_be_moved_kept_and_withdrawn_once(running: Installation) -> None:
    kept = await running.run(
        "promise", "give", "mona@example.com", "A part arrives", "--due", "2h", "--id", "part-1"
    )
    assert re.search("□ promised until .* in [12] h", kept.words)
    moved = await running.run("promise", "renegotiate", "part-1", "--due", "3d")
    assert "↻ moved to" in moved.words
    done = await running.tell("promise", "keep", "part-1", "--reason", "It arrived")
    assert "✓ kept" in done.words
    twice = await running.run("promise", "withdraw", "part-1")
    assert twice.code == 1
    assert "EXPECTATION_ENDED" in twice.err
    nothing = await running.run("expectations", "mona@example.com")
    assert "nothing is open or broken" in nothing.words
    every = await running.run("expectations", "mona@example.com", "--all")
    assert "✓ kept A part arrives It arrived" in every.words


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("score", "nobody@example.com"), 1, "No customer is known by that."),
        (("scores", "--model", "none"), 1, "MODEL_NOT_FOUND"),
        (("why", "0" * 8 + "-0000-7000-8000-" + "0" * 12), 1, "EVENT_NOT_FOUND"),
        (("promise", "keep", "none"), 1, "EXPECTATION_NOT_FOUND"),
        (("publish", "README.md"), 2, "Nothing was published."),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, tuple) else "",
)
async def test_what_cannot_be_done_is_said_without_a_traceback(
    running: Installation, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    done = await running.run(*arguments)
    assert done.code == code
    assert complaint in done.words
    assert "Traceback" not in done.words
