"""What is declared is well formed, and docs/telemetry.md tells the same."""

import re

from libs.cli.stack import CHECKOUT
from libs.telemetry import declared
from tests.telemetry_docs import all_rows, prometheus_name

METRICS = (*declared.METRICS, *declared.SDK_METRICS)


def test_the_page_tells_what_is_declared_and_nothing_else() -> None:
    page = (CHECKOUT / "docs" / "telemetry.md").read_text()
    assert re.findall(r"^\| `.*$", page, re.MULTILINE) == all_rows()


def test_every_attribute_is_explained_and_none_in_vain() -> None:
    used = {
        attribute for one in (*declared.METRICS, *declared.SPANS) for attribute in one.attributes
    }
    assert used == set(declared.ATTRIBUTES)


def test_no_name_is_taken_twice_or_holds_another_one() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert not [(one, other) for one in names for other in names if other.startswith(f"{one}.")]


def test_names_are_the_conventions_or_our_own() -> None:
    names = [*declared.ATTRIBUTES, *(metric.name for metric in METRICS)]
    assert all(re.fullmatch(r"[a-z]+(\.[a-z_]+)+", name) for name in names)
    own = {name.split(".")[0] for name in names}
    assert own == {"rpc", "messaging", "db", "server", "error", "otel", "touchline"}


def test_histograms_have_buckets_and_the_others_none() -> None:
    for metric in METRICS:
        assert bool(metric.boundaries) == (metric.instrument == "histogram"), metric.name
        assert list(metric.boundaries) == sorted(set(metric.boundaries))


def test_prometheus_names_follow_unit_and_instrument() -> None:
    assert prometheus_name(declared.CALL_DURATION) == "rpc_server_call_duration_seconds"
    assert prometheus_name(declared.VERDICTS) == "touchline_ingestion_verdicts_total"
    assert prometheus_name(declared.APPEND_QUEUE) == "touchline_append_queue_size"
