"""How docs/telemetry.md and Prometheus tell what libs/telemetry/declared.py declares."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from libs.telemetry import declared
from libs.telemetry.declared import Metric, SpanKindOf

_UNITS: Final = {"s": "_seconds"}
_SUFFIXES: Final = {"counter": "_total", "histogram": "", "gauge": ""}


def prometheus_name(metric: Metric) -> str:
    """The name of a metric in Prometheus; a histogram's series add _bucket, _sum and _count."""
    name = re.sub(r"\W", "_", metric.name) + _UNITS.get(metric.unit, "")
    return name + _SUFFIXES[metric.instrument]


def _listed(attributes: Iterable[str]) -> str:
    return ", ".join(f"`{one}`" for one in attributes)


def metric_row(metric: Metric) -> str:
    """A metric's row of the table."""
    return (
        f"| `{metric.name}` | `{prometheus_name(metric)}` | {metric.instrument} | `{metric.unit}` "
        f"| {metric.description} | {_listed(metric.attributes)} |"
    )


def span_row(span: SpanKindOf) -> str:
    """A span's row of the table."""
    return f"| `{span.name}` | {span.kind} | {span.description} | {_listed(span.attributes)} |"


def attribute_row(name: str) -> str:
    """An attribute's row of the table."""
    return f"| `{name}` | {declared.ATTRIBUTES[name]} |"


def all_rows() -> list[str]:
    """The rows of all tables, in their order."""
    return [
        *map(span_row, declared.SPANS),
        *map(metric_row, declared.METRICS),
        *map(metric_row, declared.SDK_METRICS),
        *map(attribute_row, declared.ATTRIBUTES),
    ]
