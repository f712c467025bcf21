"""Processes of an earlier server that still end when the next one is to start on their data."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

PATIENCE: Final = 2.0
"""Seconds they have to end by themselves, then again after each signal."""


async def await_orphans(program: str, mark: str, asking: signal.Signals) -> None:
    """Returns once no process of a server is left.

    When our process is killed, its servers get a signal and take a moment to end; when PostgreSQL's
    main process is killed, its back ends do. Elsewhere than on Linux nothing is known of them, and
    a start among them fails and is tried again.

    Args:
        program: How the name of their program begins.
        mark: A text that only their command lines hold.
        asking: The signal they get if they do not end within 2 s by themselves.
    """
    for reminder in (None, asking, signal.SIGKILL):
        if reminder:
            for pid in processes_of(program, mark):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, reminder)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                # Nothing announces the end of a process that is not our child.
                while processes_of(program, mark):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                return


def processes_of(program: str, mark: str) -> list[int]:
    """Lists the running processes whose program begins so and whose command line holds the mark."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes()
        except OSError:
            continue
        name = Path(command.split(b"\0")[0].decode(errors="replace").split(":")[0]).name
        if name.startswith(program) and mark.encode() in command:
            found.append(int(directory.name))
    return found


def may_work_in(pid: int, directory: Path) -> bool:
    """Says whether a process runs with this working directory; True as well if that is a secret."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    except OSError:
        return True
