"""An installation as a person at a terminal runs it: `bin/touchline up`, and commands beside it."""

import asyncio
import contextlib
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from libs.cli.stack import CHECKOUT, SERVICES
from tests.commanding import run_command
from tests.ports import free_address
from touchline.client import Client
from touchline.ingestion.v1.ingestion_service_pb2 import GetStoreStatusRequest
from touchline.projection.v1.projection_service_pb2 import ListProjectionsRequest

TOUCHLINE: Final = CHECKOUT / "bin" / "touchline"


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended: its exit code, what it printed, and its errors."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """All it wrote, with every run of white space as one space, without frames."""
        return " ".join(re.sub("[│─╭╮╰╯]", " ", self.out + self.err).split())


@dataclass(frozen=True, slots=True)
class Installation:
    """A home of its own, with ports of its own.

    Attributes:
        home: Its directory.
        services: host:port of each service, by its name, once it runs.
        settings: Further environment variables.
    """

    home: Path
    services: dict[str, str] = field(
        default_factory=lambda: {one.name: free_address() for one in SERVICES}
    )
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def ingestion(self) -> str:
        """host:port of the ingestion service."""
        return self.services["ingestion"]

    @property
    def profile(self) -> str:
        """host:port of the profile service."""
        return self.services["profile"]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        foreign = ("TOUCHLINE_", "OTEL_", "COLUMNS", "FORCE_COLOR", "NO_COLOR")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        own = {one.variable: self.services[one.name] for one in SERVICES}
        return (
            inherited | own | {"TOUCHLINE_HOME": str(self.home), "COLUMNS": "100"} | self.settings
        )

    def client(self, tenant: str = "default") -> AbstractAsyncContextManager[Client]:
        """Gives a client of its services, for as long as the block runs."""
        return Client.connect(
            self.ingestion,
            self.profile,
            tenant,
            engagement=self.services["engagement"],
            notification=self.services["notification"],
        )

    async def start(self, *arguments: str, cwd: Path = CHECKOUT) -> Process:
        """Starts `touchline` with arguments in a directory, in a process group of its own."""
        return await asyncio.create_subprocess_exec(
            TOUCHLINE, *arguments,
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
            cwd=cwd, env=self.environment, start_new_session=True,
        )  # fmt: skip

    async def run(self, *arguments: str, cwd: Path = CHECKOUT, within: float = 60.0) -> Finished:
        """Runs `touchline` with arguments to its end, in a fork of what has imported it."""
        return Finished(*await run_command(arguments, self.environment, cwd, within))

    async def tell(self, *arguments: str, cwd: Path = CHECKOUT) -> Finished:
        """Runs a command that records something, and waits until every projection has folded it."""
        finished = await self.run(*arguments, cwd=cwd)
        await self.settled()
        return finished

    async def settled(self, within: float = 30.0) -> None:
        """Returns once every projection has folded what is recorded so far.

        A person at a terminal is slower than folding; a test is not.
        """
        async with self.client() as client, asyncio.timeout(within):
            told = await client.ingestion.GetStoreStatus(GetStoreStatusRequest())
            for calls in client.projections.values():
                while await _position(calls) < told.status.head_position:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator["Up"]:
        """Runs `touchline up` until the block ends, then stops it as Ctrl-C does."""
        process = await self.start("up")
        up = Up(process)
        listening = asyncio.create_task(up.listen())
        try:
            await up.says("Touchline is up", within=60)
            yield up
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGINT)
            await asyncio.wait_for(process.wait(), 30)
        finally:
            if process.returncode is None:
                process.kill()
            await listening


@dataclass(slots=True)
class Up:
    """A running `touchline up`.

    Attributes:
        process: Its process, which leads a process group.
        text: All it wrote so far.
    """

    process: Process
    text: str = ""

    async def listen(self) -> None:
        """Keeps what it writes, until it ends."""
        errors = asyncio.create_task(_rest(self.process.stderr))
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            self.text += line.decode()
        self.text += await errors
        await self.process.wait()

    async def says(self, words: str, within: float = 60.0, times: int = 1) -> None:
        """Returns once it has written some words so many times."""
        try:
            async with asyncio.timeout(within):
                while self.text.count(words) < times:
                    if self.process.returncode is not None:
                        raise AssertionError(f"`up` ended before it said {words!r}:\n{self.text}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"`up` did not say {words!r}:\n{self.text}") from None

    async def ended(self, within: float = 30.0) -> int:
        """Returns the exit code once it has ended."""
        code = await asyncio.wait_for(self.process.wait(), within)
        await asyncio.sleep(0.1)  # its last lines
        return code

    def child(self, mark: str) -> int:
        """Returns the process number of the one child whose command line holds the mark."""
        [pid] = [pid for pid, command in children(self.process.pid).items() if mark in command]
        return pid


def children(parent: int) -> dict[int, str]:
    """Returns the command lines of a process's children by process number."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(directory.name)] = command.decode(errors="replace")
    return found


def alive(pid: int) -> bool:
    """Says whether a process runs."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def finished(process: Process, within: float = 60.0) -> Finished:
    """Waits for a process to end."""
    try:
        out, err = await asyncio.wait_for(process.communicate(), within)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


async def _rest(stream: asyncio.StreamReader | None) -> str:
    assert stream
    return (await stream.read()).decode()


async def _position(calls: Any) -> int:
    """Returns how far the last of a service's projections came."""
    listed = await calls.ListProjections(ListProjectionsRequest())
    return int(min(one.position for one in listed.projections))
