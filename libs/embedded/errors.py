"""What can go wrong while servers are started, each with what to do about it."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path


class StartFailed(Exception):
    """A step of starting a server or service failed.

    Attributes:
        step: What was being done, such as `initdb` or `wait until PostgreSQL answers`.
        reason: What happened and, where it is known, what to do.
        lines: The last lines the program wrote, at most 20.
    """

    def __init__(self, step: str, reason: str, lines: Sequence[str] = ()) -> None:
        self.step = step
        self.reason = reason
        self.lines = tuple(lines)
        super().__init__(step, reason, self.lines)

    def __str__(self) -> str:
        text = f"{self.step} failed: {self.reason}"
        if self.lines:
            text += "\nIts last lines:\n" + "\n".join(f"    {line}" for line in self.lines)
        return text


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Turns what the operating system refuses within a step into a StartFailed that names it."""
    try:
        yield
    except OSError as error:
        raise StartFailed(name, str(error)) from error


class HomeBusy(Exception):
    """Another process runs its servers on the same home.

    Attributes:
        home: The directory both want.
        pid: The process that holds it; None when it has not written its number yet.
    """

    def __init__(self, home: Path, pid: int | None) -> None:
        self.home = home
        self.pid = pid
        super().__init__(home, pid)

    def __str__(self) -> str:
        holder = f"process {self.pid}" if self.pid else "another process"
        return (
            f"Touchline already runs on {self.home} ({holder}). "
            "Stop that one first, or set TOUCHLINE_HOME to another directory."
        )
