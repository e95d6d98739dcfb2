"""What pods that answer over HTTP have in common: rights, probes, names, and the manifests around them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from inhouse.jobs.kubernetes import head

UNLISTED = 5  # seconds until no new requests are sent to a pod that is to end
LIFECYCLE = {"preStop": {"sleep": {"seconds": UNLISTED}}}
_OF_NOBODY = 65532  # a user that has no rights anywhere
POD_SECURITY = {
    "runAsNonRoot": True, "runAsUser": _OF_NOBODY, "runAsGroup": _OF_NOBODY,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip
POD_NAMES = (
    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
)


def manifests(
    name: str,
    labels: Mapping[str, str],
    own: Mapping[str, str],
    deployment: Mapping[str, Any],
    port: int,
    min_pods: int,
    max_pods: int,
    metrics: Sequence[Mapping[str, Any]],
    more: Sequence[Mapping[str, Any]] = (),
) -> str:
    """A List in JSON, which kubectl reads: a Deployment of this spec, its Service, its autoscaler, its disruption
    budget, and `more` before them. `own`: the labels by which its pods are found."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    specs: list[tuple[str, str, Mapping[str, Any]]] = [
        ("apps/v1", "Deployment", deployment),
        ("v1", "Service", {"selector": own, "ports": [{"name": "http", "port": port, "targetPort": "http"}]}),
        ("autoscaling/v2", "HorizontalPodAutoscaler", {
            "scaleTargetRef": target, "minReplicas": min_pods, "maxReplicas": max_pods, "metrics": metrics,
        }),
        ("policy/v1", "PodDisruptionBudget", {"selector": {"matchLabels": own}, "maxUnavailable": 1}),
    ]  # fmt: skip
    items = [*more, *(head(version, kind, name, dict(labels)) | {"spec": spec} for version, kind, spec in specs)]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2) + "\n"


def own_hosts(name: str) -> list[str]:
    """What a pod is called; kubelet puts the variables in."""
    space = "$(POD_NAMESPACE)"
    return [
        name, f"{name}.{space}", f"{name}.{space}.svc", f"{name}.{space}.svc.cluster.local",  # of the Service
        "$(POD_IP)", "[$(POD_IP)]",  # by which probes and Prometheus ask
        "localhost", "127.0.0.1",  # kubectl port-forward
    ]  # fmt: skip


def container_command(given: Sequence[str], hosts: Sequence[str]) -> list[str]:
    """The program with what a user gave, in which kubelet shall put no variables, and before its "--" the `hosts`, in
    which it shall."""
    escaped = [part.replace("$", "$$") for part in given]
    split = escaped.index("--")
    return ["python", "-m", "inhouse", *escaped[:split], *hosts, *escaped[split:]]


def probe(period: int, failures: int) -> dict[str, Any]:
    get = {"path": "/health", "port": "http"}
    return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures}


def pods_metric(name: str, average: int) -> dict[str, Any]:
    target = {"type": "AverageValue", "averageValue": str(average)}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}
