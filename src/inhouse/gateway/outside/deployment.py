"""`inhouse gateway serve --emit kubernetes`: the gateway as Kubernetes manifests, any number of pods on one
PostgreSQL."""

from pathlib import Path
from typing import Any, NamedTuple

from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.config.read import POSTGRES, read_config
from inhouse.gateway.outside.pods import GatewayPods
from inhouse.gateway.store.secret import VARIABLE
from inhouse.jobs.job import LAST_WORDS
from inhouse.jobs.kubernetes import WORK, head, kubernetes_name
from inhouse.jobs.pods import (
    CONTAINER_SECURITY,
    LIFECYCLE,
    POD_NAMES,
    POD_SECURITY,
    UNLISTED,
    container_command,
    manifests,
    own_hosts,
    pods_metric,
    probe,
)

_FILE = "gateway.toml"
_START = 60  # seconds until a pod must answer


class _Asked(NamedTuple):
    name: str
    text: str
    config: GatewayConfig
    pods: GatewayPods


def gateway_deployment(path: Path, name: str, pods: GatewayPods) -> str:
    """A List in JSON, which kubectl reads: the configuration, Deployment, Service, autoscaler, disruption budget. Keys
    are named, never held. Raises `ValueError` for what has no meaning in a pod."""
    config = read_config(path)
    _check(config, pods)
    name = kubernetes_name(name, 63)
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "inhouse-gateway"}
    own = {"app.kubernetes.io/name": name}
    asked = _Asked(name, path.read_text(encoding="utf-8"), config, pods)
    spec = {
        "selector": {"matchLabels": own},
        "progressDeadlineSeconds": 2 * _START,
        "template": {"metadata": {"labels": labels}, "spec": _pod(asked)},
    }
    metrics = [pods_metric("inhouse_gateway_calls_under_way", pods.calls_per_pod)]
    file = head("v1", "ConfigMap", name, labels) | {"data": {_FILE: asked.text}}
    return manifests(name, labels, own, spec, config.server.port, pods.min_pods, pods.max_pods, metrics, [file])


def _check(config: GatewayConfig, pods: GatewayPods) -> None:
    if not pods.image:
        raise ValueError("--emit kubernetes needs a container image with inhouse in it; add --image NAME")
    if not config.store.startswith(POSTGRES):
        raise ValueError('--emit kubernetes: a file of a pod ends with it; set store = "postgresql://…" for all pods')
    if own := [provider.name for provider in config.provider if provider.is_inhouse]:
        raise ValueError(
            f"--emit kubernetes: {own[0]} is a run, which a pod of the gateway has no GPU for: `inhouse serve --emit "
            'kubernetes` gives it pods of its own; name their Service as url, with dialect = "openai" and key_env'
        )
    if config.server.port == 0:
        raise ValueError("--emit kubernetes: [server] port = 0, and probes must know the port of a pod; give one")
    if config.server.tls_certificate or config.server.tls_key:
        raise ValueError("--emit kubernetes: a pod has no files of [server] tls_…; let the ingress speak HTTPS")
    if pods.min_pods > pods.max_pods:
        raise ValueError(f"--min-pods {pods.min_pods} is over --max-pods {pods.max_pods}")


def _pod(asked: _Asked) -> dict[str, Any]:
    claim = asked.pods.volume
    work = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # variables INHOUSE_…, made from the names of Services, would be read as settings
        "terminationGracePeriodSeconds": UNLISTED + asked.config.server.shutdown_timeout + LAST_WORDS,
        "securityContext": POD_SECURITY,
        "containers": [_container(asked)],
        "volumes": [
            {"name": "work"} | work,
            {"name": "configuration", "configMap": {"name": asked.name}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }  # fmt: skip


def _container(asked: _Asked) -> dict[str, Any]:
    pods, memory = asked.pods, f"{asked.pods.memory_gib}Gi"
    hosts = [f"--allowed-hosts={host}" for host in own_hosts(asked.name)]
    return {
        "name": "gateway",
        "image": pods.image,
        "command": container_command(["gateway", "serve", "--host=0.0.0.0", "--", f"{WORK}/{_FILE}"], hosts),
        "workingDir": WORK,
        "env": [
            *({"name": each, "valueFrom": _secret(asked.name, each)} for each in variables(asked.config)),
            *POD_NAMES,
            {"name": "HOME", "value": "/tmp"},
        ],
        "ports": [{"name": "http", "containerPort": asked.config.server.port}],
        "resources": {"requests": {"cpu": str(pods.cpus), "memory": memory}, "limits": {"memory": memory}},
        "startupProbe": probe(period=2, failures=_START // 2),
        "readinessProbe": probe(period=5, failures=2),  # also where the store does not answer
        "livenessProbe": probe(period=10, failures=30),  # a store that is down for minutes is no fault of a pod
        "lifecycle": LIFECYCLE,
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "work", "mountPath": WORK},
            {"name": "configuration", "mountPath": f"{WORK}/{_FILE}", "subPath": _FILE, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }  # fmt: skip


def _secret(name: str, variable: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": variable}}


def variables(config: GatewayConfig) -> list[str]:
    """What the Secret must have: the gateway's own secret, the store's password, the providers' keys."""
    keys = sorted({provider.key_env for provider in config.provider if provider.key_env})
    return [VARIABLE, "PGPASSWORD", *keys]
