"""`touchline rebuild` and `touchline projections` beside a running installation.

Every test leaves each projection running, with one generation that answers.
"""

import asyncio
import os
import pty
import re
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from libs.cli.installation import running_database
from libs.embedded import database_url_for
from tests.orders import imported
from tests.running import TOUCHLINE, Finished, Installation, finished

ROWS = "order,email,at,total\n" + "".join(
    f"R-{number},rebuilt.{number % 7}@example.com,2024-03-01T10:{number % 60:02}:00Z,{number}\n"
    for number in range(200)
)


async def rows_imported(running: Installation, folder: Path) -> None:
    done = await imported(running, folder, ROWS)
    assert done.code == 0, done.words


async def told(running: Installation, line: str, within: float = 120) -> Finished:
    """What a command says that goes well."""
    done = await running.run(*shlex.split(line), within=within)
    assert done.code == 0, done.words
    return done


async def refused(running: Installation, line: str, code: int = 1) -> str:
    """What a command says that is refused, without a traceback."""
    done = await running.run(*shlex.split(line), within=120)
    assert done.code == code, done.words
    assert "Traceback" not in done.words
    return done.words


async def dropped(running: Installation, projection: str, generation: int) -> None:
    """Drops a generation; who still reads its tables is waited for."""
    async with asyncio.timeout(60):
        while True:
            done = await running.run("projections", "drop", *projection.split(), str(generation))
            if done.code == 0:
                return
            assert "Try again." in done.words


async def rows_of(running: Installation, service: str, projection: str) -> list[str]:
    """The line of a projection in the list, and those of its other generations below."""
    listed = (await told(running, "projections")).out.splitlines()
    services = [index for index, line in enumerate(listed) if line[1:2].strip()]
    begin = next(index for index in services if listed[index].split()[:1] == [service])
    lines = [" ".join(line.split()) for line in listed[begin + 1 :]]
    at = next(index for index, line in enumerate(lines) if line.startswith(f"{projection} "))
    others = lines[at + 1 :]
    rest = next((index for index, line in enumerate(others) if not line[:1].isdigit()), len(others))
    return [lines[at], *others[:rest]]


async def answering(running: Installation, service: str, projection: str) -> int:
    """The generation that answers."""
    return int((await rows_of(running, service, projection))[0].split()[1])


def generation_in(done: Finished) -> int:
    """The generation that a rebuild began."""
    found = re.search(r"as generation (\d+)", done.words)
    assert found, done.words
    return int(found[1])


@asynccontextmanager
async def database(running: Installation, name: str) -> AsyncIterator[asyncpg.Connection]:
    async with running_database(running.home, {}) as url:
        connection = await asyncpg.connect(database_url_for(url, name))
        yield connection
        await connection.close()


async def test_a_view_is_rebuilt_and_switched_twice_and_rolled_back_while_it_is_read(
    running: Installation, tmp_path: Path
) -> None:
    await rows_imported(running, tmp_path)
    before = (await told(running, "timeline rebuilt.1@example.com")).out
    first = await answering(running, "profile", "timeline")

    generations = [first]
    for _ in range(2):
        rebuilt = await told(running, "rebuild profile timeline --workers 2 --switch")
        generations.append(generation_in(rebuilt))
        former, latest = generations[-2:]
        assert "filling" in rebuilt.out
        assert f"generation {latest} is equal to {former}" in rebuilt.words
        assert f"generation {latest} answers, from position" in rebuilt.words
        assert "projections roll-back profile timeline" in rebuilt.words
        assert await answering(running, "profile", "timeline") == latest
        assert (await told(running, "timeline rebuilt.1@example.com")).out == before

    _, former, latest = generations
    back = await told(running, "projections roll-back profile timeline")
    assert f"generation {former} answers again" in back.words
    own, *others = await rows_of(running, "profile", "timeline")
    assert own.split()[1] == str(former)
    assert any(line.startswith(f"{latest} ") and "retired" in line for line in others)
    assert (await told(running, "timeline rebuilt.1@example.com")).out == before

    for line in others:
        await dropped(running, "profile timeline", int(line.split()[0]))
    assert len(await rows_of(running, "profile", "timeline")) == 1


