"""Who may open a connection to whom under a set of network policies: what a cluster's network would decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

Labels = Mapping[str, str]


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a label selector matches. Only what our policies use: matchLabels, and In."""
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", ()))


def may_reach_address(policies: Sequence[Mapping[str, Any]], labels: Labels, address: str, port: int) -> bool:
    """Whether a pod with these labels may connect to an address outside."""
    blocks = (
        peer["ipBlock"]
        for rule in _rules(policies, labels, "Egress", port)
        for peer in rule.get("to", ())
        if "ipBlock" in peer
    )
    return any(_holds(block, address) for block in blocks)


def may_reach_pod(policies: Sequence[Mapping[str, Any]], labels: Labels, target: Labels, port: int) -> bool:
    """Whether a pod may connect to another of its namespace: one policy has to let it out, and one has to let it in."""
    out = _any_peer(_rules(policies, labels, "Egress", port), "to", target)
    return out and _any_peer(_rules(policies, target, "Ingress", port), "from", labels)


def may_come_in(
    policies: Sequence[Mapping[str, Any]], namespace: str, labels: Labels, target: Labels, port: int
) -> bool:
    """Whether a pod of another namespace may connect to a pod of ours."""
    return any(
        selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
        and selects(peer.get("podSelector", {}), labels)
        for rule in _rules(policies, target, "Ingress", port)
        for peer in rule.get("from", ())
        if "namespaceSelector" in peer
    )


def _any_peer(rules: Sequence[Mapping[str, Any]], side: str, labels: Labels) -> bool:
    peers = (peer for rule in rules for peer in rule.get(side, ()) if set(peer) == {"podSelector"})
    return any(selects(peer["podSelector"], labels) for peer in peers)


def _rules(policies: Sequence[Mapping[str, Any]], labels: Labels, way: str, port: int) -> list[Mapping[str, Any]]:
    """The rules of one way that hold for a pod and a port. A pod that no policy selects would be open to everything."""
    holding = [each["spec"] for each in policies if selects(each["spec"]["podSelector"], labels)]
    assert any(way in spec["policyTypes"] for spec in holding), f"no policy says anything of {labels}: it is open"
    rules = [rule for spec in holding if way in spec["policyTypes"] for rule in spec.get(way.lower(), ())]
    return [rule for rule in rules if "ports" not in rule or port in {each["port"] for each in rule["ports"]}]


def _holds(block: Mapping[str, Any], address: str) -> bool:
    inside = ip_address(address) in ip_network(block["cidr"])
    return inside and not any(ip_address(address) in ip_network(each) for each in block.get("except", ()))
