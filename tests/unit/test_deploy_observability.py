"""Collector, Prometheus and Grafana: what they ask for is declared, and what they name is there."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from libs.telemetry import declared
from tests.deploy import promql
from tests.deploy.rendered import CHECKOUT, DEPLOY, SERVICES

OBSERVABILITY: Final = DEPLOY / "observability"
PRODUCTION: Final = DEPLOY / "kubernetes" / "overlays" / "production" / "telemetry"
DASHBOARDS: Final = sorted((OBSERVABILITY / "grafana" / "dashboards").glob("*.json"))
PROMTOOL: Final = shutil.which("promtool")
# Of the distribution `otelcol`, which the image is.
COMPONENTS: Final = {"otlp", "memory_limiter", "batch", "otlphttp", "health_check"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules() -> list[dict[str, Any]]:
    groups = read(OBSERVABILITY / "prometheus" / "alerts.yaml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


RECORDED: Final = frozenset(rule["record"] for rule in rules() if "record" in rule)
ALERTS: Final = {rule["alert"]: rule for rule in rules() if "alert" in rule}


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_query_of_a_dashboard_is_of_what_is_declared(file: Path) -> None:
    for title, query in promql.queries_of(json.loads(file.read_text())):
        assert promql.faults(query, RECORDED) == [], title


def test_every_rule_is_of_what_is_declared() -> None:
    for rule in rules():
        assert promql.faults(rule["expr"], RECORDED) == []


def test_every_metric_is_on_a_dashboard() -> None:
    shown = " ".join(
        query for file in DASHBOARDS for _, query in promql.queries_of(json.loads(file.read_text()))
    )
    for metric in (*declared.METRICS, *declared.SDK_METRICS):
        assert metric.name.replace(".", "_") in shown


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("max(touchline_store_head)", "touchline_store_head is not declared"),
        ("touchline_ingestion_verdicts", "touchline_ingestion_verdicts is not declared"),
        ('touchline_relay_leader{tenant="a"}', "touchline_relay_leader has no label tenant"),
        (
            'touchline_append_duration_seconds_bucket{le="0.2"}',
            "touchline_append_duration_seconds_bucket has no bucket up to 0.2",
        ),
        ("touchline:nothing:ratio", "touchline:nothing:ratio is not declared"),
        ("sum by (rpc_method) (touchline_relay_leader)", "groups by rpc_method"),
        ("sum(touchline_relay_leader", "more of one bracket"),
        ("vector(0)", "asks for nothing"),
    ],
)
def test_a_query_of_what_nobody_tells_is_noticed(query: str, fault: str) -> None:
    (found,) = promql.faults(query, RECORDED)
    assert fault in found


def test_dashboards_are_found_and_ask_sources_that_there_are() -> None:
    sources = {
        one["uid"] for one in read(OBSERVABILITY / "grafana/datasources.yaml")["datasources"]
    }
    listed = (OBSERVABILITY / "grafana" / "kustomization.yaml").read_text()
    tiltfile = (CHECKOUT / "tilt" / "Tiltfile").read_text()
    boards = {}
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        boards[board["uid"]] = board
        assert f"dashboards/{file.name}" in listed
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        for panel in board["panels"]:
            for asked in (panel, *panel["targets"]):
                assert asked["datasource"]["uid"] in sources
    assert set(re.findall(r"localhost:3000/d/([\w-]+)", tiltfile)) <= set(boards)


def test_every_alert_has_an_entry_and_says_how_urgent_it_is() -> None:
    entries = re.findall(r"^## (\w+)$", (CHECKOUT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    assert entries == list(ALERTS)
    for name, alert in ALERTS.items():
        assert alert["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["for"]
        used = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
        assert used <= {"job", "touchline_projection_name", "touchline_notification_channel"}


def test_every_service_is_missed_when_it_falls_silent() -> None:
    asked = re.findall(r'job="touchline/(\w+)"', ALERTS["ServiceSilent"]["expr"])
    assert sorted(asked) == SERVICES


def test_burn_rates_are_of_what_is_recorded_in_both_windows() -> None:
    for name, windows in (
        ("CallsFailFast", ("5m", "1h")),
        ("CallsFail", ("30m", "6h")),
        ("ViewsLateFast", ("5m", "1h")),
        ("ViewsLate", ("30m", "6h")),
        ("DeliveriesFailFast", ("5m", "1h")),
        ("DeliveriesFail", ("30m", "6h")),
    ):
        said = re.findall(r"ratio_rate(\w+) > ([\d.]+) \*", ALERTS[name]["expr"])
        factor = "14.4" if name.endswith("Fast") else "6"
        assert said == [(window, factor) for window in windows]


@pytest.mark.parametrize(
    "file",
    [OBSERVABILITY / "collector" / "config.yaml", PRODUCTION / "config.yaml"],
    ids=["desk", "production"],
)
def test_the_collector_passes_on_what_services_send(file: Path) -> None:
    config = read(file)
    for kind in ("receivers", "processors", "exporters", "extensions"):
        assert {name.split("/")[0] for name in config[kind]} <= COMPONENTS
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    pipelines = config["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics"}
    used: dict[str, set[str]] = {"receivers": set(), "processors": set(), "exporters": set()}
    for pipeline in pipelines.values():
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["processors"][-1] == "batch"
        for kind, names in pipeline.items():
            used[kind] |= set(names)
    for kind, names in used.items():
        assert names == set(config[kind])


def test_prometheus_takes_otlp_and_names_things_as_declared() -> None:
    config = read(OBSERVABILITY / "prometheus" / "config.yaml")
    workload = (OBSERVABILITY / "prometheus" / "prometheus.yaml").read_text()
    assert "--web.enable-otlp-receiver" in workload
    assert config["otlp"]["translation_strategy"] == "UnderscoreEscapingWithSuffixes"
    assert config["rule_files"] == ["alerts.yaml"]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_finds_no_fault(tmp_path: Path) -> None:
    queries = [
        query.replace("$__rate_interval", "5m")
        for file in DASHBOARDS
        for _, query in promql.queries_of(json.loads(file.read_text()))
    ]
    shown = [{"record": f"shown:{place}", "expr": query} for place, query in enumerate(queries)]
    (tmp_path / "shown.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "dashboards", "rules": shown}]})
    )
    alerts = OBSERVABILITY / "prometheus" / "alerts.yaml"
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(alerts), str(tmp_path / "shown.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_alerts_come_and_go_when_they_should() -> None:
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", "alerts_test.yaml"],
        cwd=OBSERVABILITY / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
