"""Children: how they start, what is heard of them, how they end, how they come back."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from libs.embedded import Child, Process, StartFailed, start, supervise, supervise_all
from libs.embedded.process import spawn
from tests.waiting import until

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('no'));"


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-u", "-c", code)


async def test_lines_of_both_outputs_are_heard_kept_and_logged(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    code = r"import sys; print('one'); print('two', file=sys.stderr); sys.stdout.write('th\u00e9')"
    log = tmp_path / "log" / "child.log"
    child = Child("child", python(code), log=log, on_line=lambda *line: heard.append(line))
    process = await spawn(child)
    await process.wait()
    assert heard == [("child", "one"), ("child", "two"), ("child", "thé")]
    assert log.read_text() == "one\ntwo\nthé\n"
    assert process.ended == "it ended with exit status 0"


async def test_a_line_without_end_is_handed_on_in_pieces() -> None:
    heard: list[str] = []
    child = Child(
        "child", python("print('x' * 300_000)"), on_line=lambda _, line: heard.append(line)
    )
    await (await spawn(child)).wait()
    assert "".join(heard) == "x" * 300_000
    assert len(heard) > 1


async def test_a_listener_that_raises_does_not_block_the_child() -> None:
    calls = []

    def raise_once(_: str, line: str) -> None:
        calls.append(line)
        raise OSError("the terminal is gone")

    process = await spawn(Child("child", python("print('x\\n' * 100_000)"), on_line=raise_once))
    async with asyncio.timeout(30):
        await process.wait()
    assert calls == ["x"]
    assert process.ended == "it ended with exit status 0"


async def test_a_large_log_makes_room_for_a_new_one(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    log.touch()
    os.truncate(log, 17 * 2**20)
    await (await spawn(Child("child", python("print('new')"), log=log))).wait()
    assert log.read_text() == "new\n"
    assert log.with_name("child.log.1").stat().st_size == 17 * 2**20


async def test_a_start_that_ends_says_how_and_shows_the_last_lines() -> None:
    code = "import sys; [print('line', n) for n in range(30)]; sys.exit(3)"
    with pytest.raises(StartFailed) as failed:
        await start(Child("child", python(code)), _never)
    assert failed.value.step == "start child"
    assert failed.value.lines == tuple(f"line {n}" for n in range(10, 30))
    text = str(failed.value)
    assert text.startswith("start child failed: it ended with exit status 3\nIts last lines:\n")
    assert text.endswith("    line 29")


async def test_who_ends_its_start_to_be_started_again_is(tmp_path: Path) -> None:
    """A service that finds that its views must be folded anew ends, whenever it finds it."""
    code = f"""
import pathlib, sys, time
been, here = pathlib.Path({str(tmp_path)!r}, "been"), pathlib.Path({str(tmp_path)!r}, "here")
if not been.exists():
    been.touch()
    sys.exit(75)
