"""Rules for rendered objects. Each returns its breaches as sentences: none is none."""

import importlib
import inspect
import re
from typing import Any, Final
from urllib.parse import urlsplit

import kubernetes_validate
import yaml

from libs.projection.hosting import PROJECTION_SERVICE
from libs.rpc.arguments import Role, read_arguments
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
DATABASE_URL: Final = "TOUCHLINE_DATABASE_URL"
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
    """Every service is deployed as it listens, drains and is set, and does all that it has to."""
    found = []
    for service in SERVICES:
        deployments = deployments_of(objects, service)
        try:
            named(objects, "Deployment", service)
            job = named(objects, "Job", f"{service}-migration")
        except ValueError:
            found.append(f"{service} lacks its Deployment or its migration")
            continue
        (migration,) = pod_of(job)["containers"]
        found += _sharing(service, deployments, objects)
        for name, deployment in deployments.items():
            (container,) = pod_of(deployment)["containers"]
            try:
                environment = environment_of(container, objects)
                module = importlib.import_module(f"services.{service}.config")
                config = module.read_config(environment)
            except (SettingError, KeyError) as error:
                found.append(f"{name} can't start: {error}")
                continue
            serves = Role.SERVE in roles_of(service, deployment)
            found += _listening(name, container, config.listen if serves else config.worker_listen)
            found += _probes(service, name, container)
            found += _draining(name, deployment)
            found += _migrated(name, container, migration, objects)
            if ("TOUCHLINE_MASTER_KEY" in environment) != (service == "ingestion"):
                found.append(f"{name} must not have what only ingestion has, or ingestion lacks it")
    return found


def deployments_of(objects: list[Object], service: str) -> dict[str, Object]:
    """A service's Deployments, by name."""
    return {
        one["metadata"]["name"]: one
        for one in of_kind(objects, "Deployment")
        if labels_of(one).get("app.kubernetes.io/name") == service
    }


def roles_of(service: str, deployment: Object) -> frozenset[Role]:
    """What a Deployment's processes do, as they understand what they are told."""
    (container,) = pod_of(deployment)["containers"]
    folds = service != "ingestion"
    return read_arguments(service, container.get("args", []), folds=folds).roles


def _sharing(service: str, deployments: dict[str, Object], objects: list[Object]) -> list[str]:
    """Each role is one Deployment's, and callers reach those that serve."""
    if service == "ingestion":
        return []
    roles = {name: roles_of(service, one) for name, one in deployments.items()}
    found = [
        f"{service} has {len(doing)} Deployments that {role}"
        for role in Role
        if len(doing := [name for name, has in roles.items() if role in has]) != 1
    ]
    selector = named(objects, "Service", service)["spec"]["selector"]
    for name, one in deployments.items():
        called = matches({"matchLabels": selector}, labels_of(one))
        if called != (Role.SERVE in roles[name]):
            found.append(f"{name} is called and does not serve, or serves and is not called")
    return found


def _migrated(name: str, container: Object, migration: Object, objects: list[Object]) -> list[str]:
    found = []
    if migration["image"] != container["image"] or migration["args"] != ["--migrate-only"]:
        found.append(f"{name} is migrated by something else")
    urls = [environment_of(one, objects).get(DATABASE_URL) for one in (migration, container)]
    if urls[0] != urls[1]:
        found.append(f"{name} has another database than its migration")
    return found


def _listening(name: str, container: Object, listen: str) -> list[str]:
    host, _, port = listen.rpartition(":")
    found = [] if host == "0.0.0.0" else [f"{name} listens on {host or 'nothing'} alone"]
    if [str(one["containerPort"]) for one in container["ports"]] != [port]:
        found.append(f"{name} listens on {port}, its container offers another port")
    return found


def _probes(service: str, name: str, container: Object) -> list[str]:
    """Views that are built hold callers off, and have no process killed."""
    (offered,) = container["ports"]
    alive = "" if service == "ingestion" else PROJECTION_SERVICE
    asked = {"startupProbe": alive, "readinessProbe": "", "livenessProbe": alive}
    return [
        f"{name} has no {probe} of {what or 'all'} on {offered['containerPort']}"
        for probe, what in asked.items()
        for told in [container.get(probe, {}).get("grpc", {})]
        if (told.get("port"), told.get("service", "")) != (offered["containerPort"], what)
    ]


def _draining(name: str, deployment: Object) -> list[str]:
    spec, rolling = pod_of(deployment), deployment["spec"]["strategy"]["rollingUpdate"]
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = inspect.signature(serve).parameters["grace"].default
    found = []
    if spec["terminationGracePeriodSeconds"] < pause + grace + _LEASES_SECONDS:
        found.append(f"{name} is killed before it has drained")
    if rolling["maxUnavailable"] != 0:
        found.append(f"{name} is stopped before the next release answers")
    return found


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
