"""What queries ask for: the metrics, and the labels asked of each, against what is declared."""

import re
from collections.abc import Iterator
from typing import Any, Final

from libs.telemetry import declared

_UNITS: Final = {"s": "_seconds", "By": "_bytes"}
# Prometheus itself adds these to what comes over OTLP.
_ALWAYS: Final = {"job", "instance"}
_WORDS: Final = {"by", "without", "and", "or", "unless", "on", "ignoring", "offset", "bool"}
_SELECTED: Final = re.compile(r"([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')


def exported() -> dict[str, set[str]]:
    """The series in Prometheus, each with the labels it may have, as its OTLP receiver makes them.

    Source: "OTLP Metric points to Prometheus" of the OpenTelemetry specification.
    """
    series: dict[str, set[str]] = {}
    for metric in (*declared.METRICS, *declared.SDK_METRICS):
        name = metric.name.replace(".", "_") + _UNITS.get(metric.unit, "")
        labels = {label.replace(".", "_") for label in metric.attributes} | _ALWAYS
        if metric.instrument == "histogram":
            series |= {f"{name}_count": labels, f"{name}_sum": labels}
            series[f"{name}_bucket"] = labels | {"le"}
        else:
            series[name + ("_total" if metric.instrument == "counter" else "")] = labels
    return series


def bounds(series: str) -> set[float]:
    """The boundaries of a histogram's buckets, by the name of its series."""
    for metric in declared.METRICS:
        if series.startswith(metric.name.replace(".", "_")) and metric.boundaries:
            return set(metric.boundaries)
    return set()


def faults(query: str, recorded: frozenset[str] = frozenset()) -> list[str]:
    """What a query asks for that nobody tells.

    Args:
        query: In PromQL; Grafana's variables are taken for durations.
        recorded: The names of recording rules.
    """
    known = exported()
    found = []
    asked = list(_selectors(query))
    if not asked:
        return [f"{query} asks for nothing"]
    for name, matchers in asked:
        if name in recorded:
            continue
        if name not in known:
            found.append(f"{name} is not declared")
            continue
        for label, _, value in _MATCHER.findall(matchers):
            if label not in known[name]:
                found.append(f"{name} has no label {label}")
            if label == "le" and not {float(one) for one in value.split("|")} <= bounds(name):
                found.append(f"{name} has no bucket up to {value}")
    labels = set().union(*(known.get(name, set()) for name, _ in asked))
    if not {name for name, _ in asked} & recorded:
        found += [f"{query} groups by {one}" for one in _grouped(query) if one not in labels]
    return found + _unbalanced(query)


def _selectors(query: str) -> Iterator[tuple[str, str]]:
    text = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", query)
    text = re.sub(r"\[[^\]]*\]", " ", text)
    for found in _SELECTED.finditer(re.sub(r"\$\w+", "5m", text)):
        name, matchers = found.groups()
        called = text[found.end() :].lstrip().startswith("(")
        if name not in _WORDS and not called and not _inside_braces(text, found.start()):
            yield name, matchers or ""


def _inside_braces(text: str, place: int) -> bool:
    before = text[:place]
    return before.count("{") > before.count("}")


def _grouped(query: str) -> set[str]:
    groups = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", query)
    return {label.strip() for group in groups for label in group.split(",")}


def _unbalanced(query: str) -> list[str]:
    pairs = (("(", ")"), ("[", "]"), ("{", "}"))
    return [
        f"{query} has more of one bracket than of its other"
        for one, other in pairs
        if query.count(one) != query.count(other)
    ]


def queries_of(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """The panels' titles with each of their queries."""
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
