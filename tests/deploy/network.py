"""Who may talk to whom by the NetworkPolicies of an overlay."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final

from tests.deploy.rendered import Object, labels_of, matches, of_kind, workloads

CALLER: Final = {"touchline.dev/caller": "true"}


@dataclass(frozen=True, slots=True)
class Peer:
    """Pods: their labels, and those of their namespace (default: the overlay's own).

    Or with an address: something outside the cluster.
    """

    labels: dict[str, str]
    namespace: dict[str, str] = field(default_factory=dict)
    address: str = ""


def may_talk(objects: list[Object], source: Peer, target: Peer, port: int) -> bool:
    """Whether pods may connect to others; what is not in our namespace has no policies."""
    policies = of_kind(objects, "NetworkPolicy")
    leaves = _allowed(policies, "Egress", source, target, port)
    return leaves and _allowed(policies, "Ingress", target, source, port)


def _allowed(policies: list[Object], way: str, subject: Peer, other: Peer, port: int) -> bool:
    if subject.namespace or subject.address:
        return True
    specs = [policy["spec"] for policy in policies]
    isolating = [
        spec
        for spec in specs
        if way in spec["policyTypes"] and matches(spec["podSelector"], subject.labels)
    ]
    rules = [rule for spec in isolating for rule in spec.get(way.lower(), [])]
    return not isolating or any(_takes(rule, way, other, port) for rule in rules)


def _takes(rule: dict[str, Any], way: str, other: Peer, port: int) -> bool:
    peers = rule.get("to" if way == "Egress" else "from")
    # Empty is as good as missing: everybody, every port.
    known = not peers or any(_is(peer, other) for peer in peers)
    ports = rule.get("ports")
    return known and (not ports or port in [one["port"] for one in ports])


def _is(peer: dict[str, Any], other: Peer) -> bool:
    if "ipBlock" in peer or other.address:
        return bool(other.address) and _within(peer.get("ipBlock"), other.address)
    if "namespaceSelector" in peer:
        here = matches(peer["namespaceSelector"], other.namespace)
    else:
        here = not other.namespace
    return here and ("podSelector" not in peer or matches(peer["podSelector"], other.labels))


def _within(block: dict[str, Any] | None, address: str) -> bool:
    if block is None:
        return False
    left_out = any(ip_address(address) in ip_network(one) for one in block.get("except", []))
    return ip_address(address) in ip_network(block["cidr"]) and not left_out


def pods(objects: list[Object]) -> dict[str, Peer]:
    """The pods of each workload and of each PostgreSQL cluster, by name."""
    found = {one["metadata"]["name"]: Peer(labels_of(one)) for one in workloads(objects)}
    for cluster in of_kind(objects, "Cluster"):
        name = cluster["metadata"]["name"]
        inherited = cluster["spec"]["inheritedMetadata"]["labels"]
        found[name] = Peer({"cnpg.io/cluster": name, **inherited})
    return found


def behind(objects: list[Object], host: str, port: int) -> list[str]:
    """The workloads or clusters that answer at a Service's name and port."""
    for cluster in of_kind(objects, "Cluster"):
        if host == f"{cluster['metadata']['name']}-rw" and port == 5432:
            return [cluster["metadata"]["name"]]
    found = []
    for service in of_kind(objects, "Service"):
        spec = service["spec"]
        for offered in spec["ports"]:
            if service["metadata"]["name"] != host.split(".")[-1] or offered["port"] != port:
                continue
            for workload in workloads(objects):
                names = {
                    one["name"]: one["containerPort"]
                    for container in workload["spec"]["template"]["spec"]["containers"]
                    for one in container.get("ports", [])
                }
                selected = matches({"matchLabels": spec["selector"]}, labels_of(workload))
                if selected and names.get(offered["targetPort"]) == port:
                    found.append(workload["metadata"]["name"])
    return found
