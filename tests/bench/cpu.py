"""How much CPU each process takes, so that a figure can say where its time went."""

import os
import time
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_ROLES: Final = (
    ("services.ingestion", "ingestion"),
    ("services.profile", "profile"),
    ("services.engagement", "engagement"),
    ("services.notification", "notification"),
    ("tests.bench.worker", "load"),
    ("nats-server", "NATS"),
    ("postgres", "PostgreSQL"),
)
OTHERS: Final = "not ours"
_EVERYBODY: Final = "everybody"


class CpuMeter:
    """Says how busy each kind of process was since the meter was made.

    What is not of this run counts too: a shared machine explains figures that nothing else does.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = _cpu_seconds()

    def cores(self) -> dict[str, float]:
        """Return cores by role, 1.0 for one that was busy all the time; empty without /proc."""
        elapsed = time.monotonic() - self._began
        ours = {
            role: (after - self._before.get(role, 0.0)) / elapsed
            for role, after in sorted(_cpu_seconds().items())
        }
        if ours:
            everybody = ours.pop(_EVERYBODY)
            ours[OTHERS] = max(everybody - sum(ours.values()), 0.0)
        return {role: round(busy, 3) for role, busy in ours.items() if busy >= 0.01}


def _cpu_seconds() -> dict[str, float]:
    """Return the CPU seconds of the machine, and of this process's descendants by role."""
    found: dict[int, tuple[int, str, float]] = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text()
            command = (directory / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended just now
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        # utime and stime; of postgres also what its ended back ends took (cutime, cstime).
        times = fields[11:15] if name == "postgres" else fields[11:13]
        seconds = sum(map(int, times)) / _TICKS
        found[int(directory.name)] = (int(fields[1]), f"{name} {command}", seconds)
    if not found:
        return {}
    user, nice, system, _, _, interrupts, soft, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    everybody = (user + nice + system + interrupts + soft) / _TICKS
    totals: dict[str, float] = {_EVERYBODY: everybody}
    for pid in found:
        if _is_ours(pid, found):
            _, command, seconds = found[pid]
            role = next((role for part, role in _ROLES if part in command), "bench")
            totals[role] = totals.get(role, 0.0) + seconds
    return totals


def _is_ours(pid: int, found: dict[int, tuple[int, str, float]]) -> bool:
    while pid in found:
        if pid == os.getpid():
            return True
        pid = found[pid][0]
    return False
