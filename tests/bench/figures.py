"""What was measured: figures, what the issue aims at, and how samples become one number."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should reach: at least, or below, a number."""

    at_least: float | None = None
    below: float | None = None

    def met(self, value: float) -> bool:
        """Tell whether a value reaches the aim."""
        return (self.at_least is None or value >= self.at_least) and (
            self.below is None or value < self.below
        )

    def __str__(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"< {self.below:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, and what it takes to read it.

    Attributes:
        name: As in build/bench.json.
        value: In `unit`; the median when there are several samples.
        unit: Such as `events/s`.
        note: How it was measured, where the name does not say.
        samples: What the median is of.
        cores: How busy each process was meanwhile: 1.0 is one core.
    """

    name: str
    value: float
    unit: str
    note: str = ""
    samples: Sequence[float] = ()
    cores: Mapping[str, float] = field(default_factory=dict)

    @property
    def aim(self) -> Aim | None:
        """What the issue aims at, if it names this figure."""
        return AIMS.get(self.name)

    def as_json(self) -> dict[str, Any]:
        """Return what build/bench.json says of it."""
        told: dict[str, Any] = {"name": self.name, "value": rounded(self.value), "unit": self.unit}
        if self.aim is not None:
            told |= {"aim": str(self.aim), "met": self.aim.met(self.value)}
        if len(self.samples) > 1:
            told["samples"] = [rounded(sample) for sample in self.samples]
        if self.cores:
            told["cores"] = {role: round(busy, 2) for role, busy in self.cores.items()}
        return told | {"note": self.note}


AIMS: Final = {
    "ingest_batches_of_500": Aim(at_least=30_000),
    "ingest_batches_of_1000": Aim(at_least=30_000),
    "ingest_vs_copy": Aim(at_least=0.6),
    "projection_timeline": Aim(at_least=30_000),
    "projection_identity_graph": Aim(at_least=30_000),
    "graph_fold": Aim(at_least=50_000),
    "freshness_read_p99": Aim(below=50),
    "freshness_watch_p99": Aim(below=50),
    "freshness_unary_read_p99": Aim(below=50),
    "freshness_unary_watch_p99": Aim(below=50),
    "page_p99": Aim(below=10),
    "page_of_largest_profile_p99": Aim(below=10),
    "rebuild_timeline_100k": Aim(at_least=50_000),
    "rebuild_timeline_1m": Aim(at_least=50_000),
    "rebuild_timeline_5m": Aim(at_least=50_000),
    "merge_large_p99": Aim(below=20),
    "unmerge_large_p99": Aim(below=20),
}


def median_figure(
    name: str,
    samples: Sequence[float],
    unit: str,
    note: str = "",
    cores: Mapping[str, float] | None = None,
) -> Figure:
    """Return the median of samples as a figure."""
    return Figure(name, median(samples), unit, note, tuple(samples), cores or {})


def percentiles(
    prefix: str, millis: Sequence[float], note: str = "", cores: Mapping[str, float] | None = None
) -> list[Figure]:
    """Return p50 and p99 of times in milliseconds as figures; none of no times."""
    if not millis:
        return []
    counted = f"{len(millis):,} times; {note}" if note else f"{len(millis):,} times"
    return [
        Figure(f"{prefix}_p50", quantile(millis, 0.5), "ms", counted, (), cores or {}),
        Figure(f"{prefix}_p99", quantile(millis, 0.99), "ms", f"max {max(millis):.1f} ms"),
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile by nearest rank."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def rounded(value: float) -> float:
    """Return a value with four significant digits, or all of those before the point."""
    if value == 0 or abs(value) >= 1000:
        return round(value)
    return round(value, 3 - math.floor(math.log10(abs(value))))


def text_of(value: float) -> str:
    """Return a value as people read it."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
