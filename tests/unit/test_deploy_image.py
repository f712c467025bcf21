"""The image: linted, and run from a copy of what it holds with what it installs alone."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.rendered import CHECKOUT, DEPLOY, SERVICES, tool

DOCKERFILE: Final = DEPLOY / "Dockerfile"
# Imports a service and its exporters where all that is not locked can't be found.
IMPORT: Final = """
import importlib, importlib.abc, importlib.metadata, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        owners = OWNERS.get(name.split(".")[0], [])
        if owners and not LOCKED & {owner.lower().replace("_", "-") for owner in owners}:
            raise ModuleNotFoundError(f"{name} is of {owners}, which an image does not have")

OWNERS = importlib.metadata.packages_distributions()
LOCKED = set(sys.argv[2].split()) | {"touchline"}
sys.meta_path.insert(0, Hidden())
importlib.import_module(f"services.{sys.argv[1]}.__main__")
from libs import telemetry
assert telemetry.setup(sys.argv[1]).exporting
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory /app of an image that has all services: copied as .dockerignore lets it be."""
    app = tmp_path_factory.mktemp("image") / "app"
    left_out = [line for line in ignored() if line.startswith("libs/")]
    shutil.copytree(
        CHECKOUT / "libs",
        app / "libs",
        ignore=lambda directory, names: [
            name
            for name in names
            if name == "__pycache__"
            or str((Path(directory) / name).relative_to(CHECKOUT)) in left_out
        ],
    )
    shutil.copytree(
        CHECKOUT / "services", app / "services", ignore=shutil.ignore_patterns("__pycache__")
    )
    packages = app.parent / "site-packages"
    packages.mkdir()
    (packages / "touchline").symlink_to(app / "libs" / "touchline")
    return app


def ignored() -> list[str]:
    """The lines of .dockerignore."""
    return (CHECKOUT / ".dockerignore").read_text().splitlines()


def locked() -> set[str]:
    """The names of the distributions that an image installs."""
    text = (CHECKOUT / "requirements" / "runtime.txt").read_text()
    return {
        name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
    }


def run(app: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs Python as the image does."""
    foreign = ("TOUCHLINE_", "OTEL_", "PYTHON")
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
    path = f"{app}:{app.parent / 'site-packages'}"
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=app,
        env=inherited | {"PYTHONPATH": path} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_dockerfile_is_without_a_known_fault() -> None:
    done = subprocess.run(
        [tool("hadolint"), str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_fault_in_a_dockerfile_is_noticed(tmp_path: Path) -> None:
    broken = tmp_path / "Dockerfile"
    broken.write_text(DOCKERFILE.read_text().replace("--no-cache-dir ", ""))
    done = subprocess.run(
        [tool("hadolint"), str(broken)], capture_output=True, text=True, check=False
    )
    assert "DL3042" in done.stdout


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    let_in = {line.removeprefix("!") for line in ignored() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE.read_text(), re.MULTILINE)
    assert copied
    for path in copied:
        for service in SERVICES:
            assert (CHECKOUT / path.replace("${SERVICE}", service)).exists()
        assert any(path == root or path.startswith(f"{root}/") for root in let_in)


def test_the_image_runs_as_nobody_special_without_a_shell_or_unlocked_packages() -> None:
    text = DOCKERFILE.read_text()
    final = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["python", "-m", "services.this"]' in text
    assert "--require-hashes" in text
    assert "ADD " not in text


@pytest.mark.parametrize("service", SERVICES)
def test_the_locked_requirements_are_all_that_a_service_needs(image: Path, service: str) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    done = run(image, "-c", IMPORT, service, " ".join(locked()), **endpoint)
    assert done.returncode == 0, done.stderr


def test_a_requirement_that_is_not_locked_is_noticed(image: Path) -> None:
    done = run(image, "-c", IMPORT, "ingestion", " ".join(locked() - {"asyncpg"}))
    assert "asyncpg is of ['asyncpg'], which an image does not have" in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_the_entrypoint_starts_the_service_of_the_image(image: Path, service: str) -> None:
    alone = image.parent / service
    shutil.copytree(image / "libs", alone / "libs", symlinks=True)
    (alone / "services").mkdir()
    shutil.copy(image / "services" / "__init__.py", alone / "services")
    shutil.copytree(image / "services" / service, alone / "services" / service)
    (alone / "services" / "this").symlink_to(service)

    helped = run(alone, "-m", "services.this", "--help")
    assert helped.returncode == 0, helped.stderr
    assert f"python -m services.{service}" in helped.stdout
    unset = run(alone, "-m", "services.this", "--migrate-only")
    assert unset.returncode == 1
    assert "TOUCHLINE_DATABASE_URL is not set" in unset.stderr


def test_this_python_has_the_locked_requirements() -> None:
    """Else the test of imports would say nothing about the image."""
    lock = (CHECKOUT / "requirements" / "runtime.txt").read_text()
    for name, version in re.findall(r"^([\w.-]+)==(\S+) \\$", lock, re.MULTILINE):
        assert importlib.metadata.version(name) == version
    assert "python3.11/" in DOCKERFILE.read_text()
    assert "PYTHON_IMAGE=python:3.11." in DOCKERFILE.read_text()
