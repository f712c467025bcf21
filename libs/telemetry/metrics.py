"""Metrics: recorded where something happens, read from memory when they are exported.

Where nothing is exported, recording is a look into an empty dictionary.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.metrics import (
    CallbackOptions,
    Counter,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
)
from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from libs.telemetry.declared import METRICS, Metric

Attributes = Mapping[str, AttributeValue]
Reading = Callable[[], Iterable[tuple[float, Attributes]]]
"""Returns values with their attributes; runs in a thread of the exporter, so it only looks."""

_histograms: Final[dict[str, Histogram]] = {}
_counters: Final[dict[str, Counter]] = {}
_readings: Final[dict[str, list[Reading]]] = {}


def start(provider: MeterProvider) -> None:
    """Make the instrument of every declared metric."""
    meter = provider.get_meter("touchline")
    for metric in METRICS:
        about = {"unit": metric.unit, "description": metric.description}
        match metric.instrument:
            case "histogram":
                _histograms[metric.name] = meter.create_histogram(
                    metric.name, **about, explicit_bucket_boundaries_advisory=metric.boundaries
                )
            case "counter":
                _counters[metric.name] = meter.create_counter(metric.name, **about)
            case "gauge":
                _make_gauge(meter, metric)


def stop() -> None:
    """Record nothing any more."""
    _histograms.clear()
    _counters.clear()


def is_exporting() -> bool:
    """Return whether metrics are exported; else what leads to them can be skipped."""
    return bool(_counters)


def record(
    metric: Metric, value: float, attributes: Attributes | None = None, *, span: Span | None = None
) -> None:
    """Record a value in a histogram.

    Args:
        metric: A declared histogram.
        value: In its unit.
        attributes: Among those declared for it.
        span: Named as an example of such a value, if it is sampled.
    """
    histogram = _histograms.get(metric.name)
    if histogram is None:
        return
    sampled = span is not None and span.is_recording()
    context = trace.set_span_in_context(span) if sampled and span is not None else None
    histogram.record(value, attributes, context)


def add(metric: Metric, amount: int, attributes: Attributes | None = None) -> None:
    """Add to a declared counter."""
    counter = _counters.get(metric.name)
    if counter is not None:
        counter.add(amount, attributes)


@contextmanager
def observed(readings: Mapping[Metric, Reading]) -> Iterator[None]:
    """Export what the readings of declared gauges return, for as long as the block runs."""
    for metric, reading in readings.items():
        _readings.setdefault(metric.name, []).append(reading)
    try:
        yield
    finally:
        for metric, reading in readings.items():
            _readings[metric.name].remove(reading)


def _make_gauge(meter: Meter, metric: Metric) -> None:
    def look(_: CallbackOptions) -> list[Observation]:
        return [
            Observation(value, attributes)
            for reading in tuple(_readings.get(metric.name, ()))
            for value, attributes in reading()
        ]

    meter.create_observable_gauge(
        metric.name, [look], unit=metric.unit, description=metric.description
    )
