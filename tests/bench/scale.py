"""How much is measured."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Scale:
    """The sizes of a run.

    Attributes:
        customers: Among how many the events are spread.
        rounds: How often each of several interleaved measurements is made.
        batch_events: Events of one measurement of batches.
        unary_seconds: For how long callers call.
        unary_events: How many events are prepared for them.
        freshness_seconds: For how long a rate is held.
        judged: Young events that rules judge in one measurement.
        notified: Notifications of one measurement.
        stored: Events of the large store, appended one at a time.
        largest: How many of them belong to one profile.
        pages: How many pages of random profiles are read.
        decisions: How often two profiles are merged and un-merged.
        rebuilt: How many events the lines have that every projection is rebuilt from.
    """

    customers: int
    rounds: int
    batch_events: int
    unary_seconds: float
    unary_events: int
    freshness_seconds: float
    judged: int
    notified: int
    stored: int
    largest: int
    pages: int
    decisions: int
    rebuilt: tuple[int, ...]


FULL: Final = Scale(
    customers=10_000,
    rounds=3,
    batch_events=40_000,
    unary_seconds=5.0,
    unary_events=30_000,
    freshness_seconds=30.0,
    judged=10_000,
    notified=20_000,
    stored=1_000_000,
    largest=100_000,
    pages=1000,
    decisions=100,
    rebuilt=(100_000, 1_000_000),
)
QUICK: Final = Scale(
    customers=5_000,
    rounds=1,
    batch_events=20_000,
    unary_seconds=1.0,
    unary_events=5_000,
    freshness_seconds=3.0,
    judged=4_000,
    notified=5_000,
    stored=50_000,
    largest=5_000,
    pages=200,
    decisions=30,
    rebuilt=(100_000,),
)
