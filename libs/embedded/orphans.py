"""Processes of an earlier server that still end when the next one is to start on their data."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

PATIENCE: Final = 5.0
"""Seconds they get to end by themselves before they are asked, then as many before they are killed.
"""


async def await_orphans(program: str, mark: str, first: signal.Signals) -> None:
    """Returns once no process of a server is left.

    When our process is killed, its servers get a signal and take a moment to end; when PostgreSQL's
    main process is killed, its back ends do. Elsewhere than on Linux nothing is known of them, and
    a start among them fails and is tried again.

    Args:
        program: How the name of their program begins.
        mark: A text that only their command lines hold.
        first: The signal that asks them, if they do not end within 5 s.
    """
    clock = asyncio.get_running_loop().time
    started = clock()
    for signal_now, until in ((None, PATIENCE), (first, 2 * PATIENCE), (signal.SIGKILL, None)):
        left = processes_of(program, mark)
        for pid in left if signal_now else []:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal_now or 0)
        while left and (until is None or clock() - started < until):
            await asyncio.sleep(0.02)
            left = processes_of(program, mark)
        if not left:
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
