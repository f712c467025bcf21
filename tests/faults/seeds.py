"""Chance that can be had again."""

import os
import random
import sys
from typing import Final

SEED: Final = "FAULTS_SEED"
"""The environment variable that says another seed; `random` draws one."""


def seeded(what: str) -> random.Random:
    """Returns a source of chance, and writes its seed, which pytest shows of a test that fails."""
    told = os.environ.get(SEED, "4")
    seed = random.randrange(1 << 32) if told == "random" else int(told)
    sys.stdout.write(f"{what}: to have it again, {SEED}={seed}\n")
    return random.Random(f"{what} {seed}")
