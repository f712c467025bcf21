"""How long the disk takes to keep 8 KiB for good: no single call can be answered sooner."""

import os
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.bench.figures import percentiles
from tests.bench.report import Report

_TIMES: Final = 200
_PAGE: Final = bytes(8192)


def measure(report: Report, directory: Path) -> None:
    """Append pages to a file of the directory, each followed by fdatasync, as PostgreSQL does."""
    report.heading("The disk, while nothing of ours runs")
    directory.mkdir(exist_ok=True)
    millis = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(_TIMES):
            file.write(_PAGE)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            millis.append((time.perf_counter() - start) * 1e3)
    report.add(*percentiles("disk_fdatasync", millis, "of 8 KiB"))