async def test_a_rebuild_by_steps_is_begun_once_watched_compared_switched_and_dropped(
    running: Installation, tmp_path: Path
) -> None:
    await rows_imported(running, tmp_path)
    first = await answering(running, "profile", "consents")
    begun = await told(running, "rebuild profile consents")
    new = generation_in(begun)
    assert f"generation {new} follows the line" in begun.words
    assert "projections compare profile consents" in begun.words

    twice = await refused(running, "rebuild profile consents")
    assert f"Generation {new} of consents is being built, or waits to be switched to" in twice
    assert "rebuild profile consents --watch" in twice
    assert "[REBUILD_UNDER_WAY]" in twice
    assert "[GENERATIONS_DIFFER]" in await refused(running, "projections switch profile consents")

    watched = await told(running, "rebuild profile consents --watch --compare")
    assert f"generation {new} is equal to {first}" in watched.words
    assert "following, equal at" in (await rows_of(running, "profile", "consents"))[1]
    await told(running, "projections switch profile consents")
    assert await answering(running, "profile", "consents") == new
    assert "[GENERATION_NOT_READY]" in await refused(
        running, f"projections drop profile consents {new}"
    )
    await dropped(running, "profile consents", first)
    assert "[GENERATION_NOT_FOUND]" in await refused(
        running, "projections roll-back profile consents"
    )


async def test_what_differs_is_shown_and_is_switched_to_only_when_that_is_meant(
    running: Installation, tmp_path: Path
) -> None:
    await rows_imported(running, tmp_path)
    first = await answering(running, "profile", "timeline")
    position, event_id = await changed_by_hand(running, first)

    begun = await refused(running, "rebuild profile timeline --switch")
    new = int(re.findall(r"as generation (\d+)", begun)[0])
    assert f"generation {new} is not equal to {first}, which answers: 2 rows differ" in begun
    assert f"position {position:,}, event {event_id}: recorded_at_us" in begun
    assert "live (" in begun
    assert "new (" in begun
    assert f"{first} answers as before" in begun
    assert "2 rows differed at" in (await rows_of(running, "profile", "timeline"))[1]
    assert await answering(running, "profile", "timeline") == first

    assert "2 rows differ" in await refused(running, "projections compare profile timeline")
    switch = await refused(running, "projections switch profile timeline")
    assert "[GENERATIONS_DIFFER]" in switch
    assert "switch profile timeline --accept-differences" in switch
    await told(running, "rebuild profile timeline --watch --switch --accept-differences")
    assert await answering(running, "profile", "timeline") == new
    await dropped(running, "profile timeline", first)
    assert "profile/timeline as folded anew" in (await told(running, "verify")).words


async def changed_by_hand(running: Installation, generation: int) -> tuple[int, str]:
    """Changes a row of the timeline, and returns the position and id of its event."""
    async with database(running, "touchline_profile") as connection:
        schema = await connection.fetchval(
            "SELECT schema_name FROM projection_generations WHERE id = $1", generation
        )
        row = await connection.fetchrow(
            f"UPDATE {schema}.timeline SET recorded_at_us = recorded_at_us + 1"
            f" WHERE position = (SELECT max(position) FROM {schema}.timeline)"
            " RETURNING position, event_id"
        )
    assert row
    return row["position"], str(row["event_id"])


async def test_a_paused_projection_is_read_as_it_stands_until_it_is_resumed(
    running: Installation, tmp_path: Path
) -> None:
    await rows_imported(running, tmp_path)
    why = "the disk is being moved"
    for _ in range(2):  # a second time says the same
        paused = await told(running, f"projections pause profile timeline --reason '{why}'")
        assert "paused at position" in paused.words
    try:
        assert "◌ paused" in (await rows_of(running, "profile", "timeline"))[0]
        for command in ("projections", "status"):
            assert f"profile/timeline is paused: {why}" in (await told(running, command)).words
        order = "order,email,at,total\nP-1,paused@example.com,2024-03-01T10:00:00Z,1\n"
        done = await imported(running, tmp_path, order, folded=False)
        assert done.code == 0, done.words
        assert "P-1" not in (await running.run("timeline", "paused@example.com")).out
    finally:
        for _ in range(2):
            await told(running, "projections resume profile timeline")
    async with asyncio.timeout(30):
        while "P-1" not in (await running.run("timeline", "paused@example.com")).out:
            pass
    assert "● live" in (await rows_of(running, "profile", "timeline"))[0]


async def test_everything_of_a_service_is_rebuilt_one_after_the_other(
    running: Installation, tmp_path: Path
) -> None:
    await rows_imported(running, tmp_path)
    done = await told(running, "rebuild engagement all --switch", within=240)
    rebuilt = re.findall(r"engagement/(\S+) as generation (\d+)", done.words)
    names = [name for name, _ in rebuilt]
    assert "identity_graph" in names
    assert any(name.startswith("scores:") for name in names)
    assert "score_levels" not in names  # a reactor
    for name, generation in rebuilt:
        assert await answering(running, "engagement", name) == int(generation)
    await told(running, "score rebuilt.1@example.com")


