"""`touchline demo` tells its story, and leaves nothing personal in the clear on the disk."""

import os
import re
import subprocess
import time
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest

from libs.cli import story
from libs.cli.population import personal_strings, population
from libs.cli.stack import DEFAULTS, SERVICES
from libs.cli.story import ending
from libs.embedded import database_url_for, run_servers
from libs.embedded.home import hold
from libs.eventstore.connection import connect_nats
from libs.eventstore.feed import STREAM
from tests.running import Finished, Installation, finished
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts


@pytest.fixture(scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Installation, Finished, float]:
    """A demo that has ended: where, what it said, and how many seconds it took."""
    installation = Installation(tmp_path_factory.mktemp("demo") / "home")
    began = time.monotonic()
    done = await finished(await installation.start("demo"), 100)
    return installation, done, time.monotonic() - began


def test_the_demo_tells_the_story_within_a_minute(
    told: tuple[Installation, Finished, float],
) -> None:
    _, done, seconds = told
    assert done.code == 0, done.err
    assert seconds < 60
    assert "events of 301 customers" in done.out
    for told_of in (
        story.CUSTOMER, "phone", "email", "mastodon", "community", "order", "use",
        "Promise broken: A replacement controller arrives",
    ):  # fmt: skip
        assert told_of in done.words
    for view in ("Sales", "Service", "Marketing", "Customer"):
        assert f" {view} " in done.out.split("Four views of the same events")[1]
    assert "Everything holds" in done.out.split("Is it all there?")[1]


def test_the_story_ends_with_a_score_explained_a_broken_promise_told_and_the_reasons(
    told: tuple[Installation, Finished, float],
) -> None:
    _, done, _ = told
    parts = [
        " ".join(part.split())
        for part in re.split("─+ (?:Every|A promise|Why was|And why|Is it)", done.out)
    ]
    _, score, broken, why, why_not, _ = parts
    assert score.count("✓ the score") == 2
    assert "✗" not in score.replace("✗ promise", "")

    assert f"✗ broken {ending.PROMISE}" in broken
    assert f"To {ending.TEAM_EMAIL}" in broken
    assert f"Subject Call {story.CUSTOMER}: a promise is broken" in broken
    assert f"Not kept: {ending.PROMISE}" in broken

    assert f"Promise broken: {ending.PROMISE}" in why
    assert "✓ matched promise-broken v1" in why
    assert f"{ending.TEAM} · decided today" in why
    assert "✓ sent attempt 1" in why

    assert "public-complaint v1" in why_not
    assert "event.fact.intent == 'complaint'" in why_not
    assert "Nobody was told." in why_not


def test_no_file_of_the_demo_holds_anything_personal(
    told: tuple[Installation, Finished, float], tmp_path: Path
) -> None:
    """grep, with each email, phone number, handle, name and text of all customers.

    Searched as bytes: PostgreSQL's tables, indexes and log of changes, the stream of NATS, the logs
    of all processes, secrets and settings.
    """
    installation, done, _ = told
    strings = everything_personal()
    home = installation.home / "demo"
    searched = [path for path in home.rglob("*") if path.is_file()]
    for part in (
        "postgres/base", "postgres/pg_wal", "nats/jetstream",
        "log/postgres.log", "log/nats.log", *(f"log/{name}.log" for name in DEFAULTS),
    ):  # fmt: skip
        assert any(path.is_relative_to(home / part) for path in searched)
    assert holding(strings, home, tmp_path) == []

    # The same search does find what is there.
    (tmp_path / "printed").mkdir()
    (tmp_path / "printed" / "demo.txt").write_text(done.out)
    assert holding(strings, tmp_path / "printed", tmp_path) == ["demo.txt"]


async def test_nothing_personal_hides_in_what_the_servers_compress(
    told: tuple[Installation, Finished, float], tmp_path: Path
) -> None:
    """The same search, through each row of every table and each message of the stream, unpacked."""
    home = told[0].home / "demo"
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    async with run_servers(home, environment={}) as servers:
        for one in SERVICES:
            url = database_url_for(servers.database_url, one.database)
            to = unpacked / one.name
            to.mkdir()
            assert await unpack_tables(url, to) > 2_000
        assert await unpack_stream(servers.nats_url, unpacked) > 0
    assert holding(everything_personal(), unpacked, tmp_path) == []


async def unpack_tables(url: str, to: Path) -> int:
    """Writes every table of a database, bytes as they are, and returns how many rows there are."""
    connection = await asyncpg.connect(url)
    tables = await connection.fetch(
        "SELECT schemaname, tablename FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    rows = 0
    for schema, table in tables:
        status = await connection.copy_from_table(
            table, schema_name=schema, output=to / f"{schema}.{table}", format="binary"
        )
        rows += int(status.removeprefix("COPY "))
    await connection.close()
    return rows


async def unpack_stream(url: str, to: Path) -> int:
    """Writes every message of the feed, and returns how many there are."""
    async with connect_nats(url, "test") as nats:
        jetstream = nats.jetstream()
        state = (await jetstream.stream_info(STREAM)).state
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await jetstream.get_msg(STREAM, sequence)
            parts = (message.subject or "", str(message.headers))
            text = "\n".join(parts).encode() + b"\n" + (message.data or b"")
            (to / f"message-{sequence}").write_bytes(text)
        return state.messages


def everything_personal() -> set[str]:
    """Returns all that the demo's events tell of its customers, as it stands in them."""
    now = datetime.now().astimezone()
    promised = ev.Event(expectation_set=facts.ExpectationSet(promise=ending.PROMISE))
    last = [promised, ending.is_called_in_time(story.Teller(story.SEED, now))]
    strings = personal_strings([*story.story(now), *population(now), *last])
    assert len(strings) > 2500
    assert {story.CUSTOMER, ending.PROMISE} <= strings
    return strings


def holding(strings: set[str], directory: Path, patterns: Path) -> list[str]:
    """Returns the files below a directory that hold one of the strings."""
    assert not any("\n" in text or not text for text in strings)
    file = patterns / "patterns"
    file.write_text("".join(f"{text}\n" for text in sorted(strings)), "utf-8")
    grep = ("grep", "--recursive", "--text", "--files-with-matches", "--fixed-strings")
    done = subprocess.run(
        (*grep, f"--file={file}", "."),
        cwd=directory, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert not done.stderr
    return sorted(path.removeprefix("./") for path in done.stdout.splitlines())


async def test_a_demo_in_use_is_never_emptied(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "home")
    with hold(installation.home / "demo") as home:
        (home / "precious").write_text("data")
        refused = await installation.run("demo")
    assert refused.code == 1
    assert f"Touchline already runs on {home} (process {os.getpid()})" in refused.err
    assert (home / "precious").exists()


async def test_files_that_are_not_a_demos_are_never_removed(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "home")
    precious = installation.home / "demo" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("data")
    refused = await installation.run("demo")
    assert refused.code == 1
    assert "not a demo's" in refused.err
    assert "Traceback" not in refused.err
    assert precious.exists()
