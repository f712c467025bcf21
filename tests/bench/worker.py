"""A process of its own that makes load or measures: `python -m tests.bench.worker KIND SPEC`.

It prepares what must not be timed, says so, waits for a line, works, and tells the result; every
line it writes is JSON.
"""

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import uvloop

from tests.bench.report import CHECKOUT, Advance

Result = dict[str, Any]
Spec = dict[str, Any]
Tell = Callable[[float], None]
Work = Callable[[Spec, Tell], AbstractAsyncContextManager[Callable[[], Awaitable[Result]]]]

_LONGEST_LINE: Final = 64 * 1024 * 1024
# Where the function is that a kind of worker is named after.
_MODULES: Final = {
    "batches": "load",
    "streams": "load",
    "unary": "load",
    "steady": "load",
    "copy": "copying",
    "fold": "folding",
    "history": "history",
    "seal": "million",
    "pages": "pages",
    "probes": "freshness",
    "folded_graph": "graph",
    "alarms": "inbox",
}


class WorkerFailed(Exception):
    """A worker ended before it told its result."""


class Worker:
    """A worker that is ready.

    Args:
        kind: What it does, for errors.
        process: The process.
        advance: Told how far it is.
    """

    def __init__(self, kind: str, process: asyncio.subprocess.Process, advance: Advance) -> None:
        self._kind = kind
        self._process = process
        self._advance = advance

    async def until(self, wanted: str) -> Any:
        """Return what the worker tells under a name, passing on its progress.

        Raises:
            WorkerFailed: it ended.
        """
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if wanted in told:
                return told[wanted]
            self._advance(told["progress"])
        raise WorkerFailed(f"the worker {self._kind} ended before it was {wanted}")

    def go(self) -> None:
        """Let it work; `until("result")` waits for the end."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    async def result(self) -> Any:
        """Let it work, and return its result once it has ended.

        Raises:
            WorkerFailed: it ended without one.
        """
        self.go()
        return await self.until("result")


@asynccontextmanager
async def worker(kind: str, spec: Spec, advance: Advance = lambda _: None) -> AsyncIterator[Worker]:
    """Start a worker, wait until it is ready, and end it with the block.

    Raises:
        WorkerFailed: it ended.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.worker", kind, json.dumps(spec)),
        cwd=CHECKOUT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    started = Worker(kind, process, advance)
    try:
        await started.until("ready")
        yield started
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def run_worker(kind: str, spec: Spec, advance: Advance = lambda _: None) -> Any:
    """Start a worker, let it work at once, and return its result."""
    async with worker(kind, spec, advance) as started:
        return await started.result()


def _work(kind: str) -> Work:
    # Imported late: a worker needs only what it is.
    module = importlib.import_module(f"tests.bench.{_MODULES[kind]}")
    work: Work = getattr(module, kind)
    return work


async def _main(kind: str, spec: Spec) -> None:
    def tell(**said: Any) -> None:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()

    async with _work(kind)(spec, lambda done: tell(progress=done)) as work:
        tell(ready=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        tell(result=await work())
        # Its CPU is read while it still is there.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(sys.argv[1], json.loads(sys.argv[2])))