async def test_who_stops_watching_stops_no_rebuild(running: Installation, tmp_path: Path) -> None:
    await rows_imported(running, tmp_path)
    process = await running.start("rebuild", "profile", "identity_graph", "--compare")
    assert process.stdout
    begun = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    os.killpg(process.pid, signal.SIGINT)
    ended = await finished(process)
    assert ended.code == 130
    assert "The rebuild goes on" in ended.words
    assert "rebuild profile identity_graph --watch" in ended.words
    assert "Traceback" not in ended.words
    watched = await told(running, "rebuild profile identity_graph --watch --compare")
    assert begun == watched.out.splitlines()[0] + "\n"
    assert "is equal to" in watched.words
    number = generation_in(watched)
    await dropped(running, "profile identity_graph", number)


@pytest.mark.parametrize(
    ("line", "code", "complaint"),
    [
        ("rebuild profil timeline", 1, "these have: profile, engagement, notification"),
        ("rebuild profile timelines", 1, "There is no projection profile/timelines."),
        ("rebuild notification rules", 1, "it is not rebuilt. [INVALID_REQUEST]"),
        ("rebuild profile timeline --workers 3", 2, "Give 1, 2, 4 or 8."),
        ("rebuild profile timeline --watch", 1, "[GENERATION_NOT_FOUND]"),
        ("rebuild profile timeline --watch --workers 2", 2, "has its workers"),
        ("rebuild profile timeline --accept-differences", 2, "It goes with --switch."),
        ("rebuild profile", 2, "Missing argument"),
        ("projections compare profile timeline", 1, "[GENERATION_NOT_FOUND]"),
        ("projections compare profile timeline 999999", 1, "[GENERATION_NOT_FOUND]"),
        ("projections switch profile timeline", 1, "[GENERATION_NOT_FOUND]"),
        ("projections switch profile nothing", 1, "There is no projection profile/nothing."),
        ("projections drop profile timeline 999999", 1, "[GENERATION_NOT_FOUND]"),
        ("projections drop profile timeline", 2, "Missing argument"),
        ("projections pause profile nothing", 1, "There is no projection profile/nothing."),
        ("projections resume profile nothing", 1, "There is no projection profile/nothing."),
        ("projections restart profile timeline", 2, "No such command"),
    ],
)
async def test_what_cannot_be_done_says_why_and_what_to_do(
    running: Installation, line: str, code: int, complaint: str
) -> None:
    said = await refused(running, line, code)
    assert complaint in said
    for rpc in ("ListProjections", "RebuildProjection", "CompareGenerations"):
        assert rpc not in said


async def test_the_list_is_printed_once_where_nobody_watches(running: Installation) -> None:
    watched = await told(running, "projections --watch")
    assert watched.out.count("identity_graph") == 3
    assert "\x1b" not in watched.out


async def test_on_a_terminal_the_list_is_refreshed_in_place_until_ctrl_c(
    running: Installation,
) -> None:
    terminal, its_end = pty.openpty()
    environment = {**running.environment, "TERM": "xterm-256color", "LINES": "50"}
    process = await asyncio.create_subprocess_exec(
        TOUCHLINE, "projections", "--watch",
        stdin=its_end, stdout=its_end, stderr=its_end, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(its_end)
    os.set_blocking(terminal, False)
    seen = b""
    try:
        async with asyncio.timeout(60):
            while seen.count(b"identity_graph") < 9 or b"/s" not in seen:
                await asyncio.sleep(0.1)
                try:
                    seen += os.read(terminal, 1 << 16)
                except BlockingIOError:
                    assert process.returncode is None
            os.killpg(process.pid, signal.SIGINT)
            assert await process.wait() == 130
    finally:
        if process.returncode is None:
            process.kill()
        os.close(terminal)
    assert b"\x1b[1A" in seen  # it went up again, and wrote over what was there
    assert b"Traceback" not in seen


async def test_without_services_it_says_how_to_start_them(tmp_path: Path) -> None:
    for line in ("projections", "rebuild profile timeline"):
        done = await Installation(tmp_path / "home").run(*shlex.split(line))
        assert done.code == 3
        assert "touchline up" in done.err
