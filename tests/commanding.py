"""`touchline` commands as forks of a process that has imported their code once.

Each is still a process with an environment, a directory and an exit code of its own, but without
the 0.7 s of work for importing that `bin/touchline` begins with.

    code, out, err = await run_command(["status"], environment, directory, 60)
"""

import asyncio
import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from select import select
from typing import Final, NoReturn

from libs.cli.stack import CHECKOUT

_SOCKET: Final = "commands.sock"


async def run_command(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, within: float
) -> tuple[int, str, str]:
    """Runs `touchline` with arguments, and returns its exit code, output and errors.

    Raises:
        TimeoutError: It did not end within so many seconds; it was killed.
    """
    with tempfile.TemporaryDirectory() as kept:
        files = [Path(kept, name) for name in ("out", "err")]
        reader, writer = await asyncio.open_unix_connection(_forker() / _SOCKET)
        task = {
            "arguments": [*arguments],
            "environment": {**environment},
            "cwd": str(cwd),
            "files": [*map(str, files)],
        }
        try:
            writer.write(json.dumps(task).encode() + b"\n")
            pid = int(await reader.readline())
            try:
                code = int(await asyncio.wait_for(reader.readline(), within))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
        finally:
            writer.close()
        out, err = (file.read_text() for file in files)
        return code, out, err


@cache
def _forker() -> Path:
    """Starts the process that forks, and returns its directory; both end with this process."""
    directory = Path(tempfile.mkdtemp())
    foreign = ("TOUCHLINE_", "OTEL_", "FORCE_COLOR", "NO_COLOR")
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.commanding", str(directory)],
        stdin=subprocess.PIPE,  # its end tells that this process has ended
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        env=inherited | {"COLUMNS": "100"},
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline() == b"listening\n"
    atexit.register(process.communicate)  # closes its stdin and waits
    return directory


def _serve(directory: Path) -> None:
    from libs.cli.__main__ import app  # noqa: F401 - what this process is for

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / _SOCKET))
        server.listen()
        print("listening", flush=True)  # noqa: T201 - to the process that started this one
        while sys.stdin not in select([sys.stdin, server], [], [])[0]:
            connection, _ = server.accept()
            if os.fork() == 0:
                _wait_for_command(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    shutil.rmtree(directory)


def _wait_for_command(connection: socket.socket) -> NoReturn:
    with connection.makefile("rw") as lines, contextlib.suppress(BrokenPipeError):
        task = json.loads(lines.readline())
        if (pid := os.fork()) == 0:
            _be_command(**task)
        print(pid, file=lines, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(code, file=lines, flush=True)
    os._exit(0)


def _be_command(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: str, files: Sequence[str]
) -> NoReturn:
    from libs.cli.__main__ import app  # imported before the fork

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["touchline", *arguments]
    code: object = 1
    try:
        app(prog_name="touchline")
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
