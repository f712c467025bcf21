"""What a container's environment says, with its settings and secrets looked up."""

import base64
import re
from typing import Any, Final

from tests.deploy.rendered import Object, of_kind

# Secrets that an overlay refers to and a person or an operator makes; with values like theirs.
MADE_ELSEWHERE: Final[dict[str, dict[str, str]]] = {
    "touchline-nats": {
        "store-password": "s3cret",
        "service-password": "s3cret",
        "operator-password": "s3cret",
    },
    "touchline-identity": {"secret": "ab" * 32},
    "touchline-master-key": {"key": "cd" * 32},
    "notification-mail": {"smtp-url": "smtps://touchline:s3cret@mail.example.com:465"},
    "notification-webhooks": {"secret": "ef" * 32},
}


def environment_of(container: Object, objects: list[Object]) -> dict[str, str]:
    """The variables that a container starts with.

    Raises:
        KeyError: One refers to what is not there.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= _config_map(objects, source["configMapRef"]["name"])
    for variable in container.get("env", []):
        found[variable["name"]] = _value(variable, objects, found)
    return found


def _value(variable: Any, objects: list[Object], known: dict[str, str]) -> str:
    if "value" in variable:
        # As Kubernetes does it: only variables that stand above.
        return re.sub(
            r"\$\((\w+)\)", lambda found: known.get(found[1], found[0]), variable["value"]
        )
    source = variable["valueFrom"]
    if "secretKeyRef" in source:
        reference = source["secretKeyRef"]
        return _secret(objects, reference["name"])[reference["key"]]
    if "configMapKeyRef" in source:
        reference = source["configMapKeyRef"]
        return _config_map(objects, reference["name"])[reference["key"]]
    return {"metadata.name": "pod-0"}[source["fieldRef"]["fieldPath"]]


def _config_map(objects: list[Object], name: str) -> dict[str, str]:
    maps = {one["metadata"]["name"]: one for one in of_kind(objects, "ConfigMap")}
    data: dict[str, str] = maps[name]["data"]
    return data


def _secret(objects: list[Object], name: str) -> dict[str, str]:
    secrets = {one["metadata"]["name"]: one for one in of_kind(objects, "Secret")}
    if name in secrets:
        return _decoded(secrets[name])
    for cluster in of_kind(objects, "Cluster"):
        # CloudNativePG makes this one.
        if name == f"{cluster['metadata']['name']}-app":
            made = cluster["spec"]["bootstrap"]["initdb"]
            host = f"{cluster['metadata']['name']}-rw"
            return {"uri": f"postgresql://{made['owner']}:s3cret@{host}:5432/{made['database']}"}
    return MADE_ELSEWHERE[name]


def _decoded(secret: Object) -> dict[str, str]:
    return {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
