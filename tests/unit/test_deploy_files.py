"""The YAML in deploy/, and compose.yaml against the overlay dev, whose servers it runs."""

import importlib
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy.rendered import CHECKOUT, DEPLOY, SERVICES, containers, overlay_objects, tool

COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def lint(path: Path) -> str:
    """What yamllint says of a file or directory."""
    done = subprocess.run(
        [
            tool("yamllint"),
            "--strict",
            "--config-file",
            str(CHECKOUT / ".yamllint.yaml"),
            str(path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_yaml_is_well_formed_and_even() -> None:
    assert lint(DEPLOY) == ""


def test_uneven_yaml_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("one:\n   - 1\none: 2\n")
    assert "duplication of key" in lint(tmp_path)


def test_every_resource_of_a_kustomization_is_there_and_each_file_is_used() -> None:
    used = set()
    for file in DEPLOY.rglob("kustomization.yaml"):
        said = yaml.safe_load(file.read_text())
        used.add(file)
        paths = said.get("resources", []) + said.get("components", [])
        paths += [one["path"] for one in said.get("patches", []) if "path" in one]
        for generator in said.get("configMapGenerator", []):
            paths += generator.get("files", [])
        for path in paths:
            found = (file.parent / path).resolve()
            assert found.exists()
            used.add(found)
    apart = {DEPLOY / "compose.yaml", DEPLOY / "observability" / "prometheus" / "alerts_test.yaml"}
    assert {file for file in DEPLOY.rglob("*.yaml") if file not in used | apart} == set()


@pytest.mark.parametrize("service", SERVICES)
def test_compose_sets_what_a_service_needs(service: str) -> None:
    said = COMPOSE["services"][service]
    config = importlib.import_module(f"services.{service}.config")
    settings = config.read_config(said["environment"])
    host, _, port = settings.listen.rpartition(":")
    assert host == "0.0.0.0"
    assert said["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert said["build"]["args"] == {"SERVICE": service}
    for url in (settings.database_url, settings.nats_url):
        (server,) = re.findall(r"@([a-z]+):", url)
        assert said["depends_on"][server] == {"condition": "service_healthy"}
        assert "healthcheck" in COMPOSE["services"][server]
    assert ("TOUCHLINE_MASTER_KEY" in said["environment"]) == (service == "ingestion")
    assert said["read_only"] is True


def test_compose_opens_ports_to_this_machine_alone() -> None:
    for said in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in said.get("ports", []))


def test_compose_mounts_what_is_there() -> None:
    for said in COMPOSE["services"].values():
        for volume in said.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists()
            else:
                assert source in COMPOSE["volumes"]


def test_compose_runs_the_releases_that_the_overlay_dev_runs() -> None:
    deployed = {container["image"] for _, container in containers(overlay_objects("dev"))}
    composed = {said["image"].removesuffix("-alpine") for said in COMPOSE["services"].values()}
    assert composed == deployed


def test_compose_and_the_overlay_dev_start_servers_alike() -> None:
    deployed = {
        container["name"]: container.get("args")
        for _, container in containers(overlay_objects("dev"))
        if container["name"] in COMPOSE["services"]
    }
    for name, arguments in deployed.items():
        if name != "nats":
            assert COMPOSE["services"][name].get("command") == arguments
