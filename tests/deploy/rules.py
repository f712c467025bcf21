"""Rules for rendered objects. Each returns its breaches as sentences: none is none."""

import importlib
import inspect
import re
from typing import Any, Final
from urllib.parse import urlsplit

import kubernetes_validate
import yaml

from libs.rpc.server import serve
from libs.rpc.settings import SettingError
from tests.deploy.environment import environment_of
from tests.deploy.network import behind, may_talk, pods
from tests.deploy.rendered import (
    SERVICES,
    Object,
    containers,
    labels_of,
    matches,
    name_of,
    named,
    of_kind,
    pod_of,
    workloads,
)

# The oldest release that has all we use, without a feature gate. Later ones serve the same APIs.
KUBERNETES: Final = "1.34"
# Defined by operators, whose schemas are not Kubernetes' own.
CUSTOM: Final = {"Cluster", "ScheduledBackup", "ObjectStore"}
_LEASES_SECONDS: Final = 5


def schemas(objects: list[Object]) -> list[str]:
    """Every object is what Kubernetes knows, without a field it would ignore."""
    found = []
    for one in objects:
        if one["kind"] in CUSTOM:
            continue
        try:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{name_of(one)}: {error.message}")
    return found


def references(objects: list[Object]) -> list[str]:
    """Selectors select something, and what is referred to by name is there."""
    found = []
    templates = [labels_of(one) for one in workloads(objects)]
    for one in of_kind(objects, "Service", "PodDisruptionBudget"):
        selector = one["spec"]["selector"]
        wanted = selector if one["kind"] == "PodDisruptionBudget" else {"matchLabels": selector}
        if not any(matches(wanted, labels) for labels in templates):
            found.append(f"{name_of(one)} selects nothing")
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        scaled = [
            one
            for one in of_kind(objects, target["kind"])
            if one["metadata"]["name"] == target["name"]
        ]
        if not scaled:
            found.append(f"{name_of(scaler)} scales nothing")
        elif "replicas" in scaled[0]["spec"]:
            found.append(f"{name_of(scaler)} and its target both say how many")
    for workload in workloads(objects):
        if not matches(workload["spec"].get("selector", {}), labels_of(workload)):
            found.append(f"{name_of(workload)} does not select its own pods")
        found += _missing(workload, objects)
    return found


def _missing(workload: Object, objects: list[Object]) -> list[str]:
    found = []
    there = {name_of(one) for one in objects}
    spec = pod_of(workload)
    account = spec.get("serviceAccountName")
    if account and f"ServiceAccount/{account}" not in there:
        found.append(f"{name_of(workload)} runs as {account}, which is missing")
    volumes = {one["name"]: one for one in spec.get("volumes", [])}
    claims = workload["spec"].get("volumeClaimTemplates", [])
    known = set(volumes) | {one["metadata"]["name"] for one in claims}
    for volume in volumes.values():
        config = volume.get("configMap", {}).get("name")
        if config and f"ConfigMap/{config}" not in there:
            found.append(f"{name_of(workload)} mounts {config}, which is missing")
    for container in spec["containers"]:
        found += [
            f"{name_of(workload)} mounts {mount['name']}, which is no volume"
            for mount in container.get("volumeMounts", [])
            if mount["name"] not in known
        ]
        try:
            environment_of(container, objects)
        except KeyError as error:
            found.append(f"{name_of(workload)} takes a variable from {error}, which is missing")
    return found


def confinement(objects: list[Object], writable: frozenset[str] = frozenset()) -> list[str]:
    """No pod has more rights than it needs; only containers named may write their file system."""
    found = []
    for workload, container in containers(objects):
        spec, own = pod_of(workload), container["securityContext"]
        kept = {
            "runs as root": spec["securityContext"].get("runAsNonRoot") is True,
            "has no numeric user": spec["securityContext"].get("runAsUser", 0) > 0,
            "has no seccomp profile": spec["securityContext"].get("seccompProfile")
            == {"type": "RuntimeDefault"},
            "gets a token": spec.get("automountServiceAccountToken") is False,
            "may gain rights": own.get("allowPrivilegeEscalation") is False,
            "keeps capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "may write its file system": own.get("readOnlyRootFilesystem") is True
            or workload["metadata"]["name"] in writable,
            "has no requests or limits": all(
                {"cpu", "memory"} <= set(container["resources"].get(one, {}))
                for one in ("requests", "limits")
            ),
        }
        found += [f"{name_of(workload)} {breach}" for breach, holds in kept.items() if not holds]
    return found


