"""The command: `python -m tests.faults [--seed N] [--seconds 180] [--home DIR]`."""

import argparse
import asyncio
import logging
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import structlog
from rich.console import Console

from tests.faults.disk import enter_namespace
from tests.faults.report import Screen, result
from tests.faults.running import run

SEED: Final = 20_261_122
"""The seed unless another is named: CI does the same each time."""

_SECONDS: Final = 180.0


def main() -> None:
    """Read the arguments, run, and say what was found; exit status 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    told = f"what faults and events are made of, or `random`; default {SEED}"
    parser.add_argument("--seed", default=str(SEED), help=told)
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="how long the storm lasts")
    parser.add_argument("--home", type=Path, help="an empty directory, which is kept afterwards")
    parser.add_argument("--only", default="", help="only faults whose name contains this text")
    arguments = parser.parse_args()
    enter_namespace()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seed = secrets.randbelow(10**9) if arguments.seed == "random" else int(arguments.seed)
    home = arguments.home or Path(tempfile.mkdtemp(prefix="touchline-faults-"))
    console = Console(highlight=False)
    console.print(f"[bold]Faults[/]   seed {seed}   {arguments.seconds:.0f} s   {home}")
    holds = False
    try:
        outcome = asyncio.run(
            run(seed, arguments.seconds, home.absolute(), Screen(console), arguments.only)
        )
        console.print(result(outcome.claims, outcome.history, outcome.figures))
        holds = all(claim.holds for claim in outcome.claims)
    finally:
        if holds and arguments.home is None:
            shutil.rmtree(home, ignore_errors=True)
        elif not holds:
            console.print(f"Seed {seed}. Logs and history are in {home}.")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
