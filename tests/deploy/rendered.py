"""The objects that each overlay renders, and how to find one's way in them."""

import copy
import functools
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

Object = dict[str, Any]

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = CHECKOUT / "deploy"
OVERLAYS: Final = ("dev", "production")
SERVICES: Final = sorted(path.parent.name for path in CHECKOUT.glob("services/*/__main__.py"))
TOOLS: Final = CHECKOUT / ".venv" / "bin"


def tool(name: str) -> str:
    """The path of a program that the project's requirements install."""
    found = shutil.which(name, path=str(TOOLS)) or shutil.which(name)
    assert found, f"{name} is missing: make install"
    return found


def parse(text: str) -> list[Any]:
    """The documents of a YAML text."""
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


@functools.cache
def render(directory: Path) -> str:
    """The YAML that a directory with a kustomization stands for."""
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(directory)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def _rendered(overlay: str) -> list[Object]:
    return parse(render(DEPLOY / "kubernetes" / "overlays" / overlay))


def after_objects() -> list[Object]:
    """The objects that end an upgrade in production."""
    return parse(render(DEPLOY / "kubernetes" / "overlays" / "production" / "after"))


def overlay_objects(overlay: str) -> list[Object]:
    """The objects of an overlay, the caller's own to change."""
    return copy.deepcopy(_rendered(overlay))


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """Those of some kinds."""
    return [one for one in objects if one["kind"] in kinds]


def named(objects: list[Object], kind: str, name: str) -> Object:
    """The one of a kind and name."""
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def name_of(one: Object) -> str:
    """Such as `Deployment/ingestion`."""
    return f"{one['kind']}/{one['metadata']['name']}"


def workloads(objects: list[Object]) -> list[Object]:
    """What has a template of pods."""
    return of_kind(objects, "Deployment", "StatefulSet", "Job")


def pod_of(workload: Object) -> Object:
    """The specification of a workload's pods."""
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def labels_of(workload: Object) -> dict[str, str]:
    """The labels of a workload's pods."""
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def containers(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each workload with each of its containers."""
    for workload in workloads(objects):
        for container in (
            pod_of(workload).get("initContainers", []) + pod_of(workload)["containers"]
        ):
            yield workload, container


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    if selector is None:
        return False
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        value = labels.get(rule["key"])
        taken = {
            "Exists": value is not None,
            "DoesNotExist": value is None,
            "In": value in rule.get("values", []),
            "NotIn": value not in rule.get("values", []),
        }[rule["operator"]]
        if not taken:
            return False
    return True