def images(objects: list[Object]) -> list[str]:
    """Every image has a release, and those we build are of a service that there is."""
    found = []
    for workload, container in containers(objects):
        image: str = container["image"]
        name, _, tag = image.partition(":") if "/" not in image else image.rpartition(":")
        if not name or not tag or tag == "latest":
            found.append(f"{name_of(workload)} has the image {image} without a release")
        if "touchline/" in image and name.rpartition("/")[2] not in SERVICES:
            found.append(f"{name_of(workload)} has the image of {name}, which is no service")
    return found


def services(objects: list[Object]) -> list[str]:
    """Every service is deployed as it listens, drains and is set."""
    found = []
    for service in SERVICES:
        try:
            deployment = named(objects, "Deployment", service)
            job = named(objects, "Job", f"{service}-migration")
        except ValueError:
            found.append(f"{service} lacks its Deployment or its migration")
            continue
        (container,) = pod_of(deployment)["containers"]
        (migration,) = pod_of(job)["containers"]
        try:
            environment = environment_of(container, objects)
            config = importlib.import_module(f"services.{service}.config").read_config(environment)
        except (SettingError, KeyError) as error:
            found.append(f"{service} can't start: {error}")
            continue
        found += _listening(service, container, config.listen)
        found += _draining(service, deployment)
        if migration["image"] != container["image"] or migration["args"] != ["--migrate-only"]:
            found.append(f"{service} is migrated by something else")
        own = environment_of(migration, objects).get("TOUCHLINE_DATABASE_URL")
        if own != environment["TOUCHLINE_DATABASE_URL"]:
            found.append(f"{service} has another database than its migration")
        if ("TOUCHLINE_MASTER_KEY" in environment) != (service == "ingestion"):
            found.append(f"{service} must not have what only ingestion has, or ingestion lacks it")
    return found


def _listening(service: str, container: Object, listen: str) -> list[str]:
    host, _, port = listen.rpartition(":")
    found = [] if host == "0.0.0.0" else [f"{service} listens on {host} alone"]
    if [one["containerPort"] for one in container["ports"]] != [int(port)]:
        found.append(f"{service} listens on {port}, its container offers another port")
    return found + [
        f"{service} has no {probe} on {port}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if container.get(probe, {}).get("grpc", {}).get("port") != int(port)
    ]


def _draining(service: str, deployment: Object) -> list[str]:
    spec = pod_of(deployment)
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = inspect.signature(serve).parameters["grace"].default
    if spec["terminationGracePeriodSeconds"] < pause + grace + _LEASES_SECONDS:
        return [f"{service} is killed before it has drained"]
    return []


def edges(objects: list[Object]) -> list[str]:
    """Everybody reaches the servers that its settings name."""
    found = []
    peers = pods(objects)
    for source, host, port in _connections(objects):
        targets = behind(objects, host, port)
        if not targets:
            found.append(f"{source} connects to {host}:{port}, where nobody answers")
        found += [
            f"{source} may not talk to {target}:{port}"
            for target in targets
            if not may_talk(objects, peers[source], peers[target], port)
        ]
    return found


def _connections(objects: list[Object]) -> set[tuple[str, str, int]]:
    """Who connects where, as (workload, host, port), from variables and configuration files."""
    found = set()
    for workload, container in containers(objects):
        name = workload["metadata"]["name"]
        texts = list(environment_of(container, objects).values())
        for volume in pod_of(workload).get("volumes", []):
            if config := volume.get("configMap", {}).get("name"):
                files = named(objects, "ConfigMap", config)["data"]
                texts += [text for file, text in files.items() if not file.endswith(".json")]
        for text in texts:
            found |= {(name, *address) for address in _addresses(text)}
    return found


def _addresses(text: str) -> set[tuple[str, int]]:
    urls = [
        urlsplit(url) for url in re.findall(r"\b(?:http|nats|postgresql|smtps?)://[^\s\"',]+", text)
    ]
    found = {(str(url.hostname), url.port) for url in urls if url.port}
    # What has no scheme: the Collector's gRPC exporters and Prometheus' targets.
    found |= {
        (host, int(port))
        for host, port in re.findall(r"(?:endpoint: |targets: \[)([a-z][a-z-]+):(\d+)", text)
    }
    # Another namespace's, by its full name, has its own policies.
    return {(host, port) for host, port in found if "." not in host or host.startswith("nats-")}


def parsed(objects: list[Object], prefix: str, file: str) -> Any:
    """The YAML of a file in the ConfigMap whose name begins so."""
    (config,) = [
        one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"].startswith(prefix)
    ]
    return yaml.safe_load(config["data"][file])
