"""`inhouse serve --emit kubernetes`: a served model as Kubernetes manifests."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.jobs.job import LAST_WORDS
from inhouse.jobs.kubernetes import WORK, head, kubernetes_name
from inhouse.jobs.settings import PodSettings

_UNLISTED = 5  # seconds until no new requests are sent to a pod that is to end
_PATIENCE = 120  # seconds for the answers under way then, where --shutdown-timeout does not say
_LIVE = 60  # seconds without an answer after which a pod is taken for dead
_OF_NOBODY = 65532  # a user that has no rights anywhere


class Deployment(NamedTuple):
    """A model, and how `inhouse serve` is started on it: `flags` are the settings that somebody gave."""

    name: str
    model: Path
    port: int
    host: str | None
    key_variable: str
    dtype: str
    engine: str
    gpus: int
    flags: list[str]
    shutdown_timeout: int | None
    has_tls: bool
    max_sequences: int
    pods: PodSettings
    is_debug: bool


def deployment(asked: Deployment) -> str:
    """A List in JSON, which kubectl reads: Deployment, Service, autoscaler on the queue's length, disruption budget.

    Raises `ValueError` for what is missing, and for options that have no meaning in a pod.
    """
    _check(asked)
    name = kubernetes_name(asked.name, 63)
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "inhouse-serve"}
    own = {"app.kubernetes.io/name": name}
    pods = asked.pods
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    metrics = [  # the queue adds pods; those that the running sequences fill stay though nobody waits
        _metric("inhouse_queued_sequences", pods.queue_per_pod),
        _metric("inhouse_running_sequences", asked.max_sequences),
    ]  # fmt: skip
    specs = [
        # how many pods there are is the autoscaler's to say
        ("apps/v1", "Deployment", {
            "selector": {"matchLabels": own},
            "progressDeadlineSeconds": 60 * (pods.start_minutes + 1),
            "template": {"metadata": {"labels": labels}, "spec": _pod(asked, name)},
        }),
        ("v1", "Service", {"selector": own, "ports": [{"name": "http", "port": asked.port, "targetPort": "http"}]}),
        ("autoscaling/v2", "HorizontalPodAutoscaler", {
            "scaleTargetRef": target, "minReplicas": pods.min_pods, "maxReplicas": pods.max_pods, "metrics": metrics,
        }),
        ("policy/v1", "PodDisruptionBudget", {"selector": {"matchLabels": own}, "maxUnavailable": 1}),
    ]  # fmt: skip
    items = [head(version, kind, name, labels) | {"spec": spec} for version, kind, spec in specs]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2) + "\n"


def _check(asked: Deployment) -> None:
    pods, model = asked.pods, asked.model
    for key, what in (
        ("image", "a container image with inhouse in it"),
        ("volume", "the claim in which the model lies"),
    ):
        if not getattr(pods, key):
            raise ValueError(f"--emit kubernetes needs {what}; add --{key} NAME")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", asked.key_variable):
        raise ValueError(
            f"--emit kubernetes needs --api-key-env VARIABLE, not {asked.key_variable!r}: the whole cluster can reach "
            "a pod; the variable is set from the key of that name in a Secret"
        )
    if model.is_absolute() or ".." in model.parts:
        raise ValueError(f"{model}: on Kubernetes the model lies in the claim {pods.volume}; give its path in there")
    if asked.host not in (None, "0.0.0.0", "::"):
        raise ValueError(f"--host {asked.host}: a pod must be reached by its cluster; leave it out")
    if asked.port == 0:
        raise ValueError("--port 0: probes must know the port of a pod; give one")
    if asked.has_tls:
        raise ValueError("--tls-certificate and --tls-key: a pod has no such files; let the ingress speak HTTPS")
    if pods.min_pods > pods.max_pods:
        raise ValueError(f"--min-pods {pods.min_pods} is over --max-pods {pods.max_pods}")


def _pod(asked: Deployment, name: str) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [
        {"name": "work", "persistentVolumeClaim": {"claimName": asked.pods.volume}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},  # the default of 64 MB is too small for NCCL
    ]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # variables INHOUSE_…, made from the names of Services, would be read as settings
        "terminationGracePeriodSeconds": _UNLISTED + (asked.shutdown_timeout or _PATIENCE) + LAST_WORDS,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": _OF_NOBODY, "runAsGroup": _OF_NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(asked, name)],
        "volumes": volumes,
    }  # fmt: skip


def _container(asked: Deployment, name: str) -> dict[str, Any]:
    pods = asked.pods
    memory = f"{pods.memory_gib}Gi"
    gpus = {"nvidia.com/gpu": str(asked.gpus)} if asked.gpus else {}
    secret = {"secretKeyRef": {"name": name, "key": asked.key_variable}}
    return {
        "name": "serve",
        "image": pods.image,
        "command": ["python", "-m", "inhouse", *_arguments(asked, name)],
        "workingDir": WORK,
        "env": [
            {"name": asked.key_variable, "valueFrom": secret},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "HOME", "value": "/tmp"},
            {"name": "USER", "value": "inhouse"},  # torch names its cache after whoever runs it, and asks for no id
        ],
        "ports": [{"name": "http", "containerPort": asked.port}],
        "resources": {"requests": {"cpu": str(pods.cpus), "memory": memory}, "limits": {"memory": memory} | gpus},
        # until the model is loaded nothing is answered; then /health is, however busy the server is
        "startupProbe": _probe(period=5, failures=pods.start_minutes * 60 // 5),
        "readinessProbe": _probe(period=5, failures=2),
        "livenessProbe": _probe(period=10, failures=_LIVE // 10),
        "lifecycle": {"preStop": {"sleep": {"seconds": _UNLISTED}}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "work", "mountPath": WORK, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }  # fmt: skip


def _arguments(asked: Deployment, name: str) -> list[str]:
    """Those of the user, in which kubelet shall put no variables; then the names of the pod, in which it shall."""
    given = [
        *(["--debug"] if asked.is_debug else []), "serve", f"--host={asked.host or '0.0.0.0'}", f"--port={asked.port}",
        f"--name={asked.name}", f"--api-key-env={asked.key_variable}", f"--dtype={asked.dtype}",
        f"--engine={asked.engine}", *([f"--gpus={asked.gpus}"] if asked.engine == "vllm" else []),
        *([] if asked.shutdown_timeout else [f"--shutdown-timeout={_PATIENCE}"]),
        *asked.flags,
    ]  # fmt: skip
    space = "$(POD_NAMESPACE)"
    hosts = [
        name, f"{name}.{space}", f"{name}.{space}.svc", f"{name}.{space}.svc.cluster.local",  # of the Service
        "$(POD_IP)", "[$(POD_IP)]",  # by which probes and Prometheus ask
        "localhost", "127.0.0.1",  # kubectl port-forward
    ]  # fmt: skip
    escaped = [part.replace("$", "$$") for part in (*given, "--", str(asked.model))]
    split = escaped.index("--")
    return [*escaped[:split], *(f"--allowed-hosts={host}" for host in hosts), *escaped[split:]]


def _probe(period: int, failures: int) -> dict[str, Any]:
    get = {"path": "/health", "port": "http"}
    return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures}


def _metric(name: str, average: int) -> dict[str, Any]:
    target = {"type": "AverageValue", "averageValue": str(average)}
    return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}
