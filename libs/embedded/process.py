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
from libs.tasks import START_AGAIN

RunAs = Literal["plain", "namespace", "nobody"]
OnLine = Callable[[str, str], None]

LAUNCHER: Final = Path(__file__).resolve().with_name("launch.py")
LINES_KEPT: Final = 20
LONGEST_LINE: Final = 64 * 1024
LARGEST_LOG: Final = 16 * 1024 * 1024
_STARTS: Final = 3
_STARTS_AGAIN: Final = f"it ended with exit status {START_AGAIN}"


@dataclass(frozen=True, slots=True)
class Child:
    """A program to run under this process.

    Attributes:
        name: What people call it: `PostgreSQL`, `ingestion`.
        argv: The program and its arguments.
        env: Its whole environment; None: that of this process.
        cwd: Its working directory; None: that of this process.
        run_as: `plain`: as this process; else how a program that refuses root is run.
        stop_signals: Ask it to end, one after the other; SIGKILL comes last. It gets the first
            when this process dies.
        grace: Seconds it has after each of them.
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
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
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
    _deaf: bool = field(init=False, default=False)

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
        # What it started may outlive it and hold its output open: nobody waits for those lines.
        await asyncio.wait([self._listening], timeout=0.5)
        self._listening.cancel()

    async def kill(self) -> None:
        """Ends it with SIGKILL, as a crash would."""
        self._signal(signal.SIGKILL)
        await self.wait()

    async def stop(self) -> None:
        """Asks it to end, waits for its grace, then kills it."""
        for number in self.child.stop_signals:
            self._signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), self.child.grace)
                break
        await self.kill()

    def tell(self, line: str) -> None:
        """Hands a line to whoever listens to it, as if it had written the line."""
        self.lines.append(line)
        if self.child.on_line and not self._deaf:
            try:
                self.child.on_line(self.child.name, line)
            except Exception as error:  # a listener's fault must not block or end the child
                self._deaf = True
                self.lines.append(f"(its lines are handed on no more: {error!r})")

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _spawn(self) -> None:
        child = self.child
        launcher = (sys.executable, "-I", "-S", str(LAUNCHER))
        death = (str(os.getpid()), str(int(child.stop_signals[0])), child.run_as)
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
        with _open_log(self.child.log) as log:
            async for line in _lines(pipe):
                # A full disk must not stop the reading, which would block the child.
                with contextlib.suppress(OSError):
                    log.write(line.encode() + b"\n")
                self.tell(line)


async def spawn(child: Child) -> Process:
    """Starts a child and returns at once.

    Must be called on the main thread's event loop: the child is told about the death of the
    thread that started it.

    Raises:
        StartFailed: The system has no process, memory or file left for it.
    """
    process = Process(child)
    try:
        await process._spawn()
    except OSError as error:
        raise StartFailed(f"start {child.name}", str(error)) from error
    return process


async def start(
    child: Child,
    answers: Callable[[], Awaitable[bool]] | None = None,
    within: float = 60.0,
    prepares: Callable[[], bool] = lambda: False,
) -> Process:
    """Starts a child and returns once it answers.

    Args:
        child: What to run.
        answers: Says whether it answers yet; None: it does as soon as it runs.
        within: Seconds it may take.
        prepares: Says, of one that does not answer yet, whether it was just seen at what it has to
            do first: its time then begins anew.

    Raises:
        StartFailed: It ended or did not answer in time, with its last lines; it was stopped. One
            that ends with START_AGAIN is started again first, twice at most.
    """
    for left in reversed(range(_STARTS)):
        try:
            return await _start(child, answers, within, prepares)
        except StartFailed as failure:
            if not left or failure.reason != _STARTS_AGAIN:
                raise
    raise AssertionError("the last start returns or raises")


async def _start(
    child: Child,
    answers: Callable[[], Awaitable[bool]] | None,
    within: float,
    prepares: Callable[[], bool],
) -> Process:
    process, clock = await spawn(child), asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(within) as limit:
            async for _ in _until_answering(process, answers):
                if prepares():
                    limit.reschedule(clock() + within)
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


async def _until_answering(
    process: Process, answers: Callable[[], Awaitable[bool]] | None
) -> AsyncIterator[None]:
    """Yields each time that it does not answer."""
    pause = 0.01
    while True:
        if process.ended:
            await process.wait()
            raise StartFailed(f"start {process.child.name}", process.ended, process.lines)
        if answers is None or await answers():
            return
        yield
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)


@contextlib.contextmanager
def _open_log(path: Path | None) -> Iterator[BinaryIO]:
    path = path or Path(os.devnull)
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
