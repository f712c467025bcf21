"""Processes stopped where they stand, as by SIGSTOP, a swapping machine or a paused container."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from libs.embedded.orphans import processes_of
from libs.embedded.postgres_server import _cluster_name
from tests.servers import OwnPostgres


def postgres_processes(own: OwnPostgres) -> list[int]:
    """Lists all processes of a server, its main process first."""
    main = own.process.pid
    mark = _cluster_name(own.server.data)
    return [main, *(pid for pid in processes_of("postgres", mark) if pid != main)]


def titled(pids: Iterable[int], *titles: str) -> list[int]:
    """Returns those of PostgreSQL's processes that do one of some tasks, such as `walwriter`."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            if any(title in command for title in titles):
                found.append(pid)
    return found


@contextlib.contextmanager
def all_stopped(own: OwnPostgres) -> Iterator[None]:
    """Stops a whole server at one moment; when the block begins, none of its processes runs."""
    stopped: list[int] = []
    try:
        # The main process first, so that no new ones come.
        while more := [pid for pid in postgres_processes(own) if pid not in stopped]:
            stop(more)
            stopped += more
        until_stopped(stopped)
        yield
    finally:
        go_on(stopped)


def stop(pids: Collection[int]) -> None:
    """Sends SIGSTOP to processes; those that have ended are no matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)


def go_on(pids: Collection[int]) -> None:
    """Lets stopped processes go on."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def until_stopped(pids: Collection[int], within: float = 10.0) -> None:
    """Returns once all processes have stopped; one that waits for the disk stops a little later."""
    end = time.monotonic() + within
    while running := [pid for pid in pids if _state(pid) not in "TZ"]:
        if time.monotonic() > end:
            raise TimeoutError(f"processes {running} do not stop")
        time.sleep(0.001)


async def frozen(pid: int, seconds: float) -> None:
    """Stops one process for a while."""
    stop([pid])
    try:
        await asyncio.sleep(seconds)
    finally:
        go_on([pid])


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