here.touch()
time.sleep(60)
"""

    async def answers() -> bool:
        return (await asyncio.to_thread(os.listdir, tmp_path)).count("here") == 1

    await (await start(Child("child", python(code)), answers)).stop()
    with pytest.raises(StartFailed, match="it ended with exit status 75"):
        await start(Child("child", python("import sys; sys.exit(75)")), _never)


async def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(StartFailed, match="can't run /no/such: No such file or directory"):
        await start(Child("child", ("/no/such",)), _never)


async def test_a_start_without_an_answer_is_stopped() -> None:
    child = Child("child", python("import os, time; print(os.getpid()); time.sleep(60)"))
    with pytest.raises(StartFailed) as failed:
        await start(child, _never, within=0.5)
    assert failed.value.step == "wait until child answers"
    assert failed.value.reason == "no answer within 0.5 s"
    assert not _runs(int(failed.value.lines[0]))


async def test_who_is_at_work_before_it_answers_is_given_time() -> None:
    ends = time.monotonic() + 2

    async def answers() -> bool:
        return time.monotonic() > ends

    child = Child("child", python("import time; time.sleep(60)"))
    process = await start(child, answers, 1, prepares=lambda: time.monotonic() < ends)
    assert time.monotonic() > ends
    await process.stop()
    with pytest.raises(StartFailed, match=r"no answer within 0\.5 s"):
        await start(child, _never, 0.5, prepares=lambda: time.monotonic() < ends)


async def test_who_ignores_the_signal_is_killed_after_its_grace() -> None:
    child = Child("child", python(f"{STUBBORN}\nwhile True: time.sleep(1)"), grace=0.3)
    process = await spawn(child)
    await asyncio.sleep(0.3)
    await process.stop()
    assert process.ended == "it was ended by SIGKILL"
    assert list(process.lines) == ["no"]


async def test_signals_come_in_their_order() -> None:
    signals = (signal.SIGTERM, signal.SIGINT)
    code = f"{STUBBORN} print('ready')\nwhile True: time.sleep(1)"
    process = await spawn(Child("child", python(code), stop_signals=signals, grace=0.3))
    await until(lambda: "ready" in process.lines)
    await process.stop()
    assert process.ended == "it was ended by SIGINT"


async def test_output_held_open_by_a_grandchild_does_not_delay_the_end() -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '30']).pid)"
    process = await spawn(Child("child", python(code)))
    before = time.monotonic()
    await process.wait()
    assert time.monotonic() - before < 5
    os.kill(int(process.lines[0]), signal.SIGKILL)


async def test_what_crashes_is_started_again_after_growing_pauses() -> None:
    heard: list[str] = []
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    child = Child("child", python(code), on_line=lambda _, line: heard.append(line))
    async with supervise(await spawn(child), lambda: spawn(child)) as supervised:
        await until(lambda: supervised.restarts == 3)
    pauses = [
        f"it was ended by SIGKILL; it is started again in {pause} s" for pause in (0.2, 0.4, 0.8)
    ]
    assert [line for line in heard if "started again" in line][:3] == pauses
    assert heard.count("it runs again") == 3


async def test_a_failed_restart_is_told_and_tried_again() -> None:
    heard: list[str] = []
    child = Child("child", python("input()"), on_line=lambda _, line: heard.append(line))
    healthy = Child("child", python("import time; time.sleep(60)"))
    failures = [StartFailed("start child", "the port is taken")]

    async def start_again() -> Process:
        if failures:
            raise failures.pop()
        return await start(healthy)

    async with supervise(await spawn(child), start_again) as supervised:
        await until(lambda: supervised.restarts == 1)
        assert supervised.process.ended is None
    assert heard[-1] == "start child failed: the port is taken; it is started again in 0.4 s"
    assert supervised.process.ended == "it was ended by SIGTERM"


async def test_of_several_started_at_once_the_last_wave_is_stopped_before_the_first() -> None:
    heard: list[str] = []
    code = (
        "import signal, sys, time; "
        "signal.signal(signal.SIGTERM, lambda *_: (print('stops'), time.sleep(0.2), sys.exit()));"
        "print('runs'); time.sleep(60)"
    )

    def starting(name: str) -> Callable[[], Coroutine[Any, Any, Process]]:
        child = Child(name, python(code), on_line=lambda name, line: heard.append(f"{name} {line}"))
        return partial(start, child, lambda: _true_once(lambda: f"{name} runs" in heard))

    async with supervise_all([starting("owner")], [starting("a"), starting("b")]) as supervised:
        assert sorted(heard) == ["a runs", "b runs", "owner runs"]
        assert [one.process.child.name for one in supervised] == ["owner", "a", "b"]
    assert sorted(heard[3:5]) == ["a stops", "b stops"]
    assert heard[5:] == ["owner stops"]


async def test_when_one_of_several_does_not_start_none_is_left_running() -> None:
    started: list[Process] = []

    async def starts() -> Process:
        started.append(await start(Child("one", python("import time; time.sleep(60)"))))
        return started[0]

    async def fails() -> Process:
        await until(lambda: bool(started))
        raise StartFailed("start other", "the port is taken")

    with pytest.raises(StartFailed, match="start other"):
        async with supervise_all([starts], [fails]):
            pytest.fail("the block must not run")
    assert started[0].ended == "it was ended by SIGTERM"


async def test_one_that_ends_while_others_still_start_is_started_again() -> None:
    owners: list[Process] = []
    child = Child("child", python("import time; time.sleep(60)"))

    async def owner() -> Process:
        owners.append(await start(child))
        return owners[-1]

    async def user() -> Process:
        await until(lambda: bool(owners))
        await owners[0].kill()
        await until(lambda: len(owners) == 2)
        return await start(child)

    async with supervise_all([owner], [user]) as (watched, _):
        await until(lambda: watched.restarts == 1)
    assert owners[1].ended == "it was ended by SIGTERM"


async def _true_once(holds: Callable[[], bool]) -> bool:
    return holds()


async def test_children_end_when_their_parent_is_killed() -> None:
    parent = """
import asyncio, sys
from libs.embedded.process import Child, spawn
async def main():
    process = await spawn(Child("child", (sys.executable, "-c", "import time; time.sleep(60)")))
    print(process.pid, flush=True)
    await process.wait()
asyncio.run(main())
"""
    with _start(parent) as running:
        assert running.stdout
        pid = int(running.stdout.readline())
        await asyncio.sleep(0.3)  # until the child is no longer its own launcher
        assert _runs(pid)
        running.kill()
    await until(lambda: not _runs(pid))


def _start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True)


async def _never() -> bool:
    return False


def _runs(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False
