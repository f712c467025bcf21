"""Child processes: started, listened to, asked whether they answer, and stopped."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Literal

from libs.embedded.errors import StartFailed

RunAs = Literal["plain", "namespace", "nobody"]
OnLine = Callable[[str, str], None]

LAUNCHER: Final = Path(__file__).resolve().with_name("launch.py")
LINES_KEPT: Final = 20
LONGEST_LINE: Final = 64 * 1024
LARGEST_LOG: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Child:
    """A program to run under this process.

    Attributes:
        name: What people call it: `PostgreSQL`, `ingestion`.
        argv: The program and its arguments.
        env: Its whole environment; None: that of this process.
        cwd: Its working directory; None: that of this process.
        run_as: `plain`: as this process; else how a program that refuses root is run.
        stop_signal: Asks it to end; it gets the same one when this process dies.
        grace: Seconds between that signal and SIGKILL.
        log: File its lines are appended to; None: no file. One file of up to 16 MiB and one
            older are kept.
        on_line: Called with the name and each line of its standard output and error. Once it
            raises it isn't called again.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    run_as: RunAs = "plain"
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10.0
    log: Path | None = None
    on_line: OnLine | None = None


@dataclass(slots=True)
class Process:
    """A child that was started.

    Attributes:
        child: What it runs.
        lines: Its last 20 lines.
    """

    child: Child
    lines: deque[str] = field(init=False, default_factory=lambda: deque(maxlen=LINES_KEPT))
    _process: asyncio.subprocess.Process = field(init=False)
    _listening: asyncio.Task[None] = field(init=False)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def ended(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self._process.returncode
        if code is None:
            return None
        if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it ended with exit status {code}"

    async def wait(self) -> None:
        """Returns once it has ended and its last lines were read."""
        await self._process.wait()
        # What it started may outlive it and hold its output open; those lines can wait no longer.
        await asyncio.wait([self._listening], timeout=0.5)

    async def kill(self) -> None:
        """Ends it with SIGKILL, as a crash would."""
        self._signal(signal.SIGKILL)
        await self.wait()

    async def stop(self) -> None:
        """Asks it to end, waits for its grace, then kills it."""
        self._signal(self.child.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), self.child.grace)
        except TimeoutError:
            self._signal(signal.SIGKILL)
        await self.wait()
        self._listening.cancel()

    def tell(self, line: str) -> None:
        """Hands a line about it to whoever reads its own lines."""
        if self.child.on_line:
            self.child.on_line(self.child.name, line)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _spawn(self) -> None:
        child = self.child
        launcher = (sys.executable, "-I", "-S", str(LAUNCHER))
        death = (str(os.getpid()), str(int(child.stop_signal)), child.run_as)
        ours, theirs = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *launcher, *death, *child.argv,
                stdin=asyncio.subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                env=child.env, cwd=child.cwd,
                # Ctrl-C in a terminal goes to a whole process group: this process alone decides
                # in which order its children end.
                start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._listening = asyncio.create_task(self._listen(ours))

    async def _listen(self, pipe: int) -> None:
        on_line = self.child.on_line
        with _open_log(self.child.log) as log:
            async for line in _lines(pipe):
                self.lines.append(line)
                if log:
                    log.write(line.encode() + b"\n")
                if on_line:
                    try:
                        on_line(self.child.name, line)
                    except Exception as error:  # a reader's fault must not block the child
                        on_line = None
                        self.lines.append(f"(lines are shown no more: {error!r})")


async def spawn(child: Child) -> Process:
    """Starts a child and returns at once.

    Must be called on the main thread's event loop: the child is told about the death of the
    thread that started it.
    """
    process = Process(child)
    await process._spawn()
    return process


async def start(
    child: Child, answers: Callable[[], Awaitable[bool]] | None = None, within: float = 60.0
) -> Process:
    """Starts a child and returns once it answers.

    Args:
        child: What to run.
        answers: Says whether it answers yet; None: it does as soon as it runs.
        within: Seconds it may take.

    Raises:
        StartFailed: It ended or did not answer in time, with its last lines; it was stopped.
    """
    process = await spawn(child)
    try:
        async with asyncio.timeout(within):
            await _until_answering(process, answers)
    except TimeoutError:
        await process.stop()
        step = f"wait until {child.name} answers"
        raise StartFailed(step, f"no answer within {within:g} s", process.lines) from None
    except BaseException:
        await process.stop()
        raise
    return process


async def run(child: Child, within: float = 60.0) -> None:
    """Runs a child to its end.

    Raises:
        StartFailed: It ended with another exit status than 0, or not in time.
    """
    process = await spawn(child)
    try:
        await asyncio.wait_for(process.wait(), within)
    except TimeoutError:
        await process.stop()
        raise StartFailed(child.name, f"not done within {within:g} s", process.lines) from None
    except BaseException:
        await process.stop()
        raise
    if process.ended != "it ended with exit status 0":
        raise StartFailed(child.name, str(process.ended), process.lines)


async def _until_answering(process: Process, answers: Callable[[], Awaitable[bool]] | None) -> None:
    pause = 0.01
    while True:
        if process.ended:
            await process.wait()
            raise StartFailed(f"start {process.child.name}", process.ended, process.lines)
        if answers is None or await answers():
            return
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)


@contextlib.contextmanager
def _open_log(path: Path | None) -> Iterator[BinaryIO | None]:
    if path is None:
        yield None
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LARGEST_LOG:
        path.replace(path.with_name(path.name + ".1"))
    with path.open("ab", buffering=0) as log:
        yield log


async def _lines(pipe: int) -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
    )
    rest = b""
    try:
        while chunk := await reader.read(LONGEST_LINE):
            *complete, rest = (rest + chunk).split(b"\n")
            for line in complete:
                yield line.decode(errors="replace").rstrip("\r")
            if len(rest) > LONGEST_LINE:
                yield rest.decode(errors="replace")
                rest = b""
        if rest:
            yield rest.decode(errors="replace")
    finally:
        transport.close()
